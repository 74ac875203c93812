from tests.compute_engine.fixtures import elastic, machines, site
from tests.google.fixtures import catalog

__all__ = ["catalog", "elastic", "machines", "site"]
