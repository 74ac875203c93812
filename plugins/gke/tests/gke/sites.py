"""A project of Google's for tests: Kubernetes Engine's own messages over gRPC, and what is around.

Requests and answers are those of the installed google-cloud-container, over TLS. The cluster has
the endpoint and the authority of a real API server, and a token of Google's is one that it takes.
Time passes with each request: an operation is done after a number of them.
"""

from __future__ import annotations

import functools
import json
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.cloud import container_v1 as gke
from google.rpc import code_pb2, status_pb2
from tests.google.google_grpc import Refusal, serving_grpc
from tests.kubernetes.apiserver import Server
from tests.kubernetes.flux_operator import FluxOperator, flux_operator
from tests.kubernetes.servers import Reply, serving

PROJECT, LOCATION, CLUSTER = "a-project", "us-central1-a", "flux-bursted-cluster"
SELECTOR = "cloud.google.com/gke-nodepool"
Status: Any = gke.NodePool.Status
ClusterStatus: Any = gke.Cluster.Status
DONE: Any = gke.Operation.Status.DONE

METHODS: dict[str, tuple[type[Any], type[Any]]] = {
    "GetCluster": (gke.GetClusterRequest, gke.Cluster),
    "CreateCluster": (gke.CreateClusterRequest, gke.Operation),
    "DeleteCluster": (gke.DeleteClusterRequest, gke.Operation),
    "ListNodePools": (gke.ListNodePoolsRequest, gke.ListNodePoolsResponse),
    "GetNodePool": (gke.GetNodePoolRequest, gke.NodePool),
    "CreateNodePool": (gke.CreateNodePoolRequest, gke.Operation),
    "DeleteNodePool": (gke.DeleteNodePoolRequest, gke.Operation),
    "SetNodePoolSize": (gke.SetNodePoolSizeRequest, gke.Operation),
    "UpdateNodePool": (gke.UpdateNodePoolRequest, gke.Operation),
    "GetOperation": (gke.GetOperationRequest, gke.Operation),
}


@functools.cache
def account_key() -> str:
    """Make the key of a service account."""
    command = ["openssl", "genpkey", "-algorithm", "RSA"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass
class Pending:
    """An operation: after so many more requests, something has happened."""

    answer: gke.Operation
    polls: int
    happens: Callable[[gke.Operation], None]


@dataclass
class Site:
    """The project, and all that a test may do to it.

    Attributes:
        server: The cluster's API server.
        operator: The Flux Operator in it: ``pods_are`` says what becomes of pods.
        url: Where Google's REST APIs are played.
        endpoint: Where Kubernetes Engine is played.
        environment: What finds the credentials.
        clusters: The clusters, by the API's name of them.
        pools: The node pools, by the API's name of them.
        sizes: How many machines each has.
        none_in: Zones that have no machines; ``*`` for all zones.
        none_of: Machine types that there are no machines of; ``spot`` for spot machines.
        goes_on_trying: Whether a lack of machines only shows in a node pool's conditions.
        quota: How many machines there may be in all.
        polls: How many requests an operation takes.
        permissions: What whoever asks is permitted.
        asked: What was asked, by method.
        before: Called with a method and its number, from 1, before a request is acted upon.
        after: Called once it was, before it is answered.
    """

    server: Server
    operator: FluxOperator
    url: str = ""
    endpoint: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    clusters: dict[str, gke.Cluster] = field(default_factory=dict)
    pools: dict[str, gke.NodePool] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    none_in: set[str] = field(default_factory=set)
    none_of: set[str] = field(default_factory=set)
    goes_on_trying: bool = False
    quota: float = float("inf")
    polls: int = 1
    permissions: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    before: Callable[[str, int], None] = lambda method, number: None
    after: Callable[[str, int], None] = lambda method, number: None
    _pending: dict[str, Pending] = field(default_factory=dict)
    _refusals: dict[str, list[Refusal]] = field(default_factory=dict)

    # --- what a test does ------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Any]:
        """What differs from production."""
        return {
            "endpoint": self.endpoint,
            "compute_endpoint": self.url,
            "resource_manager_endpoint": self.url,
            "live_prices": False,
            "provider_poll_interval": 0.05,
            "poll_interval": 0.05,
            "retry_timeout": 1.0,
            "location": LOCATION,
        }

    def refuse(self, method: str, refusal: Refusal, times: int = 1) -> None:
        """Have the next requests of a method be answered with this."""
        self._refusals.setdefault(method, []).extend([refusal] * times)

    def add_cluster(self, zones: tuple[str, ...] = (LOCATION,), **fields: Any) -> None:
        """Have a cluster be there, that somebody else made."""
        cluster = gke.Cluster(name=CLUSTER, locations=list(zones), **fields)
        self._is_up(cluster)
        self.clusters[self._cluster_path] = cluster

    def add_pool(self, name: str, size: int, machine_type: str) -> None:
        """Have a node pool be there, that somebody else made."""
        pool = gke.NodePool(
            name=name,
            initial_node_count=1,  # as it was made: it was resized since
            locations=[LOCATION],
            status=Status.RUNNING,
            config=gke.NodeConfig(machine_type=machine_type, resource_labels={"team": "hpc"}),
            instance_group_urls=[self._group(name)],
        )
        path = f"{self._cluster_path}/nodePools/{name}"
        self.pools[path], self.sizes[path] = pool, size

    def move_server(self, url: str) -> None:
        """Have the cluster's API server be found somewhere else."""
        for cluster in self.clusters.values():
            cluster.endpoint = url.removeprefix("https://")

    def finish(self) -> None:
        """Have all operations be done."""
        for pending in self._pending.values():
            pending.polls = 0
        self._time_passes()

    def pool(self, name: str) -> gke.NodePool | None:
        """Return a node pool."""
        return self.pools.get(f"{self._cluster_path}/nodePools/{name}")

    def nodes_of(self, name: str) -> int:
        """Return how many machines a node pool has."""
        return self.sizes.get(f"{self._cluster_path}/nodePools/{name}", 0)

    def left(self) -> list[str]:
        """Return all that fluxburst made and that is still there, in both APIs."""
        left = [f"broker {host}" for host in self.operator.brokers]
        for path, cluster in self.clusters.items():
            left += [path] if _is_ours(cluster.resource_labels) else []
        for path, pool in self.pools.items():
            left += [path] if _is_ours(pool.config.resource_labels) else []
        return left + [name for _, name in self.server.managed()]

    # --- what it answers -------------------------------------------------------------------

    def answer(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer a request."""
        self.asked.append(method)
        number = len(self.asked)
        self.before(method, number)
        try:
            self._check(method, context)
            self._time_passes()
            done = getattr(self, f"_{method}")(request)
            self.after(method, number)
            return done
        except Refusal as refusal:
            return refusal.send(context)

    def _check(self, method: str, context: grpc.ServicerContext) -> None:
        if self._refusals.get(method):
            raise self._refusals[method].pop(0)
        sent = dict(context.invocation_metadata())
        if not str(sent.get("authorization", "")).startswith("Bearer "):
            raise Refusal(grpc.StatusCode.UNAUTHENTICATED, "no credentials", "CREDENTIALS_MISSING")

    def _time_passes(self) -> None:
        for pending in list(self._pending.values()):
            if pending.answer.status == DONE:
                continue
            pending.polls -= 1
            if pending.polls <= 0:
                pending.answer.status = DONE
                pending.happens(pending.answer)

    def _begin(self, happens: Callable[[gke.Operation], None]) -> gke.Operation:
        name = f"operation-{len(self._pending) + 1}"
        answer = gke.Operation(name=name, status=gke.Operation.Status.RUNNING)
        self._pending[name] = Pending(answer, self.polls, happens)
        return answer

    def _is_free(self) -> None:
        """Refuse a change while another one is under way."""
        for name, pending in self._pending.items():
            if pending.answer.status != DONE:
                raise Refusal(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"Cluster is running incompatible operation {name}.",
                    "CLUSTER_ALREADY_HAS_OPERATION",
                )

    # --- clusters --------------------------------------------------------------------------

    @property
    def _cluster_path(self) -> str:
        return f"projects/{PROJECT}/locations/{LOCATION}/clusters/{CLUSTER}"

    def _is_up(self, cluster: gke.Cluster) -> None:
        cluster.status = ClusterStatus.RUNNING
        cluster.endpoint = self.server.url.removeprefix("https://")
        certificate = b64encode(self.server.certificate.read_bytes()).decode()
        cluster.master_auth.cluster_ca_certificate = certificate

    def _GetCluster(self, request: Any) -> Any:  # noqa: N802 - as the service has it
        return _there(self.clusters, request.name)

    def _CreateCluster(self, request: Any) -> gke.Operation:  # noqa: N802
        path = f"{request.parent}/clusters/{request.cluster.name}"
        if path in self.clusters:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"Already exists: {path}.")
        assert request.cluster.node_pools
        cluster = self.clusters[path] = request.cluster
        cluster.status, cluster.locations = ClusterStatus.PROVISIONING, [LOCATION]
        return self._begin(lambda operation: self._is_up(cluster))

    def _DeleteCluster(self, request: Any) -> gke.Operation:  # noqa: N802
        _there(self.clusters, request.name)
        self._is_free()
        self.clusters[request.name].status = ClusterStatus.STOPPING

        def is_gone(operation: gke.Operation) -> None:
            del self.clusters[request.name]
            for path in [one for one in self.pools if one.startswith(request.name)]:
                del self.pools[path]

        return self._begin(is_gone)

    # --- node pools ------------------------------------------------------------------------

    def _ListNodePools(self, request: Any) -> gke.ListNodePoolsResponse:  # noqa: N802
        _there(self.clusters, request.parent)
        return gke.ListNodePoolsResponse(node_pools=list(self.pools.values()))

    def _GetNodePool(self, request: Any) -> Any:  # noqa: N802
        return _there(self.pools, request.name)

    def _CreateNodePool(self, request: Any) -> gke.Operation:  # noqa: N802
        _there(self.clusters, request.parent)
        pool = request.node_pool
        path = f"{request.parent}/nodePools/{pool.name}"
        if path in self.pools:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"Already exists: {path}.")
        self._is_free()
        assert len(pool.name) <= 40
        asked = pool.initial_node_count * len(pool.locations)
        if sum(self.sizes.values()) + asked > self.quota:
            raise Refusal(
                grpc.StatusCode.PERMISSION_DENIED,
                f'Insufficient regional quota to satisfy request: resource "C2_CPUS": request '
                f"requires '{asked}.0' and is short '1.0'.",
            )
        pool.status = Status.PROVISIONING
        pool.instance_group_urls = [self._group(pool.name)]
        self.pools[path], self.sizes[path] = pool, 0
        lacks = self._lacks(pool)
        if lacks and self.goes_on_trying:
            condition = gke.StatusCondition(code="GCE_STOCKOUT", message=lacks)
            pool.conditions.append(condition)
        return self._begin(lambda operation: self._pool_is_made(operation, path, lacks))

    def _lacks(self, pool: gke.NodePool) -> str:
        zones = self.none_in.intersection([*pool.locations, "*"])
        types = {pool.config.machine_type, *(["spot"] if pool.config.spot else [])}
        if not zones and not types & self.none_of:
            return ""
        return (
            "Google Compute Engine: Not all instances running in IGM after 14.69s. Expected "
            f"{pool.initial_node_count}, running 0, transitioning 1. Current errors: "
            f"[GCE_STOCKOUT]: Instance 'gke-{pool.name}-k7xw' creation failed: The zone "
            f"'projects/{PROJECT}/zones/{pool.locations[0]}' does not have enough resources "
            "available to fulfill the request."
        )

    def _pool_is_made(self, operation: gke.Operation, path: str, lacks: str) -> None:
        pool = self.pools[path]
        if lacks:
            pool.status, pool.status_message = Status.ERROR, lacks
            operation.error = status_pb2.Status(code=code_pb2.UNAVAILABLE, message=lacks)
            return
        pool.status = Status.RUNNING
        self.sizes[path] = pool.initial_node_count * len(pool.locations)

    def _DeleteNodePool(self, request: Any) -> gke.Operation:  # noqa: N802
        _there(self.pools, request.name)
        self._is_free()
        self.pools[request.name].status = Status.STOPPING

        def is_gone(operation: gke.Operation) -> None:
            self.pools.pop(request.name, None)
            self.sizes.pop(request.name, None)

        return self._begin(is_gone)

    def _SetNodePoolSize(self, request: Any) -> gke.Operation:  # noqa: N802
        pool = _there(self.pools, request.name)
        self._is_free()

        def is_resized(operation: gke.Operation) -> None:
            self.sizes[request.name] = request.node_count * len(pool.locations)

        return self._begin(is_resized)

    def _UpdateNodePool(self, request: Any) -> gke.Operation:  # noqa: N802
        pool = _there(self.pools, request.name)
        self._is_free()

        def is_updated(operation: gke.Operation) -> None:
            pool.config.resource_labels = dict(request.resource_labels.labels)

        return self._begin(is_updated)

    def _GetOperation(self, request: Any) -> gke.Operation:  # noqa: N802
        return self._pending[request.name.rpartition("/")[2]].answer

    def _group(self, pool: str) -> str:
        base = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/zones/{LOCATION}"
        return f"{base}/instanceGroupManagers/gke-{pool}-grp"

    # --- what is around --------------------------------------------------------------------

    def rest(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer a request of the REST APIs: tokens, permissions, instance groups."""
        if path == "/token":
            token = {"access_token": self.server.tokens["admin"], "expires_in": 3600}
            return _json({**token, "token_type": "Bearer"})
        if path.endswith(":testIamPermissions"):
            wanted = json.loads(body)["permissions"]
            return _json({"permissions": sorted(self.permissions.intersection(wanted))})
        name = path.partition("?")[0].rpartition("/")[2]
        pool = name.removeprefix("gke-").removesuffix("-grp")
        return _json({"name": name, "targetSize": self.nodes_of(pool)})

    def nodes_with(self, labels: Mapping[str, str]) -> float:
        """Return how many nodes have certain labels."""
        return self.nodes_of(labels[SELECTOR]) if labels else float("inf")


def _json(content: Mapping[str, Any]) -> Reply:
    return 200, json.dumps(content).encode(), {"Content-Type": "application/json"}


def _is_ours(labels: Mapping[str, str]) -> bool:
    return labels.get("fluxburst-managed-by") == "fluxburst"


def _there(where: Mapping[str, Any], path: str) -> Any:
    if path not in where:
        raise Refusal(grpc.StatusCode.NOT_FOUND, f"Not found: {path}.")
    return where[path]


class _Service(grpc.GenericRpcHandler):
    def __init__(self, site: Site) -> None:
        self.site = site

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = details.method.rpartition("/")[2]
        if method not in METHODS:
            return None
        asked, answered = METHODS[method]
        return grpc.unary_unary_rpc_method_handler(
            functools.partial(self.site.answer, method),
            request_deserializer=asked.deserialize,
            response_serializer=answered.serialize,
        )


@contextmanager
def gke_site(
    server: Server, directory: Path, flux: str = "", *, cluster: bool = True
) -> Iterator[Site]:
    """Play a project of Google's, with a cluster unless there is to be none.

    Args:
        server: The API server of the cluster.
        directory: A directory of its own, for credentials.
        flux: The ``flux`` command, for pods that are brokers.
        cluster: Whether a cluster is there from the start.
    """
    directory.mkdir(parents=True)
    try:
        with flux_operator(server.api, flux) as operator:
            site = Site(server, operator)
            operator.nodes_for = site.nodes_with
            with serving_grpc(_Service(site)) as endpoint, serving(site.rest) as url:
                site.url, site.endpoint = url, endpoint
                account = directory / "account.json"
                account.write_text(json.dumps(_account(url)))
                site.environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(account)
                if cluster:
                    site.add_cluster()
                yield site
    finally:
        server.clear()


def _account(url: str) -> dict[str, str]:
    """Return a service account's key, as Google gives it out."""
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "1",
        "private_key": account_key(),
        "client_email": f"burster@{PROJECT}.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{url}/token",
    }
