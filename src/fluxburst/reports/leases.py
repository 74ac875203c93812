"""Leases that nothing arms: where nobody but fluxburst ends nodes, they cost until it does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from fluxburst.formats.units import format_duration
from fluxburst.ledger import Entry
from fluxburst.plugin.base import BurstPlugin, Finding


def unarmed(entries: Iterable[Entry], plugins: Mapping[str, BurstPlugin]) -> frozenset[str]:
    """Return the names of the bursts whose nodes do not end by themselves, as far as is known.

    Args:
        entries: The bursts of which something may be there.
        plugins: The plugins that are loaded, by name; nothing is known of the bursts of others.
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
    """Whether a plugin's nodes end by themselves; not, where it cannot tell."""
    try:
        return plugin.arms_leases
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - 'fluxburst doctor' says so
        return False


def overdue(entries: Iterable[Entry], unarmed: Collection[str], now: float) -> Iterator[str]:
    """Yield what to say of each burst that lives on after its lease, as nothing ends it."""
    for entry in entries:
        burst = entry.burst
        if burst.name not in unarmed or burst.lease_until is None or burst.lease_until > now:
            continue
        ago = format_duration(round(now - burst.lease_until))
        yield (
            f"burst {burst.name}: its lease ended {ago} ago, and nothing ends its nodes by itself: "
            f"they cost {burst.nodes * burst.price:.2f} an hour until "
            f"'fluxburst unburst {burst.name}', or a service, ends them"
        )


def check_armed(plugin: BurstPlugin) -> Iterator[Finding]:
    """Check that nodes that cost money end also if nobody comes back to them."""
    priced: Sequence[str] = [kind.name for kind in plugin.node_types() if kind.price]
    if priced and not plugin.arms_leases:
        yield Finding(
            "warning",
            f"nothing ends its nodes ({', '.join(priced)}) by itself when their lease is over",
            "have a service run, or end them by 'fluxburst unburst --all' when you are done",
        )
