"""This user's jobs in Slurm's queue that are bursts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fluxburst.formats.hostlist import parse_hostlist

COMMAND = ("squeue", "--me", "--all", "--noheader", "--format=%A|%T|%S|%j|%k|%r")
"""Asks for id, state, start, name, comment and reason of this user's jobs only.

``--json`` tells of the whole cluster, whatever it is asked for (squeue(1) of Slurm 22.05).
"""

ENVIRONMENT = {"SLURM_TIME_FORMAT": "%s"}
"""Has squeue write times in seconds since the epoch (squeue(1))."""

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
"""The state of a job that has ended, and whose nodes Slurm has not got back yet (squeue(1))."""


@dataclass(frozen=True)
class SlurmJob:
    """A job of Slurm that is a burst.

    Attributes:
        id: Its id.
        name: Its name, which is the burst's.
        state: Its state.
        hosts: The hosts that it is for.
        since: When it started, or may start; 0 where that is not known.
        reason: Why it is in its state.
    """

    id: int
    name: str
    state: str
    hosts: tuple[str, ...]
    since: float = 0.0
    reason: str = ""


def parse_jobs(said: str, tag: str) -> Iterator[SlurmJob]:
    """Yield the jobs whose comment says that they are bursts of the instance with this tag.

    Args:
        said: What :data:`COMMAND` wrote.
        tag: The instance's tag.

    Raises:
        ValueError: if it is something else.
    """
    for line in filter(None, said.splitlines()):
        jobid, state, start, name, rest = line.split("|", 4)
        comment, _, reason = rest.partition("|")
        words = comment.split()
        if words[:2] == [MARK, tag]:
            hosts = parse_hostlist(" ".join(words[2:]))
            since = float(start) if re.fullmatch(r"\d+", start) else 0.0
            yield SlurmJob(int(jobid), name, state, hosts, since, reason)
