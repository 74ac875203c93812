"""The EKS cluster of the parameters, for the base of managed clusters."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from fluxburst.errors import BurstError
from fluxburst_eks import clusters
from fluxburst_eks.clusters import ClusterPlan
from fluxburst_eks.tags import record_of, tags_of
from fluxburst_kubernetes.node_pools import Access, Record

if TYPE_CHECKING:
    from fluxburst_eks.aws import Aws
    from fluxburst_eks.parameters import BurstParameters
    from fluxburst_eks.tokens import Token

FRESH_SECONDS = 300.0
"""A token must be valid for this long to be used for a connection, or else it is renewed."""


class EksCluster:
    """The cluster named by the parameters.

    Args:
        aws: The account.
        params: The plugin's parameters.
    """

    def __init__(self, aws: Aws, params: BurstParameters) -> None:
        self._aws = aws
        self._params = params
        self._name = params.cluster_name
        self._signing = threading.Lock()
        self._token: Token | None = None

    def access(self) -> Access | None:
        """Return the current access to the cluster; None if it does not exist or is not ready."""
        found = clusters.describe(self._aws, self._name)
        if found is None or found.status in ("DELETING", "FAILED") or not found.endpoint:
            return None
        with self._signing:
            if self._token is None or self._token.until - time.time() < FRESH_SECONDS:
                self._token = self._aws.token(self._name)
            token = self._token.text
        return Access(self._name, found.endpoint, found.certificate, token)

    def ensure(self, record: Record) -> None:
        """Ensure that the cluster exists, and wait until it is usable."""
        if clusters.describe(self._aws, self._name) is None:
            if not self._params.create_cluster:
                raise BurstError(
                    f"there is no cluster {self._name} in the region {self._aws.region}: set "
                    "create_cluster to create it, or name another one with cluster_name"
                )
            clusters.create(self._aws, self._name, self._plan(record))
        clusters.wait_active(self._aws, self._name, self._params.cluster_timeout)

    def made_for(self) -> Record | None:
        """Return fluxburst's record on the cluster; None if it does not exist, or is not ours."""
        found = clusters.describe(self._aws, self._name)
        return None if found is None else record_of(found.tags)

    def delete(self) -> None:
        """Delete the cluster, if fluxburst created it, and wait until it is gone."""
        if self.made_for() is not None:
            clusters.delete(self._aws, self._name, self._params.cluster_timeout)

    def _plan(self, record: Record) -> ClusterPlan:
        params = self._params
        if params.cluster_role_arn is None or not params.subnets:
            raise BurstError("creating a cluster needs cluster_role_arn and subnets")
        return ClusterPlan(
            params.cluster_role_arn,
            params.subnets,
            params.security_groups,
            params.kubernetes_version or "",
            tags_of(record),
        )
