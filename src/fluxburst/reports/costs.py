"""What bursts cost, by burst, plugin, user, job and day (UTC), from the ledger.

What is bought is node time: a burst's nodes for as long as it is billed. A job pays for its share
of it while it is on the nodes; when jobs together had more nodes than the burst has (which only a
wrong record can say), each pays in proportion. What is left is idle, and is shown as such: nobody's
bill holds it. The total is the same however it is divided.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from fluxburst.errors import FormatError
from fluxburst.formats.units import parse_duration
from fluxburst.ledger import Entry, Usage
from fluxburst.ledger.entries import DAY, HOUR

By = Literal["burst", "plugin", "user", "job", "day"]
GROUPINGS: tuple[By, ...] = ("burst", "plugin", "user", "job", "day")

Key = str | int | None
"""What a line is for: a name, a job's or a user's number, a date; None for what is nobody's."""


@dataclass(frozen=True)
class Slice:
    """Node time of one burst, on one day.

    Attributes:
        entry: The burst.
        day: When that day (UTC) began, in seconds since the epoch.
        usage: The job that had it; None for what was idle.
        node_hours: How much.
    """

    entry: Entry
    day: float
    usage: Usage | None
    node_hours: float

    @property
    def cost(self) -> float:
        """What it cost, in the currency of the plugins' prices."""
        return self.node_hours * self.entry.burst.price


@dataclass(frozen=True)
class Line:
    """What one burst, plugin, user, job or day cost.

    Attributes:
        key: Which.
        cost: What all of it cost.
        node_hours: How much node time that is.
        idle_cost: What the part of it cost in which no job ran.
        idle_node_hours: How much node time that is.
    """

    key: Key
    cost: float = 0.0
    node_hours: float = 0.0
    idle_cost: float = 0.0
    idle_node_hours: float = 0.0

    @property
    def idle_share(self) -> float:
        """The part of the node time in which no job ran, from 0 to 1; 0 where there is none."""
        return self.idle_node_hours / self.node_hours if self.node_hours else 0.0


def slices(
    entries: Iterable[Entry], usages: Iterable[Usage], now: float, since: float = -math.inf
) -> Iterator[Slice]:
    """Divide what was bought between two times into what each job had, and what was idle.

    Args:
        entries: The bursts.
        usages: What jobs used of them; those of other bursts are left out.
        now: Until when, in seconds since the epoch.
        since: Since when.
    """
    by_entry: dict[int, list[Usage]] = defaultdict(list)
    for usage in usages:
        by_entry[usage.entry].append(usage)
    for entry in entries:
        start, end = max(since, entry.billed_from), min(now, entry.billed_to(now))
        if start < end and entry.burst.nodes:
            yield from _of_burst(entry, by_entry[entry.id], start, end)


def _of_burst(entry: Entry, usages: Sequence[Usage], start: float, end: float) -> Iterator[Slice]:
    spans = {
        usage: span
        for usage in usages
        if (span := _within(usage, start, end)) is not None and usage.nodes > 0
    }
    clock = _Shares(entry.burst.nodes, spans, start, end)
    for usage, (begun, done) in spans.items():
        for first, last in _days(begun, done):
            hours = usage.nodes * clock.paid(first, last) / HOUR
            yield Slice(entry, _day(first), usage, hours)
    for first, last in _days(start, end):
        yield Slice(entry, _day(first), None, clock.idle(first, last) / HOUR)


def _within(usage: Usage, start: float, end: float) -> tuple[float, float] | None:
    begun = max(start, usage.started)
    done = end if usage.ended is None else min(end, usage.ended)
    return (begun, done) if begun < done else None


def _day(time: float) -> float:
    return time - time % DAY


def _days(start: float, end: float) -> Iterator[tuple[float, float]]:
    """Yield the parts of a time that lie on one day each."""
    while start < end:
        midnight = _day(start) + DAY
        yield start, min(end, midnight)
        start = midnight


class _Shares:
    """How much of a burst was in use, summed up along its life.

    Args:
        nodes: How many nodes it has.
        spans: Since when and until when each job had its part.
        start: When the burst begins.
        end: When it ends.
    """

    def __init__(
        self,
        nodes: int,
        spans: Mapping[Usage, tuple[float, float]],
        start: float,
        end: float,
    ) -> None:
        changes: dict[float, float] = defaultdict(float, {start: 0.0, end: 0.0})
        for first, last in _days(start, end):
            changes[first] += 0.0
            changes[last] += 0.0
        for usage, (begun, done) in spans.items():
            changes[begun] += usage.nodes
            changes[done] -= usage.nodes
        self._times = sorted(changes)
        self._paid, self._idle = [0.0], [0.0]
        used = 0.0
        for time, following in zip(self._times, self._times[1:], strict=False):
            used += changes[time]
            seconds = following - time
            self._paid.append(self._paid[-1] + seconds * min(1.0, nodes / used if used > 0 else 1))
            self._idle.append(self._idle[-1] + seconds * max(0.0, nodes - max(0.0, used)))

    def paid(self, start: float, end: float) -> float:
        """Return for how many seconds each node in use between two times is paid for."""
        return self._paid[self._at(end)] - self._paid[self._at(start)]

    def idle(self, start: float, end: float) -> float:
        """Return for how many seconds nodes were idle between two times, all together."""
        return self._idle[self._at(end)] - self._idle[self._at(start)]

    def _at(self, time: float) -> int:
        return bisect.bisect_left(self._times, time)


def group(parts: Iterable[Slice], by: By) -> list[Line]:
    """Sum up by burst, plugin, user, job or day.

    Users are those whose jobs had the nodes. By user and by job, what was idle is a line of its
    own, the last, whose key is None.
    """
    sums: dict[Key, list[Slice]] = defaultdict(list)
    for part in parts:
        sums[_key(part, by)].append(part)
    lines = [_line(key, sums[key]) for key in sorted(k for k in sums if k is not None)]
    return [*lines, *([_line(None, sums[None])] if None in sums else [])]


def total(parts: Iterable[Slice]) -> Line:
    """Sum up all of it."""
    return _line(None, list(parts))


def _key(part: Slice, by: By) -> Key:
    if by == "burst":
        return part.entry.burst.name
    if by == "plugin":
        return part.entry.burst.plugin
    if by == "day":
        return datetime.fromtimestamp(part.day, timezone.utc).date().isoformat()
    if part.usage is None:
        return None
    return part.usage.user if by == "user" else part.usage.job


def _line(key: Key, parts: Sequence[Slice]) -> Line:
    idle = [part for part in parts if part.usage is None]
    return Line(
        key,
        math.fsum(part.cost for part in parts),
        math.fsum(part.node_hours for part in parts),
        math.fsum(part.cost for part in idle),
        math.fsum(part.node_hours for part in idle),
    )


def parse_since(text: str, now: float) -> float:
    """Read a time: a date or a time of ISO 8601 (UTC, if it names no zone), or how long ago.

    Returns:
        Seconds since the epoch.

    Raises:
        FormatError: if it is neither.
    """
    try:
        date = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        pass
    else:
        in_zone = date if date.tzinfo is not None else date.replace(tzinfo=timezone.utc)
        return in_zone.timestamp()
    try:
        return max(0.0, now - parse_duration(text.strip()))
    except FormatError as error:
        raise FormatError(text, "a date such as 2026-11-22, or a duration such as 7d") from error
