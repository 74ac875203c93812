"""The base of burst plugins for clusters that a provider manages, such as GKE and EKS.

A burst is a node pool of its own in the provider's cluster, and a MiniCluster on it with one pod a
node. The pool comes first and goes last, and what it is for is written on it, so whatever there is
that costs money is found from the provider's answers alone.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Optional

from fluxburst import Burst, BurstState, ByteSize, Duration, NodeType
from fluxburst.config.validators import run_checks
from fluxburst.errors import BurstError, ParameterError, Problem, RequestError
from fluxburst.plugin import Finding, only_looking
from fluxburst.provider.elastic import BURST_PROPERTY
from fluxburst.provider.machine_types import (
    MachineTypeOverride,
    MachineTypes,
    Provisioning,
    machine_of,
    node_types,
)
from fluxburst_kubernetes.errors import StaysError
from fluxburst_kubernetes.minicluster_plugin import MiniClusterBurst
from fluxburst_kubernetes.node_pools import (
    NodePools,
    Pool,
    PoolRequest,
    PoolState,
    Record,
    pool_name,
)
from fluxburst_kubernetes.parameters import MiniClusterParameters

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

    from fluxburst_kubernetes.cluster import Cluster

_log = logging.getLogger(__name__)


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass
class ManagedParameters(MiniClusterParameters):
    """Parameters of every plugin for clusters that a provider manages."""

    cluster_name: str = field(
        default="flux-bursted-cluster", metadata=_help("the provider's name of the cluster")
    )
    create_cluster: bool = field(
        default=False, metadata=_help("make the cluster where it is not there; this takes minutes")
    )
    keep_cluster: bool = field(
        default=True,
        metadata=_help("keep a cluster that fluxburst made when its last burst is gone"),
    )
    node_pool: Optional[str] = field(  # noqa: UP045 - as written in the documentation
        default=None,
        metadata=_help(
            "a node pool that is there, to be grown for bursts and given its size back with the "
            "last; by default each burst has one of its own"
        ),
    )
    machine_type: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata=_help("the one machine type to use; by default all that init declared hosts of"),
    )
    machine_types: list[MachineTypeOverride] = field(
        default_factory=list,
        metadata=_help("what differs of machine types in the table, or all of others: tables"),
    )
    provisioning: Provisioning = field(
        default="on-demand",
        metadata=_help("how machines are bought: the cheapest that is there, of what is named"),
    )
    pool_timeout: Duration = field(
        default=Duration(540.0),
        metadata=_help("how long a node pool may take to come up, in all zones, or to go"),
    )


class ManagedKubernetes(MiniClusterBurst):
    """Makes node pools, and MiniClusters on them, and deletes both again.

    A subclass supplies :attr:`pools` and :attr:`machines`.
    """

    params: ManagedParameters

    longest_pool_name = 40
    """How many characters the provider allows for a node pool's name."""

    # --- what a subclass supplies ----------------------------------------------------------

    @functools.cached_property
    def pools(self) -> NodePools:
        """The provider's cluster and its node pools."""
        raise NotImplementedError

    @functools.cached_property
    def table(self) -> MachineTypes:
        """The machine types that the package brings along, with their prices."""
        raise NotImplementedError

    def provider_findings(self) -> Iterable[Finding]:
        """Check identity and permissions at the provider, for ``fluxburst doctor``."""
        return ()

    # --- what it works with ----------------------------------------------------------------

    @functools.cached_property
    def machines(self) -> MachineTypes:
        """The machine types, as the user has them.

        Raises:
            RequestError: if the parameter ``machine_types`` cannot be used.
        """
        return self.table.with_overrides(self.params.machine_types)

    def _configuration(self) -> SingleConfig | None:
        from fluxburst_kubernetes.cluster import configuration_of

        access = self.pools.access()
        return None if access is None else configuration_of(access)

    def _types(self) -> list[NodeType]:
        if self.isolated:
            return self._isolated_types()
        return [
            replace(kind, cores=shape.cores, gpus=shape.gpus)
            for shape in self.elastic.shapes
            if self.params.machine_type in (None, shape.name)
            and shape.name in self.slot_pool.shapes.values()
            for kind in node_types(
                self.machines[shape.name],
                self.params.provisioning,
                max_nodes=None,
                properties=(BURST_PROPERTY, shape.name),
            )
        ]

    def _isolated_types(self) -> list[NodeType]:
        """Return all machine types whose price is known, or the one that is to be used."""
        only, how = self.params.machine_type, self.params.provisioning
        names = [only] if only is not None else list(self.machines.by_name)
        kinds: list[NodeType] = []
        for name in names:
            machine = self.machines[name]
            prices = [machine.price] * ("demand" in how) + [machine.spot_price] * ("spot" in how)
            if only is not None or None not in prices:
                kinds += node_types(machine, how, max_nodes=None, properties=(name,))
        return kinds

    def _shape_of(self, node_type: str) -> str:
        return machine_of(node_type)[0]

    def _pod_limits(self, node_type: NodeType) -> tuple[int | None, ByteSize | None]:
        """Return the limits that the user set: without any, a pod has its node for itself."""
        return self.params.cpu_limit, self.params.memory_limit

    def _node_selector(self, burst: Burst) -> Mapping[str, str]:
        return self.pools.selector(self._pool_name(burst.name))

    def _pool_name(self, burst: str) -> str:
        return self.params.node_pool or pool_name(burst, self.longest_pool_name)

    def _problems(self) -> Iterator[tuple[str, str]]:
        return chain(super()._problems(), run_checks(_CHECKS, self))

    def validate(self) -> bool:
        """Check the parameters, the credentials, and that there is a cluster, or may be one.

        Raises:
            ParameterError: for all that is wrong with the parameters.
            BurstError: if there is no cluster and none is to be made, or no Flux Operator in it.
            AuthError: if the provider or the cluster does not accept the credentials.
        """
        super().validate()
        if not self.params.create_cluster and self._is_known_to_be_absent():
            why = (
                f"there is no cluster {self.params.cluster_name!r}: set create_cluster, or name one"
            )
            raise ParameterError(self.name, [Problem("cluster_name", "config or default", why)])
        return True

    def _is_known_to_be_absent(self) -> bool:
        try:
            return self.pools.access() is None
        except BurstError:  # said by the check before
            return False

    def diagnose(self) -> Iterable[Finding]:
        """Check what the provider says, then the cluster as the Kubernetes plugin does."""
        yield from self.provider_findings()
        if not self._is_known_to_be_absent():
            yield from super().diagnose()
        elif self.params.create_cluster:
            name = self.params.cluster_name
            yield Finding("ok", f"there is no cluster {name}: it is made with the first burst")
        else:
            what = f"there is no cluster {self.params.cluster_name}"
            yield Finding("error", what, "set create_cluster, or name one that is there")

    # --- coming ----------------------------------------------------------------------------

    def create(self, burst: Burst) -> Burst:
        """Have a cluster, a node pool and a MiniCluster be there, in this order.

        Raises:
            CapacityError: if no slot that is free holds so many nodes, or the provider has none.
            BurstError: or one of its kinds, if the provider or the API server refuses something.
        """
        with only_looking():
            pools = self.pools
        pools.ensure_cluster(self._record(burst))
        with self.connection.opened() as cluster:
            miniclusters = self._miniclusters(cluster)
            new = miniclusters.find(burst.name) is None
            wanted = burst
            if new:
                self.maker.ensure_operator(cluster)  # before anything costs money
                if not burst.isolated:
                    slot = self._choose(self._free_for(cluster, burst.node_type), burst)
                    wanted = replace(burst, hostnames=slot.hosts[: burst.nodes])
            others = sum(int(one["spec"].get("size") or 0) for one in miniclusters.listed())
        # Outside of the connection: a pool takes minutes, and a token may end before it is there.
        if new:
            self._supply(wanted, others)
        made = self._create_on_its_pool(burst)
        return self._on_its_pool(made, self._pool_of(burst.name))

    def _create_on_its_pool(self, burst: Burst) -> Burst:
        """Make the MiniCluster, or find it: whatever fails here, there is a pool that costs."""
        with self.connection.opened() as cluster:
            found = self._miniclusters(cluster).find(burst.name)
            if found is None:
                found = self._make(cluster, burst)
        return self._as_it_is(burst, found)

    def _record(self, burst: Burst) -> Record:
        return Record(
            self.tag,
            burst.name,
            burst.node_type,
            burst.price,
            burst.hostnames,
            time.time(),
            burst.lease_until,
        )

    def _supply(self, burst: Burst, others: int) -> None:
        """Have the nodes of a burst be there, beside those of other bursts."""
        record, name = self._record(burst), self._pool_name(burst.name)
        if self.params.node_pool is None:
            machine, spot = machine_of(burst.node_type)
            self.pools.create(PoolRequest(name, machine, spot, burst.nodes, record))
            return
        pool = self._existing_pool(name)
        former = pool.nodes
        if pool.record is not None and pool.record.former_size is not None:
            former = pool.record.former_size
        nodes = max(pool.nodes, former + others + burst.nodes)
        self.pools.grow(name, nodes, replace(record, former_size=former))

    def _existing_pool(self, name: str) -> Pool:
        pool = self.pools.get(name)
        if pool is None:
            raise RequestError(
                f"the cluster {self.params.cluster_name} has no node pool {name!r} to be grown"
            )
        if pool.record is not None and pool.record.tag != self.tag:
            raise BurstError(
                f"the node pool {name} is grown for another instance ({pool.record.tag}): one at a "
                "time can have it"
            )
        return pool

    # --- what is there ---------------------------------------------------------------------

    def list_bursts(self) -> Collection[str]:
        """Return the bursts that something is left of: in the cluster, or at the provider."""
        return [burst.name for burst in self.adopt()]

    def adopt(self) -> Sequence[Burst]:
        """Return the bursts that something is left of, as they are."""
        pools = self.pools.ours(self.tag)
        bursts = {burst.name: burst for burst in super().adopt()}
        own = {pool.record.burst: pool for pool in pools if pool.record is not None}
        if self.params.node_pool is not None:
            grown = next((pool for pool in pools if pool.name == self.params.node_pool), None)
            own = {name: pool for name, pool in own.items() if pool is not grown or not bursts}
            found = {name: self._on_its_pool(one, grown) for name, one in bursts.items()}
        else:
            found = {name: self._on_its_pool(one, own.get(name)) for name, one in bursts.items()}
        for name, pool in own.items():
            if name not in found:
                found[name] = self._without_minicluster(name, pool)
        if not found and not self.params.keep_cluster:
            record = self.pools.made_for()
            if record is not None and record.tag == self.tag:
                error = "only the cluster that was made for it is left"
                found[record.burst] = replace(self._remnant(record.burst), error=error)
        return list(found.values())

    def refresh(self, burst: Burst) -> Burst:
        """Return a burst as its node pool, its pods and the instance's nodes show it."""
        pool = self._pool_of(burst.name)
        if pool is not None and self._is_half_made(burst, pool):
            return self._go_on_with(burst, pool)
        now = super().refresh(burst)
        if pool is None and burst.isolated:
            self._look_for_pool(burst, "is not there by its name")
        return self._on_its_pool(now, pool)

    def _look_again(self, cluster: Cluster | None, burst: Burst) -> None:
        """Look for an isolated burst that is not listed by its labels, where its job may run on.

        Raises:
            BurstError: if something of it is there, or that cannot be told.
        """
        super()._look_again(cluster, burst)
        if cluster is None:
            self._look_for_pool(burst, "is in a cluster that is not to be had")

    def _look_for_pool(self, burst: Burst, why: str) -> None:
        """Look for the node pool of a burst in the list of them.

        Raises:
            BurstError: if it is there, or that cannot be told.
        """
        records = (pool.record for pool in self.pools.ours(self.tag))
        if burst.name in [record.burst for record in records if record is not None]:
            raise BurstError(
                f"its node pool is listed, and {why}: what becomes of its job cannot be told",
                plugin=self.name,
                burst=burst.name,
            )

    def _is_half_made(self, burst: Burst, pool: Pool) -> bool:
        """Whether a burst has a node pool of its own, and no MiniCluster.

        An isolated one is not gone on with: whether its job has run cannot be told.
        """
        if self.params.node_pool is not None or burst.isolated:
            return False
        with self.connection.there() as cluster:
            return self._miniclusters(cluster).find(burst.name) is None

    def _go_on_with(self, burst: Burst, pool: Pool) -> Burst:
        """Go on with bringing up a burst where another process was interrupted."""
        if pool.state is PoolState.RUNNING:
            return self._on_its_pool(self._create_on_its_pool(burst), pool)
        coming = replace(burst, error=f"its node pool {pool.name} comes up")
        return self._on_its_pool(coming, pool)

    def _pool_of(self, burst: str) -> Pool | None:
        pool = self.pools.get(self._pool_name(burst))
        if self.params.node_pool is not None or pool is None or pool.record is None:
            return pool
        return pool if (pool.record.tag, pool.record.burst) == (self.tag, burst) else None

    def _on_its_pool(self, burst: Burst, pool: Pool | None) -> Burst:
        """Return a burst with what its node pool adds to what its pods show.

        A job of an isolated burst runs as long as its pods do, whatever is said of the pool.
        """
        if pool is not None and pool.record is not None and self.params.node_pool is None:
            burst = replace(burst, since=pool.record.since or burst.since)
        if burst.state is BurstState.FAILED or burst.exit_code is not None:
            return burst
        if burst.isolated and burst.state is BurstState.READY:
            return burst
        if pool is None:
            problem = "its node pool is there no longer"
        elif pool.state is PoolState.GOING:
            problem = f"its node pool {pool.name} is being deleted"
        elif pool.state is PoolState.BROKEN and self.params.node_pool is None:
            problem = f"its node pool {pool.name} is broken: {pool.problem}"
        else:
            return burst
        return replace(burst, state=BurstState.FAILED, error=problem)

    def _without_minicluster(self, name: str, pool: Pool) -> Burst:
        """Return a burst whose bringing up, or taking down, was interrupted.

        Which of these, the ledger knows: what was being brought up is gone on with.
        """
        assert pool.record is not None
        record = pool.record
        half = record.former_size is None and not self.isolated
        burst = Burst(
            name,
            self.name,
            record.node_type,
            pool.nodes if record.former_size is None else 0,
            state=BurstState.STARTING if half else BurstState.FAILED,
            price=record.price,
            since=record.since or None,
            lease_until=record.lease_until,
            isolated=self.isolated,
            error=f"its node pool {pool.name} is there without a MiniCluster",
        )
        return self._on_its_pool(burst, pool) if half else burst

    # --- going -----------------------------------------------------------------------------

    def delete(self, burst: Burst) -> None:
        """Delete a burst's MiniCluster, as the Kubernetes plugin does, and then its node pool.

        A cluster that fluxburst made goes with the last burst, if it is not to be kept.

        Raises:
            BurstError: if jobs still run on its nodes, or something is still there.
        """
        super().delete(burst)
        if self.params.keep_cluster:
            return
        record = self.pools.made_for()
        if record is None or record.tag != self.tag:
            return
        if not {name for name in self.list_bursts() if name != record.burst}:
            self.pools.delete_cluster()

    def _end(self, cluster: Cluster | None, name: str) -> None:
        """End a burst's pods, then its nodes: while its nodes are drained, it is known to go."""
        try:
            super()._end(cluster, name)
        except StaysError as error:  # pods of a node that was lost never say that they ended
            _log.warning("burst %s: %s: its node pool is deleted all the same", name, error)
            self._release(cluster, name)
            super()._end(cluster, name)
        else:
            self._release(cluster, name)

    def _release(self, cluster: Cluster | None, name: str) -> None:
        """Give back the nodes of a burst."""
        for pool in self.pools.ours(self.tag):
            assert pool.record is not None
            if pool.record.former_size is None:
                if pool.record.burst == name:
                    self.pools.delete(pool.name)
            elif not [one for one in self._bursts_in(cluster) if one != name]:
                self.pools.shrink(pool.name, pool.record.former_size)

    def _bursts_in(self, cluster: Cluster | None) -> set[str]:
        from fluxburst_kubernetes import labels

        return {labels.read(found).name for found in self._miniclusters(cluster).listed()}


def slot_stem(stem: str, machine_type: str) -> str:
    """Return the beginning of the names of a machine type's slots; MiniClusters take no dots."""
    return f"{stem}-{machine_type.lower().replace('.', '-').replace('_', '-')}"


def _machine_type(plugin: ManagedKubernetes) -> None:
    if plugin.params.machine_type is None:
        return
    try:
        known = plugin.machines
    except RequestError:
        return  # said of the machine types
    known[plugin.params.machine_type]


def _machine_types(plugin: ManagedKubernetes) -> None:
    if plugin.params.machine_type not in (None, *plugin.machines.by_name):
        return  # said of the machine type
    if plugin.isolated:
        ManagedKubernetes._types(plugin)  # at the prices of the table: nobody is asked
        return
    if plugin.params.config_dir is None:
        return
    try:
        plugin.slots  # noqa: B018 - which is said of config_dir
    except RequestError:
        return
    ManagedKubernetes._types(plugin)  # at the prices of the table: nobody is asked


_CHECKS = {"machine_type": _machine_type, "machine_types": _machine_types}
