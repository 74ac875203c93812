"""Checks of AWS for ``fluxburst doctor``: identity, permissions, prices."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fluxburst import NodeType
from fluxburst.errors import FluxburstError, UnreachableError
from fluxburst.plugin import Finding
from fluxburst.provider.machine_types import MachineTypes
from fluxburst_eks import clusters, nodegroups

if TYPE_CHECKING:
    from fluxburst_eks.aws import Aws
    from fluxburst_eks.parameters import BurstParameters


@dataclass(frozen=True)
class Needed:
    """Actions on one kind of resource, and when they are needed.

    Attributes:
        actions: Their names.
        resource: Their resource: ``cluster``, ``group``, ``node role``, ``cluster role``, or
            ``*`` for none.
        where: Returns whether parameters need them.
        file: The policy that allows them.
    """

    actions: tuple[str, ...]
    resource: str
    where: Callable[[BurstParameters], bool] = lambda _: True
    file: str = "iam-policy.json"


CLUSTER_POLICY, POOL_POLICY = "iam-policy-cluster.json", "iam-policy-node-pool.json"


def _makes_groups(params: BurstParameters) -> bool:
    return params.node_pool is None


def _grows(params: BurstParameters) -> bool:
    return params.node_pool is not None


def _makes_cluster(params: BurstParameters) -> bool:
    return params.create_cluster


_ROLE_ACTIONS = ("iam:GetRole", "iam:ListAttachedRolePolicies", "iam:PassRole")
"""Actions of EKS itself, in the caller's name, when it gets a role."""

NEEDED = (
    Needed(("eks:DescribeCluster", "eks:ListNodegroups"), "cluster"),
    Needed(("eks:DescribeNodegroup",), "group"),
    Needed(("eks:CreateNodegroup",), "cluster", _makes_groups),
    Needed(("eks:DeleteNodegroup", "eks:TagResource"), "group", _makes_groups),
    Needed(_ROLE_ACTIONS, "node role", _makes_groups),
    Needed(("ec2:DescribeInstanceTypeOfferings", "ec2:DescribeSubnets"), "*", _makes_groups),
    Needed(("ec2:DescribeSpotPriceHistory", "pricing:GetProducts"), "*", lambda p: p.live_prices),
    Needed(
        ("eks:TagResource", "eks:UntagResource", "eks:UpdateNodegroupConfig"),
        "group",
        _grows,
        POOL_POLICY,
    ),
    Needed(
        ("eks:CreateCluster", "eks:DeleteCluster", "eks:TagResource"),
        "cluster",
        _makes_cluster,
        CLUSTER_POLICY,
    ),
    Needed(_ROLE_ACTIONS, "cluster role", _makes_cluster, CLUSTER_POLICY),
)
"""All actions except the identity check, which needs no permission."""

_ASSUMED = re.compile(r"arn:(aws[a-z-]*):sts::(\d+):assumed-role/([^/]+)/.*", re.ASCII)


def identity(connect: Callable[[], Aws]) -> Generator[Finding, None, str]:
    """Yield AWS's name for this identity, or why it is unknown; return the ARN, or empty."""
    try:
        aws = connect()
        who: str = aws.ask("get this identity", aws.sts.get_caller_identity)["Arn"]
        what = f"identity at AWS: {who}, in the region {aws.region}"
        yield Finding("ok", f"{what}, with credentials from {aws.origin}")
    except UnreachableError as error:
        yield Finding("error", str(error), "check the connection to AWS: network, proxy, region")
        return ""
    except FluxburstError as error:
        yield Finding("error", str(error), "check the parameters region and profile")
        return ""
    return who


def resource_arn(params: BurstParameters, resource: str, region: str, who: str) -> str:
    """Return the ARN of the actions' resource; one node group represents all of them."""
    _, partition, _, _, account, _ = who.split(":", 5)
    place = f"arn:{partition}:eks:{region}:{account}"
    group = f"{params.node_pool or 'burst'}/00000000-0000-0000-0000-000000000000"
    return {
        "cluster": f"{place}:cluster/{params.cluster_name}",
        "group": f"{place}:nodegroup/{params.cluster_name}/{group}",
        "node role": params.node_role_arn or "*",
        "cluster role": params.cluster_role_arn or "*",
    }.get(resource, "*")


def permissions(params: BurstParameters, aws: Aws, who: str) -> Iterator[Finding]:
    """Report missing permissions, from a simulation of this identity's policies."""
    denied: dict[str, list[str]] = {}
    try:
        source = _policy_source(aws, who)
        for needed in NEEDED:
            if needed.where(params):
                on = resource_arn(params, needed.resource, aws.region, who)
                missing = denied.setdefault(needed.file, [])
                missing += [f"{one} on {on}" for one in _denied(aws, source, needed.actions, on)]
    except FluxburstError as error:
        yield Finding(
            "warning",
            f"cannot check permissions: {error}",
            "allow iam:SimulatePrincipalPolicy to have them checked; bursts do not need it",
        )
        return
    for file, missing in denied.items():
        if missing:
            yield Finding(
                "error",
                f"missing permissions: {', '.join(missing)}",
                f"attach fluxburst's {file} to this identity",
            )
    if not any(denied.values()):
        yield Finding("ok", "all needed permissions are granted")


def _policy_source(aws: Aws, who: str) -> str:
    """Return the identity whose policies apply: the role, for a session of one."""
    session = _ASSUMED.fullmatch(who)
    if session is None:
        return who
    name = session[3]
    answer = aws.ask(f"get the role {name}", lambda: aws.iam.get_role(RoleName=name))
    return answer["Role"]["Arn"]


def _denied(aws: Aws, source: str, actions: Sequence[str], resource: str) -> list[str]:
    request: dict[str, Any] = {"PolicySourceArn": source, "ActionNames": list(actions)}
    request["ResourceArns"] = [resource]
    request["ContextEntries"] = [
        {
            "ContextKeyName": key,
            "ContextKeyType": "string",
            "ContextKeyValues": [value],
        }
        for key, value in _CONTEXT
    ]

    def ask() -> list[str]:
        pages = aws.iam.get_paginator("simulate_principal_policy").paginate(**request)
        results = [one for page in pages for one in page["EvaluationResults"]]
        return [one["EvalActionName"] for one in results if one["EvalDecision"] != "allowed"]

    return aws.ask(f"simulate the policies of {source}", ask)


_CONTEXT = (
    ("aws:RequestTag/fluxburst.io/managed-by", "fluxburst"),
    ("aws:ResourceTag/fluxburst.io/managed-by", "fluxburst"),
    ("iam:PassedToService", "eks.amazonaws.com"),
)
"""The context of fluxburst's requests that the policy checks."""


def cluster(params: BurstParameters, aws: Aws) -> Iterator[Finding]:
    """Report the state of the cluster, and of the configured node group."""
    name = params.cluster_name
    try:
        found = clusters.describe(aws, name)
        if found is None:  # which the base reports
            return
        issues = "; ".join(map(str, found.issues))
        level: Any = "warning" if issues or found.status != "ACTIVE" else "ok"
        told = f"the cluster {name} is {found.status}, Kubernetes {found.version}"
        yield Finding(level, f"{told}: {issues}" if issues else told)
        pool = params.node_pool
        if pool is not None and nodegroups.describe(aws, name, pool) is None:
            yield Finding("error", f"there is no node group {pool}", "see the parameter node_pool")
    except FluxburstError as error:
        yield Finding("error", str(error), "attach fluxburst's iam-policy.json")


def prices(kinds: Sequence[NodeType], table: MachineTypes, region: str, *, live: bool) -> Finding:
    """Report the prices in use.

    Args:
        kinds: The node types.
        table: Their machine types.
        region: Their region.
        live: Whether the prices are from AWS.
    """
    shown = ", ".join(f"{kind.name} {kind.price:.4g}" for kind in kinds)
    origin = f"of {table.dated}, region {table.region}"
    if live:
        return Finding("ok", f"current hourly prices from AWS: {shown}")
    if table.region != region:
        return Finding(
            "warning",
            f"hourly prices are {origin}, not of {region}: {shown}",
            "set live_prices and grant its permission, or set prices in machine_types",
        )
    return Finding("ok", f"hourly prices {origin}: {shown}")
