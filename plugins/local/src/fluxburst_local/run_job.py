"""Runs the job of an isolated burst, once, and reports its progress.

usage: run_job.py FLUX DIRECTORY BYTES

Executed as a file, by any Python 3, it is the initial program of the instance formed by the
burst's brokers. It reports to a file, one line per item, which outlasts the instance. It keeps
at most BYTES of the job's output.
"""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

JOB, TOLD, OUTPUT = "job.json", "told", "output"

LOST_NODE = r'type="exec" severity=0 .*note="node failure on'
"""How Flux 0.88 records in a job's eventlog that one of its nodes was lost."""


def main() -> None:
    """Submit the job, write its output to a file, and report its end."""
    flux, directory, most = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if (directory / TOLD).read_text():
        tell(directory, "broken", "its lead was restarted after its job had started")
        return
    tell(directory, "state", "submitted")
    submit = [flux, "job", "submit", str(directory / JOB)]
    done = subprocess.run(submit, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        tell(directory, "broken", f"its instance rejected the job: {done.stderr.strip()}")
        return
    job = done.stdout.strip()
    watch = threading.Thread(target=tell_when_it_runs, args=(flux, directory, job))
    watch.start()
    code, problem = follow([flux, "job", "attach", job], directory / OUTPUT, most)
    watch.join()
    if problem:
        tell(directory, "cut", problem)
    if not happened(flux, job, "clean"):
        tell(directory, "broken", "its instance ended while its job ran")
        return
    if code < 0:
        tell(directory, "cut", f"flux job attach was ended by signal {-code}")
        code = subprocess.run([flux, "job", "status", job], check=False).returncode  # noqa: S603
    if code and lost_a_node(flux, job):
        tell(directory, "broken", "a node of its instance was lost while its job ran")
        return
    tell(directory, "exit-code", str(code))


def lost_a_node(flux: str, job: str) -> bool:
    """Whether the job failed because a node was lost, rather than by itself."""
    command = [flux, "job", "eventlog", job]
    events = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return bool(re.search(LOST_NODE, events))


def follow(attach: "list[str]", output: Path, most: int) -> "tuple[int, str]":
    """Keep the job's output; return how it ended, and why some output could not be kept."""
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
    """Append to a file that only its owner can read; return the error, or empty."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(content)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def tell_when_it_runs(flux: str, directory: Path, job: str) -> None:
    """Report that the job runs, once it does; a canceled one never will."""
    if happened(flux, job, "start"):
        tell(directory, "state", "running")


def happened(flux: str, job: str, event: str) -> bool:
    """Wait for an event of the job; return whether it came before the job or instance ended."""
    command = [flux, "job", "wait-event", job, event]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603


def tell(directory: Path, key: str, value: str) -> None:
    """Report one item; a later one with the same key replaces it."""
    with (directory / TOLD).open("a") as file:
        file.write(f"{key} {' '.join(value.split())}\n")
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
