"""Jobs in isolated bursts of a live elastic instance, for tests."""

from __future__ import annotations

import shlex
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.elastic_instance import PATIENCE_SECONDS, free_port
from tests.local.growing import Growing

from fluxburst import FluxBurst

FAILS = ["-N2", "-n2", "-oexit-timeout=1s", "sh", "-c", 'echo "$FLUX_TASK_RANK $COLOR"; exit 3']
"""A job of two nodes that says which task it is and what ``COLOR`` is, and fails."""


def isolated_transcript(directory: Path) -> list[str]:
    """Return a command that makes an instance, and has it run such a job in an isolated burst."""
    fluxburst = shlex.join([sys.executable, "-m", "fluxburst"])
    config = directory / "isolated.toml"
    inner = f"""
    job=$(flux submit --setattr=burstable {shlex.join(FAILS)})
    until [ "$(flux jobs -no '{{status_abbrev}}' $job)" = F ]; do
        {fluxburst} --config {config} run
        sleep 0.5
    done
    {fluxburst} --config {config} unburst --all
    flux jobs -no '{{exception.note}}' $job
    """
    table = f'isolated_burst = true\noutput_dir = "{directory}/output"'
    script = f"""
    cd {shlex.quote(str(directory))} && export SHELL=/bin/sh
    {fluxburst} local init ./elastic --burst-nodes 3 --port {free_port()}
    {{ cat ./elastic/fluxburst.toml; printf %s {shlex.quote(table)}; }} > {config}
    {fluxburst} local start ./elastic -- sh -c {shlex.quote(inner)}
    """
    return ["sh", "-ec", script]


def pass_until(client: FluxBurst, condition: Callable[[], object]) -> None:
    """Do what the service does, until something is so."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until, [entry.burst for entry in client.ledger.live()]
        client.run_pass(everything=True, patience=30.0)
        client.instance.wait(0.2)


def result_of(grown: Growing, jobid: int) -> str:
    """Return a job's result, and the note of its exception."""
    return grown.flux("jobs", "-no", "{result} {exception.note}", str(jobid))


def check_it_runs_there(grown: Growing, output: Path, **parameters: Any) -> None:
    """Have a job run in an isolated burst; check what is told of it, and that nothing is left."""
    parameters |= {"isolated_burst": True, "output_dir": str(output)}
    client = grown.client(**parameters)
    jobid = grown.submit("--env=COLOR=red", *FAILS)
    assert client.run_burst() is not None
    (burst,) = [entry.burst for entry in client.ledger.live()]
    assert (burst.isolated, burst.nodes, burst.hostnames) == (True, 2, ())
    pass_until(client, lambda: not client.ledger.live())
    file = output / f"{burst.name}.log"
    ended = f"FAILED it failed in burst {burst.name}, with exit code 3; its output: {file}"
    assert result_of(grown, jobid) == ended
    lines = [line for line in file.read_text().splitlines() if line.endswith("red")]
    assert sorted(lines) == ["0 red", "1 red"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert client.remaining() == []
    left = grown.left_over()
    assert left == [], left
