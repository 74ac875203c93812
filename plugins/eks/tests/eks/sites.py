"""A place to burst to: AWS as moto plays it, with time passing, and a real API server in it.

moto's clusters and node groups are always active. Here a server stands in front of it that lets
them take a while, run out of capacity or addresses, and fail as told; that answers what moto does
not (prices, simulated policies); and that tells of each request, so that a process can be killed
there.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx2
from moto.backends import get_backend
from moto.server import ThreadedMotoServer
from tests.kubernetes.apiserver import Server
from tests.kubernetes.flux_operator import FluxOperator, flux_operator
from tests.kubernetes.servers import Reply, serving

ACCOUNT, REGION = "123456789012", "us-east-1"
KEY, SECRET = "AKIAFLUXBURST0000000", "a-secret-key-of-tests"
CLUSTER = "flux-bursted-cluster"
NODE_ROLE = f"arn:aws:iam::{ACCOUNT}:role/nodes"
CLUSTER_ROLE = f"arn:aws:iam::{ACCOUNT}:role/cluster"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_CONFIG_FILE": "/nowhere/config",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere/credentials",
    "AWS_EC2_METADATA_DISABLED": "true",
}
OWN = "fluxburst.io/managed-by"

_EKS = (
    ("POST", r"/clusters", "CreateCluster"),
    ("GET", r"/clusters", "ListClusters"),
    ("GET", r"/clusters/([^/]+)", "DescribeCluster"),
    ("DELETE", r"/clusters/([^/]+)", "DeleteCluster"),
    ("POST", r"/clusters/([^/]+)/node-groups", "CreateNodegroup"),
    ("GET", r"/clusters/([^/]+)/node-groups", "ListNodegroups"),
    ("GET", r"/clusters/([^/]+)/node-groups/([^/]+)", "DescribeNodegroup"),
    ("DELETE", r"/clusters/([^/]+)/node-groups/([^/]+)", "DeleteNodegroup"),
    ("POST", r"/clusters/([^/]+)/node-groups/([^/]+)/update-config", "UpdateNodegroupConfig"),
    ("POST", r"/tags/(.+)", "TagResource"),
    ("DELETE", r"/tags/(.+)", "UntagResource"),
)


def refusal(status: int, code: str, message: str = "no", **headers: str) -> Reply:
    """Return an error as EKS and the Price List answer with it (JSON)."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"__type": code, "message": message})
    return status, body.encode(), {"x-amzn-ErrorType": code, **named}


def ec2_refusal(status: int, code: str, message: str = "no") -> Reply:
    """Return an error as EC2 answers with it (XML)."""
    body = f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return status, f"{body}</Errors><RequestID>x</RequestID></Response>".encode(), {}


def query_refusal(status: int, code: str, message: str = "no") -> Reply:
    """Return an error as IAM and STS answer with it (XML)."""
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return status, f"{body}<RequestId>x</RequestId></ErrorResponse>".encode(), {}


@dataclass(frozen=True)
class Asked:
    """One request to AWS: what was asked, of which cluster and node group, and with what."""

    operation: str
    names: tuple[str, ...] = ()
    body: str = ""
    query: str = ""


@dataclass
class Site:
    """AWS with one cluster, and all that a test may do to it.

    Attributes:
        server: The API server that clusters have.
        operator: The Flux Operator in it: ``pods_are`` says what becomes of pods.
        url: Where AWS is asked.
        endpoint: Where they say that it is: itself, or something in between.
        asked: The operations that were asked for, in order.
        replies: What to answer to an operation instead of doing it, one after the other; None
            closes the connection.
        full: Zones and machine types without capacity; an empty text stands for any.
        issue: The issue of a node group without capacity.
        polls: How often a cluster or a node group is looked at before it has come up, or is gone.
        denied: Actions that these credentials may not do, as a simulation tells.
        prices: Prices on demand by machine type.
        before: Called before AWS does something, with the operation.
        after: Called once it has, before it answers.
    """

    server: Server
    operator: FluxOperator
    _moto: httpx2.Client
    url: str = ""
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)
    replies: dict[str, list[Reply | None]] = field(default_factory=dict)
    full: set[tuple[str, str]] = field(default_factory=set)
    issue: tuple[str, str] = (
        "AsgInstanceLaunchFailures",
        "Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently do not "
        "have sufficient capacity in the Availability Zone you requested.",
    )
    polls: int = 1
    denied: set[str] = field(default_factory=set)
    prices: dict[str, float] = field(default_factory=dict)
    before: Callable[[str], None] = lambda _: None
    after: Callable[[str], None] = lambda _: None

    # --- what there is ---------------------------------------------------------------------

    @property
    def _eks(self) -> Any:
        return get_backend("eks")[ACCOUNT][REGION]

    @property
    def zones(self) -> dict[str, str]:
        """The subnets, with their zones."""
        subnets = get_backend("ec2")[ACCOUNT][REGION].describe_subnets()
        return {one.id: one.availability_zone for one in subnets}

    @property
    def subnets(self) -> list[str]:
        """The subnets of the cluster: one in each of the first two zones."""
        return sorted(self.zones, key=lambda subnet: self.zones[subnet])[:2]

    def add_cluster(self, name: str = CLUSTER, **tags: str) -> None:
        """Have a cluster be there that somebody else made."""
        self._eks.create_cluster(
            name=name,
            role_arn=CLUSTER_ROLE,
            resources_vpc_config={"subnetIds": self.subnets},
            tags=dict(tags),
        )
        self._provision(self._eks.clusters[name])

    def add_group(self, name: str, nodes: int = 1, machine_type: str = "c5.4xlarge") -> None:
        """Have a node group be there that somebody else made."""
        self._eks.create_nodegroup(
            cluster_name=CLUSTER,
            node_role=NODE_ROLE,
            nodegroup_name=name,
            subnets=self.subnets,
            scaling_config={"minSize": 0, "maxSize": nodes, "desiredSize": nodes},
            instance_types=[machine_type],
            labels={"pool": name},
        )

    def group(self, name: str) -> Any:
        """Return moto's node group."""
        return self._eks.clusters[CLUSTER].nodegroups[name]

    def groups(self) -> list[str]:
        """Return the names of all node groups."""
        return [name for one in self._eks.clusters.values() for name in one.nodegroups]

    @property
    def parameters(self) -> dict[str, Any]:
        """What differs from production."""
        return {
            "endpoint_url": self.url,
            "node_role_arn": NODE_ROLE,
            "poll_interval": 0.05,
            "provider_poll_interval": 0.05,
            "retry_timeout": 1.0,
        }

    def refuse(self, operation: str, reply: Reply | None, times: int = 1) -> None:
        """Have the next requests for an operation be answered with this."""
        self.replies.setdefault(operation, []).extend([reply] * times)

    def move_server(self, url: str) -> None:
        """Have the clusters' API server be found somewhere else; where it is, if empty."""
        self.endpoint = url
        for cluster in self._eks.clusters.values():
            if cluster.status == "ACTIVE":
                self._provision(cluster)

    def nodes_with(self, labels: Mapping[str, str]) -> float:
        """Return how many nodes have certain labels."""
        if not labels:
            return math.inf
        groups = [one for c in self._eks.clusters.values() for one in c.nodegroups.values()]
        (name,) = [labels[key] for key in labels if key == "eks.amazonaws.com/nodegroup"]
        return sum(
            int(one.scaling_config["desiredSize"])
            for one in groups
            if one.nodegroup_name == name and one.status == "ACTIVE"
        )

    def left(self) -> list[str]:
        """Return all that fluxburst made and that is still there, at AWS and in the cluster."""
        left = self.left_at_aws() + [f"broker {host}" for host in self.operator.brokers]
        return left + [name for _, name in self.server.managed()]

    def left_at_aws(self) -> list[str]:
        """Return what fluxburst made at AWS and that is still there."""
        left = []
        for cluster in self._eks.clusters.values():
            left += [f"cluster {cluster.name}"] if OWN in (cluster.tags or {}) else []
            for group in cluster.nodegroups.values():
                left += [f"node group {group.nodegroup_name}"] if OWN in (group.tags or {}) else []
        return left

    # --- time passes -----------------------------------------------------------------------

    def _provision(self, cluster: Any) -> None:
        cluster.status = "ACTIVE"
        cluster.endpoint = self.endpoint or self.server.url
        authority = base64.b64encode(self.server.certificate.read_bytes()).decode()
        cluster.certificate_authority = {"data": authority}

    def _pass_time(self, asked: Asked) -> None:
        name, *rest = asked.names
        cluster = self._eks.clusters.get(name)
        one = cluster.nodegroups.get(rest[0]) if cluster and rest else cluster
        if one is None or one.status not in ("CREATING", "DELETING"):
            return
        one.polls_left -= 1
        if one.polls_left > 0:
            return
        if one.status == "DELETING":
            (cluster.nodegroups if rest else self._eks.clusters).pop((rest or [name])[0])
        elif not rest:
            self._provision(one)
        elif self._is_full(one):
            one.health = {"issues": [{"code": self.issue[0], "message": self.issue[1]}]}
            one.status = "CREATE_FAILED" if one.polls_left < -1 else "CREATING"
        else:
            one.status = "ACTIVE"

    def _is_full(self, group: Any) -> bool:
        zones = {"", *(self.zones.get(subnet, "") for subnet in group.subnets)}
        types = {"", *group.instance_types}
        return any(zone in zones and kind in types for zone, kind in self.full)

    def _begin(self, asked: Asked, status: str) -> None:
        """Have what was asked for take its time."""
        cluster = self._eks.clusters[asked.names[0]]
        one = cluster if len(asked.names) == 1 else cluster.nodegroups[asked.names[1]]
        one.status, one.polls_left = status, self.polls
        if len(asked.names) == 1 and status == "CREATING":
            one.endpoint, one.certificate_authority = "", {}

    # --- what it answers -------------------------------------------------------------------

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Reply | None:
        """Answer a request."""
        asked = _asked(method, path, headers, body.decode())
        self.asked.append(asked.operation)
        self.before(asked.operation)
        scripted = self.replies.get(asked.operation)
        if scripted:
            return scripted.pop(0)
        reply = self._own(asked) or self._pass_on(method, path, headers, body)
        if reply[0] < 300:
            if asked.operation == "CreateCluster":
                self._begin(Asked("", (json.loads(asked.body)["name"],)), "CREATING")
            elif asked.operation == "CreateNodegroup":
                name = json.loads(asked.body)["nodegroupName"]
                self._begin(Asked("", (*asked.names, name)), "CREATING")
        self.after(asked.operation)
        return reply

    def _own(self, asked: Asked) -> Reply | None:
        """Answer what moto does not, or has no time to pass for."""
        if asked.operation.startswith("Describe") and asked.names:
            self._pass_time(asked)
        if asked.operation == "ListNodegroups" and asked.names[0] not in self._eks.clusters:
            return refusal(404, "ResourceNotFoundException", "No cluster found")  # moto fails
        if asked.operation in ("DeleteNodegroup", "DeleteCluster"):
            return self._delete(asked)
        if asked.operation in ("TagResource", "UntagResource"):
            return self._tag(asked)
        if asked.operation == "SimulatePrincipalPolicy":
            return self._simulate(asked)
        return self._price(asked) if asked.operation == "GetProducts" else None

    def _delete(self, asked: Asked) -> Reply | None:
        cluster = self._eks.clusters.get(asked.names[0])
        groups = cluster.nodegroups if cluster else {}
        one = cluster if len(asked.names) == 1 else groups.get(asked.names[1])
        if one is None:
            return None  # as moto says it
        busy = one.status in ("CREATING", "UPDATING", "DELETING")
        if busy or (one is cluster and groups):
            return refusal(409, "ResourceInUseException", "it is being changed, or in use")
        self._begin(asked, "DELETING")
        return 200, b"{}", {"Content-Type": "application/json"}

    def _tag(self, asked: Asked) -> Reply | None:
        """Change the tags of a node group, which moto does not."""
        arn = unquote(asked.names[0])
        for cluster in self._eks.clusters.values():
            for group in cluster.nodegroups.values():
                if group.arn == arn and asked.operation == "TagResource":
                    group.tags = {**group.tags, **json.loads(asked.body)["tags"]}
                elif group.arn == arn:
                    gone = parse_qs(asked.query)["tagKeys"]
                    group.tags = {k: v for k, v in group.tags.items() if k not in gone}
                else:
                    continue
                return 200, b"{}", {"Content-Type": "application/json"}
        return None

    def _simulate(self, asked: Asked) -> Reply:
        given = parse_qs(asked.body)
        actions = [v[0] for k, v in sorted(given.items()) if k.startswith("ActionNames.")]
        members = "".join(
            f"<member><EvalActionName>{action}</EvalActionName><EvalDecision>"
            f"{'implicitDeny' if action in self.denied else 'allowed'}</EvalDecision></member>"
            for action in actions
        )
        result = f"<EvaluationResults>{members}</EvaluationResults><IsTruncated>false</IsTruncated>"
        body = f"<SimulatePrincipalPolicyResult>{result}</SimulatePrincipalPolicyResult>"
        space = 'xmlns="https://iam.amazonaws.com/doc/2010-05-08/"'
        whole = f"<SimulatePrincipalPolicyResponse {space}>{body}</SimulatePrincipalPolicyResponse>"
        return 200, whole.encode(), {"Content-Type": "text/xml"}

    def _price(self, asked: Asked) -> Reply:
        filters = {one["Field"]: one["Value"] for one in json.loads(asked.body)["Filters"]}
        price = self.prices.get(filters["instanceType"])
        products = []
        if price is not None and filters["regionCode"] == REGION:
            dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{price:.10f}"}}
            term = {"priceDimensions": {"x.y.z": dimension}}
            products = [json.dumps({"terms": {"OnDemand": {"x.y": term}}})]
        body = json.dumps({"FormatVersion": "aws_v1", "PriceList": products})
        return 200, body.encode(), {"Content-Type": "application/x-amz-json-1.1"}

    def _pass_on(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        kept = {k: v for k, v in headers.items() if k.lower() not in ("host", "content-length")}
        done = self._moto.request(method, path, headers=kept, content=body)
        types = {k: v for k, v in done.headers.items() if k.startswith(("content-type", "x-amz"))}
        return done.status_code, done.content, types


def _asked(method: str, path: str, headers: Mapping[str, str], body: str) -> Asked:
    target = {k.lower(): v for k, v in headers.items()}.get("x-amz-target", "")
    if target:
        return Asked(target.rpartition(".")[2], (), body)
    plain, _, query = path.partition("?")
    for verb, pattern, operation in _EKS:
        match = re.fullmatch(pattern, plain) if verb == method else None
        if match:
            return Asked(operation, match.groups(), body, query)
    return Asked(parse_qs(body).get("Action", ["?"])[0], (), body)


@contextmanager
def eks_site(server: Server, flux: str = "", *, cluster: bool = True) -> Iterator[Site]:
    """Play AWS, with a cluster unless there is to be none.

    Args:
        server: The API server of clusters.
        flux: The ``flux`` command, for pods that are brokers.
        cluster: Whether a cluster is there from the start.
    """
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        url = f"http://{host}:{port}"
        with (
            httpx2.Client(base_url=url, trust_env=False, timeout=30) as client,
            flux_operator(server.api, flux) as operator,
        ):
            client.post("/moto-api/reset")
            site = Site(server, operator, client)
            operator.nodes_for = site.nodes_with
            with serving(site.answer) as site.url:
                if cluster:
                    site.add_cluster()
                yield site
    finally:
        server.clear()
        moto.stop()
