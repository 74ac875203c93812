from compute_fixtures import catalog
from fixtures import namespace, operator, server
from gke_fixtures import gke

__all__ = ["catalog", "gke", "namespace", "operator", "server"]
