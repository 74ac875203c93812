from tests.kubernetes.fixtures import namespace, operator, server

__all__ = ["namespace", "operator", "server"]
