"""The EKS cluster for bursts: an existing one, or created on request."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fluxburst.errors import BurstError
from fluxburst_eks.errors import InUseError, Issue, NotFoundError, as_issue_error

if TYPE_CHECKING:
    from fluxburst_eks.aws import Aws


@dataclass(frozen=True)
class Described:
    """EKS's description of a cluster.

    Attributes:
        name: Its name.
        status: ``CREATING``, ``ACTIVE``, ``UPDATING``, ``DELETING``, ``FAILED`` or ``PENDING``.
        endpoint: The URL of its API server; empty if not known yet.
        certificate: That server's certificate authority, as PEM; empty if not known yet.
        subnets: The subnets it was created with.
        tags: Its tags.
        issues: Its problems.
        version: The version of Kubernetes.
    """

    name: str
    status: str
    endpoint: str
    certificate: bytes
    subnets: tuple[str, ...]
    tags: Mapping[str, str]
    issues: tuple[Issue, ...]
    version: str = ""


@dataclass(frozen=True)
class ClusterPlan:
    """A request for a cluster.

    Attributes:
        role_arn: EKS's role for it.
        subnets: Subnets in at least two zones.
        security_groups: Security groups besides the one created by EKS.
        version: The version of Kubernetes; empty for EKS's default.
        tags: Its tags.
    """

    role_arn: str
    subnets: Sequence[str]
    security_groups: Sequence[str]
    version: str
    tags: Mapping[str, str]


def describe(aws: Aws, name: str) -> Described | None:
    """Return a cluster; None if it does not exist."""
    try:
        answer = aws.ask(
            f"describe the cluster {name}", lambda: aws.eks.describe_cluster(name=name)
        )
    except NotFoundError:
        return None
    found: Mapping[str, Any] = answer["cluster"]
    authority = (found.get("certificateAuthority") or {}).get("data") or ""
    return Described(
        name,
        str(found.get("status", "")),
        str(found.get("endpoint") or ""),
        base64.b64decode(authority),
        tuple((found.get("resourcesVpcConfig") or {}).get("subnetIds") or ()),
        found.get("tags") or {},
        issues_of(found),
        str(found.get("version") or ""),
    )


def issues_of(found: Mapping[str, Any]) -> tuple[Issue, ...]:
    """Return EKS's issues of a cluster or a node group."""
    issues = (found.get("health") or {}).get("issues") or ()
    return tuple(Issue(str(i.get("code", "")), str(i.get("message", ""))) for i in issues)


def create(aws: Aws, name: str, plan: ClusterPlan) -> None:
    """Request a cluster; an existing one of that name is left alone."""
    network: Any = {"subnetIds": list(plan.subnets)}
    if plan.security_groups:
        network["securityGroupIds"] = list(plan.security_groups)
    request: dict[str, Any] = {
        "name": name,
        "roleArn": plan.role_arn,
        "resourcesVpcConfig": network,
        "tags": dict(plan.tags),
        # Its creator becomes administrator, and node roles get access without a config map.
        "accessConfig": {
            "authenticationMode": "API_AND_CONFIG_MAP",
            "bootstrapClusterCreatorAdminPermissions": True,
        },
    }
    if plan.version:
        request["version"] = plan.version
    try:
        aws.ask(f"create the cluster {name}", lambda: aws.eks.create_cluster(**request))
    except InUseError:
        return


def wait_active(aws: Aws, name: str, seconds: float) -> Described:
    """Wait until a cluster is usable.

    Raises:
        BurstError: or a subclass, if it failed, is being deleted, or takes too long.
    """

    def observe() -> Described | None:
        found = describe(aws, name)
        if found is None or found.status == "DELETING":
            raise BurstError(f"the cluster {name} is being deleted")
        if found.status == "FAILED":
            raise as_issue_error(found.issues, f"the cluster {name}")
        return found if found.status in ("ACTIVE", "UPDATING") and found.endpoint else None

    return aws.wait(f"the cluster {name} to be active", observe, seconds)


def delete(aws: Aws, name: str, seconds: float) -> None:
    """Delete a cluster, and wait until it is gone; success if it does not exist."""

    def observe() -> bool | None:
        found = describe(aws, name)
        if found is None:
            return True
        if found.status != "DELETING":
            try:
                aws.ask(f"delete the cluster {name}", lambda: aws.eks.delete_cluster(name=name))
            except NotFoundError:
                return True
            except InUseError:  # a change is in progress, or its last node group is being deleted
                return None
        return None

    aws.wait(f"the cluster {name} to be gone", observe, seconds)
