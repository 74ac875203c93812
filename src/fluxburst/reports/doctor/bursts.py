"""Existing bursts, and open breakers."""

from __future__ import annotations

from collections.abc import Iterator

from fluxburst.formats.units import counted
from fluxburst.plugin.base import Finding
from fluxburst.reconcile.verify import install_advice
from fluxburst.reports.doctor.findings import ok, utc, warning, wrong
from fluxburst.reports.doctor.installation import Installation
from fluxburst.reports.growth import HOW_TO_GROW, why_it_cannot_grow
from fluxburst.reports.leases import overdue, unarmed


def check_bursts(installation: Installation) -> Iterator[Finding]:
    """Check that every burst has a loaded plugin."""
    client = installation.client
    live = installation.ledger.live()
    cannot_grow = why_it_cannot_grow(client) if installation.reached else ""
    if cannot_grow:
        yield warning(cannot_grow, HOW_TO_GROW)
    for plugin in sorted({entry.burst.plugin for entry in live} - client.plugins.keys()):
        names = ", ".join(e.burst.name for e in live if e.burst.plugin == plugin)
        if plugin in client.hooks.offers:
            text = f"{plugin} is not loaded, so nothing manages its bursts: {names}"
            yield wrong(text, f"load it: --plugin {plugin}, or [plugins.{plugin}] in the config")
        else:
            text = f"{plugin} is not installed, but has bursts: {names}"
            yield wrong(text, f"{install_advice(plugin)}; until then check its provider")
    for text in overdue(live, unarmed(live, client.plugins), client.now()):
        yield warning(text, "terminate it")
    for entry in live:
        if entry.burst.problem:
            again = f"see 'fluxburst ledger --burst {entry.burst.name}'"
            yield warning(f"{entry.burst.name}: {entry.burst.problem}", again)
    yield ok(f"{len(live)} exist, or may")


def check_breakers(installation: Installation) -> Iterator[Finding]:
    """Name the node types that are not requested at present."""
    now = installation.client.now()
    breakers = installation.ledger.breakers().values()
    closed_until = [b for b in breakers if b.retry_at is not None and now < b.retry_at]
    for breaker in closed_until:
        times = counted(breaker.failures, "time")
        what = f"{breaker.plugin}/{breaker.node_type} failed {times} in a row"
        again = f"it is retried from {utc(breaker.retry_at or now)}"
        yield warning(f"{what}, last with: {breaker.error}", f"fix the cause; {again}")
    if not closed_until:
        yield ok("none open")
