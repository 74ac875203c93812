"""Whether an instance can grow at all: the size of a Flux instance is fixed when it is started."""

from __future__ import annotations

from fluxburst.client import FluxBurst
from fluxburst.formats.units import counted
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
