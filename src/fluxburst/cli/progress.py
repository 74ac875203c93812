"""Follow bursts until they are up: live on a terminal, silent elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.live import Live

from fluxburst.cli.output import burst_table, console
from fluxburst.client import FluxBurst
from fluxburst.model.burst import COMING_STATES, Burst

FIRST_POLL_SECONDS, LAST_POLL_SECONDS, POLL_GROWTH = 0.1, 2.0, 1.2
"""Grows from a short to a long interval: fast providers show at once, slow ones are not polled."""


def _until_up(client: FluxBurst, seconds: float) -> Iterator[list[Burst]]:
    """Yield the client's bursts as they change, until all are up or the time is over."""
    until = client.now() + seconds
    bursts = client.refresh_bursts()
    yield bursts
    pause = FIRST_POLL_SECONDS
    while any(burst.state in COMING_STATES for burst in bursts) and client.now() < until:
        client.instance.wait(0)  # answers of plugins woke it and have been processed
        client.instance.wait(min(pause, until - client.now()))
        pause = min(LAST_POLL_SECONDS, pause * POLL_GROWTH)
        bursts = client.refresh_bursts()
        yield bursts


def follow(client: FluxBurst, seconds: float, *, quiet: bool) -> list[Burst]:
    """Wait up to ``seconds`` for the client's bursts to come up; return their last state.

    The instance's clock counts the seconds.
    """
    if quiet or not sys.stdout.isatty():
        return list(_until_up(client, seconds))[-1]
    bursts: list[Burst] = []
    with Live(console=console(), transient=True, auto_refresh=False) as live:
        for bursts in _until_up(client, seconds):
            live.update(burst_table(bursts), refresh=True)
    return bursts
