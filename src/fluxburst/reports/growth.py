"""Whether an instance can grow at all: by the size that it was started with, and its scheduler."""

from __future__ import annotations

from fluxburst.client import FluxBurst
from fluxburst.formats.units import counted
from fluxburst.provider import fluxion
from fluxburst.simulation.embedded import EmbeddedInstance


def why_it_cannot_grow(client: FluxBurst) -> str:
    """Return why no burst can ever join the instance; empty where one may.

    Nodes join where they were declared beforehand, and are down until then. Isolated bursts join
    no instance, and an embedded one takes every node.

    Raises:
        InstanceError: if the instance cannot be asked.
        LedgerError: if the ledger cannot be read.
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
        "Flux takes no others than those that it was started with; it refuses jobs that need more "
        "at once"
    )


HOW_TO_GROW = (
    "start one that can grow: 'fluxburst local init DIR --burst-nodes N', then "
    "'fluxburst local start DIR'"
)
"""What to do about an instance that cannot grow."""


def why_no_burst_begins(client: FluxBurst) -> list[str]:
    """Return lines that say why no burst can begin, with what to do; none where one may.

    Raises:
        InstanceError: if the instance cannot be asked.
        LedgerError: if the ledger cannot be read.
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
