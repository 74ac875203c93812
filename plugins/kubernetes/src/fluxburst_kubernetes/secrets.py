"""The secrets that an instance's pods share: made with its first burst, gone with its last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fluxburst.errors import BurstError
from fluxburst_kubernetes import labels, manifests
from fluxburst_kubernetes.cluster import MINICLUSTERS, SECRETS, Cluster
from fluxburst_kubernetes.errors import ExistsError


def ensure(cluster: Cluster, name: str, tag: str, content: Mapping[str, bytes]) -> None:
    """Have a secret with this content be there.

    Raises:
        BurstError: if there is one of that name with another content.
    """
    ensure_made(cluster, manifests.secret(name, tag, content))


def ensure_made(cluster: Cluster, manifest: dict[str, Any]) -> None:
    """Have a secret be there as it is described.

    Raises:
        BurstError: if there is one of that name with another content.
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
    whose = f"of the instance {owner}" if owner else "that was not made by fluxburst"
    raise BurstError(
        f"there is a secret {name} in the namespace {cluster.namespace} already, {whose}, with "
        "another content: its pods could not join; name another one with curve_cert_secret_name or "
        "munge_secret_name, or delete it if nothing needs it"
    )


def remove_unused(cluster: Cluster, tag: str) -> None:
    """Delete an instance's secrets, if it has no MiniCluster left."""
    own = labels.instance_labels(tag)
    if cluster.list(MINICLUSTERS, own):
        return
    for secret in cluster.list(SECRETS, own):
        cluster.delete(SECRETS, secret["metadata"]["name"])
