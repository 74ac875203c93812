"""Checks of a cluster for ``fluxburst doctor``; they change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from fluxburst.errors import FluxburstError, UnreachableError
from fluxburst.plugin import Finding
from fluxburst_kubernetes import manifests, operator
from fluxburst_kubernetes.cluster import (
    ACCESS_REVIEWS,
    JOBS,
    MINICLUSTERS,
    NAMESPACES,
    PODS,
    SECRETS,
    SELF_REVIEWS,
    Cluster,
    Kind,
)
from fluxburst_kubernetes.errors import NotFoundError
from fluxburst_kubernetes.parameters import MiniClusterParameters


@dataclass(frozen=True)
class Permission:
    """A required permission."""

    verb: str
    kind: Kind
    subresource: str = ""

    @property
    def resource(self) -> str:
        """The resource as in a role, such as ``pods/log``."""
        return "/".join(filter(None, (self.kind.plural, self.subresource)))

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


NEEDED = (
    *(Permission(verb, SECRETS) for verb in ("create", "get", "list", "delete")),
    *(Permission(verb, MINICLUSTERS) for verb in ("create", "get", "list", "patch", "delete")),
    *(Permission(verb, JOBS) for verb in ("get", "list", "patch")),
    Permission("list", PODS),
    Permission("get", NAMESPACES),
)
READ_LOGS = Permission("get", PODS, "log")
"""Additional permissions for isolated bursts, to keep the output of their jobs."""

_ADVICE = "apply rbac.yaml of the package fluxburst_kubernetes for this user"


def cluster_findings(
    connected: Callable[[], AbstractContextManager[Cluster]],
    params: MiniClusterParameters,
    *,
    isolated: bool,
) -> Iterator[Finding]:
    """Yield the findings: the server, the identity, permissions, the operator.

    Args:
        connected: Opens a connection to the cluster.
        params: The plugin's parameters.
        isolated: Whether its bursts are separate instances.
    """
    try:
        with connected() as cluster:
            yield _server(cluster)
            yield from _permissions(cluster)
            if isolated:
                yield from _logs(cluster)
            yield from _operator(cluster, params.flux_operator_yaml)
    except FluxburstError as error:
        yield Finding("error", str(error), _access_advice(params, error))


def _access_advice(params: MiniClusterParameters, error: FluxburstError) -> str:
    if isinstance(error, UnreachableError):
        return "check the connection to it: network, proxy, and that it is up"
    if hasattr(params, "kubeconfig"):
        return "check the parameters kubeconfig and context"
    return "see the credentials in the README, and check the parameter cluster_name"


def _server(cluster: Cluster) -> Finding:
    return Finding(
        "ok",
        f"API server {cluster.version()} at {cluster.config.cluster.server}, as {_who(cluster)}",
    )


def _who(cluster: Cluster) -> str:
    """Return the server's name for this user; servers before 1.28 do not report it."""
    try:
        review = cluster.create(SELF_REVIEWS, {})
    except FluxburstError:
        return cluster.who
    return f"{review['status']['userInfo']['username']} ({cluster.who})"


def _permissions(cluster: Cluster) -> Iterator[Finding]:
    namespace = cluster.namespace
    missing = [str(one) for one in NEEDED if not _allowed(cluster, one)]
    if missing:
        yield Finding(
            "error",
            f"missing permissions in the namespace {namespace}: {', '.join(missing)}",
            _ADVICE,
        )
        return
    yield Finding("ok", f"all needed permissions are granted in the namespace {namespace}")
    if cluster.get(NAMESPACES, namespace) is None:
        if _allowed(cluster, Permission("create", NAMESPACES)):
            yield Finding("ok", f"the namespace {namespace} does not exist yet; bursts create it")
        else:
            yield Finding(
                "error",
                f"the namespace {namespace} does not exist, and this user may not create it",
                f"create it: kubectl create namespace {namespace}",
            )


def _logs(cluster: Cluster) -> Iterator[Finding]:
    if not _allowed(cluster, READ_LOGS):
        yield Finding(
            "warning",
            f"missing permission in the namespace {cluster.namespace}: {READ_LOGS}; jobs' output "
            "is lost with their pods",
            _ADVICE,
        )


def _allowed(cluster: Cluster, permission: Permission) -> bool:
    kind = permission.kind
    attributes = {"verb": permission.verb, "group": kind.group, "resource": kind.plural}
    if permission.subresource:
        attributes["subresource"] = permission.subresource
    if kind.namespaced:
        attributes["namespace"] = cluster.namespace
    elif permission.verb == "get":  # a role in a namespace may allow reading that namespace
        attributes |= {"namespace": cluster.namespace, "name": cluster.namespace}
    review = cluster.create(ACCESS_REVIEWS, {"spec": {"resourceAttributes": attributes}})
    return bool((review.get("status") or {}).get("allowed"))


def _operator(cluster: Cluster, source: str | None) -> Iterator[Finding]:
    try:
        if operator.is_installed(cluster):
            yield Finding("ok", f"the Flux Operator's {manifests.CRD} exists")
        elif source is not None:
            yield Finding("ok", f"the Flux Operator is missing; bursts install it from {source}")
        else:
            yield Finding("error", operator.ABSENT, "see flux-framework.org/flux-operator")
    except NotFoundError as error:
        yield Finding("error", str(error))
