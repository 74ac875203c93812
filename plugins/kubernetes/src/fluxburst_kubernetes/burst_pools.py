"""The node pools of bursts: one for each, or an existing one that grows for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, MutableMapping
from dataclasses import replace

from fluxburst import Burst, BurstState
from fluxburst.errors import BurstError, RequestError
from fluxburst.provider.elastic_plugin import ElasticPlugin
from fluxburst.provider.machine_types import machine_of
from fluxburst_kubernetes.managed_parameters import ManagedParameters
from fluxburst_kubernetes.node_pools import (
    NodePools,
    Pool,
    PoolRequest,
    PoolState,
    Record,
    pool_name,
)


class BurstPools:
    """The node pools of one instance's bursts.

    Args:
        site: The plugin, which gives the instance's tag on demand.
        params: Its parameters.
        provider: The provider's cluster and its node pools.
        longest: The provider's maximum length of a node pool's name.
    """

    def __init__(
        self, site: ElasticPlugin, params: ManagedParameters, provider: NodePools, longest: int
    ) -> None:
        self._site = site
        self._params = params
        self._provider = provider
        self._longest = longest

    def name_of(self, burst: str) -> str:
        """Return the name of a burst's node pool."""
        return self._params.node_pool or pool_name(burst, self._longest)

    def record_of(self, burst: Burst) -> Record:
        """Return the record for the node pool of a burst, or for its cluster."""
        return Record(
            self._site.tag,
            burst.name,
            burst.node_type,
            burst.price,
            burst.hostnames,
            time.time(),
            burst.lease_until,
        )

    def supply(self, burst: Burst, others: int) -> None:
        """Ensure that the nodes of a burst exist, beside those of other bursts."""
        record, name = self.record_of(burst), self.name_of(burst.name)
        if self._params.node_pool is None:
            machine, spot = machine_of(burst.node_type)
            self._provider.create(PoolRequest(name, machine, spot, burst.nodes, record))
            return
        pool = self._existing_pool(name)
        former = pool.nodes
        if pool.record is not None and pool.record.former_size is not None:
            former = pool.record.former_size
        nodes = max(pool.nodes, former + others + burst.nodes)
        self._provider.grow(name, nodes, replace(record, former_size=former))

    def _existing_pool(self, name: str) -> Pool:
        pool = self._provider.get(name)
        if pool is None:
            raise RequestError(
                f"the cluster {self._params.cluster_name} has no node pool {name!r} to grow"
            )
        if pool.record is not None and pool.record.tag != self._site.tag:
            raise BurstError(
                f"the node pool {name} is in use by another instance ({pool.record.tag}): only "
                "one at a time can grow it"
            )
        return pool

    def of(self, burst: str, seen: MutableMapping[str, Pool] | None = None) -> Pool | None:
        """Return a burst's node pool; None if it does not exist, or belongs to another.

        Args:
            burst: Its name.
            seen: Node pools seen in this round, by name: only others are asked for, and added.
        """
        name = self.name_of(burst)
        pool = None if seen is None else seen.get(name)
        if pool is None:
            pool = self._provider.get(name)
            if seen is not None and pool is not None:
                seen[name] = pool
        if self._params.node_pool is not None or pool is None or pool.record is None:
            return pool
        return pool if (pool.record.tag, pool.record.burst) == (self._site.tag, burst) else None

    def release(self, burst: str, there: Callable[[], Collection[str]]) -> None:
        """Release the nodes of a burst.

        Args:
            burst: Its name.
            there: Returns the bursts that have a MiniCluster.
        """
        for pool in self._provider.ours(self._site.tag):
            assert pool.record is not None
            if pool.record.former_size is None:
                if pool.record.burst == burst:
                    self._provider.delete(pool.name)
            elif not [one for one in there() if one != burst]:
                self._provider.shrink(pool.name, pool.record.former_size)

    def check_unlisted(self, burst: Burst, why: str) -> None:
        """Look for a burst's node pool in the list of node pools.

        Raises:
            BurstError: if it exists, or that is unknown.
        """
        records = (pool.record for pool in self._provider.ours(self._site.tag))
        if burst.name in [record.burst for record in records if record is not None]:
            raise BurstError(
                f"its node pool is listed, {why}: the fate of its job is unknown",
                plugin=self._site.name,
                burst=burst.name,
            )

    def with_pool(self, burst: Burst, pool: Pool | None) -> Burst:
        """Return a burst in the state of its pods, supplemented by its node pool's.

        An isolated burst's job runs as long as its pods do, whatever the state of the pool.
        """
        if pool is not None and pool.record is not None and self._params.node_pool is None:
            burst = replace(burst, since=pool.record.since or burst.since)
        if burst.state is BurstState.FAILED or burst.exit_code is not None:
            return burst
        if burst.isolated and burst.state is BurstState.READY:
            return burst
        if pool is None:
            problem = "its node pool no longer exists"
        elif pool.state is PoolState.GOING:
            problem = f"its node pool {pool.name} is being deleted"
        elif pool.state is PoolState.BROKEN and self._params.node_pool is None:
            problem = f"its node pool {pool.name} is broken: {pool.problem}"
        else:
            return burst
        return replace(burst, state=BurstState.FAILED, error=problem)

    def without_minicluster(self, name: str, pool: Pool) -> Burst:
        """Return a burst whose provisioning, or termination, was interrupted.

        The ledger knows which: interrupted provisioning continues.
        """
        assert pool.record is not None
        record = pool.record
        half = record.former_size is None and not self._site.isolated
        burst = Burst(
            name,
            self._site.name,
            record.node_type,
            pool.nodes if record.former_size is None else 0,
            state=BurstState.STARTING if half else BurstState.FAILED,
            price=record.price,
            since=record.since or None,
            lease_until=record.lease_until,
            isolated=self._site.isolated,
            error=f"its node pool {pool.name} exists without a MiniCluster",
        )
        return self.with_pool(burst, pool) if half else burst
