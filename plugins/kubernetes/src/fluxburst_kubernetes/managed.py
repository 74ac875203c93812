"""The base of burst plugins for managed clusters, such as GKE and EKS.

Each burst has its own node pool in the provider's cluster, and a MiniCluster on it with one pod per
node. The pool is created first and deleted last, and carries its purpose, so the provider's answers
alone reveal everything that costs money.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from fluxburst import Burst, ByteSize, NodeType
from fluxburst.config.validators import run_checks
from fluxburst.errors import BurstError, ParameterError, Problem, RequestError
from fluxburst.plugin import Finding, only_looking
from fluxburst.provider.elastic import BURST_PROPERTY
from fluxburst.provider.machine_types import (
    MachineTypes,
    machine_of,
    node_types,
)
from fluxburst_kubernetes.burst_pools import BurstPools
from fluxburst_kubernetes.errors import StaysError
from fluxburst_kubernetes.managed_parameters import ManagedParameters
from fluxburst_kubernetes.minicluster_plugin import MiniClusterBurst
from fluxburst_kubernetes.node_pools import (
    NodePools,
    Pool,
    PoolState,
)

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

    from fluxburst_kubernetes.cluster import Cluster

_log = logging.getLogger(__name__)


class ManagedKubernetes(MiniClusterBurst):
    """Creates node pools, and MiniClusters on them, and deletes both again.

    A subclass supplies :attr:`pools` and :attr:`machines`.
    """

    params: ManagedParameters

    longest_pool_name = 40
    """The provider's maximum length of a node pool's name."""

    # --- the subclass's part ---------------------------------------------------------------

    @functools.cached_property
    def pools(self) -> NodePools:
        """The provider's cluster and its node pools."""
        raise NotImplementedError

    @functools.cached_property
    def table(self) -> MachineTypes:
        """The package's table of machine types, with their prices."""
        raise NotImplementedError

    @functools.cached_property
    def burst_pools(self) -> BurstPools:
        """The node pools of its bursts."""
        return BurstPools(self, self.params, self.pools, self.longest_pool_name)

    def provider_findings(self) -> Iterable[Finding]:
        """Check identity and permissions at the provider, for ``fluxburst doctor``."""
        return ()

    # --- its parts -------------------------------------------------------------------------

    @functools.cached_property
    def machines(self) -> MachineTypes:
        """The machine types, with the user's changes.

        Raises:
            RequestError: if the parameter ``machine_types`` is invalid.
        """
        return self.table.with_overrides(self.params.machine_types)

    def _configuration(self) -> SingleConfig | None:
        from fluxburst_kubernetes.cluster import configuration_of

        access = self.pools.cluster.access()
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
        """Return all machine types with known prices, or only the configured one."""
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
        """Return the user's limits: without any, a pod uses its whole node."""
        return self.params.cpu_limit, self.params.memory_limit

    def _node_selector(self, burst: Burst) -> Mapping[str, str]:
        return self.pools.selector(self.burst_pools.name_of(burst.name))

    def _problems(self) -> Iterator[tuple[str, str]]:
        return chain(super()._problems(), run_checks(_CHECKS, self))

    def validate(self) -> bool:
        """Check the parameters, the credentials, and that the cluster exists or may be created.

        Raises:
            ParameterError: names all problems of the parameters.
            BurstError: if the cluster neither exists nor may be created, or has no Flux Operator.
            AuthError: if the provider or the cluster does not accept the credentials.
        """
        super().validate()
        if not self.params.create_cluster and self._is_known_to_be_absent():
            why = f"there is no cluster {self.params.cluster_name!r}: set create_cluster"
            raise ParameterError(self.name, [Problem("cluster_name", "config or default", why)])
        return True

    def _is_known_to_be_absent(self) -> bool:
        try:
            return self.pools.cluster.access() is None
        except BurstError:  # reported by the previous check
            return False

    def diagnose(self) -> Iterable[Finding]:
        """Run the provider's checks, then those of the Kubernetes plugin."""
        yield from self.provider_findings()
        if not self._is_known_to_be_absent():
            yield from super().diagnose()
        elif self.params.create_cluster:
            name = self.params.cluster_name
            yield Finding("ok", f"there is no cluster {name}: the first burst creates it")
        else:
            what = f"there is no cluster {self.params.cluster_name}"
            yield Finding("error", what, "set create_cluster, or name an existing one")

    # --- provisioning ----------------------------------------------------------------------

    def create(self, burst: Burst) -> Burst:
        """Ensure that a cluster, a node pool and a MiniCluster exist, in this order.

        Raises:
            CapacityError: if no free slot holds this many nodes, or the provider has none.
            BurstError: or a subclass, if the provider or the API server refuses.
        """
        with only_looking():
            pools = self.pools
        pools.cluster.ensure(self.burst_pools.record_of(burst))
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
        # Outside the connection: a pool takes minutes, and a token may expire meanwhile.
        if new:
            self.burst_pools.supply(wanted, others)
        made = self._create_on_its_pool(burst)
        return self.burst_pools.with_pool(made, self.burst_pools.of(burst.name))

    def _create_on_its_pool(self, burst: Burst) -> Burst:
        """Create the MiniCluster, or find it: on any failure, the pool already costs money."""
        with self.connection.opened() as cluster:
            found = self._miniclusters(cluster).find(burst.name)
            if found is None:
                found = self._make(cluster, burst)
        return self._as_it_is(burst, found)

    # --- observing -------------------------------------------------------------------------

    def list_bursts(self) -> Collection[str]:
        """Return the bursts with remains: in the cluster, or at the provider."""
        pools = self.pools.ours(self.tag)
        there = set(super().list_bursts())
        there |= self._with_pools(pools, there).keys()
        return sorted(there or self._with_cluster())

    def adopt(self) -> Sequence[Burst]:
        """Return the bursts with remains, in their current state."""
        pools = {pool.name: pool for pool in self.pools.ours(self.tag)}
        if self.rounds.pools is not None:
            self.rounds.pools.update(pools)
        bursts = {burst.name: burst for burst in super().adopt()}
        own = self._with_pools(pools.values(), bursts)
        grown = self.params.node_pool
        found = {
            name: self.burst_pools.with_pool(one, pools.get(grown) if grown else own.get(name))
            for name, one in bursts.items()
        }
        for name, pool in own.items():
            if name not in found:
                found[name] = self.burst_pools.without_minicluster(name, pool)
        if found:
            return list(found.values())
        error = "only the cluster created for it is left"
        return [replace(self._remnant(name), error=error) for name in self._with_cluster()]

    def _with_pools(self, pools: Iterable[Pool], bursts: Collection[str]) -> dict[str, Pool]:
        """Return the node pools by burst; one that grows for all only if there are no bursts."""
        return {
            pool.record.burst: pool
            for pool in pools
            if pool.record is not None and not (bursts and pool.name == self.params.node_pool)
        }

    def _with_cluster(self) -> list[str]:
        """Return the burst that the cluster was created for, if it is to be deleted with it."""
        record = None if self.params.keep_cluster else self.pools.cluster.made_for()
        return [] if record is None or record.tag != self.tag else [record.burst]

    def refresh(self, burst: Burst) -> Burst:
        """Return a burst in its state according to its node pool, its pods and the nodes."""
        pool = self.burst_pools.of(burst.name, self.rounds.pools)
        if pool is not None and self._is_half_made(burst, pool):
            return self._go_on_with(burst, pool)
        now = super().refresh(burst)
        if pool is None and burst.isolated:
            self.burst_pools.check_unlisted(burst, "but does not exist by its name")
        return self.burst_pools.with_pool(now, pool)

    def _check_again(self, cluster: Cluster | None, burst: Burst) -> None:
        """Look for an isolated burst missing from the list by labels, since its job may run.

        Raises:
            BurstError: if any part of it exists, or that is unknown.
        """
        super()._check_again(cluster, burst)
        if cluster is None:
            self.burst_pools.check_unlisted(burst, "but its cluster is not available")

    def _is_half_made(self, burst: Burst, pool: Pool) -> bool:
        """Whether a burst has its own node pool but no MiniCluster.

        An isolated one is not continued: its job may have run.
        """
        if self.params.node_pool is not None or burst.isolated:
            return False
        if self.rounds.find(burst.name) is not None:
            return False
        with self.connection.there() as cluster:
            return self._miniclusters(cluster).find(burst.name) is None

    def _go_on_with(self, burst: Burst, pool: Pool) -> Burst:
        """Continue to provision a burst where another process was interrupted."""
        if pool.state is PoolState.RUNNING:
            return self.burst_pools.with_pool(self._create_on_its_pool(burst), pool)
        coming = replace(burst, waiting_for=f"its node pool {pool.name} comes up")
        return self.burst_pools.with_pool(coming, pool)

    # --- terminating -----------------------------------------------------------------------

    def delete(self, burst: Burst) -> None:
        """Delete a burst's MiniCluster, as the Kubernetes plugin does, and then its node pool.

        A cluster created by fluxburst is deleted with the last burst, unless it is to be kept.

        Raises:
            BurstError: if jobs still run on its nodes, or something still exists.
        """
        super().delete(burst)
        if self.params.keep_cluster:
            return
        record = self.pools.cluster.made_for()
        if record is None or record.tag != self.tag:
            return
        if not {name for name in self.list_bursts() if name != record.burst}:
            self.pools.cluster.delete()

    def _end(self, cluster: Cluster | None, name: str) -> None:
        """End a burst's pods, then its nodes: the drained nodes show that it is terminating."""
        try:
            super()._end(cluster, name)
        except StaysError as error:  # pods of a lost node never report their end
            _log.warning("burst %s: %s: deleting its node pool nevertheless", name, error)
            self.burst_pools.release(name, lambda: self._bursts_in(cluster))
            super()._end(cluster, name)
        else:
            self.burst_pools.release(name, lambda: self._bursts_in(cluster))

    def _bursts_in(self, cluster: Cluster | None) -> set[str]:
        from fluxburst_kubernetes import labels

        return {labels.read(found).name for found in self._miniclusters(cluster).listed()}


def slot_stem(stem: str, machine_type: str) -> str:
    """Return the prefix of a machine type's slots; MiniCluster names cannot contain dots."""
    return f"{stem}-{machine_type.lower().replace('.', '-').replace('_', '-')}"


def _machine_type(plugin: ManagedKubernetes) -> None:
    if plugin.params.machine_type is None:
        return
    try:
        known = plugin.machines
    except RequestError:
        return  # the check of the machine types reports it
    known[plugin.params.machine_type]


def _machine_types(plugin: ManagedKubernetes) -> None:
    if plugin.params.machine_type not in (None, *plugin.machines.by_name):
        return  # the check of the machine type reports it
    if plugin.isolated:
        ManagedKubernetes._types(plugin)  # with the table's prices: without requests
        return
    if plugin.params.config_dir is None:
        return
    try:
        plugin.slots  # noqa: B018 - its error belongs to config_dir
    except RequestError:
        return
    ManagedKubernetes._types(plugin)  # with the table's prices: without requests


_CHECKS = {"machine_type": _machine_type, "machine_types": _machine_types}
