"""Why a burst ends, what is left of it and what it waits for are fields, which fluxburst sets."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import Joining, client_on, spec

from fluxburst import Burst, BurstState, EndReason, FluxBurst, NodeType
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.errors import BurstError, BurstErrors
from fluxburst.formats.units import Duration
from fluxburst.ledger.export import of_entry
from fluxburst.simulation.embedded import EmbeddedInstance

QUICK = Policy(
    lifetimes=Lifetimes(idle_timeout=Duration(10.0), cancel_jobs=True, grace=Duration(0.0))
)


class Cloud(Joining):
    """A plugin whose refresh() answers what it is told, and which may refuse to delete."""

    def __init__(self, instance: EmbeddedInstance, boot: float) -> None:
        super().__init__("cloud", instance, NodeType("node", cores=4), boot=boot)
        self.answer: dict[str, Any] = {}
        self.refuses = False

    def refresh(self, burst: Burst) -> Burst:
        return replace(burst, **self.answer)

    def delete(self, burst: Burst) -> None:
        if self.refuses:
            raise BurstError("access denied")
        super().delete(burst)


def site(boot: float = 0.0) -> tuple[EmbeddedInstance, Cloud, FluxBurst]:
    """Return an instance with a burst for one job."""
    instance = EmbeddedInstance()
    cloud = Cloud(instance, boot)
    client = client_on(instance, cloud, policy=QUICK)
    instance.submit(spec(1, 4, burstable=True, duration=30.0))
    client.run_burst()
    instance.advance(0.0)
    client.reconcile()
    return instance, cloud, client


def burst_of(client: FluxBurst) -> Burst:
    (entry,) = client.ledger.entries()
    return entry.burst


@pytest.mark.parametrize("field", ["waiting_for", "error"])
def test_what_a_burst_waits_for_is_a_field_also_from_plugins_that_call_it_an_error(
    field: str,
) -> None:
    _, cloud, client = site(boot=100.0)
    cloud.answer = {field: "the queue debug is full"}
    client.reconcile()
    burst = burst_of(client)
    assert (burst.waiting_for, burst.error) == ("the queue debug is full", "")
    (entry,) = client.ledger.entries()
    shown = of_entry(entry, client.now())
    assert (shown["error"], shown["waiting_for"]) == ("the queue debug is full",) * 2


def test_a_burst_that_is_ready_waits_for_nothing() -> None:
    instance, cloud, client = site(boot=100.0)
    cloud.answer = {"waiting_for": "a machine"}
    client.reconcile()
    assert burst_of(client).waiting_for == "a machine"
    instance.advance(101.0)
    client.reconcile()
    burst = burst_of(client)
    assert (burst.state, burst.waiting_for) == (BurstState.READY, "")


def test_an_idle_burst_ends_for_that_reason_and_the_first_reason_stays() -> None:
    instance, cloud, client = site()
    instance.advance(30.0)
    client.reconcile()
    cloud.refuses = True
    instance.advance(11.0)
    client.reconcile()
    with pytest.raises(BurstErrors):
        client.run_unburst()
    assert burst_of(client).end_reason is EndReason.IDLE


def test_what_cannot_be_terminated_is_left_over_until_it_is_gone() -> None:
    _, cloud, client = site()
    cloud.refuses = True
    with pytest.raises(BurstErrors):
        client.run_unburst()
    left = burst_of(client)
    assert left.is_left
    assert (left.error, left.end_reason) == ("", EndReason.ON_DEMAND)
    assert left.leftover.endswith("access denied")
    cloud.refuses = False
    client.run_unburst()
    gone = burst_of(client)
    assert (gone.state, gone.leftover) == (BurstState.ENDED, "")


def test_a_plugin_sets_neither_why_a_burst_ends_nor_what_is_left_of_it() -> None:
    _, cloud, client = site(boot=100.0)
    cloud.answer = {"end_reason": EndReason.IDLE, "leftover": "all of it"}
    client.reconcile()
    name = burst_of(client).name
    cloud.bursts[name] = replace(cloud.bursts[name], end_reason=EndReason.IDLE, leftover="all")
    client.reconcile()
    burst = burst_of(client)
    assert (burst.end_reason, burst.leftover) == (None, "")


def test_the_ledger_shows_the_fields(tmp_path: Path) -> None:
    def output_of(*command: str) -> str:
        at = "--mock", "--plugin=mock", f"--state-dir={tmp_path}"
        whole = [sys.executable, "-m", "fluxburst", *command, *at]
        return subprocess.run(whole, capture_output=True, text=True, check=True).stdout

    output_of("run", "--nodes=1", "--wait=0")
    output_of("unburst", "--all")
    (shown,) = json.loads(output_of("ledger", "--all", "--json"))
    fields = shown["end_reason"], shown["leftover"], shown["waiting_for"], shown["error"]
    assert fields == ("on_demand", None, None, None)
