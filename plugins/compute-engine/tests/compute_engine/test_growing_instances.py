"""Bursts onto real brokers: what machines show that run the startup script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.compute_engine.fake_compute import Site
from tests.compute_engine.sites import LARGE, SMALL
from tests.elastic_instance import ElasticInstance, elastic_instance, provision
from tests.support import flux_available

from fluxburst import BurstState

pytestmark = [pytest.mark.flux, pytest.mark.skipif(not flux_available(), reason="no live Flux")]


@pytest.fixture(scope="module")
def instance(machines: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElasticInstance]:
    directory = tmp_path_factory.mktemp("site") / "elastic"
    options = ["--address=127.0.0.1", "--lead-cores=4"]
    options += [f"--machine-type={SMALL}=3", f"--machine-type={LARGE}=1"]
    with elastic_instance(directory, "compute_engine", options, machines.parameters) as made:
        yield made


@pytest.fixture
def grown(instance: ElasticInstance, machines: Site) -> Iterator[ElasticInstance]:
    """An instance with room for three small nodes and a large one, all of them down."""
    yield instance
    machines.full = set()
    instance.clear()
    assert (machines.left(), machines.brokers(), instance.drained()) == ([], {}, "")


def test_the_nodes_that_a_job_lacks_come_and_keep_no_secrets_in_their_metadata(
    grown: ElasticInstance, machines: Site
) -> None:
    client = grown.client()
    job = grown.submit("-N3", "-t10m", "hostname")
    (burst,) = provision(client)
    assert (burst.state, burst.nodes) == (BurstState.READY, 2), (burst, machines.logs())
    assert burst.node_type == SMALL
    assert len(machines.machines) == 2
    for machine in machines.machines.values():
        assert "fluxburst-curve-cert" not in machine.metadata
    client.wait_for_jobs([job])
    assert client.run_unburst() == [burst.name]
    assert (machines.left(), grown.nodes("down")) == ([], 4)


def test_the_machine_type_is_chosen_for_the_job(grown: ElasticInstance, machines: Site) -> None:
    client = grown.client()
    job = grown.submit("-n1", "-c40", "-t10m", "true")
    (burst,) = provision(client)
    assert (burst.node_type, burst.nodes) == (LARGE, 1), machines.logs()
    client.wait_for_jobs([job])
    assert grown.flux("jobs", "-no", "{status}", str(job)) == "COMPLETED"


def test_spot_machines_that_are_not_to_be_had_are_bought_on_demand(
    grown: ElasticInstance, machines: Site
) -> None:
    machines.full = {"SPOT"}
    job = grown.submit("-N3", "-t10m", "hostname")
    client = grown.client(provisioning="spot, then on-demand")
    ready = [burst for burst in provision(client) if burst.state is BurstState.READY]
    assert [burst.node_type for burst in ready] == [SMALL], machines.logs()
    client.wait_for_jobs([job])
    assert grown.flux("jobs", "-no", "{status}", str(job)) == "COMPLETED"
