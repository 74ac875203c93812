"""What ``fluxburst doctor`` says of a cluster; it changes nothing there."""

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
    """What has to be allowed."""

    verb: str
    kind: Kind
    subresource: str = ""

    @property
    def resource(self) -> str:
        """The resource as a role names it, such as ``pods/log``."""
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
"""What isolated bursts need beside these, to keep the output of their jobs."""

_ADVICE = "have rbac.yaml of the package fluxburst_kubernetes applied for this user"


def cluster_findings(
    connected: Callable[[], AbstractContextManager[Cluster]],
    params: MiniClusterParameters,
    *,
    isolated: bool,
) -> Iterator[Finding]:
    """Yield what is found: the server, the identity, permissions, the operator.

    Args:
        connected: Opens a connection to the cluster.
        params: The plugin's parameters.
        isolated: Whether its bursts are instances of their own.
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
        return "check the way to it: network, proxy, and that it is up"
    if hasattr(params, "kubeconfig"):
        return "see the parameters kubeconfig and context"
    return "see the credentials that the README names, and the parameter cluster_name"


def _server(cluster: Cluster) -> Finding:
    return Finding(
        "ok",
        f"API server {cluster.version()} at {cluster.config.cluster.server}, as {_who(cluster)}",
    )


def _who(cluster: Cluster) -> str:
    """Return who the server takes this user for; servers before 1.28 do not tell."""
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
            f"not permitted in the namespace {namespace}: {', '.join(missing)}",
            _ADVICE,
        )
        return
    yield Finding("ok", f"all that is needed is permitted in the namespace {namespace}")
    if cluster.get(NAMESPACES, namespace) is None:
        if _allowed(cluster, Permission("create", NAMESPACES)):
            yield Finding("ok", f"the namespace {namespace} is not there, and is made when needed")
        else:
            yield Finding(
                "error",
                f"the namespace {namespace} is not there, and this user may not create it",
                f"have it created: kubectl create namespace {namespace}",
            )


def _logs(cluster: Cluster) -> Iterator[Finding]:
    if not _allowed(cluster, READ_LOGS):
        yield Finding(
            "warning",
            f"not permitted in the namespace {cluster.namespace}: {READ_LOGS}; the output of jobs "
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
    elif permission.verb == "get":  # a role in a namespace may allow to get that namespace
        attributes |= {"namespace": cluster.namespace, "name": cluster.namespace}
    review = cluster.create(ACCESS_REVIEWS, {"spec": {"resourceAttributes": attributes}})
    return bool((review.get("status") or {}).get("allowed"))


def _operator(cluster: Cluster, source: str | None) -> Iterator[Finding]:
    try:
        if operator.is_installed(cluster):
            yield Finding("ok", f"the Flux Operator's {manifests.CRD} is there")
        elif source is not None:
            yield Finding("ok", f"the Flux Operator is missing, and is installed from {source}")
        else:
            yield Finding("error", operator.ABSENT, "see flux-framework.org/flux-operator")
    except NotFoundError as error:
        yield Finding("error", str(error))
