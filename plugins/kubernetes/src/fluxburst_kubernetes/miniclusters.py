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
from fluxburst_kubernetes.rounds import Snapshot, burst_label
from fluxburst_kubernetes.states import Found


class MiniClusters:
    """An instance's objects in a cluster; nothing without a cluster.

    Args:
        cluster: The cluster; None if it does not exist.
        tag: Distinguishes the instance from others.
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
        """Check that no MiniCluster has this name, whatever its labels.

        Raises:
            BurstError: if one exists, or that is unknown.
        """
        if self._cluster is not None and self._cluster.get(MINICLUSTERS, name) is not None:
            raise BurstError(
                f"its MiniCluster {name} exists, but its labels no longer match: "
                "the fate of its job is unknown",
                plugin=self._plugin,
                burst=burst,
            )

    def bursts_of_jobs(self) -> set[str]:
        """Return the bursts that have a Job: it may outlive its MiniCluster briefly."""
        if self._cluster is None:
            return set()
        jobs = self._cluster.list(JOBS, labels.instance_labels(self._tag))
        return {*map(burst_label, jobs)} - {""}

    def snapshot(self) -> Snapshot:
        """Return the objects of all bursts, listing each kind once.

        Raises:
            NotFoundError: if the cluster has no Flux Operator.
        """
        if self._cluster is None:
            return Snapshot()
        at, own = time.time(), labels.instance_labels(self._tag)
        jobs = self._cluster.list(JOBS, own)  # first, or a new burst seems to have only a Job
        there = self.listed()
        pods = self._cluster.list(PODS, own) if there else []
        job_of = {job["metadata"]["name"]: job for job in jobs}
        pods_of: dict[str, list[Mapping[str, Any]]] = {}
        for pod in pods:
            pods_of.setdefault(burst_label(pod), []).append(pod)
        with_secret = None
        if any(labels.read(one).isolated for one in there):
            with_secret = frozenset(map(burst_label, self._cluster.list(SECRETS, own)))
        found = [
            Found(one, job_of.get(one["metadata"]["name"]), pods_of.get(burst_label(one), ()), at)
            for one in there
        ]
        return Snapshot(found, frozenset(map(burst_label, jobs)) - {""}, with_secret)

    def find(self, burst: str) -> Found | None:
        """Return the objects of a burst; None if there are none."""
        found = self._minicluster(burst)
        if self._cluster is None or found is None:
            return None
        return self._with_its_pods(self._cluster, found)

    def _minicluster(self, burst: str) -> Mapping[str, Any] | None:
        if self._cluster is None:
            return None
        try:
            found = self._cluster.list(MINICLUSTERS, self._labels_of(burst))
        except NotFoundError:  # no Flux Operator, and so no MiniCluster
            return None
        return found[0] if found else None

    def end(self, burst: str, *, timeout: float, poll_interval: float) -> None:
        """Delete a burst's MiniCluster, and wait until it, its Job and its pods are gone.

        Args:
            burst: The burst's name.
            timeout: How many seconds to wait.
            poll_interval: Polling interval in seconds.

        Raises:
            StaysError: on timeout.
        """
        if self._cluster is None:
            return
        own = self._labels_of(burst)
        found = self._minicluster(burst)
        if found is not None and not Found(found, None, ()).leaving:
            self._cluster.delete(MINICLUSTERS, found["metadata"]["name"])
        until = time.monotonic() + timeout
        while (
            self._minicluster(burst) is not None
            or self._cluster.list(JOBS, own)
            or self._cluster.list(PODS, own)
        ):
            if time.monotonic() > until:
                limit = format_duration(timeout)
                raise StaysError(
                    f"its MiniCluster was deleted, but it or its pods still exist after {limit}"
                )
            time.sleep(poll_interval)

    def remove_job(self, burst: str) -> None:
        """Delete an isolated burst's job, so that a replaced pod cannot run it again."""
        if self._cluster is None:
            return
        for secret in self._cluster.list(SECRETS, self._labels_of(burst)):
            self._cluster.delete(SECRETS, secret["metadata"]["name"])

    def remove_unused_secrets(self) -> None:
        """Delete the instance's secrets if it has no bursts left."""
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
    """Return the names of all MiniClusters and Jobs, of any owner.

    The operator would mistake a Job left from an earlier MiniCluster for the new one's.
    """
    there: list[Mapping[str, Any]] = []
    if cluster is not None:
        there += cluster.list(JOBS, {})
        with contextlib.suppress(NotFoundError):  # there is no Flux Operator yet
            there += cluster.list(MINICLUSTERS, {})
    return {one["metadata"]["name"] for one in there}
