"""Pauses after failures: neither jobs nor node types are retried in the same way at once.

Jobs were released because their assignment came to nothing. The ledger's assignments show how
often, so a restart does not lose it.

A node type that fails repeatedly has a breaker. Closed, the type is requested; open, it is not
until a retry time; then half-open, one burst is tried (the probe). A burst that comes up closes it;
a failure opens it for twice as long.
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
"""The fraction by which a back-off varies, so that retries do not coincide."""

_random = random.SystemRandom()


def failed(
    breaker: Breaker, policy: Breaking, now: float, error: str, *, final: bool = False
) -> Breaker:
    """Return the breaker after another failure; a ``final`` one opens it at once."""
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
    """Return the node types that must not be requested, by plugin and name, with the reason."""
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
    """Return the node types limited to one trial burst, with the reason."""
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
    """A failed assignment, and the time of its retry.

    Attributes:
        plugin: The plugin that the job is not offered to; empty for all.
        why: The last reason.
        times: Number of failures in a row.
        since: Time of the last release, in seconds since the epoch.
        until: Time of the retry.
        on_free_nodes: It did not start on free nodes, so it needs new ones.
    """

    plugin: str
    why: str
    times: int
    since: float
    until: float
    on_free_nodes: bool

    def holds(self, now: float) -> bool:
        """Whether the retry is still to come; future releases do not count."""
        return self.since <= now < self.until

    def __str__(self) -> str:
        times = "" if self.times == 1 else f" ({self.times} times in a row)"
        again = datetime.fromtimestamp(self.until, timezone.utc)
        return f"{self.why}{times}; it is retried after {again:%Y-%m-%d %H:%M:%S}Z"


def setback_of(assignments: Sequence[Assignment], policy: Breaking) -> Setback | None:
    """Return the result of a job's last assignments; None if they did not fail.

    Args:
        assignments: All its assignments, in order.
        policy: Its waiting time: ``backoff``, doubled with each failure in a row, up to
            ``max_backoff``.
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
    """Return the key for moves to a queue, where breakers have node types."""
    return f"queue:{queue}"


def some_of(names: Iterable[str], most: int = 5) -> str:
    """Return names for a message, shortened if there are many."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"{', '.join(listed[:most])}{more}"


class Starts:
    """All jobs' starts in isolated bursts, from the ledger on first use.

    A job whose burst was lost is started again in another one: that is not its fault. But a job
    that crashes its machine would be started forever, so the starts are counted.

    Args:
        ledger: The ledger.
        most: The maximum number of starts of a job.
    """

    def __init__(self, ledger: Ledger, most: int) -> None:
        self._ledger = ledger
        self._most = most

    @functools.cached_property
    def _lost(self) -> Mapping[int, int]:
        return self._ledger.lost_starts()

    def why_not(self, job: int) -> str:
        """Return why a job is not started again in an isolated burst; empty if it may be."""
        lost = self._lost.get(job, 0)
        if lost < self._most:
            return ""
        times = "once" if lost == 1 else f"{lost} times"
        each = "" if lost == 1 else " each time"
        return f"was started {times} in isolated bursts and lost{each}; no further retry"
