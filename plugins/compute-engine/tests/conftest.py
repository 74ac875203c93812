from compute_fixtures import elastic, machines, site

__all__ = ["elastic", "machines", "site"]
