"""Under Fluxion: what is said of its policies, and what they really do to jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests.live import Flux
from tests.site_flux import needs_fluxion, running_fluxion
from tests.support import Apart, Elsewhere, client_on

from fluxburst.config.file import Config
from fluxburst.model.scheduler import FLUXION, SCHED_SIMPLE, UNKNOWN, Scheduler
from fluxburst.plugin.base import Finding
from fluxburst.provider import fluxion
from fluxburst.reports.doctor import Doctor
from fluxburst.reports.growth import why_no_burst_begins
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
    assert f"{policy!r} a job that needs more nodes than are up fails" in found.what
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
    with client_on(EmbeddedInstance(scheduler=fcfs), Apart("apart")) as client:
        assert why_no_burst_begins(client) == []


@pytest.mark.parametrize("policy", ["", *fluxion.REFUSING_POLICIES, *fluxion.WAITING_POLICIES])
def test_a_plan_says_in_one_line_that_no_burst_can_begin_and_what_to_do(policy: str) -> None:
    instance = EmbeddedInstance(scheduler=Scheduler(FLUXION, queue_policy=policy))
    with client_on(instance, Elsewhere("cloud"), Apart("apart")) as client:
        lines = why_no_burst_begins(client)
    assert len(lines) == (policy in fluxion.REFUSING_POLICIES)
    for line in lines:
        assert "so no burst can begin" in line
        assert line.endswith(f"{fluxion.ADVICE}, and restart it")


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
        examined = fluxburst(flux, "doctor", "--json").stdout
        (said,) = [one for one in json.loads(examined) if one["check"] == "scheduler"]
        assert (said["level"] == "error") == (not waits)
        if not waits:
            told = fluxburst(flux, "why", job)
            assert 'Flux ended it: alloc: alloc denied due to type="unsatisfiable"' in told.stdout
            assert f"under Fluxion's queue-policy {policy!r} a job that needs" in told.stderr
            assert fluxion.ADVICE in told.stderr


def fluxburst(flux: Flux, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on an instance, by somebody who has configured nothing."""
    return subprocess.run(
        [sys.executable, "-m", "fluxburst", *arguments],
        env={**os.environ, "FLUX_URI": flux.uri, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
