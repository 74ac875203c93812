"""What happened to one job, or to one burst, and why, in the order of time."""

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
"""The largest job id that a ledger can have; Flux comes to larger ones after 17 years."""


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        at: When, in seconds since the epoch.
        kind: ``decided`` on a job; a job ``given`` to a plugin, or ``taken back`` from it; a
            ``burst`` has come to a state; a job ``started`` or ``ended`` on a burst's nodes.
        what: What it came to: an outcome, a state, a job.
        plugin: The plugin that it is about; empty for none.
        burst: The burst that it is about; empty for none.
        job: The job that it is about; None for none.
        why: Why; empty where that was not recorded.
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
    """All that is known of one job.

    Attributes:
        job: Its id.
        events: What happened to it and to the bursts that it was given to or ran on.
        bursts: These bursts.
        cost: What it cost: its share of the bursts' node time, at their price.
        node_hours: How much node time that is.
        present: What is decided on it now; None where that cannot be told, as it is not pending
            or the instance cannot be asked.
        exception: What ended it other than its own end, as the instance says; empty for nothing.
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
    """All that is known of one burst.

    Attributes:
        entry: The burst.
        events: What happened to it, and which jobs were given to it, and ran on it.
        cost: What it cost, and how much of it was idle.
    """

    entry: Entry
    events: tuple[Event, ...]
    cost: costs.Line


def of_job(
    ledger: Ledger, job: int, now: float, present: Decision | None = None, exception: str = ""
) -> JobTimeline:
    """Tell what happened to a job.

    Args:
        ledger: The record.
        job: The job's id.
        now: The time, in seconds since the epoch.
        present: What is decided on it now, where that is known.
        exception: What ended it other than its own end, where that is known.

    Raises:
        UnknownJobError: if nothing is known of it.
        LedgerError: if the ledger cannot be read.
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
    """Tell what happened to a burst.

    Raises:
        RequestError: if there is no such burst.
        LedgerError: if the ledger cannot be read.
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
    """Yield when jobs were given away and taken back: those of a job, or those of a burst."""
    for p in ledger.assignments(job):
        if burst is not None and p.burst != burst:
            continue
        fits = "" if p.burst else "it fits on nodes that are there"
        yield Event(p.at, "given", format_f58(p.job), p.plugin, p.burst, p.job, fits)
        if p.released is not None:
            what = format_f58(p.job)
            yield Event(p.released, "taken back", what, p.plugin, p.burst, p.job, p.reason)


def _used(ledger: Ledger, entries: Iterable[Entry], job: int | None) -> Iterator[Event]:
    """Yield when jobs started and ended on bursts: one job, or all."""
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
