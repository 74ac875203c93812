"""Under Fluxion's default policy no job that waits is failed by nodes that need not go."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from tests.elastic_instance import elastic_instance, wait_until
from tests.local.growing import brokers_of, growing
from tests.site_flux import flux_with_fluxion, needs_fluxion, path_with

from fluxburst import FluxBurst
from fluxburst.cli.progress import follow
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.formats.units import Duration
from fluxburst.provider import fluxion

IDLE = Policy(lifetimes=Lifetimes(idle_timeout=Duration(0.5)))


FCFS = f'[{fluxion.TABLE}]\n{fluxion.KEY} = "fcfs"\n'


@pytest.mark.fluxion
@needs_fluxion
@pytest.mark.parametrize("policy", ["fcfs", "conservative"])
def test_plan_and_run_say_where_no_burst_can_begin(tmp_path: Path, policy: str) -> None:
    own = tmp_path / "policy.toml"
    own.write_text(FCFS.replace("fcfs", policy))
    options = ["--burst-nodes=2", "--cores=2", "--lead-cores=2", f"--config-file={own}"]
    path = {"PATH": path_with(flux_with_fluxion())}
    with growing(tmp_path / "elastic", *options, environment=path) as instance:
        job = instance.submit("-N3", "true")
        expected = policy == "fcfs"
        line = "under Fluxion's queue-policy 'fcfs' a job that needs more nodes than are up fails"
        if expected:
            instance.flux("job", "wait-event", "--timeout=60", str(job), "exception")
        for command in ("plan", "run"):
            said = instance.fluxburst(command).stderr.splitlines()
            assert sum(one.startswith(f"fluxburst: {line}") for one in said) == expected
            assert (
                sum(one.endswith(f"{fluxion.ADVICE}, and restart it") for one in said) == expected
            )
        assert ("Flux ended it: alloc: " in instance.fluxburst("why", str(job)).stdout) == expected


@pytest.mark.fluxion
@needs_fluxion
def test_idle_nodes_stay_up_while_a_job_waits_that_fluxion_would_fail_without_them(
    tmp_path: Path,
) -> None:
    own = tmp_path / "policy.toml"
    own.write_text(FCFS)
    options = ["--burst-nodes=2", "--cores=2", "--lead-cores=2", f"--config-file={own}"]
    path = {"PATH": path_with(flux_with_fluxion())}
    with elastic_instance(tmp_path / "elastic", "local", options, environment=path) as instance:
        client = instance.client(IDLE)
        client.run_burst(request_burst=True, nodes=2)
        follow(client, 90, quiet=True)
        here = f"--requires=host:{socket.gethostname()}"
        blocking = instance.flux("submit", "-N1", "-t1h", "--exclusive", here, "sleep", "inf")
        waiting = instance.flux("submit", "-N3", "true")
        until = time.monotonic() + 3
        while time.monotonic() < until:
            passes(client)
        assert instance.flux("jobs", "-no", "{state}", waiting) == "SCHED"
        assert instance.nodes("up") == 3
        instance.flux("cancel", blocking)
        instance.flux("job", "wait-event", "--timeout=60", waiting, "clean")
        assert instance.flux("jobs", "-no", "{result}", waiting) == "COMPLETED"
        wait_until(lambda: passes(client), "the burst has gone")
        assert list(brokers_of(instance.directory)) == []


def passes(client: FluxBurst) -> bool:
    """Look at everything once; whether no burst is left."""
    client.instance.wait(0.2)
    client.run_pass(everything=True, patience=30.0)
    return not client.ledger.live()
