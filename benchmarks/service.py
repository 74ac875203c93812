"""What the service takes on a live Flux: warm passes, reactions, memory; and the commands' start.

Each measurement has an instance and processes of its own; what it is compared with is measured in
the same run. ``--quick`` leaves out what takes minutes: 100 000 pending jobs and 10 000 passes.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, print_figures
from instances import in_an_instance

PASSES = str(Path(__file__).with_name("passes.py"))
REACTION = str(Path(__file__).with_name("reaction.py"))
SHORT, LONG = 10_000, 100_000
STARTS = 15


def warm_passes(*, quick: bool) -> list[Figure]:
    """Time passes after 100 changes, and measure memory beside the longest queue."""
    found = {}
    figures = []
    for jobs in [SHORT] if quick else [SHORT, LONG]:
        found[jobs] = in_an_instance(PASSES, "warm", str(jobs))
        milliseconds, raw = 1000 * found[jobs]["seconds"], 1000 * found[jobs]["raw"]
        what = f"warm pass, 100 changes among {jobs} jobs"
        figures.append(Figure(what, milliseconds, "ms", 50, raw, "its requests alone"))
    if not quick:
        ratio = found[LONG]["seconds"] / found[SHORT]["seconds"]
        figures.append(Figure(f"  {LONG} jobs to {SHORT}", ratio, "times", 1.5))
        memory = found[LONG]["memory"]
        figures.append(Figure(f"memory with {LONG} pending jobs", memory, "MB", 300))
    return figures


def flat_memory() -> list[Figure]:
    """Compare memory after 10 000 passes with that after 1 000."""
    found = in_an_instance(PASSES, "flat", "1000")
    what = "memory after 10 000 passes, 1 000 jobs"
    goal, after_some = 1.05 * found["after_some"], found["after_some"]
    return [Figure(what, found["after_all"], "MB", goal, after_some, "after 1 000 passes")]


def reactions() -> list[Figure]:
    """Time from a submission to create(), idle and under load, and the return after an end."""
    figures = []
    for how, name in [("idle", "idle"), ("load", "100 submissions a second")]:
        raw = in_an_instance(REACTION, "heard", how)
        ours = in_an_instance(REACTION, "created", how)
        for part, goal in [("p50", 100.0), ("p95", float("inf"))]:
            what = f"submit to create(), {name}, {part}"
            value, heard = 1000 * ours[part], 1000 * raw[part]
            note = f"to its event; {ours['n']} jobs, {SHORT} more pending"
            figures.append(Figure(what, value, "ms", goal, heard, note))
    ends = in_an_instance(REACTION, "ends")
    what, note = "wait_for_jobs after the last job's end", "flux.job.event_wait"
    figures.append(Figure(what, 1000 * ends["seconds"], "ms", 100, 1000 * ends["raw"], note))
    return figures


def starts() -> list[Figure]:
    """Time the start of commands, each in turn with what it is compared with."""
    python = sys.executable
    beside = Path(python).with_name("fluxburst")
    fluxburst = [str(beside)] if beside.exists() else [python, "-m", "fluxburst"]
    importing, bare = [python, "-c", "import fluxburst"], [python, "-c", "pass"]
    pairs = [
        ("import fluxburst", importing, bare, 100.0, "python -c pass"),
        ("fluxburst --help", [*fluxburst, "--help"], bare, 200.0, "python -c pass"),
    ]
    if shutil.which("flux"):
        pairs.append(
            ("fluxburst --help", [*fluxburst, "--help"], ["flux", "version"], 200, "flux version")
        )
    return [
        Figure(what, value, "ms", goal, raw, note)
        for what, command, other, goal, note in pairs
        for value, raw in [_timed(command, other)]
    ]


def _timed(*commands: list[str]) -> list[float]:
    """Return the median milliseconds of commands that are run in turn."""
    seconds: list[list[float]] = [[] for _ in commands]
    for _ in range(STARTS):
        for command, found in zip(commands, seconds, strict=True):
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            found.append(time.perf_counter() - start)
    return [1000 * statistics.median(found) for found in seconds]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    arguments, _ = parser.parse_known_args()
    print_figures("the service on a live Flux", measured(quick=arguments.quick))


def measured(*, quick: bool) -> Iterator[Figure]:
    """Yield the figures as they are measured."""
    yield from starts()
    yield from reactions()
    yield from warm_passes(quick=quick)
    if not quick:
        yield from flat_memory()


if __name__ == "__main__":
    main()
