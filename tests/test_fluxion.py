"""Under Fluxion: what is said of its policies, and what they really do to jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from site_flux import needs_fluxion, running_fluxion

from fluxburst.config.file import Config
from fluxburst.model.scheduler import FLUXION, SCHED_SIMPLE, UNKNOWN, Scheduler
from fluxburst.plugin.base import Finding
from fluxburst.provider import fluxion
from fluxburst.reports.doctor import Doctor
from fluxburst.simulation.embedded import EmbeddedInstance

TWO_NODES = """
[resource]
noverify = true

[[resource.config]]
hosts = "node[0-1]"
cores = "0-1"
"""
"""Two nodes of which only the first has a broker, and so is up."""


def findings(scheduler: Scheduler, **parameters: object) -> list[Finding]:
    """Return what the doctor says of a scheduler."""
    config = Config(plugins={"mock": parameters})
    found = Doctor(lambda: config, EmbeddedInstance(scheduler=scheduler)).examine()
    return [one.finding for one in found if one.check == "scheduler"]


@pytest.mark.parametrize("policy", fluxion.REFUSING_POLICIES)
def test_a_policy_under_which_no_burst_can_begin_is_an_error_with_what_to_write(
    policy: str,
) -> None:
    (found,) = findings(Scheduler(FLUXION, queue_policy=policy))
    assert found.level == "error"
    assert f"{policy!r} a job that asks for more nodes than are up fails" in found.what
    assert "no burst can begin" in found.what
    assert 'put queue-policy = "conservative" into the table [sched-fluxion-q' in found.advice


def test_each_queue_has_a_policy() -> None:
    policies = (("batch", "easy"), ("burst", "conservative"), ("debug", "easy"))
    (found,) = findings(Scheduler(FLUXION, queue_policy="fcfs", queue_policies=policies))
    assert found.what.startswith("queue batch, debug: under Fluxion's queue-policy 'easy'")
    alone = Scheduler(FLUXION, queue_policy="fcfs", queue_policies=(("default", "fcfs"),))
    (found,) = findings(alone)
    assert found.what.startswith("under Fluxion's queue-policy 'fcfs'")


@pytest.mark.parametrize(
    "scheduler",
    [
        SCHED_SIMPLE,
        UNKNOWN,
        *(Scheduler(FLUXION, queue_policy=policy) for policy in fluxion.WAITING_POLICIES),
    ],
)
def test_where_jobs_wait_for_nodes_all_is_well(scheduler: Scheduler) -> None:
    (found,) = findings(scheduler)
    assert (found.level, found.advice) == ("ok", "")


def test_isolated_bursts_begin_under_any_policy() -> None:
    fcfs = Scheduler(FLUXION, queue_policy="fcfs")
    assert [one.level for one in fluxion.findings(fcfs, joining=False)] == ["warning"]


@pytest.mark.fluxion
@needs_fluxion
@pytest.mark.parametrize("policy", [*fluxion.REFUSING_POLICIES, *fluxion.WAITING_POLICIES])
def test_the_policies_are_what_they_are_said_to_be(policy: str) -> None:
    table = f'[{fluxion.TABLE}]\n{fluxion.KEY} = "{policy}"\n'
    with running_fluxion({"resource.toml": TWO_NODES, "fluxion.toml": table}) as flux:
        if policy == "easy":  # which gives one job that waits a reservation, and this is it
            flux("submit", "-N1", "--exclusive", "-t1h", "sleep", "inf")
            flux("submit", "-N1", "--exclusive", "-t1h", "sleep", "inf")
        job = flux("submit", "-N2", "true")
        waits = policy in fluxion.WAITING_POLICIES
        if waits:
            flux("run", "-N1", "true")  # behind it, so that it has been looked at
        else:
            flux("job", "wait-event", "--timeout=30", job, "exception")
            assert "unsatisfiable" in flux("jobs", "-no", "{exception.note}", job)
        assert flux("jobs", "-no", "{state}", job) == ("SCHED" if waits else "INACTIVE")
        examined = subprocess.run(
            [sys.executable, "-m", "fluxburst", "doctor", "--json"],
            env={**os.environ, "FLUX_URI": flux.uri},
            capture_output=True,
            text=True,
            check=False,
        )
        (said,) = [one for one in json.loads(examined.stdout) if one["check"] == "scheduler"]
        assert (said["level"] == "error") == (not waits)
