"""How often one pass, one round of refreshing and one deletion list node groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.eks.instances import client_of, write_eks_site
from tests.eks.sites import Site
from tests.kubernetes.servers import noting
from tests.kubernetes.test_listings import ONE_EACH, Noted, provision_two, taken

from fluxburst_eks import EksBurst

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def noted(site: Site, tmp_path: Path, space: str) -> Iterator[Noted]:
    """A client with two bursts that are starting, and what it asks the API server."""
    directory = write_eks_site(tmp_path / "elastic")
    with noting(site.server, site.server.api.keys) as (url, asked):
        site.move_server(url)
        client = client_of(site, directory, namespace=space)
        provision_two(client)
        asked.clear()
        site.asked.clear()
        yield client, asked
        plugin = client.plugins["eks"]
        assert isinstance(plugin, EksBurst)
        plugin.aws.close()


def test_a_pass_lists_the_node_groups_once_and_asks_for_each_once(site: Site, noted: Noted) -> None:
    """EKS lists names alone, so each group is described."""
    client, asked = noted
    client.reconcile()
    assert taken(asked) == ONE_EACH
    assert site.asked.count("ListNodegroups") == 1
    assert site.asked.count("DescribeNodegroup") == 2


def test_a_round_of_refreshing_asks_for_each_node_group_once(site: Site, noted: Noted) -> None:
    client, asked = noted
    client.refresh_bursts()
    assert taken(asked) == ONE_EACH
    assert site.asked.count("ListNodegroups") == 0
    assert site.asked.count("DescribeNodegroup") == 2


def test_a_deletion_lists_the_node_groups_once_and_looks_whether_its_own_is_gone(
    site: Site, noted: Noted
) -> None:
    client, _ = noted
    plugin = client.plugins["eks"]
    first, second = sorted(plugin.bursts)
    plugin.delete(plugin.bursts[first])
    at = site.asked.index("DeleteNodegroup")
    assert site.asked.count("ListNodegroups") == site.asked[:at].count("ListNodegroups") == 1
    assert site.asked[at:].count("DescribeNodegroup") >= 1
    assert site.groups() == [second]
    assert list(plugin.list_bursts()) == [second]
