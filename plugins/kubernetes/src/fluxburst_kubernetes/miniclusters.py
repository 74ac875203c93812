"""The MiniClusters of one instance, with their Jobs and pods, found by their labels."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fluxburst import Burst
from fluxburst.errors import BurstError
from fluxburst.formats.units import format_duration
from fluxburst_kubernetes import labels, secrets
from fluxburst_kubernetes.cluster import JOBS, MINICLUSTERS, PODS, SECRETS, Cluster
from fluxburst_kubernetes.errors import NotFoundError, StaysError
from fluxburst_kubernetes.states import Found


class MiniClusters:
    """What an instance has in a cluster; nothing where there is no cluster.

    Args:
        cluster: The cluster; None where there is none yet, or no more.
        tag: What tells the instance from others.
        plugin: The plugin's name, for errors.
    """

    def __init__(self, cluster: Cluster | None, tag: str, plugin: str) -> None:
        self._cluster = cluster
        self._tag = tag
        self._plugin = plugin

    def listed(self) -> Sequence[Mapping[str, Any]]:
        """Return the MiniClusters of all bursts.

        Raises:
            NotFoundError: if the cluster has no Flux Operator.
        """
        if self._cluster is None:
            return []
        found = self._cluster.list(MINICLUSTERS, labels.instance_labels(self._tag))
        return [one for one in found if labels.BURST in one["metadata"]["labels"]]

    def check_absent(self, name: str, burst: str) -> None:
        """Check that there is no MiniCluster of a name, whatever its labels.

        Raises:
            BurstError: if there is one, or that cannot be told.
        """
        if self._cluster is not None and self._cluster.get(MINICLUSTERS, name) is not None:
            raise BurstError(
                f"its MiniCluster {name} is there, and has not the labels that it was made with: "
                "what becomes of its job cannot be told",
                plugin=self._plugin,
                burst=burst,
            )

    def bursts_of_jobs(self) -> set[str]:
        """Return the bursts that a Job is there of: it may outlive its MiniCluster a little."""
        if self._cluster is None:
            return set()
        jobs = self._cluster.list(JOBS, labels.instance_labels(self._tag))
        return {name for job in jobs if (name := job["metadata"]["labels"].get(labels.BURST, ""))}

    def all(self) -> list[Found]:
        """Return what is there of each burst."""
        if self._cluster is None:
            return []
        return [self._with_its_pods(self._cluster, one) for one in self.listed()]

    def find(self, burst: str) -> Found | None:
        """Return what is there of a burst; None for nothing."""
        if self._cluster is None:
            return None
        try:
            found = self._cluster.list(MINICLUSTERS, self._labels_of(burst))
        except NotFoundError:  # no Flux Operator, and so no MiniCluster
            return None
        return self._with_its_pods(self._cluster, found[0]) if found else None

    def end(self, burst: str, *, timeout: float, poll_interval: float) -> None:
        """Delete a burst's MiniCluster, and wait until it, its Job and its pods are gone.

        Args:
            burst: The burst's name.
            timeout: For how many seconds to wait.
            poll_interval: After how many seconds to look again.

        Raises:
            StaysError: if they are not gone in time.
        """
        if self._cluster is None:
            return
        own = self._labels_of(burst)
        found = self.find(burst)
        if found is not None and not found.leaving:
            self._cluster.delete(MINICLUSTERS, found.slot)
        until = time.monotonic() + timeout
        while (
            self.find(burst) is not None
            or self._cluster.list(JOBS, own)
            or self._cluster.list(PODS, own)
        ):
            if time.monotonic() > until:
                limit = format_duration(timeout)
                raise StaysError(
                    f"its MiniCluster was deleted, and is still there, or pods of it, after {limit}"
                )
            time.sleep(poll_interval)

    def remove_job(self, burst: str) -> None:
        """Delete an isolated burst's job, which a pod that is made anew cannot run again then."""
        if self._cluster is None:
            return
        for secret in self._cluster.list(SECRETS, self._labels_of(burst)):
            self._cluster.delete(SECRETS, secret["metadata"]["name"])

    def remove_unused_secrets(self) -> None:
        """Delete the instance's secrets if none of its bursts is left."""
        if self._cluster is None:
            return
        with contextlib.suppress(NotFoundError):
            secrets.remove_unused(self._cluster, self._tag)

    def _with_its_pods(self, cluster: Cluster, minicluster: Mapping[str, Any]) -> Found:
        own = self._labels_of(labels.read(minicluster).name)
        job = cluster.get(JOBS, minicluster["metadata"]["name"])
        return Found(minicluster, job, cluster.list(PODS, own))

    def _labels_of(self, burst: str) -> dict[str, str]:
        return labels.burst_labels(self._tag, Burst(burst, "", "", 0))


def names_taken(cluster: Cluster | None) -> set[str]:
    """Return the names that MiniClusters and Jobs have, whoever's they are.

    The operator would take a Job that is left of an earlier MiniCluster for the new one's.
    """
    there: list[Mapping[str, Any]] = []
    if cluster is not None:
        there += cluster.list(JOBS, {})
        with contextlib.suppress(NotFoundError):  # there is no Flux Operator yet
            there += cluster.list(MINICLUSTERS, {})
    return {one["metadata"]["name"] for one in there}
