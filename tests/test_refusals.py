"""Jobs that Fluxion would fail once nodes are gone keep those, or are named before."""

from __future__ import annotations

import logging

import pytest
from tests.support import Joining, client_on, spec

from fluxburst import FluxBurst, NodeType
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.formats.units import Duration
from fluxburst.model.scheduler import FLUXION, SCHED_SIMPLE, Scheduler
from fluxburst.simulation.embedded import EmbeddedInstance

MINUTE, HOUR = 60.0, 3600.0
FCFS = Scheduler(FLUXION, queue_policy="fcfs")
IDLE = Policy(Lifetimes(idle_timeout=Duration(5 * MINUTE), lease=Duration(2 * HOUR)))


class Site:
    """One node that is busy for hours, and a burst of another one, idle after ten minutes.

    A job that is not to burst waits for both of them.
    """

    def __init__(self, scheduler: Scheduler, policy: Policy = IDLE, *, waits: bool = True) -> None:
        self.instance = EmbeddedInstance(scheduler=scheduler)
        self.instance.add_nodes(["lead"], NodeType("node", cores=8))
        self.plugin = Joining("cloud", self.instance, NodeType("node", cores=8))
        self.client: FluxBurst = client_on(self.instance, self.plugin, policy=policy)
        self.first = self.instance.submit(spec(1, 8, duration=6 * HOUR))
        self.instance.advance(0)
        self.instance.submit(spec(1, 8, duration=10 * MINUTE, burstable=1))
        self.client.run_burst()
        self.watch(2 * MINUTE)
        self.waiting = self.instance.submit(spec(2, 8, duration=HOUR)) if waits else 0

    def watch(self, seconds: float) -> None:
        until = self.instance.now() + seconds
        while self.instance.now() < until:
            self.instance.advance(MINUTE)
            self.client.reconcile()

    @property
    def is_there(self) -> bool:
        return bool(self.plugin.there)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.parametrize("policy", ["fcfs", "easy"])
def test_an_idle_burst_stays_while_its_end_would_fail_a_job_that_waits(
    policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(Scheduler(FLUXION, queue_policy=policy))
    site.watch(40 * MINUTE)
    assert site.is_there
    (said,) = warnings(caplog)
    assert "is idle, but stays up until its lease or lifetime ends: Fluxion would fail job" in said
    assert 'put queue-policy = "conservative"' in said
    site.instance.cancel_jobs([site.first], "testing")
    site.watch(MINUTE)
    assert site.instance.jobs_on([0, 1]) == [site.waiting]


def test_it_goes_once_the_job_is_no_more(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(FCFS)
    site.watch(40 * MINUTE)
    site.instance.cancel_jobs([site.waiting], "testing")
    site.watch(10 * MINUTE)
    assert not site.is_there
    assert len(warnings(caplog)) == 1


def test_it_goes_with_its_lease_and_the_job_is_named_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site(FCFS)
    site.watch(3 * HOUR)
    assert not site.is_there
    assert ": Fluxion may fail job" in warnings(caplog)[-1]
    assert "terminating burst " in warnings(caplog)[-1]
    assert [job.id for job in site.instance.pending_jobs()] == [site.waiting]


def test_who_takes_it_down_by_hand_is_told_of_the_job(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(FCFS)
    site.client.run_unburst()
    assert not site.is_there
    (said,) = warnings(caplog)
    assert "terminating burst " in said
    assert ": Fluxion may fail job" in said


@pytest.mark.parametrize(
    "scheduler", [SCHED_SIMPLE, Scheduler(FLUXION, queue_policy="conservative")]
)
def test_where_jobs_wait_for_nodes_nothing_is_kept_or_said(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(scheduler)
    site.watch(40 * MINUTE)
    assert not site.is_there
    assert warnings(caplog) == []


def test_a_job_that_asks_for_more_than_is_up_in_any_case_keeps_nothing() -> None:
    site = Site(FCFS, waits=False)
    site.instance.submit(spec(3, 8, duration=HOUR))
    site.watch(40 * MINUTE)
    assert not site.is_there
