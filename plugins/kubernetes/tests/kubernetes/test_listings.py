"""How often one pass, one round of refreshing and one deletion list what is in the cluster."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.kubernetes.apiserver import Server, wait_until
from tests.kubernetes.flux_operator import FluxOperator
from tests.kubernetes.memory_pools import MemoryProvider, memory_plugin, write_managed_site
from tests.kubernetes.servers import kubeconfig, noting
from tests.kubernetes.sites import burst, client_of, plugin_of, write_site
from tests.kubernetes.test_clusters import objects
from tests.kubernetes.test_isolated_pods import isolated_plugin
from tests.support import client_on, job

from fluxburst import Burst, BurstState, FluxBurst
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

pytestmark = pytest.mark.kubernetes

ONE_EACH = {"list jobs": 1, "list miniclusters": 1, "list pods": 1}
Noted = tuple[FluxBurst, list[str]]


def provision_two(client: FluxBurst) -> None:
    """Have two bursts be provisioned."""
    assert isinstance(client.instance, EmbeddedInstance)
    client.instance.advance(time.time() - client.instance.now())  # leases are by the real clock
    for _ in range(2):
        client.run_burst(request_burst=True, nodes=2)


def taken(asked: list[str]) -> dict[str, int]:
    """Return what was asked since this was last called.

    Without the lists of everybody's objects: they tell which slots are free, and are valid for the
    poll interval, however many bursts there are.
    """
    counts = Counter(one for one in asked if not one.startswith("list all"))
    asked.clear()
    return dict(counts)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_site(tmp_path / "elastic")


@pytest.fixture
def noted(
    server: Server, operator: FluxOperator, tmp_path: Path, directory: Path, namespace: str
) -> Iterator[Noted]:
    """A client with two bursts that are starting, and what it asks the API server."""
    with noting(server) as (url, asked):
        file = kubeconfig(tmp_path / "kubeconfig", url, server.tokens["admin"])
        client = client_of(server, directory, namespace=namespace, kubeconfig=str(file))
        provision_two(client)
        asked.clear()
        yield client, asked


def test_one_round_lists_each_kind_once_however_many_bursts_are_starting(noted: Noted) -> None:
    client, asked = noted
    client.refresh_bursts()
    assert taken(asked) == ONE_EACH
    client.reconcile()
    assert taken(asked) == ONE_EACH
    states = {one.state for one in client.plugins["kubernetes"].bursts.values()}
    assert states == {BurstState.STARTING}


def test_a_deletion_looks_afresh_before_it_and_proves_that_nothing_is_left(noted: Noted) -> None:
    client, asked = noted
    plugin = client.plugins["kubernetes"]
    first, second = sorted(plugin.bursts)
    plugin.delete(plugin.bursts[first])
    at = asked.index("delete miniclusters")
    # All of them, for whose the nodes are; its own once more, since its slot's name is used again.
    assert asked[:at] == ["list miniclusters", "list miniclusters"]
    after = asked[at + 1 :]
    assert after.count("list pods") == 1  # once neither its MiniCluster nor its Job exists
    assert after.index("list miniclusters") < after.index("list jobs") < after.index("list pods")
    assert list(plugin.list_bursts()) == [second]


def test_nothing_is_remembered_from_one_round_to_the_next(
    server: Server, noted: Noted, namespace: str
) -> None:
    client, _ = noted
    plugin = client.plugins["kubernetes"]
    made = list(plugin.bursts.values())
    with plugin.observing():
        assert {plugin.refresh(one).state for one in made} == {BurstState.STARTING}
    server.clear()
    wait_until(lambda: not objects(server, namespace), "all is gone")
    assert {plugin.refresh(one).state for one in made} == {BurstState.FAILED}
    with plugin.observing():
        assert {plugin.refresh(one).state for one in made} == {BurstState.FAILED}


def test_a_burst_that_a_round_did_not_list_is_looked_for_before_it_is_gone(
    server: Server, operator: FluxOperator, directory: Path, namespace: str
) -> None:
    plugin = plugin_of(server, directory, namespace=namespace)
    other = plugin_of(server, directory, namespace=namespace)
    with plugin.observing():
        assert plugin.adopt() == []
        made = other.create(burst())
        assert plugin.refresh(made).state is BurstState.STARTING


def test_a_deletion_within_a_round_does_not_believe_what_the_round_listed(
    server: Server, operator: FluxOperator, directory: Path, namespace: str
) -> None:
    plugin = plugin_of(server, directory, namespace=namespace)
    other = plugin_of(server, directory, namespace=namespace)
    with plugin.observing():
        assert plugin.adopt() == []
        made = other.create(burst())
        assert plugin.list_bursts() == [made.name]
        plugin.delete(made)
    assert objects(server, namespace) == []


def test_the_secrets_of_isolated_jobs_are_listed_once_a_round_and_deleted_once(
    server: Server, operator: FluxOperator, tmp_path: Path, namespace: str
) -> None:
    with noting(server) as (url, asked):
        file = kubeconfig(tmp_path / "kubeconfig", url, server.tokens["admin"])
        plugin = isolated_plugin(server, namespace, kubeconfig=str(file))
        client_on(EmbeddedInstance(Recording((job(7), job(8)), ())), plugin)
        wanted = [burst(f"kubernetes-{n}", 1, jobs=(n,), isolated=True) for n in (7, 8)]
        made = [plugin.create(one) for one in wanted]

        def states() -> set[BurstState]:
            asked.clear()
            with plugin.observing():
                return {plugin.refresh(one).state for one in made}

        wait_until(lambda: states() == {BurstState.READY}, "they run")
        assert not [one for one in objects(server, namespace) if one.startswith("secrets")]
        assert states() == {BurstState.READY}
        assert taken(asked) == {**ONE_EACH, "list secrets": 1}
        for one in made:
            plugin.delete(one)


# --- a provider's node pools -----------------------------------------------------------------


def test_a_node_pool_that_a_round_did_not_list_is_asked_for_by_its_name(
    server: Server, operator: FluxOperator, tmp_path: Path, namespace: str
) -> None:
    provider = MemoryProvider(server)
    plugin = memory_plugin(provider, write_managed_site(tmp_path / "elastic"), namespace=namespace)
    made = plugin.create(Burst("memory-1", "memory", "small.2", 2))
    pool = provider.pools.pop(made.name)
    with plugin.observing():
        plugin.adopt()
        provider.pools[made.name] = pool
        assert plugin.refresh(replace(made, error="")).state is BurstState.STARTING
    plugin.delete(made)
    assert provider.pools == {}
