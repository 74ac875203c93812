"""Leases that are not armed: only fluxburst ends these nodes, and until then they cost money."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from fluxburst.formats.units import format_duration
from fluxburst.ledger import Entry
from fluxburst.plugin.base import BurstPlugin, Finding


def unarmed(entries: Iterable[Entry], plugins: Mapping[str, BurstPlugin]) -> frozenset[str]:
    """Return the names of the bursts whose nodes do not end automatically, as far as is known.

    Args:
        entries: The bursts that may exist.
        plugins: The loaded plugins, by name; bursts of other plugins are skipped.
    """
    return frozenset(
        entry.burst.name
        for entry in entries
        if entry.live
        and entry.burst.nodes
        and entry.burst.plugin in plugins
        and not _arms(plugins[entry.burst.plugin])
    )


def _arms(plugin: BurstPlugin) -> bool:
    """Whether a plugin's nodes end automatically; False if it cannot tell."""
    try:
        return plugin.arms_leases
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - 'fluxburst doctor' reports it
        return False


def overdue(entries: Iterable[Entry], unarmed: Collection[str], now: float) -> Iterator[str]:
    """Yield a warning for each burst that outlived its lease because nothing ends it."""
    for entry in entries:
        burst = entry.burst
        if burst.name not in unarmed or burst.lease_until is None or burst.lease_until > now:
            continue
        ago = format_duration(round(now - burst.lease_until))
        yield (
            f"burst {burst.name}: its lease ended {ago} ago, but nothing ends its nodes "
            f"automatically: they cost {burst.nodes * burst.price:.2f} an hour until "
            f"'fluxburst unburst {burst.name}' or a service ends them"
        )


def check_armed(plugin: BurstPlugin) -> Iterator[Finding]:
    """Check that nodes that cost money end even if fluxburst does not come back."""
    priced: Sequence[str] = [kind.name for kind in plugin.node_types() if kind.price]
    if priced and not plugin.arms_leases:
        yield Finding(
            "warning",
            f"nothing ends its nodes ({', '.join(priced)}) automatically when their lease expires",
            "run a service, or use 'fluxburst unburst --all' when you are done",
        )
