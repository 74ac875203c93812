"""Bursts as plain data: one piece of extra capacity, and the request that asks for some.

The name of a burst tells whose it is: nothing is deleted that does not have one of ours. Names are
valid hostnames (RFC 1123) and short: providers name machines after them. The middle part tells the
instance, so that two instances that share a provider never touch each other's bursts.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Collection, Mapping
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


class EndReason(str, enum.Enum):
    """Why a burst is terminated."""

    IDLE = "idle"
    """No job ran on it, or waited for it, for ``idle_timeout``."""

    LEASE = "lease"
    """Its lease was not renewed."""

    LIFETIME = "lifetime"
    """It has lived as long as it may."""

    OUTLIVED = "outlived"
    """A job could have started on it that would have outlived it."""

    FAILED = "failed"
    """It did not come up, vanished, or lost nodes."""

    JOB_ENDED = "job_ended"
    """Its isolated job has ended there."""

    JOB_NOT_HELD = "job_not_held"
    """Its isolated job is not held here any more."""

    NOT_RECORDED = "not_recorded"
    """Its plugin listed it, and no record had it."""

    ON_DEMAND = "on_demand"
    """A person ran ``unburst``."""


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
        error: Why it failed, for a person.
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
        waiting_for: What it waits for as it comes up, such as the provider's queue, for a person.
        end_reason: Why it is being, or was, terminated; None if it is not, or that is not known.
            fluxburst sets it.
        leftover: Why it could not be terminated when that was last tried, for a person: it may
            still cost money. fluxburst sets it.
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
    waiting_for: str = ""
    end_reason: EndReason | None = None
    leftover: str = ""

    @property
    def is_left(self) -> bool:
        """Whether it could not be terminated when that was last tried."""
        return self.state is BurstState.ENDING and bool(self.leftover)

    @property
    def problem(self) -> str:
        """What went wrong with it, or else what it waits for, for a person; empty for nothing."""
        left = f"{_LEFT}{self.leftover}" if self.leftover else ""
        return "; ".join(filter(None, (self.error, left))) or self.waiting_for


_LEFT = "what is left of it could not be taken down, it may cost money: "


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


DIGITS = 8
"""How many hexadecimal digits tell the instance, and how many the burst."""


def tag_of(instance: str) -> str:
    """Return what tells an instance from others: 16 hexadecimal digits.

    Args:
        instance: The instance's name.
    """
    return hashlib.sha256(instance.encode()).hexdigest()[:16]


def is_tag(tag: object) -> bool:
    """Whether something can tell an instance in the names of bursts."""
    return isinstance(tag, str) and re.fullmatch("[0-9A-Za-z]+", tag) is not None


def burst_name(plugin: str, tag: str, node_type: str, jobs: Collection[int]) -> str:
    """Return the name of the burst that brings up one node type for these jobs.

    The same jobs give the same name, so that asking twice finds what the first time made.

    Args:
        plugin: The plugin's name.
        tag: What tells the instance; the first eight hexadecimal digits count.
        node_type: The name of the node type.
        jobs: The jobs.
    """
    text = "\n".join([plugin, tag, node_type, *map(str, sorted(jobs))])
    return prefix_of(plugin, tag) + hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def prefix_of(plugin: str, tag: str) -> str:
    """Return what the names of all bursts of a plugin begin with, for one instance."""
    return f"{plugin.lower().replace('_', '-')}-{tag[:DIGITS]}-"


def is_plain(name: str, plugin: str) -> bool:
    """Whether a name is one of capacity by hand as older versions gave it, in every instance."""
    stem = re.escape(plugin.lower().replace("_", "-"))
    return re.fullmatch(rf"{stem}-[0-9]+", name, re.ASCII) is not None


def is_name_of(name: str, plugin: str, tag: str) -> bool:
    """Whether a name is of the form that bursts of a plugin have, for one instance."""
    form = rf"{re.escape(prefix_of(plugin, tag))}[0-9a-f]{{1,{DIGITS}}}(-[0-9]{{1,9}})?"
    return re.fullmatch(form, name, re.ASCII) is not None
