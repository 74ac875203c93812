from compute_fixtures import elastic, site

__all__ = ["elastic", "site"]
