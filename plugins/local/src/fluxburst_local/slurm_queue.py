"""This user's burst jobs in Slurm's queue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fluxburst.formats.hostlist import parse_hostlist

COMMAND = ("squeue", "--me", "--all", "--noheader", "--format=%A|%T|%S|%j|%k|%r")
"""Lists id, state, start, name, comment and reason, of this user's jobs only.

``--json`` always reports the whole cluster (squeue(1) of Slurm 22.05).
"""

ENVIRONMENT = {"SLURM_TIME_FORMAT": "%s"}
"""Makes squeue print times in seconds since the epoch (squeue(1))."""

MARK = "fluxburst"

PENDING = frozenset(
    {
        "PENDING",
        "CONFIGURING",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "RESV_DEL_HOLD",
        "SPECIAL_EXIT",
    }
)
"""States of jobs that have not started yet (squeue(1))."""

COMPLETING = "COMPLETING"
"""The state of an ended job whose nodes are not back at Slurm yet (squeue(1))."""


@dataclass(frozen=True)
class SlurmJob:
    """A Slurm job of a burst.

    Attributes:
        id: Its id.
        name: Its name, which is the burst's.
        state: Its state.
        hosts: Its hosts.
        since: When it started, or may start; 0 if unknown.
        reason: The reason for its state.
    """

    id: int
    name: str
    state: str
    hosts: tuple[str, ...]
    since: float = 0.0
    reason: str = ""


def parse_jobs(said: str, tag: str) -> Iterator[SlurmJob]:
    """Yield the jobs whose comment marks them as bursts of the instance with this tag.

    Args:
        said: The output of :data:`COMMAND`.
        tag: The instance's tag.

    Raises:
        ValueError: if it is malformed.
    """
    for line in filter(None, said.splitlines()):
        jobid, state, start, name, rest = line.split("|", 4)
        comment, _, reason = rest.partition("|")
        words = comment.split()
        if words[:2] == [MARK, tag]:
            hosts = parse_hostlist(" ".join(words[2:]))
            since = float(start) if re.fullmatch(r"\d+", start) else 0.0
            yield SlurmJob(int(jobid), name, state, hosts, since, reason)
