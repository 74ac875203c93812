"""The Flux Operator: whether it is installed, and its installation on request."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from fluxburst.errors import BurstError, RequestError
from fluxburst_kubernetes import labels, manifests
from fluxburst_kubernetes.cluster import MINICLUSTERS, Cluster, Kind
from fluxburst_kubernetes.errors import ExistsError, NotFoundError

ABSENT = (
    f"the cluster has no Flux Operator (there is no {manifests.CRD} of {manifests.VERSION}): "
    "install it, or set flux_operator_yaml to a file or URL to install it from"
)
READ_SECONDS = 30.0
ESTABLISHED_SECONDS = 60.0

_CLUSTER_WIDE = frozenset(
    {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
)
_PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}


def is_installed(cluster: Cluster) -> bool:
    """Whether MiniClusters of the supported version can be created.

    It lists them: reading their definition needs a permission in the whole cluster.
    """
    try:
        cluster.list(MINICLUSTERS, labels.instance_labels("none"))
    except NotFoundError:
        return False
    return True


def install(cluster: Cluster, source: str) -> None:
    """Create the objects in the Flux Operator's YAML, except existing ones.

    Args:
        cluster: The cluster.
        source: The file, or the https URL.

    Raises:
        RequestError: if it is unreadable, or contains something else.
        BurstError: if the API server refuses.
    """
    for document in documents(source):
        namespace = document["metadata"].get("namespace")
        place = cluster if not namespace else cluster.beside(namespace)
        try:
            place.create(_kind_of(document), document)
        except ExistsError:
            continue
        finally:
            if place is not cluster:
                place.close()


def documents(source: str) -> list[dict[str, Any]]:
    """Return the objects in a YAML file or at a URL.

    Raises:
        RequestError: if it is unreadable, or has no MiniClusters.
    """
    try:
        found = [document for document in yaml.safe_load_all(_read(source)) if document]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RequestError(f"cannot read {source}: {error}") from error
    for document in found:
        if not isinstance(document, dict) or not {"apiVersion", "kind", "metadata"} <= set(
            document
        ):
            raise RequestError(f"{source} contains something other than objects of Kubernetes")
    if manifests.CRD not in [document["metadata"].get("name") for document in found]:
        raise RequestError(f"{source} does not define {manifests.CRD}: is it the Flux Operator's?")
    return found


def _read(source: str) -> str:
    if not source.startswith("https://"):
        return Path(source).read_text()
    try:
        with urllib.request.urlopen(source, timeout=READ_SECONDS) as answer:  # noqa: S310 - https
            return str(answer.read().decode())
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from error


def _kind_of(document: dict[str, Any]) -> Kind:
    group, _, version = document["apiVersion"].rpartition("/")
    kind = document["kind"]
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    return Kind(group, version, kind, plural, namespaced=kind not in _CLUSTER_WIDE)


def ensure(cluster: Cluster, source: str | None, poll: float) -> None:
    """Ensure that the Flux Operator is installed.

    Args:
        cluster: The cluster.
        source: Source of its installation; None to install nothing.
        poll: Polling interval in seconds until its MiniClusters are available.

    Raises:
        BurstError: if it is missing and cannot or must not be installed.
    """
    if is_installed(cluster):
        return
    if source is None:
        raise BurstError(ABSENT)
    install(cluster, source)
    until = time.monotonic() + ESTABLISHED_SECONDS
    while not is_installed(cluster):
        if time.monotonic() > until:
            raise BurstError(f"{source} was installed, but {manifests.CRD} is not available")
        time.sleep(poll)
