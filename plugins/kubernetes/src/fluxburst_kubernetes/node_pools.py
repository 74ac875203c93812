"""Node pools of a cluster that a provider manages, as :class:`ManagedKubernetes` needs them.

A provider's package implements :class:`NodePools` on the provider's API. What a pool is for is
written on it, in the provider's labels or tags: all is found again from these, by any process.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fluxburst.errors import FormatError
from fluxburst.formats.hostlist import format_hostlist, parse_hostlist

MANAGED_BY = "fluxburst"
"""What the label or tag ``managed-by`` says of all that fluxburst made."""


@dataclass(frozen=True)
class Access:
    """How to reach a cluster's API server, and as whom, now.

    Attributes:
        cluster: The cluster's name, for a person.
        server: The URL of its API server.
        certificate: The certificate of its authority, PEM.
        token: A bearer token that is valid for some minutes at least.
        user: Whose that is, for a person.
    """

    cluster: str
    server: str
    certificate: bytes
    token: str = field(repr=False)
    user: str = ""


@dataclass(frozen=True)
class Record:
    """What is written on a node pool, or on a cluster that fluxburst made.

    Attributes:
        tag: The elastic instance's (:func:`fluxburst.provider.elastic.instance_tag`).
        burst: The name of the burst that it was made, or last grown, for.
        node_type: The burst's node type.
        price: What one node costs an hour.
        hostnames: What its nodes are called in the instance.
        since: When it was asked for, in seconds since the epoch; 0 where that is not known.
        lease_until: When the burst's first lease ends, in seconds since the epoch.
        former_size: How many nodes a pool had before it was grown; None for a pool of our own.
    """

    tag: str
    burst: str
    node_type: str = ""
    price: float = 0.0
    hostnames: tuple[str, ...] = ()
    since: float = 0.0
    lease_until: float | None = None
    former_size: int | None = None

    def texts(self) -> dict[str, str]:
        """Return it as short texts by short names, without those that say nothing."""
        texts = {
            "managed-by": MANAGED_BY,
            "instance": self.tag,
            "burst": self.burst,
            "node-type": self.node_type,
            "price": repr(self.price),
            "hostnames": format_hostlist(self.hostnames),
            "since": f"{self.since:.0f}",
            "lease-until": "" if self.lease_until is None else f"{self.lease_until:.0f}",
            "former-size": "" if self.former_size is None else str(self.former_size),
        }
        return {name: text for name, text in texts.items() if text}


def read_record(texts: Mapping[str, str]) -> Record | None:
    """Return what :meth:`Record.texts` wrote, as far as it is there; None for what is not ours."""
    if texts.get("managed-by") != MANAGED_BY or not texts.get("instance"):
        return None
    lease, former = _number(texts.get("lease-until")), _number(texts.get("former-size"))
    return Record(
        texts["instance"],
        texts.get("burst", ""),
        texts.get("node-type", ""),
        _number(texts.get("price")) or 0.0,
        _hosts(texts.get("hostnames", "")),
        _number(texts.get("since")) or 0.0,
        lease,
        None if former is None else int(former),
    )


class PoolState(enum.Enum):
    """What a node pool does."""

    COMING = "coming"
    """The provider brings its nodes up."""

    RUNNING = "running"
    """Its nodes are there."""

    BROKEN = "broken"
    """It did not come up, or lost what it needs; ``problem`` says why."""

    GOING = "going"
    """It is being deleted."""


@dataclass(frozen=True)
class Pool:
    """A node pool as it is now.

    Attributes:
        name: Its name.
        state: What it does.
        nodes: How many nodes it is to have.
        record: What fluxburst wrote on it; None for nothing.
        machine_type: The provider's name of its machines' type.
        problem: What is wrong with it, for a person.
    """

    name: str
    state: PoolState
    nodes: int
    record: Record | None = None
    machine_type: str = ""
    problem: str = ""


@dataclass(frozen=True)
class PoolRequest:
    """A node pool that is asked for.

    Attributes:
        name: Its name, which follows from that of the burst.
        machine_type: The provider's name of its machines' type.
        spot: Whether the provider may take its machines back at any time.
        nodes: How many nodes.
        record: What to write on it.
    """

    name: str
    machine_type: str
    spot: bool
    nodes: int
    record: Record


class ProviderCluster(Protocol):
    """A provider's cluster, which is the user's or made by fluxburst.

    Everything may be asked again, and raises what :class:`NodePools` raises.
    """

    def access(self) -> Access | None:
        """Return how to reach the cluster now; None if there is none, or it is being deleted."""

    def ensure(self, record: Record) -> None:
        """Have the cluster be there, and wait until it can be used.

        It is made only where the user asked for that, with ``record`` written on it.
        """

    def made_for(self) -> Record | None:
        """Return what fluxburst wrote on the cluster; None if it is not there, or not ours."""

    def delete(self) -> None:
        """Delete the cluster, if fluxburst made it, and wait until it is gone."""


class NodePools(Protocol):
    """The node pools in a provider's cluster.

    Everything may be asked again, and then finds what is there. All raise a
    :class:`~fluxburst.errors.BurstError` or one of its kinds for what the provider refuses: a
    ``CapacityError``, ``QuotaError`` or ``AuthError`` where it is that.
    """

    @property
    def cluster(self) -> ProviderCluster:
        """The cluster that they are in."""

    def selector(self, pool: str) -> Mapping[str, str]:
        """Return the labels of Kubernetes that the nodes of a pool have, and no others."""

    def get(self, name: str) -> Pool | None:
        """Return a node pool; None if it is not there."""

    def ours(self, tag: str) -> Sequence[Pool]:
        """Return the pools that have a record of this instance; none where there is no cluster."""

    def create(self, request: PoolRequest) -> None:
        """Make a node pool, if it is not there, and wait until its nodes are."""

    def delete(self, name: str) -> None:
        """Delete a node pool of ours, and wait until it is gone; also one that is not there."""

    def grow(self, name: str, nodes: int, record: Record) -> None:
        """Write on a node pool that is not ours, then give it more nodes, and wait for them.

        The record is there before the provider is asked for nodes.
        """

    def shrink(self, name: str, nodes: int) -> None:
        """Give a grown node pool the size that it had, and then remove the record from it."""


def pool_name(burst: str, longest: int) -> str:
    """Return the name of a burst's node pool: a lowercase hostname of at most that length."""
    if re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", burst, re.ASCII) and len(burst) <= longest:
        return burst
    digest = hashlib.sha256(burst.encode(errors="surrogatepass")).hexdigest()[:12]
    kept = re.sub(r"[^a-z0-9]+", "-", burst.lower(), flags=re.ASCII).strip("-")
    kept = re.sub(r"^[^a-z]+", "", kept)[: longest - 13].strip("-")
    return f"{kept or 'burst'}-{digest}"


def _number(text: str | None) -> float | None:
    try:
        return None if not text else float(text)
    except ValueError:
        return None


def _hosts(text: str) -> tuple[str, ...]:
    try:
        return parse_hostlist(text)
    except FormatError:
        return ()
