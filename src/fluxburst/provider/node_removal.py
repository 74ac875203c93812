"""Drains nodes, and removes them from an instance. Each step may be repeated.

Nothing here waits for jobs. fluxburst drains a burst, waits for its jobs and cancels them before it
tells a plugin to delete the burst; see ``[lifetimes]`` in the configuration.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Sequence

from fluxburst.errors import BurstError
from fluxburst.flux.protocol import Instance
from fluxburst.formats.fluid import format_f58
from fluxburst.model.burst import drain_reason
from fluxburst.model.housekeeping import on_nodes, told
from fluxburst.model.node import Node

NAMES_SHOWN = 5
POLL_SECONDS = 0.1
DOWN_SECONDS = 60.0
SETTLE_SECONDS = 0.5
_REASON = re.compile(drain_reason(r"(?P<burst>\S+)"))


def burst_left_by(node: Node) -> str:
    """Return the burst that a node is drained for; empty for none."""
    match = _REASON.fullmatch(node.drain_reason)
    return match["burst"] if match and node.drained else ""


def why_busy(instance: Instance, ranks: Collection[int]) -> str:
    """Return what runs on nodes, for people; empty if they are free.

    Args:
        instance: Their instance.
        ranks: Their ranks.
    """
    nodes = _nodes(instance, ranks) if ranks else []
    if all(node.idle for node in nodes):
        return ""
    if jobs := instance.jobs_on(ranks):
        return f"{_named(jobs)} on its nodes"
    names = {node.rank: node.hostname for node in nodes}
    found = on_nodes(instance.housekeeping(), ranks)
    return told(found, names, instance.now()) or "Flux has not freed its nodes yet"


def remove_nodes(
    instance: Instance, ranks: Collection[int], *, reason: str, end: Callable[[], None]
) -> None:
    """Remove idle nodes: drain them, end their brokers, disconnect, undrain.

    If interrupted, the nodes stay drained for ``reason``; the next call continues.

    Args:
        instance: Their instance.
        ranks: Their ranks.
        reason: Their drain reason.
        end: Ends their brokers, and returns once they have ended.

    Raises:
        BurstError: if something still runs on them (nothing was ended then), or they stay up.
    """
    joining = [node.rank for node in _nodes(instance, ranks) if not node.up]
    instance.drain(ranks, reason)
    if why := why_busy(instance, ranks):
        raise BurstError(f"{why}; they are drained, so terminate it again once that has ended")
    # A broker that is asked to end says goodbye within a second; one that is disconnected first
    # waits ten seconds for the lead, and fails. So only the others are disconnected.
    try:
        end()
    finally:
        instance.disconnect(ranks)
    if joining:  # late messages may still bring them up, and then down
        until = instance.now() + SETTLE_SECONDS
        while instance.now() < until:  # a wait ends early when something happens
            instance.wait(until - instance.now())
    if not _are_down(instance, ranks):
        raise BurstError("its brokers have ended, but the instance still shows its nodes as up")
    instance.undrain([n.rank for n in _nodes(instance, ranks) if n.drain_reason == reason])


def _named(jobs: Sequence[int]) -> str:
    names = ", ".join(map(format_f58, jobs[:NAMES_SHOWN]))
    more = f" and {len(jobs) - NAMES_SHOWN} more" if len(jobs) > NAMES_SHOWN else ""
    return f"job {names} still runs" if len(jobs) == 1 else f"jobs {names}{more} still run"


def _nodes(instance: Instance, ranks: Collection[int]) -> list[Node]:
    return [node for node in instance.nodes() if node.rank in ranks]


def _are_down(instance: Instance, ranks: Collection[int]) -> bool:
    """Wait until nodes are down; return whether they were in time."""
    until = instance.now() + DOWN_SECONDS
    while any(node.up for node in _nodes(instance, ranks)):
        left = until - instance.now()
        if left <= 0:
            return False
        instance.wait(min(POLL_SECONDS, left))
    return True


def leave(
    instance: Instance,
    ranks: Collection[int],
    *,
    reason: str,
    grace: float,
    cancel_jobs: bool,
    end: Callable[[], None],
) -> None:
    """Remove nodes: the former name of :func:`remove_nodes`, for one release.

    Args:
        instance: Their instance.
        ranks: Their ranks.
        reason: Their drain reason.
        grace: Not used: fluxburst has already waited for the jobs.
        cancel_jobs: Not used: fluxburst has already cancelled them, if configured.
        end: Ends their brokers, and returns once they have ended.

    Raises:
        BurstError: if something still runs on them, or they stay up.
    """
    warnings.warn(
        "leave() is remove_nodes() now, which waits for no job: fluxburst does that before",
        DeprecationWarning,
        stacklevel=2,
    )
    remove_nodes(instance, ranks, reason=reason, end=end)
