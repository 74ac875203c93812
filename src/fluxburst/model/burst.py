"""Bursts as plain data: one piece of extra capacity, and the request that asks for some."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class BurstState(str, enum.Enum):
    """Where a burst is in its life.

    A burst only moves down this list, save for one that has ended and is listed by its plugin all
    the same: it is ``ENDING`` again.
    """

    REQUESTED = "requested"
    """Planned; nothing has been asked of the provider yet."""

    STARTING = "starting"
    """The provider was asked and is bringing machines up."""

    JOINING = "joining"
    """Machines are up; their brokers are connecting, not all nodes are up in the instance."""

    READY = "ready"
    """Every node is up in the instance."""

    DRAINING = "draining"
    """No new job may start on the nodes; the running ones are waited for."""

    ENDING = "ending"
    """The provider was asked to take the machines away."""

    ENDED = "ended"
    """Nothing is left."""

    FAILED = "failed"
    """It did not come up, or broke; ``error`` says why. Nothing is left unless that says so."""


LIVE_STATES = frozenset(BurstState) - {BurstState.ENDED, BurstState.FAILED}
COMING_STATES = frozenset({BurstState.REQUESTED, BurstState.STARTING, BurstState.JOINING})
LEAVING_STATES = frozenset({BurstState.DRAINING, BurstState.ENDING})


@dataclass(frozen=True)
class Burst:
    """One piece of extra capacity.

    Attributes:
        name: Unique within an instance; decides what ``create`` and ``delete`` act on.
        plugin: Name of the burst plugin that supplies it.
        node_type: Name of the node type, one of the plugin's; empty where the plugin has none.
        nodes: How many nodes.
        jobs: Ids of the jobs it is brought up for; empty for capacity asked for by hand.
        state: Where it is in its life.
        hostnames: Hostnames of its nodes as the instance will know them, once they are known.
        price: What one node costs an hour, in the currency of the plugin's prices.
        error: Why it failed, or what it waits for, for a person.
        joined: How many of its nodes were up in the instance when that was last looked at. Of an
            isolated burst: how many were in its own; the job may have begun once all were.
        since: When the provider began to bill it, in seconds since the epoch, once it did; None
            where the provider does not say.
        lease_until: When its nodes are to end by themselves, in seconds since the epoch; None for
            never. ``create`` arms it where the provider can.
        isolated: It is an instance of its own that runs one job, ``jobs[0]``; its nodes do not
            join. It is ``STARTING`` until that job runs there, and then ``READY``.
        exit_code: Of an isolated burst: with what its job ended there; None as long as it has not.
        output: Of an isolated burst: where its job's output can be read, for a person.
        hosts: Hostnames of declared nodes that it is to be brought up on, one for each node, where
            constraints of its jobs name hosts or ranks; empty for any. It is only told to
            ``create``.
    """

    name: str
    plugin: str
    node_type: str
    nodes: int
    jobs: tuple[int, ...] = ()
    state: BurstState = BurstState.REQUESTED
    hostnames: tuple[str, ...] = ()
    price: float = 0.0
    error: str = ""
    joined: int = 0
    since: float | None = None
    lease_until: float | None = None
    isolated: bool = False
    exit_code: int | None = None
    output: str = ""
    hosts: tuple[str, ...] = ()


def drain_reason(burst: str) -> str:
    """Return what nodes of a burst that is taken down are drained for; it names the burst."""
    return f"fluxburst {burst} is taken down"


@dataclass(frozen=True)
class BurstRequest:
    """What one plugin is asked to bring up in one run.

    Attributes:
        bursts: What the plan worked out for the accepted jobs; empty for a plugin that sizes
            its bursts itself, and for a request by hand.
        jobs: The accepted jobs, by id.
        request_burst: Capacity is asked for by hand: ``nodes`` and ``tasks`` say how much.
        nodes: Nodes asked for by hand, or None.
        tasks: Tasks to make room for by hand, or None.
    """

    bursts: tuple[Burst, ...] = ()
    jobs: Mapping[int, object] = field(default_factory=dict)
    request_burst: bool = False
    nodes: int | None = None
    tasks: int | None = None
