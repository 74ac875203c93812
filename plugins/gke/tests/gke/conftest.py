from tests.gke.fixtures import gke
from tests.google.fixtures import catalog
from tests.kubernetes.fixtures import namespace, operator, server

__all__ = ["catalog", "gke", "namespace", "operator", "server"]
