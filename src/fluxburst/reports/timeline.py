"""The events of one job or one burst, with reasons, in order of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from fluxburst.errors import RequestError, UnknownJobError, did_you_mean
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.units import format_duration
from fluxburst.ledger import Entry, Ledger
from fluxburst.model.plan import Decision
from fluxburst.reports import costs

Kind = Literal["decided", "given", "taken back", "burst", "started", "ended"]

LARGEST_ID = 2**63 - 1
"""The largest job id that a ledger can store; Flux reaches larger ones after 17 years."""


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        at: Time, in seconds since the epoch.
        kind: ``decided`` for a decision on a job; ``given`` for a job assigned to a plugin,
            ``taken back`` for its release; ``burst`` for a burst's new state; ``started`` or
            ``ended`` for a job.
        what: The result: an outcome, a state, a job.
        plugin: The plugin concerned; empty for none.
        burst: The burst concerned; empty for none.
        job: The job concerned; None for none.
        why: The reason; empty if none was recorded.
    """

    at: float
    kind: Kind
    what: str
    plugin: str = ""
    burst: str = ""
    job: int | None = None
    why: str = ""


@dataclass(frozen=True)
class JobTimeline:
    """Everything known about one job.

    Attributes:
        job: Its id.
        events: Its events, and those of the bursts it was assigned to or ran on.
        bursts: Those bursts.
        cost: Its cost: its share of the bursts' node time, at their price.
        node_hours: That node time.
        present: The current decision; None if the job is not pending or the instance cannot be
            reached.
        exception: What ended it prematurely, according to the instance; empty for nothing.
    """

    job: int
    events: tuple[Event, ...]
    bursts: tuple[Entry, ...]
    cost: float
    node_hours: float
    present: Decision | None
    exception: str = ""


@dataclass(frozen=True)
class BurstTimeline:
    """Everything known about one burst.

    Attributes:
        entry: The burst.
        events: Its events, the jobs assigned to it, and the jobs that ran on it.
        cost: Its cost, and its idle share.
    """

    entry: Entry
    events: tuple[Event, ...]
    cost: costs.Line


def of_job(
    ledger: Ledger, job: int, now: float, present: Decision | None = None, exception: str = ""
) -> JobTimeline:
    """Return the history of a job.

    Args:
        ledger: The ledger.
        job: The job's id.
        now: Current time, in seconds since the epoch.
        present: The current decision, if known.
        exception: What ended it prematurely, if known.

    Raises:
        UnknownJobError: if there is no record of it.
        LedgerError: if the ledger is unreadable.
    """
    if job > LARGEST_ID:
        raise UnknownJobError(format_f58(job), f"the ledger {ledger.path}".rstrip())
    with ledger.snapshot():
        decisions = ledger.decisions(job)
        assignments = ledger.assignments(job)
        usages = [usage for usage in ledger.usages() if usage.job == job]
        on = {usage.entry for usage in usages}
        names = {assignment.burst for assignment in assignments}
        entries = [e for e in ledger.entries() if e.id in on or e.burst.name in names]
        events = [
            Event(at, "decided", d.outcome.value, d.plugin, job=job, why="; ".join(d.reasons))
            for at, d in decisions
        ]
        events += _assigned(ledger, job, None)
        for entry in entries:
            events += _life(ledger, entry)
        events += _used(ledger, entries, job)
        everyone = [usage for usage in ledger.usages() if usage.entry in on]
    if not events and present is None and not exception:
        raise UnknownJobError(format_f58(job), f"the ledger {ledger.path}".rstrip())
    paid = [p for p in costs.slices(entries, everyone, now) if p.usage and p.usage.job == job]
    line = costs.total(paid)
    return JobTimeline(
        job, _in_order(events), tuple(entries), line.cost, line.node_hours, present, exception
    )


def of_burst(ledger: Ledger, name: str, now: float) -> BurstTimeline:
    """Return the history of a burst.

    Raises:
        RequestError: if there is no such burst.
        LedgerError: if the ledger is unreadable.
    """
    with ledger.snapshot():
        entry = ledger.entry(name)
        if entry is None:
            known = [e.burst.name for e in ledger.entries()]
            raise RequestError(f"the ledger has no burst {name!r}{did_you_mean(name, known)}")
        events = [
            *_life(ledger, entry),
            *_assigned(ledger, None, name),
            *_used(ledger, [entry], None),
        ]
        line = costs.total(costs.slices([entry], ledger.usages(), now))
    return BurstTimeline(entry, _in_order(events), line)


def _in_order(events: Iterable[Event]) -> tuple[Event, ...]:
    return tuple(sorted(events, key=lambda event: event.at))


def _life(ledger: Ledger, entry: Entry) -> Iterator[Event]:
    burst = entry.burst
    for step in ledger.transitions(entry.id):
        yield Event(step.at, "burst", step.state.value, burst.plugin, burst.name, why=step.reason)


def _assigned(ledger: Ledger, job: int | None, burst: str | None) -> Iterator[Event]:
    """Yield the assignments and releases of a job, or of a burst's jobs."""
    for p in ledger.assignments(job):
        if burst is not None and p.burst != burst:
            continue
        fits = "" if p.burst else "it fits on existing nodes"
        yield Event(p.at, "given", format_f58(p.job), p.plugin, p.burst, p.job, fits)
        if p.released is not None:
            what = format_f58(p.job)
            yield Event(p.released, "taken back", what, p.plugin, p.burst, p.job, p.reason)


def _used(ledger: Ledger, entries: Iterable[Entry], job: int | None) -> Iterator[Event]:
    """Yield the starts and ends on bursts, of one job or of all."""
    of = {entry.id: entry.burst for entry in entries}
    for usage in ledger.usages():
        burst = of.get(usage.entry)
        if burst is None or job not in (None, usage.job):
            continue
        what, nodes = format_f58(usage.job), f"on {usage.nodes:g} of its nodes"
        yield Event(usage.started, "started", what, burst.plugin, burst.name, usage.job, nodes)
        if usage.ended is not None:
            ran = f"after {format_duration(usage.ended - usage.started)}"
            yield Event(usage.ended, "ended", what, burst.plugin, burst.name, usage.job, ran)
