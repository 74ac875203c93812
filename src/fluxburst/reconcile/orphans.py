"""How far a plugin is believed of a burst that is in no record: it may have cost no more than that.

Nothing was asked for here that its numbers could be held against, and they count against limits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fluxburst.errors import BurstError
from fluxburst.formats.units import counted
from fluxburst.model.burst import Burst
from fluxburst.model.node import NodeType


def bounded(burst: Burst, types: Iterable[NodeType], began: float) -> Burst:
    """Return a burst that is in no record, as far as it can be.

    Args:
        burst: What its plugin says of it.
        types: The plugin's node types: they give its price, which is 0 where its type is unknown.
        began: Since when anything can have cost, in seconds since the epoch.

    Raises:
        BurstError: if it has more nodes than its plugin supplies at any time.
    """
    kind = next((one for one in types if one.name == burst.node_type), None)
    at_most = len(burst.hostnames) if kind is None else kind.max_nodes
    if at_most is not None and burst.nodes > at_most:
        raise BurstError(
            f"it is said to have {counted(burst.nodes, 'node')} of type {burst.node_type!r}, and "
            f"is in no record: at most {at_most} can be",
            plugin=burst.plugin,
            burst=burst.name,
        )
    since = None if burst.since is None else max(burst.since, began)
    return replace(burst, price=0.0 if kind is None else kind.price, since=since)
