"""Bursts as plain data: one piece of extra capacity, and the request for some.

The name of a burst identifies its owner: nothing is deleted without a name of ours. Names are
valid hostnames (RFC 1123) and short: providers name machines after them. The middle part identifies
the instance, so that two instances that share a provider never touch each other's bursts.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


class BurstState(str, enum.Enum):
    """The state of a burst.

    A burst only moves down this list, except that one that has ended but is still listed by its
    plugin goes back to ``ENDING``.
    """

    REQUESTED = "requested"
    """Planned; the provider has not been asked yet."""

    STARTING = "starting"
    """Requested from the provider, which is starting machines."""

    JOINING = "joining"
    """Machines are up; their brokers are connecting, not all nodes are up in the instance."""

    READY = "ready"
    """Every node is up in the instance."""

    DRAINING = "draining"
    """No new job starts on the nodes; running jobs may finish."""

    ENDING = "ending"
    """Its deletion was requested from the provider."""

    ENDED = "ended"
    """Nothing is left."""

    FAILED = "failed"
    """It failed to start, or broke; ``error`` says why. Nothing is left unless it says so."""


class EndReason(str, enum.Enum):
    """Why a burst is terminated."""

    IDLE = "idle"
    """No job ran on it, or waited for it, for ``idle_timeout``."""

    LEASE = "lease"
    """Its lease was not renewed."""

    LIFETIME = "lifetime"
    """It reached its maximum lifetime."""

    OUTLIVED = "outlived"
    """A job that could have started on it would have outlived it."""

    FAILED = "failed"
    """It did not come up, vanished, or lost nodes."""

    JOB_ENDED = "job_ended"
    """Its isolated job has ended there."""

    JOB_NOT_HELD = "job_not_held"
    """Its isolated job is no longer held here."""

    NOT_RECORDED = "not_recorded"
    """Its plugin listed it, but no ledger had it."""

    ON_DEMAND = "on_demand"
    """A user ran ``unburst``."""


LIVE_STATES = frozenset(BurstState) - {BurstState.ENDED, BurstState.FAILED}
COMING_STATES = frozenset({BurstState.REQUESTED, BurstState.STARTING, BurstState.JOINING})
LEAVING_STATES = frozenset({BurstState.DRAINING, BurstState.ENDING})


@dataclass(frozen=True)
class Burst:
    """One piece of extra capacity.

    Attributes:
        name: Unique within an instance; identifies it for ``create`` and ``delete``.
        plugin: Name of its burst plugin.
        node_type: Name of the plugin's node type; empty if the plugin has none.
        nodes: Number of nodes.
        jobs: Ids of the jobs it is provisioned for; empty for capacity on demand.
        state: Its state.
        hostnames: Hostnames of its nodes in the instance, once they are known.
        price: Hourly price of one node, in the currency of the plugin's prices.
        error: Why it failed, for people.
        joined: How many of its nodes were up in the instance when last observed. For an
            isolated burst: in its own instance; the job may have begun once all were.
        since: When the provider began to bill it, in seconds since the epoch; None before that, or
            if unknown.
        lease_until: When its nodes end automatically, in seconds since the epoch; None for
            never. ``create`` arms it if the provider supports it.
        isolated: It is a separate instance that runs one job, ``jobs[0]``; its nodes do not
            join. It is ``STARTING`` until that job runs there, and then ``READY``.
        exit_code: Exit code of an isolated burst's job; None until it ends.
        output: Where to read the output of an isolated burst's job, for people.
        hosts: Hostnames of declared nodes to use, one for each node, if
            constraints of its jobs name hosts or ranks; empty for any. Only ``create`` receives
            it.
        waiting_for: What it waits for while starting, such as the provider's queue, for people.
        end_reason: Why it is being, or was, terminated; None if it is not, or if unknown.
            fluxburst sets it.
        leftover: Why the last attempt to terminate it failed, for people: it may
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
        """Whether the last attempt to terminate it failed."""
        return self.state is BurstState.ENDING and bool(self.leftover)

    @property
    def problem(self) -> str:
        """What went wrong with it, or else what it waits for, for people; empty for nothing."""
        left = f"{_LEFT}{self.leftover}" if self.leftover else ""
        return "; ".join(filter(None, (self.error, left))) or self.waiting_for


_LEFT = "terminating it failed, so it may still cost money: "


def drain_reason(burst: str) -> str:
    """Return the drain reason for nodes of a terminating burst, which names the burst."""
    return f"fluxburst {burst} is taken down"


@dataclass(frozen=True)
class BurstRequest:
    """The request to one plugin in one run.

    Attributes:
        bursts: The planned bursts for the accepted jobs; empty for a plugin that sizes
            its bursts itself, and for a request on demand.
        jobs: The accepted jobs, by id.
        request_burst: Capacity is requested on demand: ``nodes`` or ``tasks`` say how much.
        nodes: Nodes requested on demand, or None.
        tasks: Tasks to make room for on demand, or None.
    """

    bursts: tuple[Burst, ...] = ()
    jobs: Mapping[int, object] = field(default_factory=dict)
    request_burst: bool = False
    nodes: int | None = None
    tasks: int | None = None


DIGITS = 8
"""How many hexadecimal digits identify the instance, and how many the burst."""


def tag_of(instance: str) -> str:
    """Return an instance's identity: 16 hexadecimal digits.

    Args:
        instance: The instance's name.
    """
    return hashlib.sha256(instance.encode()).hexdigest()[:16]


def is_tag(tag: object) -> bool:
    """Whether something is a valid identity of an instance in the names of bursts."""
    return isinstance(tag, str) and re.fullmatch("[0-9A-Za-z]+", tag) is not None


def burst_name(plugin: str, tag: str, node_type: str, jobs: Collection[int]) -> str:
    """Return the name of the burst of one node type for these jobs.

    The same jobs give the same name, so that a second request finds the result of the first.

    Args:
        plugin: The plugin's name.
        tag: The instance's identity; its first eight hexadecimal digits count.
        node_type: The name of the node type.
        jobs: The jobs.
    """
    text = "\n".join([plugin, tag, node_type, *map(str, sorted(jobs))])
    return prefix_of(plugin, tag) + hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def prefix_of(plugin: str, tag: str) -> str:
    """Return the prefix of the names of a plugin's bursts, for one instance."""
    return f"{plugin.lower().replace('_', '-')}-{tag[:DIGITS]}-"


def is_plain(name: str, plugin: str) -> bool:
    """Whether a name is an older version's name for capacity on demand, of any instance."""
    stem = re.escape(plugin.lower().replace("_", "-"))
    return re.fullmatch(rf"{stem}-[0-9]+", name, re.ASCII) is not None


def is_name_of(name: str, plugin: str, tag: str) -> bool:
    """Whether a name has the form of a plugin's bursts, for one instance."""
    form = rf"{re.escape(prefix_of(plugin, tag))}[0-9a-f]{{1,{DIGITS}}}(-[0-9]{{1,9}})?"
    return re.fullmatch(form, name, re.ASCII) is not None
