"""Bursts onto real brokers: what pods show of slots, queues, and jobs that run on them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.elastic_instance import provision, wait_until
from tests.kubernetes.apiserver import Server
from tests.kubernetes.flux_operator import FluxOperator, flux_operator
from tests.kubernetes.growing_pods import Growing, growing
from tests.support import flux_available

from fluxburst import BurstState
from fluxburst.errors import BurstErrors, CapacityError

pytestmark = [
    pytest.mark.flux,
    pytest.mark.kubernetes,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]

SPACE = "bursting"


@pytest.fixture(scope="module")
def pods(server: Server) -> Iterator[FluxOperator]:
    """An operator whose pods are brokers."""
    with flux_operator(server.api, shutil.which("flux") or "") as running:
        yield running


@pytest.fixture(scope="module")
def instance(
    server: Server, pods: FluxOperator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Growing]:
    directory = tmp_path_factory.mktemp("site") / "elastic"
    with growing(directory, server, SPACE, "--clusters=2", "--nodes=3") as made:
        yield made


@pytest.fixture
def grown(instance: Growing, pods: FluxOperator, server: Server) -> Iterator[Growing]:
    """An instance with room for two bursts of three nodes, all of them down."""
    yield instance
    instance.clear()
    assert left_over(server, instance, pods) == []


def left_over(server: Server, instance: Growing, pods: FluxOperator) -> list[str]:
    """Return what is left of bursts: objects, processes, drained ranks."""
    left = [f"broker {host}" for host in pods.brokers]
    left += [f"drained: {instance.drained()}"] if instance.drained() else []
    for path, kind in (
        ("/apis/flux-framework.org/v1alpha2", "miniclusters"),
        ("/apis/batch/v1", "jobs"),
        ("/api/v1", "pods"),
        ("/api/v1", "secrets"),
    ):
        found = server.api.items(f"{path}/namespaces/{SPACE}/{kind}")
        left += [f"{kind}/{one['metadata']['name']}" for one in found]
    return left


def test_two_bursts_take_a_slot_each_and_a_third_finds_no_capacity(
    grown: Growing, pods: FluxOperator
) -> None:
    grown.submit("-N3", "--exclusive", "sleep", "inf")
    client = grown.client()
    first = provision(client)
    grown.submit("-N3", "--exclusive", "sleep", "inf")
    both = provision(client)
    hosts = sorted(
        host for burst in {b.name: b for b in [*first, *both]}.values() for host in burst.hostnames
    )
    assert {host.rpartition("-")[0] for host in hosts} == {"burst-0", "burst-1"}
    assert {burst.state for burst in client.plugins["kubernetes"].bursts.values()} == {
        BurstState.READY
    }
    with pytest.raises((CapacityError, BurstErrors)):
        client.run_burst(request_burst=True, nodes=3)


def test_a_job_that_runs_is_waited_for_before_its_pods_are_deleted(
    grown: Growing, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    job = grown.submit("-N3", "sh", "-c", f"sleep 2; touch {done}")
    client = grown.client()
    provision(client)
    wait_until(lambda: grown.flux("jobs", "-no", "{status}", str(job)) == "RUN", "it runs")
    client.run_unburst()
    assert done.exists()
    assert grown.flux("jobs", "-no", "{status}", str(job)) == "COMPLETED"


def test_a_broker_that_is_killed_costs_its_burst(
    grown: Growing, pods: FluxOperator, server: Server
) -> None:
    grown.submit("-N3", "sleep", "inf")
    client = grown.client()
    (burst,) = provision(client)
    pods.brokers[burst.hostnames[1]].kill()
    path = f"/api/v1/namespaces/{SPACE}/pods/{burst.hostnames[1]}-abcde"
    ended = ("Succeeded", "Failed")
    wait_until(lambda: server.api("GET", path)["status"]["phase"] in ended, "the pod has ended")
    (found,) = client.plugins["kubernetes"].adopt() or ()
    assert (found.state, found.hostnames) == (BurstState.FAILED, burst.hostnames[:1])


def test_jobs_move_to_a_queue_of_the_pods_own(
    server: Server, pods: FluxOperator, tmp_path: Path
) -> None:
    options = ("--queue=burst", "--clusters=1", "--nodes=1")
    with growing(tmp_path / "elastic", server, "queued", *options) as queued:
        queued.flux("submit", "-N1", "--exclusive", "sleep", "inf")
        job = queued.submit("-N1", "hostname")
        client = queued.client()
        (burst,) = provision(client)
        assert burst.hostnames == ("burst-0-0",)
        client.wait_for_jobs([job])
        assert queued.flux("jobs", "-no", "{queue} {status}", str(job)) == "burst COMPLETED"
        assert client.run_unburst() == [burst.name]
