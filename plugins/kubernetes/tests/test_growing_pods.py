"""Bursts onto real brokers: an instance grows by pods of MiniClusters that a real server keeps."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from apiserver import Server, wait_until
from flux_operator import FluxOperator, flux_operator
from growing_pods import Growing, growing
from support import flux_available

from fluxburst import Burst, BurstState, FluxBurst
from fluxburst.cli.progress import follow
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
    pods.pods_are = "joined"
    instance.flux("cancel", "--all", "--quiet")
    wait_until(lambda: instance.flux("jobs", "-no", "{id}") == "", "all jobs have ended")
    instance.client(cancel_jobs=True).run_unburst()
    instance.release()
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


def up(client: FluxBurst, seconds: float = 60) -> list[Burst]:
    """Run a cycle and wait for what it brings up."""
    client.run_burst()
    return follow(client, seconds, quiet=True)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_exactly_the_nodes_that_a_job_lacks_come_as_pods_and_go(
    grown: Growing, pods: FluxOperator, server: Server, size: int
) -> None:
    client = grown.client()
    job = grown.submit(f"-N{size}", "hostname")
    (burst,) = up(client)
    assert (burst.state, burst.nodes) == (BurstState.READY, size - 1), (burst, pods.logs())
    assert burst.hostnames == tuple(f"burst-0-{index}" for index in range(size - 1))
    client.wait_for_jobs([job])
    assert grown.flux("jobs", "-no", "{status}", str(job)) == "COMPLETED"
    assert client.run_unburst() == [burst.name]
    assert (left_over(server, grown, pods), grown.nodes("down")) == ([], 6)


def test_two_bursts_take_a_slot_each_and_a_third_finds_no_capacity(
    grown: Growing, pods: FluxOperator
) -> None:
    grown.submit("-N3", "--exclusive", "sleep", "inf")
    client = grown.client()
    first = up(client)
    grown.submit("-N3", "--exclusive", "sleep", "inf")
    both = up(client)
    hosts = sorted(
        host for burst in {b.name: b for b in [*first, *both]}.values() for host in burst.hostnames
    )
    assert {host.rpartition("-")[0] for host in hosts} == {"burst-0", "burst-1"}
    assert {burst.state for burst in client.plugins["kubernetes"].bursts.values()} == {
        BurstState.READY
    }
    with pytest.raises((CapacityError, BurstErrors)):
        client.run_burst(request_burst=True, nodes=3)


def test_another_process_goes_on_with_the_bursts_of_one_that_ended(
    grown: Growing, pods: FluxOperator, server: Server
) -> None:
    job = grown.submit("-N3", "hostname")
    grown.client().run_burst()
    grown.release()
    (burst,) = up(grown.client())
    assert burst.state is BurstState.READY
    assert len(server.api.items(f"/apis/batch/v1/namespaces/{SPACE}/jobs")) == 1
    grown.client().wait_for_jobs([job])
    assert grown.client().run_unburst() == [burst.name]
    assert left_over(server, grown, pods) == []


def test_a_process_that_was_killed_while_its_pods_came_is_gone_on_with(
    grown: Growing, pods: FluxOperator, server: Server, tmp_path: Path
) -> None:
    pods.asleep = True
    job = grown.submit("-N3", "hostname")
    config = tmp_path / "fluxburst.toml"
    written = (grown.directory / "fluxburst.toml").read_text()
    config.write_text(f'{written}kubeconfig = "{server.kubeconfig}"\n')
    command = [sys.executable, "-m", "fluxburst", "--config", str(config), "run"]
    run = subprocess.Popen(
        command, env=grown.flux.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    path = f"/apis/flux-framework.org/v1alpha2/namespaces/{SPACE}/miniclusters"
    try:
        wait_until(lambda: server.api.items(path), "its MiniCluster is there")
    finally:
        run.kill()
        run.wait()
        pods.asleep = False
    client = grown.client()
    (burst,) = up(client)
    assert burst.state is BurstState.READY
    assert len(server.api.items(path)) == 1
    client.wait_for_jobs([job])
    assert grown.flux("jobs", "-no", "{status}", str(job)) == "COMPLETED"


def test_a_job_that_runs_is_waited_for_before_its_pods_are_deleted(
    grown: Growing, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    job = grown.submit("-N3", "sh", "-c", f"sleep 2; touch {done}")
    client = grown.client()
    up(client)
    wait_until(lambda: grown.flux("jobs", "-no", "{status}", str(job)) == "RUN", "it runs")
    client.run_unburst()
    assert done.exists()
    assert grown.flux("jobs", "-no", "{status}", str(job)) == "COMPLETED"


def test_pods_that_never_join_are_cleaned_up_and_their_job_is_free(
    grown: Growing, pods: FluxOperator, server: Server
) -> None:
    pods.pods_are = "running"
    grown.submit("-N3", "hostname")
    client = grown.client(join_timeout=0.5)
    (burst,) = up(client)
    assert burst.state is BurstState.FAILED
    assert "did not join within" in burst.error
    assert left_over(server, grown, pods) == []


def test_a_broker_that_is_killed_costs_its_burst(
    grown: Growing, pods: FluxOperator, server: Server
) -> None:
    grown.submit("-N3", "sleep", "inf")
    client = grown.client()
    (burst,) = up(client)
    pods.brokers[burst.hostnames[1]].kill()
    path = f"/api/v1/namespaces/{SPACE}/pods/{burst.hostnames[1]}-abcde"
    ended = ("Succeeded", "Failed")
    wait_until(lambda: server.api("GET", path)["status"]["phase"] in ended, "the pod has ended")
    (found,) = client.plugins["kubernetes"].adopt() or ()
    assert (found.state, found.hostnames) == (BurstState.FAILED, burst.hostnames[:1])


def test_pods_end_with_their_lease_though_nobody_looks(
    grown: Growing, pods: FluxOperator, server: Server
) -> None:
    client = grown.client()
    plugin = client.plugins["kubernetes"]
    made = plugin.create(Burst("kubernetes-x", "kubernetes", "pod", 2, lease_until=time.time() + 4))
    wait_until(lambda: plugin.refresh(made).state is BurstState.READY, "it is ready")
    grown.release()
    wait_until(lambda: grown.nodes("down") == 6 and not pods.brokers, "its brokers have ended")
    plugin.delete(made)


def test_jobs_move_to_a_queue_of_the_pods_own(
    server: Server, pods: FluxOperator, tmp_path: Path
) -> None:
    options = ("--queue=burst", "--clusters=1", "--nodes=1")
    with growing(tmp_path / "elastic", server, "queued", *options) as queued:
        queued.flux("submit", "-N1", "--exclusive", "sleep", "inf")
        job = queued.submit("-N1", "hostname")
        client = queued.client()
        (burst,) = up(client)
        assert burst.hostnames == ("burst-0-0",)
        client.wait_for_jobs([job])
        assert queued.flux("jobs", "-no", "{queue} {status}", str(job)) == "burst COMPLETED"
        assert client.run_unburst() == [burst.name]
