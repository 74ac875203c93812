"""A cluster of Kubernetes Engine and its node pools, for ``ManagedKubernetes``."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from google.cloud import container_v1 as gke

from fluxburst.errors import BurstError, CapacityError
from fluxburst.formats.units import counted
from fluxburst_gke.cluster import CLOUD_PLATFORM, GkeCluster
from fluxburst_gke.errors import from_conditions, from_text
from fluxburst_gke.google import Google
from fluxburst_gke.labels import PREFIX, foreign, labels_of, without_prefix
from fluxburst_gke.parameters import BurstParameters
from fluxburst_gke.zones import Zones
from fluxburst_google.errors import ExistsError, NotFoundError
from fluxburst_kubernetes.node_pools import (
    Pool,
    PoolRequest,
    PoolState,
    Record,
    read_record,
)

NODE_POOL_LABEL = "cloud.google.com/gke-nodepool"
"""The label with the pool's name that Kubernetes Engine puts on every node."""

_STATES = {
    gke.NodePool.Status.PROVISIONING: PoolState.COMING,
    gke.NodePool.Status.RUNNING: PoolState.RUNNING,
    gke.NodePool.Status.RECONCILING: PoolState.RUNNING,
    gke.NodePool.Status.RUNNING_WITH_ERROR: PoolState.BROKEN,
    gke.NodePool.Status.ERROR: PoolState.BROKEN,
    gke.NodePool.Status.STOPPING: PoolState.GOING,
}
_log = logging.getLogger(__name__)


class GkePools:
    """The node pools of the cluster named by the parameters.

    Args:
        google: Their project and location.
        params: The plugin's parameters.
    """

    def __init__(self, google: Google, params: BurstParameters) -> None:
        self.google = google
        self.params = params
        self.cluster = GkeCluster(google, params)
        self.zones = Zones(params.zone_pause)

    def selector(self, pool: str) -> Mapping[str, str]:
        """Return the label of a pool's nodes."""
        return {NODE_POOL_LABEL: pool}

    def get(self, name: str) -> Pool | None:
        """Return a node pool; None if it does not exist."""
        found = self._pool(name)
        return None if found is None else self._as_pool(found, sized=True)

    def ours(self, tag: str) -> Sequence[Pool]:
        """Return the pools with a record of this instance; none without a cluster."""
        answer = self.google.find(
            "list the node pools",
            self.google.clusters.list_node_pools,
            parent=self.google.cluster_path,
        )
        pools = [] if answer is None else [self._as_pool(pool) for pool in answer.node_pools]
        return [pool for pool in pools if pool.record is not None and pool.record.tag == tag]

    def create(self, request: PoolRequest) -> None:
        """Create a node pool in the first zone with capacity, and wait for its nodes.

        Raises:
            CapacityError: if no zone has capacity.
            BurstError: or a subclass, for other refusals by Google.
        """
        until = time.monotonic() + self.params.pool_timeout
        zones = self.zones.in_turn(self._zones(), request.machine_type, spot=request.spot)
        lacking: list[str] = []
        for zone in zones:
            try:
                self._create_in(zone, request, until)
            except CapacityError as error:
                self.zones.had_none(zone, request.machine_type, spot=request.spot)
                lacking.append(f"{zone}: {error}")
                _log.info("burst %s: %s", request.record.burst, lacking[-1])
                if time.monotonic() > until:
                    break
                self._delete_pool(request.name, until)
            else:
                return
        raise CapacityError("; ".join(lacking))

    def delete(self, name: str) -> None:
        """Delete a node pool, and wait until it is gone; it may not exist."""
        self._delete_pool(name, time.monotonic() + self.params.pool_timeout)

    def grow(self, name: str, nodes: int, record: Record) -> None:
        """Write a record on a foreign node pool, then add nodes, and wait for them."""
        until = time.monotonic() + self.params.pool_timeout
        pool = self._pool(name)
        if pool is None:
            raise BurstError(f"there is no node pool {name}")
        self._label(pool, {**foreign(pool.config.resource_labels), **labels_of(record)}, until)
        zones = max(1, len(pool.locations))
        self._resize(name, -(-nodes // zones), until)

    def shrink(self, name: str, nodes: int) -> None:
        """Restore the former size of a grown node pool, and then remove the record from it."""
        until = time.monotonic() + self.params.pool_timeout
        pool = self._pool(name)
        if pool is None:
            return
        zones = max(1, len(pool.locations))
        self._resize(name, -(-nodes // zones), until)
        self._label(pool, foreign(pool.config.resource_labels), until)

    # --- their steps -----------------------------------------------------------------------

    def _pool(self, name: str) -> gke.NodePool | None:
        return self.google.find(
            f"describe the node pool {name}",
            self.google.clusters.get_node_pool,
            name=self.google.pool_path(name),
        )

    def _zones(self) -> Sequence[str]:
        if self.params.zones:
            return self.params.zones
        cluster = self.cluster.find()
        return [] if cluster is None else list(cluster.locations)

    def _create_in(self, zone: str, request: PoolRequest, until: float) -> None:
        """Create a node pool in a zone, or find it, and wait until all its nodes exist."""
        doing = f"create the node pool {request.name} in {zone}"
        found = self._pool(request.name)
        if found is not None and found.status == gke.NodePool.Status.STOPPING:
            self._wait_until_gone(request.name, until)
            found = None
        operation = ""
        if found is None:
            clusters, path = self.google.clusters, self.google.cluster_path
            pool = self._manifest(zone, request)
            try:
                asked = self.google.change(
                    doing, clusters.create_node_pool, until, parent=path, node_pool=pool
                )
                operation = asked.name
            except ExistsError:
                pass  # an unanswered request succeeded nevertheless
        self.google.wait(lambda: self._is_up(request.name, operation, doing), until, doing)

    def _is_up(self, name: str, operation: str, doing: str) -> bool:
        """Whether a node pool's nodes exist.

        Raises:
            BurstError: or a subclass, if it is known that they will not soon.
        """
        if operation and self.google.is_done(operation, doing):
            operation = ""
        pool = self._pool(name)
        if pool is None:
            raise BurstError(f"the node pool {name} no longer exists")
        problem = from_conditions(pool.conditions, doing)
        if problem is not None:  # Google keeps trying for half an hour: others may have machines
            raise problem
        if _STATES.get(pool.status) is PoolState.BROKEN:
            raise from_text(pool.status_message or "it is in error", doing)
        if _STATES.get(pool.status) is PoolState.GOING:
            raise BurstError(f"the node pool {name} is being deleted")
        return pool.status == gke.NodePool.Status.RUNNING and not operation

    def _manifest(self, zone: str, request: PoolRequest) -> gke.NodePool:
        params, record = self.params, request.record
        limits: dict[str, Any] = {}
        if params.max_run_duration is not None:
            limits["max_run_duration"] = datetime.timedelta(seconds=params.max_run_duration)
        config = gke.NodeConfig(
            machine_type=request.machine_type,
            spot=request.spot,
            metadata={f"{PREFIX}{name}": text for name, text in record.texts().items()},
            resource_labels=labels_of(record),
            oauth_scopes=[CLOUD_PLATFORM],
            service_account=params.service_account or "",
            disk_size_gb=params.disk_size or 0,
            **limits,
        )
        pool = gke.NodePool(
            name=request.name,
            initial_node_count=request.nodes,
            locations=[zone],
            config=config,
            # Repaired nodes join again; upgrades would interrupt jobs.
            management=gke.NodeManagement(auto_repair=True, auto_upgrade=False),
        )
        if params.compact_placement:
            pool.placement_policy = gke.NodePool.PlacementPolicy(
                type_=gke.NodePool.PlacementPolicy.Type.COMPACT
            )
        return pool

    def _delete_pool(self, name: str, until: float) -> None:
        pool = self._pool(name)
        if pool is None:
            return
        if pool.status != gke.NodePool.Status.STOPPING:
            clusters, path = self.google.clusters, self.google.pool_path(name)
            try:
                self.google.change(
                    f"delete the node pool {name}", clusters.delete_node_pool, until, name=path
                )
            except NotFoundError:
                return
        self._wait_until_gone(name, until)

    def _wait_until_gone(self, name: str, until: float) -> None:
        self.google.wait(lambda: self._pool(name) is None, until, f"delete the node pool {name}")

    def _label(self, pool: gke.NodePool, labels: Mapping[str, str], until: float) -> None:
        if dict(pool.config.resource_labels) == dict(labels):
            return
        self.google.follow(
            f"label the node pool {pool.name}",
            self.google.clusters.update_node_pool,
            until,
            name=self.google.pool_path(pool.name),
            resource_labels=gke.ResourceLabels(labels=dict(labels)),
        )

    def _resize(self, name: str, nodes: int, until: float) -> None:
        self.google.follow(
            f"resize the node pool {name} to {counted(nodes, 'node')} per zone",
            self.google.clusters.set_node_pool_size,
            until,
            name=self.google.pool_path(name),
            node_count=nodes,
        )

    def _as_pool(self, pool: gke.NodePool, *, sized: bool = False) -> Pool:
        texts = without_prefix(pool.config.resource_labels)
        texts.update(without_prefix(pool.config.metadata))
        nodes = pool.initial_node_count  # which resizing a pool does not change
        if sized:
            nodes = sum(self.google.group_size(url) for url in pool.instance_group_urls)
        problem = from_conditions(pool.conditions, f"run the node pool {pool.name}")
        state = _STATES.get(pool.status, PoolState.COMING)
        if problem is not None and state is PoolState.COMING:
            state = PoolState.BROKEN  # Google keeps trying, but nothing waits for it
        return Pool(
            pool.name,
            state,
            nodes,
            read_record(texts),
            pool.config.machine_type,
            str(problem) if problem is not None else pool.status_message,
        )
