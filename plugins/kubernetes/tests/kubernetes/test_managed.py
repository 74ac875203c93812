"""Bursts into a cluster that a provider manages: a node pool each, and a MiniCluster on it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.kubernetes.apiserver import Server, wait_until
from tests.kubernetes.flux_operator import FluxOperator
from tests.kubernetes.memory_pools import (
    MemoryBurst,
    MemoryProvider,
    memory_plugin,
    write_managed_site,
)
from tests.kubernetes.test_clusters import cluster_of, objects
from tests.support import client_on, job

from fluxburst import Burst, BurstState
from fluxburst.errors import BurstError, CapacityError, ParameterError
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording
from fluxburst_kubernetes.node_pools import (
    Pool,
    PoolState,
    Record,
    pool_name,
    read_record,
)

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return write_managed_site(tmp_path / "elastic")


@pytest.fixture
def provider(server: Server) -> MemoryProvider:
    return MemoryProvider(server)


def burst(name: str = "memory-1", nodes: int = 2, node_type: str = "small.2") -> Burst:
    return Burst(name, "memory", node_type, nodes)


# --- what there can be ---------------------------------------------------------------------------


def test_each_declared_machine_type_is_a_node_type_with_its_price_and_its_hosts(
    provider: MemoryProvider, site: Path, namespace: str
) -> None:
    plugin = memory_plugin(provider, site, namespace=namespace)
    seen = {kind.name: kind for kind in plugin.node_types()}
    assert {k: (v.cores, v.price, v.max_nodes) for k, v in seen.items()} == {
        "small.2": (2, 0.5, 4),
        "large.8": (8, 2.0, 2),
    }
    assert seen["large.8"].properties == ("burst", "large.8")
    assert seen["large.8"].memory == 64 * 1024**3


def test_spot_machines_are_node_types_of_their_own_on_the_same_hosts(
    provider: MemoryProvider, site: Path, namespace: str
) -> None:
    both = {"provisioning": "spot, then on-demand", "machine_type": "small.2"}
    plugin = memory_plugin(provider, site, namespace=namespace, **both)
    prices = {kind.name: kind.price for kind in plugin.node_types()}
    assert prices == {"small.2-spot": 0.1, "small.2": 0.5}
    made = plugin.create(burst(node_type="small.2-spot"))
    assert provider.pools[made.name].machine_type == "small.2 spot"
    assert made.hostnames == ("burst-small-2-0-0", "burst-small-2-0-1")


def test_a_machine_type_that_is_not_known_is_refused_with_what_is_like_it(
    provider: MemoryProvider, site: Path
) -> None:
    with pytest.raises(ParameterError, match=r"unknown machine type 'smal.2'.*did you mean") as no:
        memory_plugin(provider, site, machine_type="smal.2")
    assert [one.field for one in no.value.problems] == ["machine_type"]


# --- coming and going ----------------------------------------------------------------------------


def test_a_burst_is_a_pool_of_its_own_and_a_minicluster_for_its_nodes(
    server: Server, provider: MemoryProvider, operator: FluxOperator, site: Path, namespace: str
) -> None:
    plugin = memory_plugin(provider, site, namespace=namespace)
    until = time.time() + 600
    wanted = replace(burst(node_type="large.8"), jobs=(7,), price=2.0, lease_until=until)
    made = plugin.create(wanted)
    assert made.hostnames == ("burst-large-8-0-0", "burst-large-8-0-1")
    pool = provider.pools["memory-1"]
    assert pool.record is not None
    assert (pool.nodes, pool.machine_type, pool.record.burst) == (2, "large.8", "memory-1")
    assert (pool.record.hostnames, pool.record.lease_until) == (made.hostnames, until)
    spec = cluster_of(server, namespace, "burst-large-8-0")["spec"]
    assert spec["pod"]["nodeSelector"] == {"example.org/pool": "memory-1"}
    assert "resources" not in spec["containers"][0]
    assert plugin.create(wanted).hostnames == made.hostnames
    (found,) = memory_plugin(provider, site, namespace=namespace).adopt()
    assert (found.name, found.jobs, found.state) == ("memory-1", (7,), BurstState.STARTING)
    assert found.since == pool.record.since
    plugin.delete(made)
    assert (objects(server, namespace), provider.pools) == ([], {})
    assert provider.done == ["make memory-1 of 2", "delete memory-1"]


def test_no_capacity_for_nodes_leaves_nothing_in_the_cluster(
    server: Server, provider: MemoryProvider, site: Path, namespace: str
) -> None:
    plugin = memory_plugin(provider, site, namespace=namespace)
    provider.refuses = CapacityError("no machines")
    with pytest.raises(CapacityError, match="no machines"):
        plugin.create(burst())
    plugin.delete(burst())
    assert (objects(server, namespace), plugin.list_bursts()) == ([], [])


def test_what_fails_once_there_is_a_pool_says_that_something_was_asked_for(
    provider: MemoryProvider, site: Path, namespace: str
) -> None:
    plugin = memory_plugin(provider, site, namespace=namespace)

    def lose_the_cluster() -> None:
        provider.exists = False

    provider.on_create = lose_the_cluster
    with pytest.raises(BurstError, match="there is no cluster") as caught:
        plugin.create(burst())
    assert (list(provider.pools), caught.value.asked) == (["memory-1"], True)
    with pytest.raises(BurstError, match="there is no cluster") as caught:
        plugin.refresh(burst())
    assert caught.value.asked


@pytest.fixture
def half_made(provider: MemoryProvider, site: Path, namespace: str) -> MemoryBurst:
    """A plugin, and a pool without a MiniCluster, beside one of another instance."""
    plugin = memory_plugin(provider, site, namespace=namespace)
    record = Record(plugin.tag, "memory-9", "small.2", 0.5, since=100.0)
    provider.pools["memory-9"] = Pool("memory-9", PoolState.RUNNING, 2, record)
    theirs = Record("another", "memory-1")
    provider.pools["theirs"] = Pool("theirs", PoolState.RUNNING, 2, theirs)
    return plugin


def test_a_pool_without_a_minicluster_is_a_burst_that_can_be_deleted(
    provider: MemoryProvider, half_made: MemoryBurst
) -> None:
    assert half_made.list_bursts() == ["memory-9"]
    (found,) = half_made.adopt()
    assert (found.state, found.node_type, found.nodes) == (BurstState.STARTING, "small.2", 2)
    assert (found.since, "without a MiniCluster" in found.error) == (100.0, True)
    half_made.delete(found)
    assert list(provider.pools) == ["theirs"]


def test_bringing_up_is_gone_on_with_where_it_was_interrupted(
    server: Server, provider: MemoryProvider, half_made: MemoryBurst, namespace: str
) -> None:
    (found,) = half_made.adopt()
    coming = replace(provider.pools["memory-9"], state=PoolState.COMING)
    running, provider.pools["memory-9"] = provider.pools["memory-9"], coming
    assert half_made.refresh(found).state is BurstState.STARTING
    assert objects(server, namespace) == []
    provider.pools["memory-9"] = running
    made = half_made.refresh(found)
    assert made.hostnames == ("burst-small-2-0-0", "burst-small-2-0-1")
    assert provider.done == []
    half_made.delete(made)
    assert objects(server, namespace) == []


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "its node pool no longer exists"),
        (PoolState.BROKEN, "its node pool memory-1 is broken: out of machines"),
        (PoolState.GOING, "its node pool memory-1 is being deleted"),
    ],
)
def test_a_burst_whose_pool_is_lost_has_failed(
    server: Server,
    provider: MemoryProvider,
    site: Path,
    namespace: str,
    state: PoolState | None,
    said: str,
) -> None:
    plugin = memory_plugin(provider, site, namespace=namespace)
    made = plugin.create(burst())
    pool = provider.pools.pop("memory-1")
    if state is not None:
        provider.pools["memory-1"] = replace(pool, state=state, problem="out of machines")
    assert (plugin.refresh(made).state, plugin.refresh(made).error) == (BurstState.FAILED, said)
    assert [one.error for one in plugin.adopt()] == [said]
    plugin.delete(made)
    assert (objects(server, namespace), provider.pools) == ([], {})


def test_pods_that_never_end_go_with_their_nodes(
    server: Server, provider: MemoryProvider, operator: FluxOperator, site: Path, namespace: str
) -> None:
    plugin = memory_plugin(provider, site, namespace=namespace, delete_timeout=1.0)
    made = plugin.create(burst())
    wait_until(lambda: len(objects(server, namespace)) == 1 + 1 + 2 + 1, "its pods are there")
    path = f"/api/v1/namespaces/{namespace}/pods/{made.hostnames[1]}-abcde"
    stuck = [{"op": "add", "path": "/metadata/finalizers", "value": ["example.org/stuck"]}]
    server.api.patch_list(path, stuck)
    freed = [{"op": "remove", "path": "/metadata/finalizers"}]
    provider.on_delete = lambda: server.api.patch_list(path, freed)
    plugin.delete(made)
    assert (objects(server, namespace), provider.pools) == ([], {})


# --- a pool that is there already ----------------------------------------------------------------


def test_a_pool_that_is_named_is_grown_and_given_its_size_back_with_the_last(
    server: Server, provider: MemoryProvider, operator: FluxOperator, site: Path, namespace: str
) -> None:
    provider.pools["mine"] = Pool("mine", PoolState.RUNNING, 3)
    named = {"namespace": namespace, "node_pool": "mine", "machine_type": "small.2"}
    plugin = memory_plugin(provider, site, **named)
    first = plugin.create(burst("memory-1", 2))
    second = plugin.create(burst("memory-2", 4))
    assert provider.pools["mine"].nodes == 3 + 2 + 4
    assert cluster_of(server, namespace, "burst-small-2-0")["spec"]["pod"]["nodeSelector"] == {
        "example.org/pool": "mine"
    }
    again = memory_plugin(provider, site, **named)
    assert sorted(again.list_bursts()) == ["memory-1", "memory-2"]
    again.delete(second)
    assert (again.list_bursts(), provider.pools["mine"].nodes) == (["memory-1"], 9)
    third = again.create(burst("memory-3", 4))
    assert provider.pools["mine"].nodes == 9
    again.delete(third)
    again.delete(first)
    assert (again.list_bursts(), provider.pools["mine"]) == (
        [],
        Pool("mine", PoolState.RUNNING, 3),
    )


def test_a_pool_that_was_grown_for_nothing_is_a_burst_that_failed(
    provider: MemoryProvider, site: Path, namespace: str
) -> None:
    named = {"namespace": namespace, "node_pool": "mine", "machine_type": "small.2"}
    plugin = memory_plugin(provider, site, **named)
    record = Record(plugin.tag, "memory-1", former_size=3)
    provider.pools["mine"] = Pool("mine", PoolState.RUNNING, 5, record)
    (found,) = plugin.adopt()
    assert (found.name, found.state) == ("memory-1", BurstState.FAILED)
    plugin.delete(found)
    assert provider.pools["mine"] == Pool("mine", PoolState.RUNNING, 3)


# --- the cluster ---------------------------------------------------------------------------------


def test_no_cluster_is_said_at_once_unless_one_is_to_be_made(
    provider: MemoryProvider, site: Path
) -> None:
    provider.exists = False
    with pytest.raises(ParameterError, match=r"there is no cluster 'flux-bursted-cluster': set"):
        memory_plugin(provider, site)


@pytest.mark.parametrize("keep", [True, False])
def test_a_cluster_that_is_made_goes_with_the_last_burst_unless_it_is_kept(
    server: Server,
    provider: MemoryProvider,
    operator: FluxOperator,
    site: Path,
    namespace: str,
    keep: bool,
) -> None:
    provider.exists = False
    made = {"namespace": namespace, "create_cluster": True, "keep_cluster": keep}
    plugin = memory_plugin(provider, site, **made)
    assert {kind.name: kind.max_nodes for kind in plugin.node_types()}["small.2"] == 4
    assert (plugin.list_bursts(), plugin.adopt()) == ([], [])
    first, second = plugin.create(burst("memory-1")), plugin.create(burst("memory-2"))
    plugin.delete(first)
    assert provider.exists
    plugin.delete(second)
    plugin.delete(second)
    assert (provider.exists, objects(server, namespace)) == (keep, [])


def test_a_cluster_that_was_there_is_never_deleted(
    provider: MemoryProvider, site: Path, namespace: str
) -> None:
    plugin = memory_plugin(provider, site, namespace=namespace, keep_cluster=False)
    plugin.delete(plugin.create(burst()))
    assert provider.exists


def test_a_cluster_that_is_all_that_is_left_is_found_and_deleted(
    provider: MemoryProvider, site: Path, namespace: str
) -> None:
    made = {"namespace": namespace, "create_cluster": True, "keep_cluster": False}
    plugin = memory_plugin(provider, site, **made)
    provider.made_with = Record(plugin.tag, "memory-1")
    (found,) = plugin.adopt()
    assert (found.name, found.state) == ("memory-1", BurstState.FAILED)
    plugin.delete(found)
    assert (provider.exists, plugin.list_bursts()) == (False, [])


# --- what is written -----------------------------------------------------------------------------


def test_what_is_written_on_a_pool_is_read_again() -> None:
    record = Record("tag", "memory-1", "small.2", 0.25, ("a-0", "a-1"), 100.0, 200.0, 0)
    assert read_record(record.texts()) == record
    assert read_record(Record("tag", "memory-1").texts()) == Record("tag", "memory-1")


def test_what_others_wrote_is_not_ours() -> None:
    assert read_record({}) is None
    assert read_record({**Record("tag", "x").texts(), "managed-by": "somebody"}) is None
    spoilt = {"managed-by": "fluxburst", "instance": "tag", "price": "?", "hostnames": "[["}
    assert read_record(spoilt) == Record("tag", "")


@pytest.mark.parametrize("name", ["gke-0123456789ab", "x" * 41, "9-Über_burst", "-", ""])
def test_a_pools_name_is_one_that_providers_take(name: str) -> None:
    made = pool_name(name, 40)
    assert len(made) <= 40
    assert made == name or made != pool_name(f"{name}x", 40)
    assert made[0].isalpha()
    assert made.replace("-", "").isalnum()
    assert made == made.lower()


# --- isolated bursts -----------------------------------------------------------------------------


def running(plugin: MemoryBurst) -> Burst:
    """Return an isolated burst whose job runs."""
    client_on(EmbeddedInstance(Recording((job(7),), ())), plugin)
    wanted = Burst("memory-1", "memory", "small.2", 1, (7,), isolated=True)
    made = plugin.create(wanted)
    wait_until(lambda: plugin.refresh(made).state is BurstState.READY, "its pod runs")
    return plugin.refresh(made)


@pytest.mark.parametrize("pool", ["none", "going", "broken"])
def test_a_job_runs_as_long_as_its_pods_do_whatever_is_said_of_the_node_pool(
    provider: MemoryProvider, operator: FluxOperator, site: Path, namespace: str, pool: str
) -> None:
    plugin = memory_plugin(provider, site, namespace=namespace, isolated_burst=True)
    made = running(plugin)
    known = provider.pools[made.name]
    if pool == "none":
        provider.pools.clear()
    else:
        state = PoolState.GOING if pool == "going" else PoolState.BROKEN
        provider.pools[made.name] = replace(known, state=state)
    assert (plugin.refresh(made).state, plugin.refresh(made).error) == (BurstState.READY, "")
    provider.pools[made.name] = known
    plugin.delete(made)


def test_neither_a_cluster_nor_a_node_pool_is_gone_by_one_answer(
    provider: MemoryProvider,
    operator: FluxOperator,
    site: Path,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plugin = memory_plugin(provider, site, namespace=namespace, isolated_burst=True)
    made = running(plugin)
    provider.exists = False
    with pytest.raises(BurstError, match="its cluster is not available"):
        plugin.refresh(made)
    provider.exists = True
    with monkeypatch.context() as briefly:
        briefly.setattr(provider, "get", lambda name: None)
        with pytest.raises(BurstError, match="does not exist by its name"):
            plugin.refresh(made)
    assert plugin.refresh(made).state is BurstState.READY
    plugin.delete(made)
    provider.exists = False
    assert plugin.refresh(made).state is BurstState.FAILED
