from tests.eks.fixtures import _credentials, eks_operator, eks_server, reviews, site, space

__all__ = ["_credentials", "eks_operator", "eks_server", "reviews", "site", "space"]
