"""How often one pass, one round of refreshing and one deletion list node pools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.gke.sites import Site
from tests.gke.test_plugin import SLOTS, write_gke_site
from tests.kubernetes.servers import noting
from tests.kubernetes.test_listings import ONE_EACH, Noted, provision_two, taken

from fluxburst import FluxBurst
from fluxburst.config.file import Config

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def noted(gke: Site, tmp_path: Path, namespace: str) -> Iterator[Noted]:
    """A client with two bursts that are starting, and what it asks the API server."""
    directory = write_gke_site(tmp_path / "elastic")
    written = {"config_dir": str(directory), "name": SLOTS, "namespace": namespace}
    with noting(gke.server, gke.server.api.keys) as (url, asked):
        gke.move_server(url)
        config = Config(plugins={"gke": {**gke.parameters, **written}})
        client = FluxBurst(mock=True, config=config)
        client.load("gke")
        provision_two(client)
        asked.clear()
        gke.asked.clear()
        yield client, asked


def test_a_pass_lists_the_node_pools_once_and_asks_for_none_by_its_name(
    gke: Site, noted: Noted
) -> None:
    client, asked = noted
    client.reconcile()
    assert taken(asked) == ONE_EACH
    assert (gke.asked.count("ListNodePools"), gke.asked.count("GetNodePool")) == (1, 0)


def test_a_round_of_refreshing_asks_for_each_node_pool_once(gke: Site, noted: Noted) -> None:
    client, asked = noted
    client.refresh_bursts()
    assert taken(asked) == ONE_EACH
    assert (gke.asked.count("ListNodePools"), gke.asked.count("GetNodePool")) == (0, 2)


def test_a_deletion_lists_the_node_pools_once_and_looks_whether_its_own_is_gone(
    gke: Site, noted: Noted
) -> None:
    client, _ = noted
    plugin = client.plugins["gke"]
    first, second = sorted(plugin.bursts)
    plugin.delete(plugin.bursts[first])
    at = gke.asked.index("DeleteNodePool")
    assert gke.asked.count("ListNodePools") == gke.asked[:at].count("ListNodePools") == 1
    assert gke.asked[at:].count("GetNodePool") >= 1
    assert [path.rpartition("/")[2] for path in gke.pools] == [second]
    assert list(plugin.list_bursts()) == [second]
