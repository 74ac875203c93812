"""The cluster of Kubernetes Engine for bursts: an existing one, or created on request."""

from __future__ import annotations

import base64
import logging
import time

from google.cloud import container_v1 as gke

from fluxburst.errors import ConfigError
from fluxburst_gke.errors import from_conditions, from_text
from fluxburst_gke.google import Google
from fluxburst_gke.labels import labels_of, without_prefix
from fluxburst_gke.parameters import BurstParameters
from fluxburst_google.errors import ExistsError, NotFoundError
from fluxburst_kubernetes.node_pools import Access, Record, read_record

SYSTEM_POOL = "system"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"

_GOING = (gke.Cluster.Status.STOPPING,)
_log = logging.getLogger(__name__)


class GkeCluster:
    """The cluster named by the parameters.

    Args:
        google: Its project and location.
        params: The plugin's parameters.
    """

    def __init__(self, google: Google, params: BurstParameters) -> None:
        self.google = google
        self.params = params

    def access(self) -> Access | None:
        """Return the cluster's endpoint; None if it does not exist, or is being deleted."""
        cluster = self.find()
        if cluster is None or cluster.status in _GOING or not cluster.endpoint:
            return None
        endpoint = cluster.endpoint
        if self.params.private_endpoint:
            endpoint = cluster.private_cluster_config.private_endpoint or endpoint
        certificate = base64.b64decode(cluster.master_auth.cluster_ca_certificate)
        if not certificate:
            raise ConfigError(
                cluster.name,
                "Google hides the cluster's certificate authority: does the identity have the "
                "permission container.clusters.getCredentials?",
            )
        who = self.google.identity.who
        return Access(cluster.name, f"https://{endpoint}", certificate, self.google.token(), who)

    def ensure(self, record: Record) -> None:
        """Ensure that the cluster exists; it is created only if the parameters say so."""
        until = time.monotonic() + self.params.cluster_timeout
        cluster = self.find()
        if cluster is not None and cluster.status in _GOING:
            self.google.wait(lambda: self.find() is None, until, "delete the cluster")
            cluster = None
        if cluster is None:
            self._make(record)
        doing = f"create the cluster {self.params.cluster_name}"

        def is_there() -> bool:
            found = self.find()
            if found is not None and found.status == gke.Cluster.Status.ERROR:
                problem = from_conditions(found.conditions, doing)
                raise problem or from_text(found.status_message or "it is in error", doing)
            starting = gke.Cluster.Status.PROVISIONING
            return found is not None and found.status != starting and bool(found.endpoint)

        self.google.wait(is_there, until, "create the cluster")

    def made_for(self) -> Record | None:
        """Return fluxburst's record on the cluster; None if it does not exist, or is not ours."""
        cluster = self.find()
        if cluster is None or cluster.status in _GOING:
            return None
        return read_record(without_prefix(cluster.resource_labels))

    def delete(self) -> None:
        """Delete the cluster, if fluxburst created it, and wait until it is gone."""
        if self.made_for() is None and self._state() != gke.Cluster.Status.STOPPING:
            return
        until = time.monotonic() + self.params.cluster_timeout
        if self.made_for() is not None:
            self._delete(f"the cluster {self.params.cluster_name}", until)
        self.google.wait(lambda: self.find() is None, until, "delete the cluster")

    def _delete(self, what: str, until: float) -> None:
        clusters, path = self.google.clusters, self.google.cluster_path
        try:
            self.google.change(f"delete {what}", clusters.delete_cluster, until, name=path)
        except NotFoundError:
            return

    def find(self) -> gke.Cluster | None:
        """Return Google's description of the cluster; None if it does not exist."""
        clusters, path = self.google.clusters, self.google.cluster_path
        return self.google.find(
            f"describe the cluster {self.params.cluster_name}", clusters.get_cluster, name=path
        )

    def _state(self) -> gke.Cluster.Status | None:
        cluster = self.find()
        return None if cluster is None else cluster.status

    def _make(self, record: Record) -> None:
        params = self.params
        if not params.create_cluster:
            raise ConfigError(
                params.cluster_name,
                f"the cluster does not exist in {params.location}; to create it, set "
                "create_cluster",
            )
        cluster = gke.Cluster(
            name=params.cluster_name,
            resource_labels=labels_of(record),
            node_pools=[
                gke.NodePool(
                    name=SYSTEM_POOL,
                    initial_node_count=1,
                    config=gke.NodeConfig(
                        machine_type=params.system_machine_type,
                        resource_labels=labels_of(record),
                        oauth_scopes=[CLOUD_PLATFORM],
                        service_account=params.service_account or "",
                    ),
                )
            ],
            ip_allocation_policy=gke.IPAllocationPolicy(use_ip_aliases=True),
            network=params.network or "",
            subnetwork=params.subnetwork or "",
        )
        _log.info("creating cluster %s in %s", params.cluster_name, params.location)
        doing = f"create the cluster {params.cluster_name}"
        try:
            self.google.ask(
                doing,
                self.google.clusters.create_cluster,
                parent=self.google.parent,
                cluster=cluster,
            )
        except ExistsError:
            return
