from compute_fixtures import catalog, elastic, machines, site

__all__ = ["catalog", "elastic", "machines", "site"]
