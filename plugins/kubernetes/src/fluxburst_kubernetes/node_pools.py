"""The interface to node pools of a managed cluster, for :class:`ManagedKubernetes`.

A provider's package implements :class:`NodePools` with the provider's API. Each pool carries its
purpose in the provider's labels or tags: any process can find everything from these.
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
"""Value of the label or tag ``managed-by`` on everything created by fluxburst."""


@dataclass(frozen=True)
class Access:
    """The current access to a cluster's API server.

    Attributes:
        cluster: The cluster's name, for people.
        server: The URL of its API server.
        certificate: The certificate of its authority, PEM.
        token: A bearer token, valid for at least some minutes.
        user: The token's user, for people.
    """

    cluster: str
    server: str
    certificate: bytes
    token: str = field(repr=False)
    user: str = ""


@dataclass(frozen=True)
class Record:
    """The record on a node pool, or on a cluster created by fluxburst.

    Attributes:
        tag: The elastic instance's (:func:`fluxburst.provider.elastic.instance_tag`).
        burst: The name of the burst that it was created, or last grown, for.
        node_type: The burst's node type.
        price: Hourly price of one node.
        hostnames: Its nodes' hostnames in the instance.
        since: Time of the request, in seconds since the epoch; 0 if unknown.
        lease_until: When the burst's first lease ends, in seconds since the epoch.
        former_size: Number of nodes before a pool was grown; None for our own pool.
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
        """Return it as short texts by short names, without empty ones."""
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
    """Parse what :meth:`Record.texts` wrote, as far as present; None if it is not ours."""
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
    """The state of a node pool."""

    COMING = "coming"
    """Its nodes are starting."""

    RUNNING = "running"
    """Its nodes exist."""

    BROKEN = "broken"
    """It failed to start, or lost a requirement; ``problem`` says why."""

    GOING = "going"
    """It is being deleted."""


@dataclass(frozen=True)
class Pool:
    """The current state of a node pool.

    Attributes:
        name: Its name.
        state: Its state.
        nodes: Its target number of nodes.
        record: fluxburst's record on it; None if there is none.
        machine_type: The provider's name of its machine type.
        problem: Its problem, for people.
    """

    name: str
    state: PoolState
    nodes: int
    record: Record | None = None
    machine_type: str = ""
    problem: str = ""


@dataclass(frozen=True)
class PoolRequest:
    """A request for a node pool.

    Attributes:
        name: Its name, derived from the burst's.
        machine_type: The provider's name of its machine type.
        spot: Whether the provider may preempt its machines.
        nodes: Number of nodes.
        record: The record to write on it.
    """

    name: str
    machine_type: str
    spot: bool
    nodes: int
    record: Record


class ProviderCluster(Protocol):
    """A provider's cluster, the user's own or created by fluxburst.

    All methods may be repeated, and raise the errors of :class:`NodePools`.
    """

    def access(self) -> Access | None:
        """Return the current access to the cluster; None if it is missing, or being deleted."""

    def ensure(self, record: Record) -> None:
        """Ensure that the cluster exists, and wait until it is usable.

        It is created only on the user's request, with ``record`` written on it.
        """

    def made_for(self) -> Record | None:
        """Return fluxburst's record on the cluster; None if it does not exist, or is not ours."""

    def delete(self) -> None:
        """Delete the cluster, if fluxburst created it, and wait until it is gone."""


class NodePools(Protocol):
    """The node pools in a provider's cluster.

    All methods may be repeated, and then find what exists. For refusals of the provider, all raise
    a :class:`~fluxburst.errors.BurstError` or a subclass, such as ``CapacityError``,
    ``QuotaError`` or ``AuthError``.
    """

    @property
    def cluster(self) -> ProviderCluster:
        """The cluster that they are in."""

    def selector(self, pool: str) -> Mapping[str, str]:
        """Return the Kubernetes labels that select exactly the nodes of a pool."""

    def get(self, name: str) -> Pool | None:
        """Return a node pool; None if it does not exist."""

    def ours(self, tag: str) -> Sequence[Pool]:
        """Return the pools with a record of this instance; none without a cluster."""

    def create(self, request: PoolRequest) -> None:
        """Create a node pool, unless it exists, and wait until its nodes do."""

    def delete(self, name: str) -> None:
        """Delete a node pool of ours, and wait until it is gone; it may not exist."""

    def grow(self, name: str, nodes: int, record: Record) -> None:
        """Write a record on a foreign node pool, then add nodes, and wait for them.

        The record precedes the request for nodes.
        """

    def shrink(self, name: str, nodes: int) -> None:
        """Restore the former size of a grown node pool, and then remove the record from it."""


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
