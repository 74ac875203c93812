from fixtures import namespace, operator, server
from gke_fixtures import gke
from google_fixtures import catalog

__all__ = ["catalog", "gke", "namespace", "operator", "server"]
