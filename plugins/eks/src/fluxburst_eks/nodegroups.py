"""Node groups of an EKS cluster: machines of one type and zone, created and deleted together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fluxburst.errors import BurstError
from fluxburst_eks import clusters
from fluxburst_eks.clusters import issues_of
from fluxburst_eks.errors import (
    InUseError,
    Issue,
    NotFoundError,
    as_issue_error,
    of_capacity,
)

if TYPE_CHECKING:
    from fluxburst_eks.aws import Aws

_ARM = re.compile(r"(a1|[a-z]+\d+g[a-z]*(-\w+)?)\.", re.ASCII)
"""Types with Graviton processors: ``g`` is the first letter after the generation, see
https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html."""


@dataclass(frozen=True)
class NodeGroup:
    """EKS's description of a node group.

    Attributes:
        name: Its name.
        arn: Its ARN.
        status: ``CREATING``, ``ACTIVE``, ``UPDATING``, ``DELETING``, ``CREATE_FAILED``,
            ``DELETE_FAILED`` or ``DEGRADED``.
        nodes: Its target number of nodes.
        most: Its maximum number of nodes.
        machine_type: The type of its machines.
        spot: Whether they are spot machines.
        subnets: Their subnets.
        labels: Labels of the nodes.
        tags: Tags of the group.
        issues: Its problems.
        since: When it was created, in seconds since the epoch.
    """

    name: str
    arn: str
    status: str
    nodes: int
    most: int
    machine_type: str
    spot: bool
    subnets: tuple[str, ...]
    labels: Mapping[str, str]
    tags: Mapping[str, str]
    issues: tuple[Issue, ...]
    since: float | None = None


@dataclass(frozen=True)
class GroupPlan:
    """A request for a node group.

    Attributes:
        role_arn: The role of its machines.
        machine_type: Their type.
        nodes: Number of machines: all or none.
        spot: Whether they are spot machines.
        subnets: Their subnets.
        labels: Labels of the nodes.
        tags: Tags of the group.
        ami_type: Their image type; empty for the machine type's default.
        disk_gib: The size of their disks in GiB; None for EKS's default.
    """

    role_arn: str
    machine_type: str
    nodes: int
    spot: bool
    subnets: Sequence[str]
    labels: Mapping[str, str]
    tags: Mapping[str, str]
    ami_type: str = ""
    disk_gib: int | None = None


def ami_type_of(machine_type: str, gpus: int) -> str:
    """Return EKS's image type for a machine type (AMITypes of its API)."""
    arm = "ARM_64" if _ARM.match(machine_type) else "x86_64"
    return f"AL2023_{arm}_{'NVIDIA' if gpus else 'STANDARD'}"


def names(aws: Aws, cluster: str) -> list[str]:
    """Return the names of a cluster's node groups.

    Raises:
        NotFoundError: if the cluster does not exist.
    """

    def ask() -> list[str]:
        pages = aws.eks.get_paginator("list_nodegroups").paginate(clusterName=cluster)
        return [name for page in pages for name in page["nodegroups"]]

    return aws.ask(f"list the node groups of the cluster {cluster}", ask)


def describe(aws: Aws, cluster: str, name: str) -> NodeGroup | None:
    """Return a node group; None if it or its cluster does not exist.

    Raises:
        NotFoundError: if AWS contradicts itself on whether the cluster exists.
    """
    try:
        answer = aws.ask(
            f"describe the node group {name}",
            lambda: aws.eks.describe_nodegroup(clusterName=cluster, nodegroupName=name),
        )
    except NotFoundError as error:
        if _is_of_cluster(error) and clusters.describe(aws, cluster) is not None:
            raise
        return None
    return _read(answer["nodegroup"])


def _is_of_cluster(error: NotFoundError) -> bool:
    """Whether the missing object is the cluster: EKS has one code for both, and two messages."""
    return re.match(r"no cluster\b", error.answer.message, re.IGNORECASE) is not None


def _read(found: Mapping[str, Any]) -> NodeGroup:
    scaling = found.get("scalingConfig") or {}
    created = found.get("createdAt")
    return NodeGroup(
        str(found["nodegroupName"]),
        str(found.get("nodegroupArn", "")),
        str(found.get("status", "")),
        int(scaling.get("desiredSize", 0)),
        int(scaling.get("maxSize", 0)),
        str((found.get("instanceTypes") or [""])[0]),
        found.get("capacityType") == "SPOT",
        tuple(found.get("subnets") or ()),
        found.get("labels") or {},
        found.get("tags") or {},
        issues_of(found),
        created.timestamp() if isinstance(created, datetime) else None,
    )


def create(aws: Aws, cluster: str, name: str, plan: GroupPlan) -> None:
    """Request a node group; an existing one of that name is left alone."""
    request: dict[str, Any] = {
        "clusterName": cluster,
        "nodegroupName": name,
        "nodeRole": plan.role_arn,
        "instanceTypes": [plan.machine_type],
        "amiType": plan.ami_type,
        "capacityType": "SPOT" if plan.spot else "ON_DEMAND",
        "scalingConfig": dict.fromkeys(("minSize", "maxSize", "desiredSize"), plan.nodes),
        "subnets": list(plan.subnets),
        "labels": dict(plan.labels),
        "tags": dict(plan.tags),
    }
    if plan.disk_gib is not None:
        request["diskSize"] = plan.disk_gib
    try:
        aws.ask(f"create the node group {name}", lambda: aws.eks.create_nodegroup(**request))
    except InUseError:
        if describe(aws, cluster, name) is None:
            raise


def wait_active(aws: Aws, cluster: str, name: str, seconds: float) -> NodeGroup:
    """Wait until a node group has its nodes.

    An issue about capacity or quota ends the wait: EKS itself would keep trying for a quarter of an
    hour before it gives up.

    Raises:
        BurstError: or a subclass, if it failed, is being deleted, or takes too long.
    """

    def observe() -> NodeGroup | None:
        found = describe(aws, cluster, name)
        if found is None or found.status == "DELETING":
            raise BurstError(f"the node group {name} is being deleted")
        failed = found.status in ("CREATE_FAILED", "DELETE_FAILED", "DEGRADED")
        if failed or of_capacity(found.issues):
            raise as_issue_error(found.issues, f"the node group {name}")
        return found if found.status == "ACTIVE" else None

    return aws.wait(f"the node group {name} to be active", observe, seconds)


def delete(aws: Aws, cluster: str, name: str, seconds: float) -> None:
    """Delete a node group, and wait until it is gone; success if it does not exist."""

    def observe() -> bool | None:
        found = describe(aws, cluster, name)
        if found is None:
            return True
        if found.status != "DELETING":
            try:
                aws.ask(
                    f"delete the node group {name}",
                    lambda: aws.eks.delete_nodegroup(clusterName=cluster, nodegroupName=name),
                )
            except NotFoundError:
                return True
            except InUseError:  # a change is in progress; it can be deleted afterwards
                return None
        return None

    aws.wait(f"the node group {name} to be gone", observe, seconds)


def resize(aws: Aws, cluster: str, name: str, nodes: int, most: int) -> None:
    """Change the size of a node group, and its maximum.

    Its minimum stays as its owner set it.
    """
    aws.ask(
        f"resize the node group {name} to {nodes}",
        lambda: aws.eks.update_nodegroup_config(
            clusterName=cluster,
            nodegroupName=name,
            scalingConfig={"desiredSize": nodes, "maxSize": most},
        ),
    )


def tag(aws: Aws, found: NodeGroup, tags: Mapping[str, str]) -> None:
    """Set tags of a node group."""
    aws.ask(
        f"tag the node group {found.name}",
        lambda: aws.eks.tag_resource(resourceArn=found.arn, tags=dict(tags)),
    )


def untag(aws: Aws, found: NodeGroup, keys: Sequence[str]) -> None:
    """Remove tags from a node group."""
    aws.ask(
        f"untag the node group {found.name}",
        lambda: aws.eks.untag_resource(resourceArn=found.arn, tagKeys=list(keys)),
    )
