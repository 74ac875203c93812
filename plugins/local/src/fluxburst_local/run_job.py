"""Runs the job of an isolated burst, once, and tells what becomes of it.

usage: run_job.py FLUX DIRECTORY BYTES

Run as a file, with any Python 3, it is the initial program of the instance that the burst's brokers
make. What it tells is in a file, a line for each thing: it has to be known when the instance has
ended, too. Of the job's output BYTES are kept.
"""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

JOB, TOLD, OUTPUT = "job.json", "told", "output"

LOST_NODE = r'type="exec" severity=0 .*note="node failure on'
"""How Flux 0.88 says in a job's eventlog that a node was lost on which it ran."""


def main() -> None:
    """Submit the job, put its output into a file, and tell how it ended."""
    flux, directory, most = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if (directory / TOLD).read_text():
        tell(directory, "broken", "its lead was started again after its job was")
        return
    tell(directory, "state", "submitted")
    submit = [flux, "job", "submit", str(directory / JOB)]
    done = subprocess.run(submit, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        tell(directory, "broken", f"its instance did not take the job: {done.stderr.strip()}")
        return
    job = done.stdout.strip()
    watch = threading.Thread(target=tell_when_it_runs, args=(flux, directory, job))
    watch.start()
    code, problem = follow([flux, "job", "attach", job], directory / OUTPUT, most)
    watch.join()
    if problem:
        tell(directory, "cut", problem)
    if not happened(flux, job, "clean"):
        tell(directory, "broken", "its instance was ended while its job ran")
        return
    if code < 0:
        tell(directory, "cut", f"flux job attach was ended by signal {-code}")
        code = subprocess.run([flux, "job", "status", job], check=False).returncode  # noqa: S603
    if code and lost_a_node(flux, job):
        tell(directory, "broken", "a node of its instance was lost while its job ran")
        return
    tell(directory, "exit-code", str(code))


def lost_a_node(flux: str, job: str) -> bool:
    """Whether the job failed since a node was lost: that is not its own end."""
    command = [flux, "job", "eventlog", job]
    events = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return bool(re.search(LOST_NODE, events))


def follow(attach: "list[str]", output: Path, most: int) -> "tuple[int, str]":
    """Keep what the job writes; return how it ended, and why some of it could not be kept."""
    problem = append(output, b"")
    with subprocess.Popen(  # noqa: S603
        attach, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        while chunk := os.read(process.stdout.fileno(), 65536):
            kept = chunk[:most]
            most -= len(kept)
            if kept and not problem:
                problem = append(output, kept)
    return process.returncode, problem


def append(path: Path, content: bytes) -> str:
    """Add to a file that is its owner's alone; return why that could not be done, or empty."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(content)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def tell_when_it_runs(flux: str, directory: Path, job: str) -> None:
    """Tell that the job runs, once it does; one that is canceled before never will."""
    if happened(flux, job, "start"):
        tell(directory, "state", "running")


def happened(flux: str, job: str, event: str) -> bool:
    """Wait for an event of the job; whether it came, before the job or the instance ended."""
    command = [flux, "job", "wait-event", job, event]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603


def tell(directory: Path, key: str, value: str) -> None:
    """Tell one thing; of two with the same key the later counts."""
    with (directory / TOLD).open("a") as file:
        file.write(f"{key} {' '.join(value.split())}\n")
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
