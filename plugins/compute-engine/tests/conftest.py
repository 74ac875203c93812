from compute_fixtures import elastic, machines, site
from google_fixtures import catalog

__all__ = ["catalog", "elastic", "machines", "site"]
