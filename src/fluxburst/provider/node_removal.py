"""How nodes leave an instance: step by step, each of which may be repeated."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Collection

from fluxburst.errors import BurstError
from fluxburst.flux.protocol import Instance
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.units import format_duration
from fluxburst.model.burst import drain_reason
from fluxburst.model.housekeeping import on_nodes, told
from fluxburst.model.node import Node

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
CANCEL_SECONDS = 60.0
DOWN_SECONDS = 60.0
SETTLE_SECONDS = 0.5
_REASON = re.compile(drain_reason(r"(?P<burst>\S+)"))


def burst_left_by(node: Node) -> str:
    """Return the burst that a node is drained for, since that is taken down; empty for none."""
    match = _REASON.fullmatch(node.drain_reason)
    return match["burst"] if match and node.drained else ""


def remove_nodes(
    instance: Instance,
    ranks: Collection[int],
    *,
    reason: str,
    grace: float,
    cancel_jobs: bool,
    end: Callable[[], None],
) -> None:
    """Have nodes leave: drain, wait for their jobs, end their brokers, disconnect, undrain.

    Interrupted at any point, the nodes stay drained for ``reason``; the next call goes on.

    Args:
        instance: The instance that they leave.
        ranks: Their ranks.
        reason: What they are drained for.
        grace: Seconds to wait for the jobs on them.
        cancel_jobs: Whether to cancel those that still run then.
        end: Ends their brokers, and returns once they have ended.

    Raises:
        BurstError: if jobs still run on them, or they stay up.
    """
    joining = [node.rank for node in _nodes(instance, ranks) if not node.up]
    instance.drain(ranks, reason)
    if why := _housekeeping(instance, ranks):
        _log.info("%s; this waits for %s at most", why, format_duration(grace))
    if not _wait(instance, ranks, _is_idle, grace):
        jobs = instance.jobs_on(ranks)
        if not jobs and (why := _housekeeping(instance, ranks)):
            raise BurstError(
                f"{why}; its nodes are drained, so take it down again once that has ended"
            )
        if not cancel_jobs:
            names = ", ".join(map(format_f58, jobs))
            raise BurstError(
                f"job {names} still runs on its nodes after {format_duration(grace)}; they are "
                "drained, so take it down again once that has ended, or set cancel_jobs"
            )
        instance.cancel_jobs(jobs, reason)
        if not _wait(instance, ranks, _is_idle, CANCEL_SECONDS):
            why = _housekeeping(instance, ranks)
            what = "its nodes are not free, though their jobs were canceled"
            raise BurstError(f"{what}: {why}" if why else what)
    # A broker that is asked to end says goodbye within a second; one that is disconnected first
    # waits ten seconds for the lead, and fails. So only what did not say goodbye is disconnected.
    try:
        end()
    finally:
        instance.disconnect(ranks)
    if joining:  # what they sent before they ended may still turn them up, and then down
        until = instance.now() + SETTLE_SECONDS
        while instance.now() < until:  # a wait ends early when something happens
            instance.wait(until - instance.now())
    if not _wait(instance, ranks, _is_down, DOWN_SECONDS):
        raise BurstError("its brokers were ended, but the instance still shows its nodes as up")
    instance.undrain([n.rank for n in _nodes(instance, ranks) if n.drain_reason == reason])


def _nodes(instance: Instance, ranks: Collection[int]) -> list[Node]:
    return [node for node in instance.nodes() if node.rank in ranks]


def _housekeeping(instance: Instance, ranks: Collection[int]) -> str:
    """Return what housekeeping keeps nodes from being free, and what to do; empty for none."""
    found = on_nodes(instance.housekeeping(), ranks)
    names = {node.rank: node.hostname for node in _nodes(instance, ranks)} if found else {}
    return told(found, names, instance.now())


def _is_idle(node: Node) -> bool:
    return node.idle


def _is_down(node: Node) -> bool:
    return not node.up


def _wait(
    instance: Instance, ranks: Collection[int], done: Callable[[Node], bool], seconds: float
) -> bool:
    """Wait until something is true of all nodes; whether it came true in time."""
    until = instance.now() + seconds
    while not all(map(done, _nodes(instance, ranks))):
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
    """Remove nodes: the former name of :func:`remove_nodes`, for one release."""
    warnings.warn("node_removal.leave is remove_nodes now", DeprecationWarning, stacklevel=2)
    remove_nodes(instance, ranks, reason=reason, grace=grace, cancel_jobs=cancel_jobs, end=end)
