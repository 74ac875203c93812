"""Creates MiniClusters, and everything their pods need: the operator, a namespace, secrets."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fluxburst import Burst, ByteSize, NodeType
from fluxburst.errors import BurstError
from fluxburst.formats.flux_configuration import with_others_of
from fluxburst.provider.elastic_plugin import ElasticPlugin
from fluxburst.provider.isolation import remote_jobspec
from fluxburst_kubernetes import isolated, labels, manifests, operator, secrets
from fluxburst_kubernetes.cluster import JOBS, MINICLUSTERS, NAMESPACES, Cluster
from fluxburst_kubernetes.errors import ExistsError
from fluxburst_kubernetes.node_pools import pool_name
from fluxburst_kubernetes.parameters import MiniClusterParameters
from fluxburst_kubernetes.slots import NAME_LENGTH, Slot
from fluxburst_kubernetes.states import Found


@dataclass(frozen=True)
class Pods:
    """Description of a burst's pods.

    Attributes:
        shape: Their content and requirements.
        node_selector: The labels of their nodes; none for any node.
    """

    shape: manifests.Shape
    node_selector: Mapping[str, str]


class Maker:
    """Creates MiniClusters in a cluster.

    Args:
        site: The plugin, which gives the instance and its directory on demand.
        params: Its parameters.
    """

    def __init__(self, site: ElasticPlugin, params: MiniClusterParameters) -> None:
        self._site = site
        self._params = params

    def ensure_operator(self, cluster: Cluster) -> None:
        """Ensure that the Flux Operator is installed."""
        params = self._params
        operator.ensure(cluster, params.flux_operator_yaml, params.poll_interval)

    def prepare(self, cluster: Cluster) -> None:
        """Ensure that everything a MiniCluster needs exists."""
        self.ensure_operator(cluster)
        if cluster.get(NAMESPACES, cluster.namespace) is None:
            with contextlib.suppress(ExistsError):
                cluster.create(NAMESPACES, manifests.namespace(cluster.namespace))
        if not self._site.isolated:
            self._ensure_secrets(cluster)

    def _ensure_secrets(self, cluster: Cluster) -> None:
        site = self._site
        content = {
            manifests.CERTIFICATE: site.certificate,
            manifests.RESOURCES: (site.directory / manifests.RESOURCES).read_bytes(),
        }
        secrets.ensure(cluster, self._curve_secret, site.tag, content)
        if self._params.munge_key is not None:
            key = {"munge.key": self._params.munge_key.read_bytes()}
            secrets.ensure(cluster, self._params.munge_secret_name, site.tag, key)

    @property
    def _curve_secret(self) -> str:
        return self._params.curve_cert_secret_name or f"curve-cert-{self._site.tag}"

    def create(self, cluster: Cluster, slot: Slot, burst: Burst, pods: Pods) -> Found:
        """Create a burst's MiniCluster in a slot.

        Raises:
            ExistsError: if its name is in use.
            NotFoundError: if the cluster has no Flux Operator.
        """
        return Found(cluster.create(MINICLUSTERS, self.manifest(slot, burst, pods)), None, ())

    def create_isolated(self, cluster: Cluster, burst: Burst, pods: Pods) -> Found:
        """Create the MiniCluster of an isolated burst, with its job."""
        name = pool_name(burst.name, NAME_LENGTH)
        job = isolated.secret_name(name)
        jobspec = remote_jobspec(self._site.instance, burst.jobs[0])
        secrets.ensure_made(cluster, isolated.secret(job, self._site.tag, burst, jobspec))
        config = isolated.broker_config(name, cluster.namespace, burst.nodes)
        manifest = self.manifest(Slot(name, ()), burst, pods, config=config, secret=job)
        return Found(cluster.create(MINICLUSTERS, isolated.minicluster(manifest, config)), None, ())

    def manifest(
        self, slot: Slot, burst: Burst, pods: Pods, *, config: str = "", secret: str = ""
    ) -> dict[str, Any]:
        """Return the manifest of a burst's MiniCluster.

        Args:
            slot: Its name, and the hostnames of its pods.
            burst: The burst.
            pods: Description of its pods.
            config: The configuration of its brokers; by default the elastic instance's.
            secret: Its secret; by default the elastic instance's.
        """
        params = self._params
        lease = None if burst.lease_until is None else burst.lease_until - time.time()
        return manifests.minicluster(
            slot.name,
            replace(burst, hostnames=slot.hosts[: burst.nodes]),
            pods.shape,
            tag=self._site.tag,
            instance_name=self._site.instance.name,
            config=config or self._broker_config(),
            curve_secret=secret or self._curve_secret,
            munge_secret=params.munge_secret_name if params.munge_key and not secret else "",
            deadline=None if lease is None else _deadline(lease),
            node_selector=pods.node_selector,
        )

    def _broker_config(self) -> str:
        params = self._params
        if params.broker_toml is not None:
            return params.broker_toml.read_text()
        text = manifests.broker_config(self._site.elastic, params.lead_host, params.lead_port)
        return with_others_of(self._site.directory / "config", text)


def pod_shape(
    params: MiniClusterParameters, kind: NodeType, cpus: int | None, memory: ByteSize | None
) -> manifests.Shape:
    """Return the content of a pod of a node type, with its limits."""
    return manifests.Shape(
        params.image,
        params.flux_view_image,
        cpus,
        memory,
        kind.gpus,
        None if params.flux_user is None else int(params.flux_user),
        params.log_level,
        params.wrap or "",
    )


def extend(cluster: Cluster, found: Found, until: float) -> None:
    """Set the deadline of a MiniCluster's Job, in seconds since the epoch.

    Raises:
        BurstError: if that time has passed.
    """
    began = found.since or time.time()
    deadline = _deadline(until - began)
    if found.job is not None:
        cluster.patch(JOBS, found.slot, {"spec": {"activeDeadlineSeconds": deadline}})
    change = {
        "metadata": {"annotations": labels.lease(until)},
        "spec": {"deadlineSeconds": deadline},
    }
    cluster.patch(MINICLUSTERS, found.slot, change)


def _deadline(seconds: float) -> int:
    """Return a lease as a Job's activeDeadlineSeconds, which must be positive."""
    if seconds <= 0:
        raise BurstError("its lease has expired")
    return math.ceil(seconds)
