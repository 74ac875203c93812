"""Warnings about bursts that stay when a command ends."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from fluxburst.cli.app import Settings
from fluxburst.cli.output import time_text
from fluxburst.client import FluxBurst
from fluxburst.errors import FluxburstError
from fluxburst.formats.units import counted
from fluxburst.model.burst import Burst
from fluxburst.reports.leases import unarmed


def what_stays(client: FluxBurst, settings: Settings) -> Iterator[str]:
    """Yield what the remaining bursts cost, until when, and how to end them."""
    try:
        live = client.ledger.live()
    except FluxburstError as error:
        yield f"bursts may remain and cost money: {error}"
        return
    if not live:
        return
    bursts = [entry.burst for entry in live]
    nodes = sum(burst.nodes for burst in bursts)
    an_hour = sum(burst.nodes * burst.price for burst in bursts)
    names = ", ".join(burst.name for burst in bursts)
    stay = "remains and costs" if len(bursts) == 1 else "remain and cost"
    yield (
        f"{counted(len(bursts), 'burst')} with {counted(nodes, 'node')} {stay} {an_hour:.2f} an "
        f"hour: {names}; "
        f"to terminate them: {command(settings, 'unburst', '--all')}"
    )
    endless = unarmed(live, client.plugins)
    armed = [b.lease_until for b in bursts if b.lease_until is not None and b.name not in endless]
    if armed:
        until = time_text(max(armed))
        ends = "ends automatically with its lease"
        if len(armed) > 1:
            ends = "end automatically with their leases"
        yield f"{_of(len(armed), bursts)} {ends}, by {until}"
    if len(armed) < len(bursts):
        yield f"nothing ends {_of(len(bursts) - len(armed), bursts)} automatically"


def _of(count: int, bursts: Sequence[Burst]) -> str:
    return "it" if len(bursts) == 1 else f"{count} of them"


def command(settings: Settings, *words: str) -> str:
    """Return a command line with the options of this invocation."""
    options: list[str] = []
    if settings.config is not None:
        options += ["--config", str(settings.config)]
    for name in settings.plugins:
        options += ["--plugin", name]
    for name in settings.block:
        options += ["--block", name]
    if settings.state_dir is not None:
        options += ["--state-dir", str(settings.state_dir)]
    if settings.mock is not None:
        options.append(f"--mock={settings.mock}" if settings.mock else "--mock")
    return shlex.join(["fluxburst", *options, *words])
