"""A burst is drained at one place, by one rule: it waits for its jobs, or they are cancelled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.support import Joining, client_on, spec

from fluxburst import Burst, BurstState, FluxBurst, NodeType
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.errors import BurstError, BurstErrors
from fluxburst.formats.units import Duration
from fluxburst.model.burst import drain_reason
from fluxburst.model.job import JobState
from fluxburst.provider.node_removal import leave, remove_nodes
from fluxburst.simulation.embedded import EmbeddedInstance

FOUR = NodeType("four", cores=4)
MINUTE = 60.0


@dataclass
class Parameters:
    """The parameters that plugins had, which still count."""

    grace: Duration | None = None
    cancel_jobs: bool | None = None


class Noting(Joining):
    """A plugin that notes which of a burst's nodes are drained when it is to delete it."""

    def __init__(self, instance: EmbeddedInstance, parameters: Parameters | None = None) -> None:
        super().__init__("cloud", instance, FOUR)
        self.params = parameters or Parameters()
        self.drained: dict[str, bool] = {}
        self.at: dict[str, float] = {}
        self.is_asked = threading.Event()

    def delete(self, burst: Burst) -> None:
        own = [n for n in self.instance.nodes() if n.hostname in burst.hostnames]
        self.drained[burst.name] = all(n.drain_reason == drain_reason(burst.name) for n in own)
        self.at[burst.name] = self.instance.now()
        super().delete(burst)
        self.is_asked.set()


@dataclass
class Site:
    """An instance with a burst for each job."""

    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    parameters: Parameters | None = None

    def __post_init__(self) -> None:
        self.instance = EmbeddedInstance()
        self.plugin = Noting(self.instance, self.parameters)
        self.client: FluxBurst = client_on(
            self.instance, self.plugin, policy=Policy(lifetimes=self.lifetimes)
        )

    def run(self, *seconds: float, **system: Any) -> list[int]:
        """Have jobs run so long, each on a burst of its own; return them."""
        jobs = []
        for duration in seconds:
            jobspec = spec(1, 4, burstable=True, duration=duration, **system)
            jobs.append(self.instance.submit(jobspec))
            self.client.run_burst()
            self.instance.advance(0.0)
            self.client.reconcile()
        assert self.running() == jobs
        self.start = self.instance.now()
        return jobs

    def running(self) -> list[int]:
        return self.instance.job_ids(JobState.RUN)

    @property
    def states(self) -> list[BurstState]:
        return [entry.burst.state for entry in self.client.ledger.live()]


def lifetimes(grace: float, *, cancel_jobs: bool = False) -> Lifetimes:
    return Lifetimes(grace=Duration(grace), cancel_jobs=cancel_jobs)


def test_unburst_waits_for_the_jobs_on_a_burst_and_terminates_it_then() -> None:
    site = Site()
    site.run(MINUTE)
    (name,) = site.client.run_unburst()
    assert site.plugin.drained == {name: True}
    assert site.plugin.at[name] - site.start == pytest.approx(MINUTE, abs=1.0)
    assert site.states == []


def test_a_burst_without_jobs_does_not_wait_for_another_with_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site(lifetimes(MINUTE))
    site.run(10.0, 100 * MINUTE)
    site.instance.advance(10.0)
    wait, gone_at_first = site.instance.wait, []

    def until_it_is_deleted(seconds: float) -> None:
        gone_at_first.append(site.plugin.is_asked.wait(10.0))
        wait(seconds)

    monkeypatch.setattr(site.instance, "wait", until_it_is_deleted)
    with pytest.raises(BurstErrors) as raised:
        site.client.run_unburst()
    assert gone_at_first[0]
    assert [burst.name for burst in raised.value.bursts] == site.plugin.created[:1]
    assert site.states == [BurstState.DRAINING]


def test_a_burst_whose_jobs_run_on_is_kept_drained_and_ends_with_them() -> None:
    site = Site(lifetimes(MINUTE))
    jobs = site.run(10 * MINUTE)
    with pytest.raises(
        BurstErrors, match=r"job ƒ\w+ still runs on its nodes after 1m; they are"
    ) as e:
        site.client.run_unburst()
    assert "kept until that has ended or its lease expires" in str(e.value)
    assert (site.running(), site.states, site.plugin.deleted) == (jobs, [BurstState.DRAINING], [])
    assert all(node.drained for node in site.instance.nodes())
    site.client.reconcile()
    assert site.states == [BurstState.DRAINING]
    site.instance.advance(10 * MINUTE)
    site.client.reconcile()
    assert (site.states, site.plugin.deleted) == ([], site.plugin.created)


def test_the_jobs_on_a_kept_burst_are_cancelled_once_its_time_is_up() -> None:
    lives = replace(lifetimes(MINUTE), max_lifetime=Duration(30 * MINUTE))
    site = Site(replace(lives, assumed_duration=Duration(0.0)))
    site.run(0.0, exec={"test": {"run_duration": "10h"}})  # it has no time limit
    with pytest.raises(BurstErrors):
        site.client.run_unburst()
    site.instance.advance(24 * MINUTE - 1.0)  # half of teardown before its end
    site.client.reconcile()
    assert (len(site.running()), site.states) == (1, [BurstState.DRAINING])
    site.instance.advance(2.0)
    site.client.reconcile()
    assert (site.running(), site.states) == ([], [])


def test_jobs_are_cancelled_after_the_grace_period_if_that_is_wanted() -> None:
    site = Site(lifetimes(MINUTE, cancel_jobs=True))
    site.run(100 * MINUTE)
    assert site.client.run_unburst() == site.plugin.created
    assert site.instance.now() - site.start == pytest.approx(MINUTE, abs=1.0)
    assert (site.running(), site.states) == ([], [])


def test_parameters_of_a_plugin_that_are_called_so_count_and_are_deprecated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site(lifetimes(60 * MINUTE), Parameters(Duration(5.0), cancel_jobs=True))
    site.run(100 * MINUTE, 100 * MINUTE)
    assert len(site.client.run_unburst()) == 2
    assert site.instance.now() - site.start == pytest.approx(5.0, abs=1.0)
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warned == [
        f"plugin cloud: the parameter {name} is deprecated: set {name} in [lifetimes]"
        for name in ("grace", "cancel_jobs")
    ]


def test_a_burst_that_is_to_go_for_any_reason_is_drained_while_jobs_run_on_it() -> None:
    class Forgetful(Noting):
        def adopt(self) -> list[Burst]:
            return [
                replace(burst, state=BurstState.FAILED, error="gone")
                for burst in self.there.values()
            ]

    site = Site()
    site.plugin.__class__ = Forgetful
    site.instance.submit(spec(1, 4, burstable=True, duration=MINUTE))
    site.client.run_burst()
    site.instance.advance(0.0)
    assert site.running()
    site.client.reconcile()
    assert (site.states, site.plugin.deleted) == ([BurstState.DRAINING], [])
    site.instance.advance(MINUTE + 1.0)
    site.client.reconcile()
    assert (site.states, site.plugin.deleted) == ([], site.plugin.created)


# --- what a plugin does --------------------------------------------------------------------------


class Ended:
    """The brokers of some nodes of an embedded instance."""

    def __init__(self, instance: EmbeddedInstance, hosts: Collection[str]) -> None:
        self.instance, self.hosts, self.times = instance, hosts, 0

    def __call__(self) -> None:
        self.times += 1
        self.instance.remove_nodes(self.hosts)


def test_nodes_that_nobody_drained_are_not_removed_under_their_jobs() -> None:
    site = Site()
    site.run(MINUTE)
    end = Ended(site.instance, [node.hostname for node in site.instance.nodes()])
    ranks = [node.rank for node in site.instance.nodes()]
    began = site.instance.now()
    with pytest.raises(BurstError, match=r"job ƒ\w+ still runs on its nodes; they are drained"):
        remove_nodes(site.instance, ranks, reason="going", end=end)
    assert (end.times, site.instance.now()) == (0, began)
    assert {node.drain_reason for node in site.instance.nodes()} == {"going"}
    site.instance.advance(MINUTE)
    remove_nodes(site.instance, ranks, reason="going", end=end)
    assert end.times == 1


def test_the_former_name_of_the_removal_warns_and_does_the_same() -> None:
    site = Site()
    site.run(MINUTE)
    ranks = [node.rank for node in site.instance.nodes()]
    end = Ended(site.instance, [node.hostname for node in site.instance.nodes()])
    with pytest.warns(DeprecationWarning, match="remove_nodes"), pytest.raises(BurstError):
        leave(site.instance, ranks, reason="x", grace=9.0, cancel_jobs=True, end=end)
    assert end.times == 0
