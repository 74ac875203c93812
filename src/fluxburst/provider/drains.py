"""Burst nodes drained by others: which, why, since when, and how to undrain them.

Flux keeps a reason and a time for each (flux-resource(1)), but not who drained it. Nodes drained
for the termination of their burst do not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timezone

from fluxburst.formats.hostlist import format_hostlist
from fluxburst.model.node import Node
from fluxburst.plugin.base import Finding
from fluxburst.provider.elastic import BURST_PROPERTY
from fluxburst.provider.node_removal import burst_left_by


def drained_by_others(nodes: Iterable[Node], hosts: Collection[str] = ()) -> list[Node]:
    """Return the burst nodes drained by others.

    Args:
        nodes: The instance's nodes.
        hosts: The hostnames of burst nodes, besides those with the property ``burst``.
    """
    return [
        node
        for node in nodes
        if node.drained_at is not None
        and not burst_left_by(node)
        and (BURST_PROPERTY in node.properties or node.hostname in hosts)
    ]


def described(nodes: Iterable[Node]) -> Iterator[tuple[str, str]]:
    """Yield drained nodes and how to undrain them: grouped by time and reason."""
    together: dict[tuple[float, str], list[str]] = {}
    for node in nodes:
        together.setdefault((node.drained_at or 0.0, node.drain_reason), []).append(node.hostname)
    for (at, reason), hosts in together.items():
        names = format_hostlist(hosts)
        since = f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%d %H:%M:%S}Z"
        verb = "is" if len(hosts) == 1 else "are"
        why = repr(reason) if reason else "no reason given"
        what = f"{names} {verb} drained since {since} ({why}) and not used"
        yield (
            what,
            f"undrain {'it' if verb == 'is' else 'them'} with 'flux resource undrain {names}'",
        )


def lines(nodes: Iterable[Node]) -> list[str]:
    """Return the same as lines for people."""
    return [f"{what}: {advice}" for what, advice in described(nodes)]


def findings(nodes: Iterable[Node], hosts: Collection[str]) -> Iterator[Finding]:
    """Yield a warning for drained nodes; see :func:`drained_by_others`."""
    drained = drained_by_others(nodes, hosts)
    for what, advice in described(drained):
        yield Finding("warning", what, f"once repaired: {advice}")
    if not drained:
        yield Finding("ok", "no burst node is drained by others")
