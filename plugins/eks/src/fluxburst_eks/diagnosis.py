"""What ``fluxburst doctor`` says of AWS: who this is, what is permitted, what prices are used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fluxburst.errors import FluxburstError
from fluxburst.plugins import Finding
from fluxburst_eks import clusters, nodegroups
from fluxburst_eks.errors import NotFoundError

if TYPE_CHECKING:
    from fluxburst_eks.aws import Aws
    from fluxburst_eks.plugin import EksBurst

ACTIONS = (
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeSubnets",
    "eks:CreateNodegroup",
    "eks:DeleteNodegroup",
    "eks:DescribeCluster",
    "eks:DescribeNodegroup",
    "eks:ListNodegroups",
    "eks:TagResource",
    "eks:UntagResource",
)
"""What is asked of AWS in any case."""

PRICE_ACTIONS = ("ec2:DescribeSpotPriceHistory", "pricing:GetProducts")
GROWING_ACTIONS = ("eks:UpdateNodegroupConfig",)
CLUSTER_ACTIONS = ("eks:CreateCluster", "eks:DeleteCluster")
ROLE_ACTIONS = ("iam:GetRole", "iam:ListAttachedRolePolicies", "iam:PassRole")
"""What EKS itself asks for when it is given the role of nodes."""

_ASSUMED = re.compile(r"arn:(aws[a-z-]*):sts::(\d+):assumed-role/([^/]+)/.*", re.ASCII)


def findings(plugin: EksBurst) -> Iterator[Finding]:
    """Yield what is found; nothing is changed."""
    try:
        aws = plugin.aws
        who = aws.ask("tell who this is", aws.sts.get_caller_identity)["Arn"]
        yield Finding("ok", f"AWS knows this as {who}, in the region {aws.region}")
    except FluxburstError as error:
        yield Finding("error", str(error), "see the parameters region and profile")
        return
    yield from _permissions(plugin, aws, who)
    yield from _cluster(plugin, aws)
    yield from _prices(plugin)


def needed(plugin: EksBurst) -> list[str]:
    """Return the actions that bursts by these parameters take."""
    params = plugin.params
    actions = [*ACTIONS]
    actions += PRICE_ACTIONS if params.live_prices else ()
    actions += GROWING_ACTIONS if params.node_pool is not None else ()
    actions += CLUSTER_ACTIONS if params.create_cluster else ()
    return actions


def _permissions(plugin: EksBurst, aws: Aws, who: str) -> Iterator[Finding]:
    """Say what is not permitted, by the simulation of this identity's policies."""
    try:
        source = _policy_source(aws, who)
        denied = _denied(aws, source, needed(plugin), [])
        role = plugin.params.node_role_arn
        if role is not None:
            denied += _denied(aws, source, ROLE_ACTIONS, [role])
    except FluxburstError as error:
        yield Finding(
            "warning",
            f"what is permitted cannot be told: {error}",
            "have iam:SimulatePrincipalPolicy allowed to have it checked; bursts do not need it",
        )
        return
    if denied:
        yield Finding(
            "error",
            f"not permitted: {', '.join(denied)}",
            "have fluxburst's iam-policy.json attached to this identity",
        )
    else:
        yield Finding("ok", "all that is asked of AWS is permitted")


def _policy_source(aws: Aws, who: str) -> str:
    """Return whose policies hold: those of a role, where a session of it is used."""
    session = _ASSUMED.fullmatch(who)
    if session is None:
        return who
    name = session[3]
    answer = aws.ask(f"tell of the role {name}", lambda: aws.iam.get_role(RoleName=name))
    return answer["Role"]["Arn"]


def _denied(aws: Aws, source: str, actions: Sequence[str], resources: Sequence[str]) -> list[str]:
    request: dict[str, Any] = {"PolicySourceArn": source, "ActionNames": list(actions)}
    request["ContextEntries"] = [
        {
            "ContextKeyName": key,
            "ContextKeyType": "string",
            "ContextKeyValues": [value],
        }
        for key, value in _CONTEXT
    ]
    if resources:
        request["ResourceArns"] = list(resources)

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
"""What requests of fluxburst have about them that the policy asks for."""


def _cluster(plugin: EksBurst, aws: Aws) -> Iterator[Finding]:
    name = plugin.params.cluster_name
    try:
        found = clusters.describe(aws, name)
        if found is None:
            made = plugin.params.create_cluster
            what = f"there is no cluster {name} in the region {aws.region}"
            advice = "" if made else "set create_cluster, or name another one with cluster_name"
            told = f"{what}, and it is made when needed" if made else what
            yield Finding("ok" if made else "error", told, advice)
            return
        issues = "; ".join(map(str, found.issues))
        level: Any = "warning" if issues or found.status != "ACTIVE" else "ok"
        told = f"the cluster {name} is {found.status}, Kubernetes {found.version}"
        yield Finding(level, f"{told}: {issues}" if issues else told)
        pool = plugin.params.node_pool
        if pool is not None and nodegroups.describe(aws, name, pool) is None:
            yield Finding("error", f"there is no node group {pool}", "see the parameter node_pool")
    except NotFoundError as error:
        yield Finding("error", str(error))
    except FluxburstError as error:
        yield Finding("error", str(error), "have fluxburst's iam-policy.json attached")


def _prices(plugin: EksBurst) -> Iterator[Finding]:
    try:
        kinds = plugin._types()
    except FluxburstError:  # said by the checks of the instance
        return
    shown = ", ".join(f"{kind.name} {kind.price:.4g}" for kind in kinds)
    table = plugin.machines
    origin = f"of {table.dated}, region {table.region}"
    if plugin.params.live_prices and not plugin._live.problem:
        yield Finding("ok", f"prices an hour, as AWS tells them now: {shown}")
    elif table.region != plugin.aws.region:
        yield Finding(
            "warning",
            f"prices an hour are {origin}, not of {plugin.aws.region}: {shown}",
            "set live_prices and have it permitted, or give prices in machine_types",
        )
    else:
        yield Finding("ok", f"prices an hour {origin}: {shown}")
