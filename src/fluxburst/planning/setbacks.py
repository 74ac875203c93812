"""What failed is not tried the same way at once: neither jobs nor node types.

Jobs were released since giving them away came to nothing. How often that was is what the ledger's
assignments say, so a restart does not forget it.

A node type that fails again and again has a breaker. Closed, it is asked for; open, it is not until
its time has come; then half-open, one burst is tried (the probe). What comes up closes it; what
fails opens it for twice as long.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from fluxburst.config.policy import Breaking
from fluxburst.formats.units import counted, format_duration
from fluxburst.ledger import Ledger
from fluxburst.ledger.entries import Assignment, Breaker, Entry, SetbackKind
from fluxburst.model.burst import COMING_STATES

JITTER = 0.25
"""By which part of itself a back-off is longer or shorter, so that not all come back at once."""

_random = random.SystemRandom()


def failed(
    breaker: Breaker, policy: Breaking, now: float, error: str, *, final: bool = False
) -> Breaker:
    """Return the breaker after one more failure; a ``final`` one opens it whatever came before."""
    failures = breaker.failures + 1
    needed = 1 if final else policy.failures
    if failures < needed:
        return replace(breaker, failures=failures, error=error)
    doubled = min(failures - needed, 60)
    pause = min(policy.max_backoff, policy.backoff * 2**doubled)
    pause *= 1 + _random.uniform(-JITTER, JITTER)
    return replace(breaker, failures=failures, retry_at=now + pause, error=error)


def closed_types(
    breakers: Iterable[Breaker], live: Iterable[Entry], now: float
) -> Mapping[tuple[str, str], str]:
    """Return the node types that are not to be asked for, by plugin and name, with the reason."""
    coming = {
        (entry.burst.plugin, entry.burst.node_type): entry
        for entry in live
        if entry.burst.state in COMING_STATES
    }
    reasons: dict[tuple[str, str], str] = {}
    for breaker in breakers:
        if breaker.retry_at is None:
            continue
        key = breaker.plugin, breaker.node_type
        times = _times(breaker)
        if now < breaker.retry_at:
            reasons[key] = f"for {format_duration(breaker.retry_at - now)} yet, as {times}"
        elif key in coming and coming[key].requested >= breaker.retry_at:
            reasons[key] = f"until burst {coming[key].burst.name} is up, as {times}"
    return reasons


def tried_types(
    breakers: Iterable[Breaker], closed: Mapping[tuple[str, str], str]
) -> Mapping[tuple[str, str], str]:
    """Return the node types of which one burst is to be tried, with the reason for no other."""
    half_open = {(b.plugin, b.node_type): b for b in breakers if b.retry_at is not None}
    return {
        key: f"another burst of it is tried first, as {_times(breaker)}"
        for key, breaker in half_open.items()
        if key not in closed
    }


def _times(breaker: Breaker) -> str:
    return f"it failed {counted(breaker.failures, 'time')} in a row, last with: {breaker.error}"


@dataclass(frozen=True)
class Setback:
    """What came to nothing, and until when it is not tried again.

    Attributes:
        plugin: The plugin that the job is not offered to; empty for all.
        why: What happened the last time.
        times: How many times in a row.
        since: When the job was released the last time, in seconds since the epoch.
        until: When it is tried again.
        on_free_nodes: It did not start on nodes that were free, so it is not to be left to them.
    """

    plugin: str
    why: str
    times: int
    since: float
    until: float
    on_free_nodes: bool

    def holds(self, now: float) -> bool:
        """Whether it is not to be tried again yet; of a time that is yet to come nothing holds."""
        return self.since <= now < self.until

    def __str__(self) -> str:
        times = "" if self.times == 1 else f" ({self.times} times in a row)"
        again = datetime.fromtimestamp(self.until, timezone.utc)
        return f"{self.why}{times}; it is tried again after {again:%Y-%m-%d %H:%M:%S}Z"


def setback_of(assignments: Sequence[Assignment], policy: Breaking) -> Setback | None:
    """Return what the last times came to that a job was given away; None if not to nothing.

    Args:
        assignments: All times that it was given away, in order.
        policy: How long it waits: ``backoff``, doubled with each time in a row, ``max_backoff`` at
            most.
    """
    times = 0
    for assignment in reversed(assignments):
        if assignment.released is None or assignment.setback is None:
            break
        times += 1
    if not times:
        return None
    last = assignments[-1]
    assert last.released is not None
    pause = min(policy.max_backoff, policy.backoff * 2 ** min(times - 1, 60))
    not_moved = last.setback is SetbackKind.NOT_MOVED
    return Setback(
        plugin=last.plugin if not_moved else "",
        why=last.reason,
        times=times,
        since=last.released,
        until=last.released + pause,
        on_free_nodes=not not_moved and not last.burst,
    )


def moves_to(queue: str) -> str:
    """Return what stands for moves to a queue where breakers have node types."""
    return f"queue:{queue}"


def some_of(names: Iterable[str], most: int = 5) -> str:
    """Return names for a message, not all where they are many."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"{', '.join(listed[:most])}{more}"


class Starts:
    """The starts of all jobs in isolated bursts, as the ledger has them when first asked for.

    A job whose burst was lost is started again in another one: that is not its fault. A job that
    takes its machine down with it would be started for ever, so the starts are counted.

    Args:
        ledger: The ledger.
        most: How often a job is started.
    """

    def __init__(self, ledger: Ledger, most: int) -> None:
        self._ledger = ledger
        self._most = most

    @functools.cached_property
    def _lost(self) -> Mapping[int, int]:
        return self._ledger.lost_starts()

    def why_not(self, job: int) -> str:
        """Return why a job is not started again in an isolated burst; empty where it may be."""
        lost = self._lost.get(job, 0)
        if lost < self._most:
            return ""
        times = "once" if lost == 1 else f"{lost} times"
        each = "" if lost == 1 else " each time"
        return f"was started {times} in isolated bursts and lost{each}; not tried again"
