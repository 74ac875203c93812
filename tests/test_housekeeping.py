"""Housekeeping after a job: its nodes are in use until it is over, and that is said."""

from __future__ import annotations

import logging

import pytest
from tests.support import Joining, client_on, spec

from fluxburst import BurstState, FluxBurst, NodeType
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.errors import BurstError
from fluxburst.formats.units import Duration
from fluxburst.model.housekeeping import Housekeeping, told
from fluxburst.provider.node_removal import remove_nodes
from fluxburst.simulation.embedded import EmbeddedInstance

CLEANING = 100.0
POLICY = Policy(lifetimes=Lifetimes(idle_timeout=Duration(10.0)))


def after_a_job() -> tuple[EmbeddedInstance, Joining, FluxBurst]:
    """Return a client with a burst whose job has ended, and is cleaned up after."""
    instance = EmbeddedInstance(housekeeping=CLEANING)
    cloud = Joining("cloud", instance, NodeType("a", cores=4))
    client = client_on(instance, cloud, policy=POLICY)
    instance.submit(spec(1, 4, burstable=True, duration=30.0))
    step(client)
    step(client, 40.0)
    return instance, cloud, client


def step(client: FluxBurst, seconds: float = 0.0) -> None:
    assert isinstance(client.instance, EmbeddedInstance)
    client.instance.advance(seconds)
    client.run_pass(everything=True, patience=10.0)


def test_a_burst_is_not_idle_while_housekeeping_runs_on_it() -> None:
    _, cloud, client = after_a_job()
    step(client, 50.0)
    (entry,) = client.ledger.live()
    assert (entry.burst.state, entry.idle) == (BurstState.READY, None)
    step(client, CLEANING)
    step(client, 11.0)
    step(client)
    assert cloud.deleted == cloud.created


def test_a_drained_burst_waits_for_housekeeping_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    instance, cloud, client = after_a_job()
    (entry,) = client.ledger.live()
    client.ledger.record(
        entry.burst.__class__(**{**vars(entry.burst), "state": BurstState.DRAINING}),
        instance.now(),
        "testing",
    )
    with caplog.at_level(logging.INFO):
        step(client, 1.0)
        step(client, 1.0)
    said = [r.getMessage() for r in caplog.records if "housekeeping of job" in r.getMessage()]
    assert len(said) == 1
    host = entry.burst.hostnames[0]
    assert f"still runs on {host}, for 11s now (see 'flux housekeeping list'" in said[0]
    assert cloud.deleted == []
    step(client, CLEANING)
    assert cloud.deleted == cloud.created


def test_nodes_that_are_to_be_removed_say_which_housekeeping_keeps_them() -> None:
    instance, _, _ = after_a_job()
    ended: list[None] = []

    def end() -> None:
        ended.append(None)

    with pytest.raises(BurstError, match=r"housekeeping of job .* still runs on cloud-.*-0, for"):
        remove_nodes(instance, [0], reason="x", end=end)
    assert ended == []
    (node,) = instance.nodes()
    assert node.drained


def test_several_are_named_each_with_where_it_still_runs() -> None:
    found = [
        Housekeeping(1, frozenset({0, 1}), frozenset({1}), 100.0),
        Housekeeping(2, frozenset({5}), frozenset({5}), 100.0),
    ]
    assert told(found, {0: "a", 1: "b"}, 160.0) == (
        "housekeeping of job ƒ2 still runs on b, for 1m now (see 'flux housekeeping list'; "
        "'flux housekeeping kill --targets=b' ends it)"
    )
    assert told(found, {}, 160.0) == ""
