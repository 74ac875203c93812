"""Bursts onto real brokers: an instance grows by machines that run the startup script."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from compute_sites import LARGE, SMALL
from fake_compute import REGION, Site, compute_engine
from growing_compute import Growing, growing, outside, wait_until
from support import flux_available

from fluxburst import Burst, BurstState, FluxBurst
from fluxburst.cli.progress import follow
from fluxburst.errors import BurstErrors

pytestmark = [pytest.mark.flux, pytest.mark.skipif(not flux_available(), reason="no live Flux")]


@pytest.fixture(scope="module")
def machines() -> Iterator[Site]:
    """A project whose machines run their startup scripts."""
    with compute_engine(joins=True) as running:
        before = dict(os.environ)
        os.environ.update(running.environment)
        yield running
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def instance(machines: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growing]:
    directory = tmp_path_factory.mktemp("site") / "elastic"
    with growing(directory, machines, f"--machine-type={LARGE}=1") as made:
        yield made


@pytest.fixture
def grown(instance: Growing, machines: Site) -> Iterator[Growing]:
    """An instance with room for three small nodes and a large one, all of them down."""
    yield instance
    machines.joins, machines.full, machines.skew = True, set(), 0.0
    instance.flux("cancel", "--all", "--quiet")
    wait_until(lambda: instance.flux("jobs", "-no", "{id}") == "", "all jobs have ended")
    instance.client(cancel_jobs=True).run_unburst()
    instance.release()
    assert left_over(machines, instance) == []


def left_over(site: Site, instance: Growing) -> list[str]:
    """Return what is left of bursts: instances, processes, drained ranks."""
    left = [*site.left(), *(f"broker {host}" for host in site.brokers())]
    return left + ([f"drained: {instance.drained()}"] if instance.drained() else [])


def up(client: FluxBurst, seconds: float = 90) -> list[Burst]:
    """Run a cycle and wait for what it brings up."""
    client.run_burst()
    return follow(client, seconds, quiet=True)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_exactly_the_nodes_that_a_job_lacks_come_and_go(
    grown: Growing, machines: Site, size: int
) -> None:
    client = grown.client()
    job = grown.submit(f"-N{size}", "hostname")
    (burst,) = up(client)
    assert (burst.state, burst.nodes) == (BurstState.READY, size - 1), (burst, machines.logs())
    assert burst.node_type == SMALL
    for machine in machines.machines.values():  # the secrets are out of the metadata again
        assert "fluxburst-curve-cert" not in machine.metadata
    client.wait_for_jobs([job])
    assert grown.flux("jobs", "-no", "{status}", str(job)) == "COMPLETED"
    assert client.run_unburst() == [burst.name]
    assert (left_over(machines, grown), grown.nodes("down")) == ([], 4)


def test_the_machine_type_is_chosen_for_the_job(grown: Growing, machines: Site) -> None:
    client = grown.client()
    job = grown.submit("-n1", "-c40", "true")
    (burst,) = up(client)
    assert (burst.node_type, burst.nodes) == (LARGE, 1), machines.logs()
    client.wait_for_jobs([job])
    assert grown.flux("jobs", "-no", "{status}", str(job)) == "COMPLETED"


def test_spot_machines_that_are_not_to_be_had_are_bought_on_demand(
    grown: Growing, machines: Site
) -> None:
    machines.partly = {f"{REGION}-a": 0, f"{REGION}-b": 0}
    job = grown.submit("-N3", "hostname")
    client = grown.client(provisioning="spot, then on-demand")
    (burst,) = up(client)
    assert burst.node_type == f"{SMALL}-spot"
    assert {zone for zone, _ in machines.machines} == {f"{REGION}-c"}
    machines.partly = {}
    client.wait_for_jobs([job])


def test_no_capacity_is_said_and_frees_the_job(grown: Growing, machines: Site) -> None:
    machines.full = {"*"}
    grown.submit("-N3", "hostname")
    with pytest.raises(BurstErrors, match="does not have enough resources"):
        grown.client().run_burst()
    assert left_over(machines, grown) == []


def test_machines_that_never_join_are_taken_down_and_say_why(
    grown: Growing, machines: Site
) -> None:
    machines.joins = False
    client = grown.client(join_timeout=2.0)
    grown.submit("-N3", "hostname")
    client.run_burst()
    bursts = follow(client, 30, quiet=True)
    assert [burst.state for burst in bursts] == [BurstState.FAILED]
    assert "did not join within 2s" in bursts[0].error
    client.run_unburst()
    assert left_over(machines, grown) == []


def test_another_process_goes_on_with_the_bursts_of_one_that_ended(
    grown: Growing, machines: Site
) -> None:
    job = grown.submit("-N3", "hostname")
    grown.client().run_burst()
    grown.release()
    (burst,) = up(grown.client())
    assert burst.state is BurstState.READY
    assert len(machines.left()) == 2
    grown.client().wait_for_jobs([job])
    assert grown.client().run_unburst() == [burst.name]


def test_a_process_that_was_killed_while_it_made_instances_is_gone_on_with(
    grown: Growing, machines: Site
) -> None:
    job = grown.submit("-N3", "hostname")
    table = "\n".join(f"{key} = {value!r}" for key, value in grown.table().items())
    config = grown.directory.parent / "killed.toml"
    config.write_text(f"[plugins.compute_engine]\n{table}\n")
    process: list[subprocess.Popen[bytes]] = []

    def kill(number: int) -> None:
        if machines.requests[-1:] == ["instances.bulkInsert"]:
            process[0].kill()
            process[0].wait()

    machines.after = kill
    process.append(
        subprocess.Popen(
            [sys.executable, "-m", "fluxburst", "--config", str(config), "run"],
            env={**outside(machines), "FLUX_URI": grown.flux.uri},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )
    assert process[0].wait(timeout=60) == -9
    machines.after = lambda number: None
    client = grown.client()
    (burst,) = up(client)
    assert burst.state is BurstState.READY, burst
    assert len(machines.left()) == 2
    client.wait_for_jobs([job])
    assert client.run_unburst() == [burst.name]
    assert left_over(machines, grown) == []


def test_instances_whose_time_is_over_end_and_their_burst_with_them(
    grown: Growing, machines: Site
) -> None:
    client = grown.client()
    grown.submit("-N3", "sleep", "inf")
    (burst,) = up(client)
    assert burst.state is BurstState.READY
    machines.skew = 24 * 3600.0
    wait_until(lambda: not client.plugins["compute_engine"].list_bursts(), "all have ended")
    assert machines.left() == []
    machines.skew = 0.0
    client.reconcile()
    wait_until(lambda: grown.nodes("down") == 4, "the nodes are down")
