"""How many cores a node has: Flux counts cores, and Linux and Slurm count hardware threads.

Flux's R (RFC 20) has the cores that hwloc finds, those with at least one thread that may be used,
and a job is bound to them by these numbers: too many of them, and it fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from fluxburst.errors import BurstError

CPUS = Path("/sys/devices/system/cpu")
_SIBLINGS = ("core_cpus_list", "thread_siblings_list")
"""Files that name the threads of a thread's core; the second is the older name (Linux 5.3)."""


def cores_here(threads: Collection[int] | None = None, cpus: Path = CPUS) -> int:
    """Return how many cores this process may use, at least with one of their threads.

    Args:
        threads: The hardware threads that it may use; by default those that it has.
        cpus: Where Linux tells which threads are of one core; each is a core where it does not.
    """
    threads = os.sched_getaffinity(0) if threads is None else threads
    return max(1, len({_core_of(thread, cpus) for thread in threads}))


def _core_of(thread: int, cpus: Path) -> str:
    """Return the threads of a thread's core, as Linux writes them."""
    for name in _SIBLINGS:
        try:
            return (cpus / f"cpu{thread}" / "topology" / name).read_text().strip()
        except OSError:
            continue
    return str(thread)


def cores_of_slurm_node(cpus: int, node: Mapping[str, str]) -> int:
    """Return how many cores so many of Slurm's CPUs are.

    Slurm's CPUs are hardware threads, or cores where a node was given no more of them than that
    (slurm.conf(5), ``CPUs``).

    Args:
        cpus: How many CPUs (``SLURM_CPUS_ON_NODE``).
        node: What ``scontrol show node`` tells of it.
    """
    number = {key: int(value) for key, value in node.items() if value.isdecimal()}
    cores = number.get("Sockets", 0) * number.get("CoresPerSocket", 0)
    total = number.get("CPUTot", 0)
    per_core = total // cores if cores and total else number.get("ThreadsPerCore", 1)
    return max(1, cpus // max(1, per_core))


def slurm_cpus_per_core(ask: Callable[..., str], *which: str) -> int:
    """Return how many of Slurm's CPUs a core is, on those of some nodes that have most.

    Args:
        ask: Runs a command of Slurm and returns what it wrote.
        which: Options of sinfo that say which nodes, such as ``--partition=main``.

    Raises:
        BurstError: if Slurm does not answer, or with something else.
    """
    most = 1
    command = ("sinfo", "--exact", "--noheader", "--format=%c|%X|%Y")
    for line in filter(None, ask(*command, *which).splitlines()):
        try:
            cpus, sockets, cores = map(int, line.split("|"))
        except ValueError as error:
            raise BurstError(f"sinfo answered something else: {line!r}") from error
        most = max(most, cpus // max(1, sockets * cores))
    return most
