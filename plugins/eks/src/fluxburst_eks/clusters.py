"""EKS clusters: the one that bursts are in, used as it is, or made where that is asked for."""

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
    """A cluster as EKS describes it.

    Attributes:
        name: Its name.
        status: ``CREATING``, ``ACTIVE``, ``UPDATING``, ``DELETING``, ``FAILED`` or ``PENDING``.
        endpoint: The URL of its API server; empty until it has one.
        certificate: That server's certificate authority, as PEM; empty until there is one.
        subnets: The subnets that it was made with.
        tags: Its tags.
        issues: What is wrong with it.
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
    """What a cluster is made of.

    Attributes:
        role_arn: The role that EKS acts in for it.
        subnets: Subnets in at least two zones.
        security_groups: Security groups beside the one that EKS makes for it.
        version: The version of Kubernetes; empty for EKS' default.
        tags: Its tags.
    """

    role_arn: str
    subnets: Sequence[str]
    security_groups: Sequence[str]
    version: str
    tags: Mapping[str, str]


def describe(aws: Aws, name: str) -> Described | None:
    """Return a cluster; None if there is none of that name."""
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
    """Return what EKS says is wrong with a cluster or a node group."""
    issues = (found.get("health") or {}).get("issues") or ()
    return tuple(Issue(str(i.get("code", "")), str(i.get("message", ""))) for i in issues)


def create(aws: Aws, name: str, plan: ClusterPlan) -> None:
    """Have a cluster be made; one of that name that is there already is left as it is."""
    network: Any = {"subnetIds": list(plan.subnets)}
    if plan.security_groups:
        network["securityGroupIds"] = list(plan.security_groups)
    request: dict[str, Any] = {
        "name": name,
        "roleArn": plan.role_arn,
        "resourcesVpcConfig": network,
        "tags": dict(plan.tags),
        # Who makes it is its administrator, and node roles are let in without a config map.
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
    """Wait until a cluster can be used.

    Raises:
        BurstError: or one of its kinds, if it failed, is being deleted, or takes too long.
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
    """Delete a cluster, and wait until it is gone; one that is not there is a success."""

    def observe() -> bool | None:
        found = describe(aws, name)
        if found is None:
            return True
        if found.status != "DELETING":
            try:
                aws.ask(f"delete the cluster {name}", lambda: aws.eks.delete_cluster(name=name))
            except NotFoundError:
                return True
            except InUseError:  # it is being changed, or its last node group is about to go
                return None
        return None

    aws.wait(f"the cluster {name} to be gone", observe, seconds)
