"""Whether an instance can grow at all, given its initial size and its scheduler."""

from __future__ import annotations

from fluxburst.client import FluxBurst
from fluxburst.formats.units import counted
from fluxburst.provider import fluxion
from fluxburst.simulation.embedded import EmbeddedInstance


def why_it_cannot_grow(client: FluxBurst) -> str:
    """Return why no burst can ever join the instance; empty if one can.

    Nodes can join only if they were declared beforehand, and are down until then. Isolated bursts
    join no instance, and an embedded instance accepts every node.

    Raises:
        InstanceError: if the instance cannot be reached.
        LedgerError: if the ledger is unreadable.
    """
    if isinstance(client.instance, EmbeddedInstance):
        return ""
    if any(plugin.isolated for plugin in client.plugins.values()) or client.ledger.live():
        return ""
    nodes = client.instance.nodes()
    if not nodes or not all(node.up for node in nodes):
        return ""
    return (
        f"no burst can join this instance: all of it is up ({counted(len(nodes), 'node')}), and "
        "Flux accepts only nodes declared at its start; it rejects jobs that need more at "
        "once"
    )


HOW_TO_GROW = (
    "start one that can grow: 'fluxburst local init DIR --burst-nodes N', then "
    "'fluxburst local start DIR'"
)
"""Advice for an instance that cannot grow."""


def why_no_burst_begins(client: FluxBurst) -> list[str]:
    """Return lines that explain why no burst can begin, with advice; empty if one can.

    Raises:
        InstanceError: if the instance cannot be reached.
        LedgerError: if the ledger is unreadable.
    """
    cannot_grow = why_it_cannot_grow(client)
    if cannot_grow:
        return [f"{cannot_grow}; {HOW_TO_GROW}"]
    if client.plugins and all(plugin.isolated for plugin in client.plugins.values()):
        return []
    return [
        f"{why}: {fluxion.ADVICE_WHILE_IT_RUNS}"
        for why in fluxion.why_none_begins(client.instance.scheduler())
    ]
