"""Commands about the ledger: ``ledger`` and ``cost``."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import click
from rich.table import Table

from fluxburst.cli.app import Command, Settings, settings_of
from fluxburst.cli.output import console, print_json, table, time_text, user_name
from fluxburst.cli.sources import ledger_of, plugins_where_possible
from fluxburst.errors import RequestError
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.units import format_duration
from fluxburst.ledger import Entry, Ledger
from fluxburst.ledger.export import FIELDS, of_entry, records
from fluxburst.reports import costs, timeline
from fluxburst.reports.leases import unarmed

FORMATS = ("table", "json", "csv")


@click.command(cls=Command)
@click.option("--all", "everything", is_flag=True, help="Include bursts that have ended.")
@click.option("--burst", "name", metavar="NAME", help="Show the history of one burst.")
@click.option(
    "--format",
    "format",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="Output format.",
)
@click.option(
    "--export",
    "export",
    metavar="FILE",
    help="Export the whole ledger to FILE as JSON lines; - for standard output.",
)
@click.pass_context
def ledger(
    context: click.Context, everything: bool, name: str | None, format: str, export: str | None
) -> None:
    """Show the bursts in the ledger, the history of one, or export all.

    Needs no instance if --state-dir or FLUXBURST_STATE_DIR names the ledger's directory.
    """
    settings = settings_of(context)
    format = "json" if settings.json else format
    if sum((everything, name is not None, export is not None)) > 1:
        raise click.UsageError("use only one of --all, --burst and --export", context)
    with ledger_of(settings) as (book, now):
        if export is not None:
            _export(book, now, export)
        elif name is not None:
            told = timeline.of_burst(book, name, now)
            _print_timeline(told, now, format, lease=_lease(settings, told.entry, now))
        else:
            entries = book.entries() if everything else book.live()
            _print_entries(entries, now, format, nothing=_nothing(book, everything))


def _lease(settings: Settings, entry: Entry, now: float) -> str:
    """Describe the lease of a live burst; empty if it has none."""
    until = entry.burst.lease_until
    if not entry.live or until is None:
        return ""
    plugins = plugins_where_possible(settings, [entry.burst.plugin])
    tense = "ends" if until > now else "ended"
    text = f"Its lease {tense} at {time_text(until)}"
    if unarmed([entry], plugins):
        return f"{text}, but the lease is not armed: nothing ends its nodes automatically."
    return f"{text}."


def _nothing(book: Ledger, everything: bool) -> str:
    """Return the message for an empty list."""
    where = f"the ledger {book.path}" if book.path else "a ledger in memory, which starts empty"
    if everything or not book.entries():
        return f"There are no bursts in {where}."
    return f"No live bursts in {where}; --all shows those that have ended."


def _export(book: Ledger, now: float, file: str) -> None:
    def write(to: IO[str]) -> None:
        for record in records(book, now):
            to.write(json.dumps(record) + "\n")

    if file == "-":
        write(sys.stdout)
        return
    try:
        with Path(file).open("w", encoding="utf-8") as to:
            write(to)
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror}") from error


def _print_entries(entries: Sequence[Entry], now: float, format: str, *, nothing: str) -> None:
    rows = [of_entry(entry, now) for entry in entries]
    if format == "json":
        print_json(rows)
    elif format == "csv":
        _print_csv(FIELDS, ([_cell(row[field]) for field in FIELDS] for row in rows))
    elif rows:
        console().print(entry_table(entries, now))
    else:
        console().print(nothing, markup=False)


def entry_table(entries: Iterable[Entry], now: float, title: str = "Bursts") -> Table:
    """Make a table of bursts in the ledger."""
    columns = ["burst", "plugin", "type", "state", "nodes#", "jobs#", "requested", "for#", "cost#"]
    return table(
        title,
        [*columns, "why"],
        [
            (
                entry.burst.name,
                entry.burst.plugin,
                entry.burst.node_type or "-",
                entry.burst.state.value,
                entry.burst.nodes,
                len(entry.burst.jobs),
                time_text(entry.requested),
                format_duration(max(0.0, entry.billed_to(now) - entry.billed_from)),
                f"{entry.cost(now):.2f}",
                entry.burst.problem or entry.reason,
            )
            for entry in entries
        ],
    )


def event_table(events: Iterable[timeline.Event], title: str) -> Table:
    """Make a table of events."""
    rows = [
        (time_text(e.at), e.kind, e.what, e.plugin or "-", e.burst or "-", e.why) for e in events
    ]
    return table(title, ["when", "what", "which", "plugin", "burst", "why"], rows)


def _print_timeline(told: timeline.BurstTimeline, now: float, format: str, *, lease: str) -> None:
    if format == "json":
        events = [dataclasses.asdict(event) for event in told.events]
        cost = _line(told.cost)
        print_json({**of_entry(told.entry, now), "events": events, "usage": cost})
    elif format == "csv":
        fields = [field.name for field in dataclasses.fields(timeline.Event)]
        rows = [[_cell(getattr(e, field)) for field in fields] for e in told.events]
        _print_csv(fields, rows)
    else:
        out = console()
        out.print(entry_table([told.entry], now, "Burst"))
        out.print(event_table(told.events, "Events"))
        if lease:
            out.print(lease, markup=False)
        out.print(f"{told.cost.idle_share:.0%} of its node time was idle.", markup=False)


def _print_csv(fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows(rows)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else value


@click.command(cls=Command)
@click.option(
    "--by",
    type=click.Choice(costs.GROUPINGS),
    default="burst",
    show_default=True,
    help="Group costs by this.",
)
@click.option(
    "--since",
    metavar="TIME",
    help="Start at this date or time (UTC), or this long ago (a duration).",
)
@click.pass_context
def cost(context: click.Context, by: costs.By, since: str | None) -> None:
    """Show what bursts cost and how much of it was idle.

    Idle cost pays for node time without a running job; by user and by job, it has a line of its
    own. Days are in UTC.
    """
    settings = settings_of(context)
    with ledger_of(settings) as (book, now):
        start = costs.parse_since(since, now) if since else None
        with book.snapshot():
            entries, usages = book.entries(start), book.usages()
        parts = list(costs.slices(entries, usages, now, -math.inf if start is None else start))
        nothing = _nothing(book, everything=True)
    lines, total = costs.group(parts, by), costs.total(parts)
    if settings.json:
        result = {"by": by, "since": start, "until": now}
        print_json({**result, "lines": [_line(line) for line in lines], "total": _line(total)})
    elif not lines:
        told = "Nothing was spent" + (f" since {time_text(start)}." if start is not None else ".")
        console().print(told if entries else nothing, markup=False)
    else:
        _print_costs(lines, total, by)


def _line(line: costs.Line) -> dict[str, Any]:
    return {**dataclasses.asdict(line), "idle_share": line.idle_share}


def _print_costs(lines: Sequence[costs.Line], total: costs.Line, by: costs.By) -> None:
    columns = [by, "cost#", "node hours#", "idle cost#", "idle node hours#", "idle#"]
    rows = [_cost_row(_named(line, by), line) for line in lines]
    console().print(table(f"Cost by {by}", columns, [*rows, _cost_row("total", total)]))


def _named(line: costs.Line, by: costs.By) -> str:
    if line.key is None:
        return "(idle)"
    if isinstance(line.key, int):
        return format_f58(line.key) if by == "job" else user_name(line.key)
    return line.key


def _cost_row(name: str, line: costs.Line) -> tuple[str, ...]:
    return (
        name,
        f"{line.cost:.2f}",
        f"{line.node_hours:.2f}",
        f"{line.idle_cost:.2f}",
        f"{line.idle_node_hours:.2f}",
        f"{line.idle_share:.0%}",
    )
