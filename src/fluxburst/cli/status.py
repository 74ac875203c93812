"""``fluxburst status``: the current state, once or repeatedly."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fluxburst.cli.app import Command, Settings, settings_of
from fluxburst.cli.complaints import printable
from fluxburst.cli.output import (
    STATE_STYLES,
    console,
    not_startable_lines,
    print_json,
    table,
    time_ago,
    time_text,
)
from fluxburst.cli.sources import AWAY, ledger_in, loaded_where_possible
from fluxburst.client import FluxBurst
from fluxburst.formats.units import format_duration
from fluxburst.ledger import Entry
from fluxburst.ledger.clock import time_of
from fluxburst.ledger.location import LOCK, why_unwritable
from fluxburst.ledger.lock import holder_of
from fluxburst.model.burst import BurstState
from fluxburst.reconcile.verify import install_advice
from fluxburst.reports.leases import overdue
from fluxburst.reports.status import Status, of_client, of_ledger

REFRESH_SECONDS = 2.0


@click.command(cls=Command)
@click.option("--watch", is_flag=True, help="Refresh every 2 seconds until interrupted.")
@click.pass_context
def status(context: click.Context, watch: bool) -> None:
    """Show current bursts, jobs, limits, breakers and spending.

    Asks no provider. If the instance cannot be reached, shows the ledger alone, provided that
    --state-dir or FLUXBURST_STATE_DIR names its directory.
    """
    settings = settings_of(context)
    client, problems = loaded_where_possible(settings)
    with client:
        if not watch:
            _print(_observe(settings, client, problems), as_json=settings.json)
        elif settings.json:
            for now in _statuses(settings, client, problems):
                click.echo(json.dumps(now.to_dict()))
        else:
            with Live(console=console(), auto_refresh=False) as live:
                for now in _statuses(settings, client, problems):
                    live.update(shown_status(now), refresh=True)


def _statuses(settings: Settings, client: FluxBurst, problems: list[str]) -> Iterator[Status]:
    while True:
        yield _observe(settings, client, problems)
        time.sleep(REFRESH_SECONDS)


def _observe(settings: Settings, client: FluxBurst, problems: list[str]) -> Status:
    try:
        return of_client(client, problems=problems)
    except AWAY as error:
        directory = settings.directory
        if directory is None:
            raise
        ledger = ledger_in(directory)
        try:
            return of_ledger(
                ledger,
                client.policy,
                time_of(ledger),
                installed=client.hooks.offers.keys(),
                unreachable=str(error),
                holder=holder_of([directory / LOCK]),
                problems=problems,
                unwritable=why_unwritable(directory),
                plugins=client.plugins,
            )
        finally:
            ledger.close()


def _print(now: Status, *, as_json: bool) -> None:
    if as_json:
        print_json(now.to_dict())
    else:
        console().print(shown_status(now))


def shown_status(now: Status) -> RenderableType:
    """Return the current state, formatted for people."""
    parts: list[RenderableType] = [Text(line) for line in _head(now)]
    parts += [Text(printable(line), style="red") for line in _wrong(now)]
    if now.bursts:
        parts.append(_bursts(now))
    if now.limits:
        parts.append(_limits(now))
    if now.breakers:
        parts.append(_breakers(now))
    return Group(*parts)


def _head(now: Status) -> Iterator[str]:
    yield f"{now.instance or 'an unknown instance'} at {time_text(now.at)}"
    yield f"held by {now.holder}" if now.holder else "not held: no service runs"
    if now.bursts and not now.holder and now.recorded is not None:
        yield f"bursts as last recorded, {time_ago(now.recorded, now.at)}"
    nodes, jobs, money = now.nodes, now.jobs, now.spending
    yield f"bursts: {len(now.bursts)}, nodes: {nodes.joined} of {nodes.asked} have joined"
    if jobs is not None:
        yield (
            f"jobs: {jobs.pending} pending, {jobs.selected} selected, {jobs.given} assigned, "
            f"{jobs.unmatched} unmatched"
        )
    yield from not_startable_lines(now.not_startable)
    yield (
        f"spending: {money.per_hour:.2f} an hour now, {money.today:.2f} today, "
        f"{money.total:.2f} in total, {money.reserved:.2f} reserved"
    )


def _wrong(now: Status) -> Iterator[str]:
    if now.unreachable:
        yield f"cannot reach the instance, showing the ledger alone: {now.unreachable}"
    if now.unwritable:
        yield f"cannot write the ledger, so nothing is provisioned: {now.unwritable}"
    for plugin, names in now.missing.items():
        has = f"has bursts: {', '.join(names)}"
        yield f"plugin {plugin} is not installed, and {has}; {install_advice(plugin)}"
    yield from overdue(now.bursts, now.unarmed, now.at)
    yield from now.problems


def _bursts(now: Status) -> Table:
    columns = ["burst", "plugin", "type", "state", "joined#", "jobs#", "idle#", "lease ends#"]
    return table(
        "Bursts", [*columns, "an hour#", "cost#", "why"], [_row(e, now) for e in now.bursts]
    )


def _row(entry: Entry, now: Status) -> tuple[object, ...]:
    burst = entry.burst
    idle = "-" if entry.idle is None else format_duration(max(0.0, now.at - entry.idle))
    return (
        burst.name,
        burst.plugin,
        burst.node_type or "-",
        Text(_state(entry, now.at), style=STATE_STYLES.get(burst.state, "yellow")),
        f"{burst.joined}/{burst.nodes}",
        len(burst.jobs),
        idle,
        _until(burst.lease_until, now.at, armed=burst.name not in now.unarmed),
        f"{burst.nodes * burst.price:.2f}",
        f"{entry.cost(now.at):.2f}",
        burst.problem or entry.reason,
    )


def _state(entry: Entry, now: float) -> str:
    """Return a burst's state; if only requested, with its age."""
    state = entry.burst.state
    if state is not BurstState.REQUESTED:
        return str(state.value)
    return f"{state.value} for {format_duration(round(max(0.0, now - entry.requested)))}"


def _until(when: float | None, now: float, *, armed: bool) -> str:
    if when is None:
        return "never"
    text = f"in {format_duration(when - now)}" if when > now else "ended"
    return text if armed else f"{text}, not armed"


def _limits(now: Status) -> Table:
    rows = [
        (str(limit.scope), limit.what, f"{limit.used:.4g}", f"{limit.left:.4g}", f"{limit.limit:g}")
        for limit in now.limits
    ]
    return table("Limits", ["of", "what", "used#", "left#", "limit#"], rows)


def _breakers(now: Status) -> Table:
    rows = [
        (
            f"{breaker.plugin}/{breaker.node_type}",
            "open" if now.is_open(breaker) else "closed" if breaker.retry_at is None else "probing",
            breaker.failures,
            time_text(breaker.retry_at),
            breaker.error,
        )
        for breaker in now.breakers
    ]
    columns = ["node type", "breaker", "failures#", "retry", "last error"]
    return table("Node types that failed", columns, rows)
