"""A node that is lost, and the jobs that are lost with it, are said at once."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import Joining, client_on, job, spec

from fluxburst import Burst, BurstState, FluxBurst, NodeType, hookimpl
from fluxburst.errors import LedgerError
from fluxburst.formats.fluid import format_f58
from fluxburst.model.job import JobState
from fluxburst.reports import status, timeline
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

NODE = NodeType("node", cores=8)
FIRST, SECOND = 16777216, 33554432


class Witness:
    """Notes what observers are told of bursts."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    @hookimpl
    def fluxburst_burst_changed(self, burst: Burst) -> None:
        self.errors.append(burst.error)


def running_on_two_nodes(
    state: Path | None = None,
) -> tuple[FluxBurst, EmbeddedInstance, Joining, Burst]:
    """Return a client whose burst of two nodes runs a job on each."""
    wide = spec(nodes=1, cores=8, burstable=1)
    long = {**wide["attributes"]["system"], "exec": {"test": {"run_duration": "100h"}}}
    wide["attributes"] = {"system": long}
    instance = EmbeddedInstance(Recording((job(FIRST, wide), job(SECOND, wide))))
    cloud = Joining("cloud", instance, NODE)
    client = client_on(instance, cloud, state_dir=state)
    client.run_burst()
    instance.wait_for_jobs([FIRST, SECOND], JobState.RUN)
    a_pass(client)
    (entry,) = client.ledger.live()
    assert entry.burst.state is BurstState.READY
    return client, instance, cloud, entry.burst


def a_pass(client: FluxBurst) -> None:
    """Have a service take in what has happened, without asking the plugin."""
    client.run_pass(everything=False, patience=10.0)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    caplog.clear()
    return found


def test_a_lost_node_and_its_job_are_warned_of_whatever_else_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, instance, _, burst = running_on_two_nodes()
    witness = Witness()
    client.hooks.register(witness, "witness")
    lost = burst.hostnames[1]
    (rank,) = [node.rank for node in instance.nodes() if node.hostname == lost]
    (run,) = [run for run in instance.runs([FIRST, SECOND]) if lost in run.hostnames]
    instance.remove_nodes([lost])
    a_pass(client)
    node = f"node {lost} is lost: no longer up in the instance"
    ran = f"it ran on {lost} (node failure on {lost} (rank {rank}))"
    gone = f"job {format_f58(run.job)} is lost: {ran}"
    assert warnings(caplog) == [f"burst {burst.name}: {node}", f"burst {burst.name}: {gone}"]
    assert witness.errors == [node, gone]
    told = timeline.of_job(client.ledger, run.job, client.now())
    assert [event.why for event in told.events if event.kind == "burst"][-2:] == [node, gone]
    other = FIRST + SECOND - run.job
    assert instance.job(other).state is JobState.RUN
    a_pass(client)
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    "state", [BurstState.READY, BurstState.DRAINING, BurstState.ENDING], ids=lambda s: s.value
)
def test_status_counts_the_nodes_that_are_up_whatever_the_state(state: BurstState) -> None:
    client, instance, _, burst = running_on_two_nodes()
    client.ledger.record(replace(burst, state=state, joined=0), client.now())
    assert status.of_client(client).nodes == status.Nodes(2, 2)
    instance.remove_nodes([burst.hostnames[1]])
    now = status.of_client(client)
    assert now.nodes == status.Nodes(2, 1)
    assert now.to_dict()["bursts"][0]["joined"] == 1


def test_a_node_that_was_lost_while_nobody_looked_is_warned_of_by_the_next(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    client, instance, cloud, burst = running_on_two_nodes(tmp_path)
    client.close()
    instance.remove_nodes(burst.hostnames)
    again = client_on(
        instance, Joining("cloud", instance, NODE, there=cloud.there), state_dir=tmp_path
    )
    again.reconcile()
    node, *jobs = warnings(caplog)
    assert node.startswith(f"burst {burst.name}: nodes {burst.name}-[0-1] are lost")
    assert [line.split(" it ran on ")[0].split(": ", 1)[1] for line in jobs] == [
        f"job {format_f58(jobid)} is lost:" for jobid in (FIRST, SECOND)
    ]


def test_a_job_that_ended_by_itself_is_not_said_to_be_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, instance, _, burst = running_on_two_nodes()
    instance.cancel_jobs([FIRST, SECOND], "testing")
    instance.remove_nodes(burst.hostnames[:1])
    a_pass(client)
    (line,) = warnings(caplog)
    assert f"node {burst.hostnames[0]} is lost" in line


def test_nodes_that_are_taken_down_are_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    client, instance, _, burst = running_on_two_nodes()
    instance.cancel_jobs([FIRST, SECOND], "testing")
    assert client.run_unburst() == [burst.name]
    client.reconcile()
    a_pass(client)
    assert warnings(caplog) == []


def test_a_node_that_its_plugin_has_left_out_is_named_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, instance, cloud, burst = running_on_two_nodes()
    left, lost = burst.hostnames
    a_pass(client)
    instance.remove_nodes([lost])
    client.ledger.record(replace(burst, hostnames=(left,)), client.now())
    a_pass(client)
    assert f"node {lost} is lost" in warnings(caplog)[0]
    assert cloud.deleted == []


def test_a_node_that_is_lost_twice_is_said_twice(caplog: pytest.LogCaptureFixture) -> None:
    client, instance, _, burst = running_on_two_nodes()
    for _ in range(2):
        instance.remove_nodes(burst.hostnames[:1])
        a_pass(client)
        assert f"node {burst.hostnames[0]} is lost" in warnings(caplog)[0]
        instance.add_nodes(burst.hostnames[:1], NODE)
        a_pass(client)


def test_a_remark_on_a_burst_that_the_ledger_does_not_have_is_an_error() -> None:
    client, *_ = running_on_two_nodes()
    with pytest.raises(LedgerError, match="there is no burst 'nosuch'"):
        client.ledger.remark("nosuch", 1.0, "it is odd")
