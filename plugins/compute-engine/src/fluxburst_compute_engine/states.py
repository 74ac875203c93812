"""What has become of a burst's instances, read from what Compute Engine lists.

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
    """An instance as it is.

    Attributes:
        host: Its name, by which its broker joins.
        zone: Where it is.
        status: Its status, such as ``RUNNING``.
        began: When it was made, in seconds since the epoch.
        run_seconds: For how long it may run at most, in seconds; None for ever.
    """

    host: str
    zone: str
    status: str
    began: float
    run_seconds: int | None


@dataclass(frozen=True)
class Health:
    """What is wrong with a burst.

    Attributes:
        lost: The hosts that will not be there, or are no more; with the reason.
        late: Those of them that run, and did not join in time.
    """

    lost: Mapping[str, str]
    late: Collection[str] = ()

    @property
    def problem(self) -> str:
        """Why it failed, for a person: each reason once, with its hosts."""
        by_reason: dict[str, list[str]] = {}
        for host, reason in self.lost.items():
            by_reason.setdefault(reason, []).append(host)
        return "; ".join(f"{format_hostlist(h)}: {reason}" for reason, h in by_reason.items())


def seconds(text: str) -> float | None:
    """Return a time of the API (RFC 3339) in seconds since the epoch; None for no time."""
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
    """Return what is wrong with a burst.

    Args:
        machines: What is there of it.
        hosts: The hostnames of its nodes.
        up: Those whose brokers are connected.
        now: The time.
        patience: For how many seconds an instance may be there and not have joined.
    """
    there = {machine.host: machine for machine in machines}
    lost: dict[str, str] = {}
    late: list[str] = []
    for host in hosts:
        machine = there.get(host)
        if machine is None:
            lost[host] = "its instance is no more: it was deleted, or taken back by Google"
        elif machine.status not in COMING | RUNNING:
            lost[host] = f"its instance is {machine.status}"
        elif host not in up and now - machine.began > patience:
            lost[host] = f"it did not join within {format_duration(patience)}"
            late.append(host)
    return Health(lost, late)
