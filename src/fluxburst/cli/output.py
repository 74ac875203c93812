"""Tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import enum
import json
import pwd
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluxburst.cli.complaints import printable
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.units import format_duration
from fluxburst.model.burst import Burst, BurstState
from fluxburst.model.queues import STOPPED

WIDTH_OF_A_FILE = 160
"""Width of tables if the output is not a terminal."""

_REASONS = 5
"""How many reasons for jobs not being startable are shown: every job may have its own."""

STATE_STYLES = {
    BurstState.READY: "green",
    BurstState.FAILED: "red",
    BurstState.ENDED: "dim",
}


def console() -> Console:
    """Return a console on standard output."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE, highlight=False)


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def shown(value: Any) -> str:
    """Format a value for people: JSON if nested, plain text otherwise."""
    plain = _plain(value) if not isinstance(value, (list, dict, int, float, type(None))) else value
    if isinstance(plain, str):
        return plain
    if isinstance(plain, list) and len(plain) > 1:
        return "\n".join(json.dumps(item, default=_plain) for item in plain)
    return json.dumps(plain, default=_plain)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Make a table; columns whose names end in ``#`` hold numbers."""
    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in columns:
        number = column.endswith("#")
        first = column == columns[0]
        made.add_column(column.rstrip("#"), justify="right" if number else "left", no_wrap=first)
    for row in rows:
        made.add_row(*[cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row])
    return made


def user_name(user: int) -> str:
    """Return a user's name, or the number if this machine does not know the user."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def time_text(seconds: float | None) -> str:
    """Format a time for people: UTC, in seconds; ``-`` for None."""
    if seconds is None:
        return "-"
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S}Z"


def time_ago(seconds: float, now: float) -> str:
    """Format a past time, and how long ago it was."""
    return f"at {time_text(seconds)}, {format_duration(round(max(0.0, now - seconds)))} ago"


def not_startable_lines(jobs: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Yield one line per reason for jobs that more nodes would not help to start.

    Args:
        jobs: Their ids, by reason.
    """
    most_first = sorted(jobs.items(), key=lambda one: -len(one[1]))
    for why, ids in most_first[:_REASONS]:
        advice = "; flux queue start --all" if STOPPED.match(why) else ""
        first = format_f58(ids[0]) + (", …" if len(ids) > 1 else "")
        yield printable(f"not startable: {len(ids)} ({first}: {why}{advice})")
    rest = most_first[_REASONS:]
    if rest:
        yield f"not startable: {sum(len(ids) for _, ids in rest)} for other reasons"


def _progress(burst: Burst) -> str:
    """Format a burst's state; while its nodes join: how many have, and what it waits for."""
    if burst.state is BurstState.JOINING:
        return f"joining {burst.joined}/{burst.nodes}"
    waits = burst.state is BurstState.REQUESTED and burst.waiting_for
    return f"{burst.state.value}: {burst.waiting_for}" if waits else burst.state.value


def burst_table(bursts: Iterable[Burst], title: str = "Bursts") -> Table:
    """Make a table of bursts."""
    return table(
        title,
        ["burst", "plugin", "node type", "nodes#", "jobs#", "price/h#", "state"],
        [
            (
                burst.name,
                burst.plugin,
                burst.node_type,
                burst.nodes,
                len(burst.jobs),
                f"{burst.nodes * burst.price:.2f}",
                Text(_progress(burst), style=STATE_STYLES.get(burst.state, "yellow")),
            )
            for burst in bursts
        ],
    )
