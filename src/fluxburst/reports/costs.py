"""What bursts cost, by burst, plugin, user, job and day (UTC), from the ledger.

What is paid for is node time: a burst's nodes for as long as it is billed. A job pays for its share
of it while it is on the nodes; if jobs together had more nodes than the burst has (only a wrong
record can say so), each pays in proportion. The rest is idle and is listed as such, on no
user's bill. The total is the same however it is divided.
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
"""The subject of a line: a name, a job's or a user's number, a date; None for idle time."""


@dataclass(frozen=True)
class Slice:
    """Node time of one burst, on one day.

    Attributes:
        entry: The burst.
        day: Start of the day (UTC), in seconds since the epoch.
        usage: The job that used it; None if idle.
        node_hours: The amount.
    """

    entry: Entry
    day: float
    usage: Usage | None
    node_hours: float

    @property
    def cost(self) -> float:
        """Its cost, in the currency of the plugins' prices."""
        return self.node_hours * self.entry.burst.price


@dataclass(frozen=True)
class Line:
    """Cost of one burst, plugin, user, job or day.

    Attributes:
        key: The burst, plugin, user, job or day.
        cost: Total cost.
        node_hours: Total node time.
        idle_cost: Cost of the node time without a running job.
        idle_node_hours: Amount of that node time.
    """

    key: Key
    cost: float = 0.0
    node_hours: float = 0.0
    idle_cost: float = 0.0
    idle_node_hours: float = 0.0

    @property
    def idle_share(self) -> float:
        """The idle fraction of the node time, from 0 to 1; 0 if there is no node time."""
        return self.idle_node_hours / self.node_hours if self.node_hours else 0.0


def slices(
    entries: Iterable[Entry], usages: Iterable[Usage], now: float, since: float = -math.inf
) -> Iterator[Slice]:
    """Divide the node time bought between two times into each job's share and the idle rest.

    Args:
        entries: The bursts.
        usages: What jobs used of them; other bursts' usages are ignored.
        now: End of the period, in seconds since the epoch.
        since: Start of the period.
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
    """Split a period into its days."""
    while start < end:
        midnight = _day(start) + DAY
        yield start, min(end, midnight)
        start = midnight


class _Shares:
    """Usage of a burst over time.

    Args:
        nodes: Number of its nodes.
        spans: Start and end of each job's share.
        start: Start of the burst.
        end: End of the burst.
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
        """Return for how many seconds each node in use between two times is paid."""
        return self._paid[self._at(end)] - self._paid[self._at(start)]

    def idle(self, start: float, end: float) -> float:
        """Return the idle seconds of all nodes between two times, added up."""
        return self._idle[self._at(end)] - self._idle[self._at(start)]

    def _at(self, time: float) -> int:
        return bisect.bisect_left(self._times, time)


def group(parts: Iterable[Slice], by: By) -> list[Line]:
    """Sum up by burst, plugin, user, job or day.

    Users are the owners of the jobs on the nodes. By user and by job, idle time has its own line:
    the last, with the key None.
    """
    sums: dict[Key, list[Slice]] = defaultdict(list)
    for part in parts:
        sums[_key(part, by)].append(part)
    lines = [_line(key, sums[key]) for key in sorted(k for k in sums if k is not None)]
    return [*lines, *([_line(None, sums[None])] if None in sums else [])]


def total(parts: Iterable[Slice]) -> Line:
    """Sum up everything."""
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
    """Parse a time: a date or time in ISO 8601 (UTC by default), or a duration before now.

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
