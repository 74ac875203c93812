"""Counts a node's cores: Flux counts cores, but Linux and Slurm count hardware threads.

Flux's R (RFC 20) has the cores found by hwloc, those with at least one usable thread, and jobs
are bound to them by these numbers: with too many of them, jobs fail.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from fluxburst.errors import BurstError

CPUS = Path("/sys/devices/system/cpu")
_SIBLINGS = ("core_cpus_list", "thread_siblings_list")
"""Files that list the threads of a thread's core; the second is the older name (Linux 5.3)."""


def cores_here(threads: Collection[int] | None = None, cpus: Path = CPUS) -> int:
    """Return how many cores this process may use, with at least one of their threads.

    Args:
        threads: The hardware threads it may use; by default its own.
        cpus: Where Linux lists the threads of each core; without this, each thread is a core.
    """
    threads = os.sched_getaffinity(0) if threads is None else threads
    return max(1, len({_core_of(thread, cpus) for thread in threads}))


def _core_of(thread: int, cpus: Path) -> str:
    """Return the threads of a thread's core, in Linux's notation."""
    for name in _SIBLINGS:
        try:
            return (cpus / f"cpu{thread}" / "topology" / name).read_text().strip()
        except OSError:
            continue
    return str(thread)


def cores_of_slurm_node(cpus: int, node: Mapping[str, str]) -> int:
    """Convert a number of Slurm's CPUs to cores.

    Slurm's CPUs are hardware threads, or cores if a node is configured with no more CPUs than
    cores (slurm.conf(5), ``CPUs``).

    Args:
        cpus: Number of CPUs (``SLURM_CPUS_ON_NODE``).
        node: Output of ``scontrol show node`` for it.
    """
    number = {key: int(value) for key, value in node.items() if value.isdecimal()}
    cores = number.get("Sockets", 0) * number.get("CoresPerSocket", 0)
    total = number.get("CPUTot", 0)
    per_core = total // cores if cores and total else number.get("ThreadsPerCore", 1)
    return max(1, cpus // max(1, per_core))


def slurm_cpus_per_core(ask: Callable[..., str], *which: str) -> int:
    """Return the maximum number of Slurm's CPUs per core on some nodes.

    Args:
        ask: Runs a command of Slurm and returns its output.
        which: Options of sinfo that select the nodes, such as ``--partition=main``.

    Raises:
        BurstError: if Slurm does not answer, or gives a malformed answer.
    """
    most = 1
    command = ("sinfo", "--exact", "--noheader", "--format=%c|%X|%Y")
    for line in filter(None, ask(*command, *which).splitlines()):
        try:
            cpus, sockets, cores = map(int, line.split("|"))
        except ValueError as error:
            raise BurstError(f"malformed output of sinfo: {line!r}") from error
        most = max(most, cpus // max(1, sockets * cores))
    return most
