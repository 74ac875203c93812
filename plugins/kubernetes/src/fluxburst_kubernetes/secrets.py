"""Secrets shared by an instance's pods: created with its first burst, deleted with its last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fluxburst.errors import BurstError
from fluxburst_kubernetes import labels, manifests
from fluxburst_kubernetes.cluster import MINICLUSTERS, SECRETS, Cluster
from fluxburst_kubernetes.errors import ExistsError


def ensure(cluster: Cluster, name: str, tag: str, content: Mapping[str, bytes]) -> None:
    """Ensure that a secret with this content exists.

    Raises:
        BurstError: if its name is in use with other content.
    """
    ensure_made(cluster, manifests.secret(name, tag, content))


def ensure_made(cluster: Cluster, manifest: dict[str, Any]) -> None:
    """Ensure that a secret exists as described.

    Raises:
        BurstError: if its name is in use with other content.
    """
    try:
        cluster.create(SECRETS, manifest)
    except ExistsError:
        _check(cluster, manifest["metadata"]["name"], manifest)


def _check(cluster: Cluster, name: str, wanted: Mapping[str, object]) -> None:
    there = cluster.get(SECRETS, name)
    if there is None or there.get("data") == wanted["data"]:
        return
    owner = (there["metadata"].get("labels") or {}).get(labels.INSTANCE)
    whose = f"of the instance {owner}" if owner else "not created by fluxburst"
    raise BurstError(
        f"the namespace {cluster.namespace} has a secret {name}, {whose}, with "
        "other content: its pods could not join; use another name in curve_cert_secret_name or "
        "munge_secret_name, or delete it if nothing needs it"
    )


def remove_unused(cluster: Cluster, tag: str) -> None:
    """Delete an instance's secrets once it has no MiniCluster left."""
    own = labels.instance_labels(tag)
    if cluster.list(MINICLUSTERS, own):
        return
    for secret in cluster.list(SECRETS, own):
        cluster.delete(SECRETS, secret["metadata"]["name"])
