"""Determines the state of a burst's machines from Compute Engine's list.

Statuses are those of https://cloud.google.com/compute/docs/instances/instance-life-cycle.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fluxburst.formats.hostlist import format_hostlist
from fluxburst.formats.units import format_duration

COMING = frozenset({"PENDING", "PROVISIONING", "STAGING"})
RUNNING = frozenset({"RUNNING", "REPAIRING"})


@dataclass(frozen=True)
class Machine:
    """The state of a machine (an instance of Compute Engine).

    Attributes:
        host: Its name, which is its broker's hostname.
        zone: Its zone.
        status: Its status, such as ``RUNNING``.
        began: When it was created, in seconds since the epoch.
        run_seconds: Its maximum run duration, in seconds; None for unlimited.
    """

    host: str
    zone: str
    status: str
    began: float
    run_seconds: int | None


@dataclass(frozen=True)
class Health:
    """The problems of a burst.

    Attributes:
        lost: Hosts that will not join, or are gone; with the reason.
        late: Hosts among them that run but did not join in time.
    """

    lost: Mapping[str, str]
    late: Collection[str] = ()

    @property
    def problem(self) -> str:
        """Why it failed, for people: each reason once, with its hosts."""
        by_reason: dict[str, list[str]] = {}
        for host, reason in self.lost.items():
            by_reason.setdefault(reason, []).append(host)
        return "; ".join(f"{format_hostlist(h)}: {reason}" for reason, h in by_reason.items())


def seconds(text: str) -> float | None:
    """Convert a time of the API (RFC 3339) to seconds since the epoch; None for no time."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def health(
    machines: Sequence[Machine],
    hosts: Sequence[str],
    up: Collection[str],
    now: float,
    patience: float,
) -> Health:
    """Return the problems of a burst.

    Args:
        machines: Its machines.
        hosts: The hostnames of its nodes.
        up: The hostnames with connected brokers.
        now: The time.
        patience: How many seconds a machine may take to join.
    """
    there = {machine.host: machine for machine in machines}
    lost: dict[str, str] = {}
    late: list[str] = []
    for host in hosts:
        machine = there.get(host)
        if machine is None:
            lost[host] = "its machine is gone: it was deleted, or preempted by Google"
        elif machine.status not in COMING | RUNNING:
            lost[host] = f"its machine is {machine.status}"
        elif host not in up and now - machine.began > patience:
            lost[host] = f"it did not join within {format_duration(patience)}"
            late.append(host)
    return Health(lost, late)
