from fixtures import namespace, operator, server
from gke_fixtures import gke

__all__ = ["gke", "namespace", "operator", "server"]
