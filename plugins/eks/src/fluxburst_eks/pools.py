"""Node groups of an EKS cluster, for the base of managed clusters."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fluxburst.errors import BurstError, CapacityError
from fluxburst.provider.machine_types import MachineTypes
from fluxburst_eks import clusters, nodegroups, zones
from fluxburst_eks.cluster import EksCluster
from fluxburst_eks.clusters import Described
from fluxburst_eks.errors import NotFoundError, of_capacity
from fluxburst_eks.nodegroups import GroupPlan, NodeGroup
from fluxburst_eks.tags import PREFIX, record_of, tags_of
from fluxburst_eks.zones import Resting
from fluxburst_kubernetes.labels import label_value
from fluxburst_kubernetes.node_pools import (
    Pool,
    PoolRequest,
    PoolState,
    Record,
)

if TYPE_CHECKING:
    from fluxburst_eks.aws import Aws
    from fluxburst_eks.parameters import BurstParameters

FORMER_MOST = f"{PREFIX}former-most"
GROUP_LABEL = "eks.amazonaws.com/nodegroup"
"""The label with the group's name that EKS puts on every node of a managed node group."""

GIB = 2**30

_STATES = {
    "CREATING": PoolState.COMING,
    "ACTIVE": PoolState.RUNNING,
    "UPDATING": PoolState.RUNNING,
    "DEGRADED": PoolState.RUNNING,  # its remaining nodes run; pods show which it lost
    "CREATE_FAILED": PoolState.BROKEN,
    "DELETE_FAILED": PoolState.BROKEN,
    "DELETING": PoolState.GOING,
}


class EksPools:
    """The node groups of the cluster named by the parameters.

    Args:
        aws: The account.
        params: The plugin's parameters.
        machines: The machine types, for their nodes' image types.
    """

    def __init__(self, aws: Aws, params: BurstParameters, machines: MachineTypes) -> None:
        self._aws = aws
        self._params = params
        self._machines = machines
        self.cluster = EksCluster(aws, params)
        self._cluster = params.cluster_name
        self._resting = Resting(params.zone_pause)

    def selector(self, pool: str) -> Mapping[str, str]:
        """Return the label of a node group's nodes."""
        return {GROUP_LABEL: pool}

    def get(self, name: str) -> Pool | None:
        """Return a node group; None if it does not exist."""
        found = nodegroups.describe(self._aws, self._cluster, name)
        return None if found is None else _pool(found)

    def ours(self, tag: str) -> Sequence[Pool]:
        """Return the node groups with a record of this instance."""
        try:
            names = nodegroups.names(self._aws, self._cluster)
        except NotFoundError:
            return []
        pools = [pool for name in names if (pool := self.get(name)) is not None]
        return [pool for pool in pools if pool.record is not None and pool.record.tag == tag]

    def create(self, request: PoolRequest) -> None:
        """Create a node group in the first zone with capacity, and wait until it is active.

        Raises:
            CapacityError: if no zone has capacity.
            BurstError: or a subclass, for other problems.
        """
        deadline = time.monotonic() + self._params.pool_timeout
        refused = self._finish(request, deadline)
        if refused is None:
            return
        places = self._places(request)
        for zone, subnets in places.items():
            plan = self._group_plan(request, subnets)
            nodegroups.create(self._aws, self._cluster, request.name, plan)
            problem = self._wait(request, zone, deadline)
            if problem is None:
                return
            refused.append(f"{zone}: {problem}")
        problems = "; ".join(refused) or "all zones lacked it recently"
        raise CapacityError(
            f"no capacity for {request.nodes} of {request.machine_type}: {problems}"
        )

    def _finish(self, request: PoolRequest, deadline: float) -> list[str] | None:
        """Continue with an existing node group.

        Returns:
            None once it is active; or why it is not, after deleting it.
        """
        found = nodegroups.describe(self._aws, self._cluster, request.name)
        if found is None:
            return []
        if found.status == "DELETING":
            self._remove(request.name, deadline)
            return []
        by_zone = zones.subnets_by_zone(self._aws, found.subnets)
        zone = ", ".join(by_zone)
        problem = self._wait(request, zone, deadline)
        return None if problem is None else [f"{zone}: {problem}"]

    def _wait(self, request: PoolRequest, zone: str, deadline: float) -> str | None:
        """Wait for a node group; without capacity, delete it and return the reason."""
        try:
            nodegroups.wait_active(self._aws, self._cluster, request.name, _left(deadline))
        except CapacityError as error:
            for one in zone.split(", "):
                self._resting.rest(one, _kind(request))
            self._remove(request.name, deadline)
            return str(error)
        return None

    def _remove(self, name: str, deadline: float) -> None:
        nodegroups.delete(self._aws, self._cluster, name, _left(deadline))

    def _places(self, request: PoolRequest) -> dict[str, list[str]]:
        """Return the possible places of a node group, in order: zones, with their subnets.

        Raises:
            CapacityError: if no zone of the subnets offers the machine type at all.
        """
        by_zone = zones.subnets_by_zone(self._aws, self.subnets())
        offered = zones.offering(self._aws, request.machine_type)
        suiting = [zone for zone in by_zone if zone in offered]
        if not suiting:
            raise CapacityError(
                f"none of the zones {', '.join(by_zone)} offers the machine type "
                f"{request.machine_type}: check the parameter subnets"
            )
        awake = self._resting.awake(suiting, _kind(request))
        if self._params.spread_zones and awake:
            return {", ".join(awake): [one for zone in awake for one in by_zone[zone]]}
        return {zone: by_zone[zone] for zone in awake}

    def subnets(self) -> Sequence[str]:
        """Return the subnets for nodes: those of the parameters, or the cluster's."""
        if self._params.subnets:
            return self._params.subnets
        found: Described | None = clusters.describe(self._aws, self._cluster)
        if found is None or not found.subnets:
            raise BurstError(
                f"the cluster {self._cluster} has no subnets: set the parameter subnets"
            )
        return found.subnets

    def _group_plan(self, request: PoolRequest, subnets: Sequence[str]) -> GroupPlan:
        params = self._params
        if params.node_role_arn is None:
            raise BurstError("creating a node group needs node_role_arn")
        record = request.record
        gpus = self._machines[request.machine_type].gpus
        return GroupPlan(
            params.node_role_arn,
            request.machine_type,
            request.nodes,
            request.spot,
            subnets,
            labels={
                f"{PREFIX}instance": record.tag,
                f"{PREFIX}burst": label_value(record.burst),
            },
            tags=tags_of(record),
            ami_type=params.ami_type or nodegroups.ami_type_of(request.machine_type, gpus),
            disk_gib=None if params.disk_size is None else -(-params.disk_size // GIB),
        )

    def delete(self, name: str) -> None:
        """Delete a node group of ours, and wait until it is gone."""
        nodegroups.delete(self._aws, self._cluster, name, self._params.pool_timeout)

    def grow(self, name: str, nodes: int, record: Record) -> None:
        """Write a record on a foreign node group, then add nodes."""
        found = self._must_find(name)
        most = found.tags.get(FORMER_MOST, str(found.most))
        nodegroups.tag(self._aws, found, {**tags_of(record), FORMER_MOST: most})
        if found.nodes != nodes:
            nodegroups.resize(self._aws, self._cluster, name, nodes, max(nodes, found.most))
        nodegroups.wait_active(self._aws, self._cluster, name, self._params.pool_timeout)

    def shrink(self, name: str, nodes: int) -> None:
        """Restore the former size and maximum of a grown node group, and remove the record."""
        found = self._must_find(name)
        most = int(found.tags.get(FORMER_MOST, found.most))
        if (found.nodes, found.most) != (nodes, most):
            nodegroups.resize(self._aws, self._cluster, name, nodes, most)
        own = [key for key in found.tags if key.startswith(PREFIX)]
        if own:
            nodegroups.untag(self._aws, found, own)

    def write_lease(self, name: str, until: float) -> None:
        """Write the end of the lease on a node group of ours."""
        found = nodegroups.describe(self._aws, self._cluster, name)
        if found is not None and record_of(found.tags) is not None:
            nodegroups.tag(self._aws, found, {f"{PREFIX}lease-until": f"{until:.0f}"})

    def _must_find(self, name: str) -> NodeGroup:
        found = nodegroups.describe(self._aws, self._cluster, name)
        if found is None:
            raise BurstError(f"the cluster {self._cluster} has no node group {name!r}")
        return found


def _pool(found: NodeGroup) -> Pool:
    state = _STATES.get(found.status, PoolState.BROKEN)
    if state is PoolState.COMING and of_capacity(found.issues):
        state = PoolState.BROKEN  # EKS keeps trying for a quarter of an hour
    return Pool(
        found.name,
        state,
        found.nodes,
        record_of(found.tags),
        found.machine_type,
        "; ".join(map(str, found.issues)),
    )


def _kind(request: PoolRequest) -> str:
    return f"{request.machine_type} {'spot' if request.spot else 'on demand'}"


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
