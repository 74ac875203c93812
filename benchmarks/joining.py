"""How much a burst adds to what its brokers need to join when they are started by hand.

In one elastic instance, in turn: `flux broker` by hand for each node, and a burst cycle of the
local plugin; both from the first step to the start of a job that waits for the nodes.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import flux

from fluxburst import FluxBurst
from fluxburst.config.file import Config
from fluxburst.flux.live import LiveInstance
from fluxburst.model.job import JobState

FLUX = "flux"


def main() -> None:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    arguments, _ = parser.parse_known_args()
    with (
        tempfile.TemporaryDirectory(prefix="fluxburst-") as directory,
        _elastic(Path(directory) / "elastic", arguments.nodes) as (elastic, uri),
    ):
        handle = flux.Flux(uri)
        by_hand, burst = [], []
        for _ in range(arguments.repeats):
            by_hand.append(_by_hand(handle, elastic, arguments.nodes))
            burst.append(_by_burst(handle, elastic, arguments.nodes))
    hand, ours = statistics.median(by_hand), statistics.median(burst)
    print(f"{arguments.nodes} brokers, {arguments.repeats} times each, to the start of their job:")
    print(f"  flux broker by hand  {hand:.3f} s ({min(by_hand):.3f} to {max(by_hand):.3f})")
    print(f"  a burst cycle        {ours:.3f} s ({min(burst):.3f} to {max(burst):.3f})")
    print(f"  overhead             {100 * (ours / hand - 1):.0f} % (goal: under 20 %)")


@contextmanager
def _elastic(directory: Path, nodes: int) -> Iterator[tuple[Path, str]]:
    local = [sys.executable, "-m", "fluxburst", "--quiet", "local"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLUX_", "SLURM_"))}
    environment["SHELL"] = "/bin/sh"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [f"--burst-nodes={nodes}", f"--port={port}", "--cores=1", "--lead-cores=1"]
    subprocess.run([*local, "init", str(directory), *options], env=environment, check=True)
    lead = subprocess.Popen(
        [*local, "start", str(directory), "--", "sh", "-c", "echo $FLUX_URI; exec sleep inf"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert lead.stdout is not None
    try:
        yield directory, lead.stdout.readline().strip()
    finally:
        lead.terminate()
        lead.wait(60)


def _submit(handle: flux.Flux, nodes: int) -> int:
    import flux.job

    spec = flux.job.JobspecV1.from_command(["true"], num_tasks=nodes, num_nodes=nodes)
    spec.environment = dict(os.environ)
    spec.setattr("system.burstable", 1)
    jobid = int(flux.job.submit(handle, spec.dumps()))
    # Submitted, but not yet seen by the scheduler: that is not what is measured.
    LiveInstance(handle).wait_for_jobs([jobid], JobState.SCHED)
    return jobid


def _started(handle: flux.Flux, jobid: int) -> float:
    import flux.job

    event = flux.job.event_wait(handle, jobid, "start")
    LiveInstance(handle).wait_for_jobs([jobid], JobState.INACTIVE)
    return float(event.timestamp)


def _by_hand(handle: flux.Flux, elastic: Path, nodes: int) -> float:
    """Start a broker for each node; return the seconds to the start of the job."""
    jobid = _submit(handle, nodes + 1)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLUX_")}
    begun = time.time()
    brokers = [
        subprocess.Popen(
            [FLUX, "broker", f"--config-path={elastic / 'config'}", f"-Shostname=burst{number}"],
            env={**environment, "SHELL": "/bin/sh"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for number in range(nodes)
    ]
    seconds = _started(handle, jobid) - begun
    for broker in brokers:
        broker.send_signal(signal.SIGTERM)
    for broker in brokers:
        broker.wait(60)
    _wait_down(handle)
    return seconds


def _by_burst(handle: flux.Flux, elastic: Path, nodes: int) -> float:
    """Run one burst cycle; return the seconds to the start of the job."""
    table = {"config_dir": str(elastic)}
    config = Config(plugins={"local": table})
    with FluxBurst(handle, config=config, state_dir=elastic / "state") as client:
        client.load("local")
        jobid = _submit(handle, nodes + 1)
        begun = time.time()
        client.run_burst()
        seconds = _started(handle, jobid) - begun
        client.run_unburst()
        _wait_down(handle)
        return seconds


def _wait_down(handle: flux.Flux) -> None:
    instance = LiveInstance(handle)
    while sum(node.up for node in instance.nodes()) > 1:
        time.sleep(0.05)


if __name__ == "__main__":
    main()
