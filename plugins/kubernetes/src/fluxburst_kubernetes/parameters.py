"""The parameters of the Kubernetes plugin, including those shared with others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from fluxburst import ByteSize, Duration, NodeType
from fluxburst.provider.elastic_plugin import ElasticParameters


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass
class MiniClusterParameters(ElasticParameters):
    """Parameters of every plugin that creates MiniClusters, in any cluster."""

    namespace: str = field(
        default="flux-operator", metadata=_help("namespace of the MiniClusters; created if missing")
    )
    flux_operator_yaml: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata=_help("file or https URL to install the Flux Operator from, if missing"),
    )

    # --- the MiniClusters ---
    name: str = field(
        default="burst-0",
        metadata=_help("hostlist of MiniCluster names; each is a slot for one burst"),
    )
    image: str = field(
        default="ghcr.io/flux-framework/flux-restful-api:latest",
        metadata=_help("container image of the pods, with Flux of the lead's version"),
    )
    flux_view_image: str = field(
        default="",
        metadata=_help("image that the operator adds Flux from; by default `image` has Flux"),
    )
    cpu_limit: Optional[int] = field(  # noqa: UP045
        default=None, metadata=_help("CPUs that a pod requests and is limited to")
    )
    memory_limit: Optional[ByteSize] = field(  # noqa: UP045
        default=None, metadata=_help("memory that a pod requests and is limited to")
    )
    flux_user: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("numeric user id to run as; by default the image's user")
    )
    wrap: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help('command to wrap brokers in, such as "strace,-e,network"')
    )

    # --- the instance that they join ---
    lead_host: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("address of the lead broker for pods; by default as declared")
    )
    lead_port: Optional[int] = field(  # noqa: UP045
        default=None, metadata=_help("port of the lead broker; by default as declared")
    )
    lead_size: Optional[int] = field(  # noqa: UP045
        default=None, metadata=_help("number of lead hosts; checked against the declared ones")
    )
    broker_toml: Optional[Path] = field(  # noqa: UP045
        default=None, metadata=_help("the pods' broker configuration, instead of the declared one")
    )
    curve_cert: Optional[Path] = field(  # noqa: UP045
        default=None, metadata=_help("CURVE certificate; by default the elastic instance's")
    )
    curve_cert_secret_name: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("name of its secret; by default one for this instance")
    )
    munge_key: Optional[Path] = field(  # noqa: UP045
        default=None, metadata=_help("MUNGE key for the pods; by default none")
    )
    munge_secret_name: str = field(default="munge-key", metadata=_help("name of its secret"))
    # --- timeouts ---
    pending_timeout: Duration = field(
        default=Duration(900.0),
        metadata=_help("how long pods may be missing or unschedulable; an autoscaler needs time"),
    )
    join_timeout: Duration = field(
        default=Duration(300.0),
        metadata=_help("how long a running pod may take to join, or to come back"),
    )
    delete_timeout: Duration = field(
        default=Duration(300.0), metadata=_help("how long pods may take to end")
    )
    poll_interval: Duration = field(
        default=Duration(1.0), metadata=_help("polling interval while waiting for the cluster")
    )
    request_timeout: Duration = field(
        default=Duration(30.0), metadata=_help("how long the API server may take to answer")
    )
    retry_timeout: Duration = field(
        default=Duration(60.0),
        metadata=_help("how long to retry when the API server is too busy (429)"),
    )


@dataclass
class BurstParameters(MiniClusterParameters):
    """Parameters of the Kubernetes plugin."""

    kubeconfig: Optional[Path] = field(  # noqa: UP045 - as written in the documentation
        default=None,
        metadata=_help(
            "kubeconfig file; by default in-cluster credentials, else KUBECONFIG or ~/.kube/config"
        ),
    )
    context: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_help("context of the kubeconfig; by default its current one")
    )
    node_types: list[NodeType] = field(
        default_factory=list,
        metadata=_help("kinds of pods: name, cores, gpus, memory, price; by default one type, pod"),
    )
    price: float = field(default=0.0, metadata=_help("hourly price of a pod of the type pod"))
