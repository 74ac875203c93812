"""Manifests of a burst's secrets and MiniCluster, as plain data.

A MiniCluster is described in flux-operator's ``docs/getting_started/custom-resource-definition.md``
and ``api/v1alpha2/minicluster_types.go``. The server validates it against its installed schema.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fluxburst import Burst, ByteSize
from fluxburst.provider.elastic import Elastic, system_toml
from fluxburst_kubernetes import labels

GROUP, VERSION = "flux-framework.org", "v1alpha2"
KIND, PLURAL = "MiniCluster", "miniclusters"
CRD = f"{PLURAL}.{GROUP}"

SECRET_PATH = "/etc/fluxburst"  # noqa: S105 - a path
"""Path of the secret with the certificate in a pod."""

POD_PATH = "/mnt/flux/config/fluxburst"
"""Path of the pod's own copy; the operator's start script writes into the same directory."""

CERTIFICATE, RESOURCES = "curve.cert", "R"
"""The secret's keys: the certificate, and the instance's resource set, which is not secret."""

# Only its owner may read the certificate, but a secret's files cannot be restricted so.
_PREPARE = (
    f"mkdir -p {POD_PATH} && cp {SECRET_PATH}/{CERTIFICATE} {SECRET_PATH}/{RESOURCES} {POD_PATH}/ "
    f"&& chmod 600 {POD_PATH}/{CERTIFICATE}"
)


@dataclass(frozen=True)
class Shape:
    """Description of a burst's pods.

    Attributes:
        image: Their container image.
        flux_view_image: The image that the operator adds Flux from; empty if ``image`` has it.
        cpus: CPUs that a pod requests and is limited to; None for no limit.
        memory: Bytes, likewise.
        gpus: GPUs, likewise.
        user: The user id that they run as; None for the image's.
        log_level: The severity up to which brokers log.
        wrap: A command to wrap brokers in; empty for none.
    """

    image: str
    flux_view_image: str = ""
    cpus: int | None = None
    memory: ByteSize | None = None
    gpus: int = 0
    user: int | None = None
    log_level: int = 7
    wrap: str = ""


def broker_config(elastic: Elastic, host: str | None, port: int | None) -> str:
    """Return the brokers' configuration in a pod, which may use another address of the lead."""
    seen = replace(elastic, address=host or elastic.address, port=port or elastic.port)
    return system_toml(seen, Path(POD_PATH))


def namespace(name: str) -> dict[str, Any]:
    """Return a namespace of ours."""
    metadata = {"name": name, "labels": {labels.MANAGED_BY: "fluxburst"}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def secret(name: str, tag: str, content: Mapping[str, bytes]) -> dict[str, Any]:
    """Return a secret of an instance, with a hash of its content for comparison."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": labels.instance_labels(tag),
            "annotations": {labels.CONTENT: digest(content)},
        },
        "type": "Opaque",
        "data": {key: base64.b64encode(value).decode() for key, value in content.items()},
    }


def digest(content: Mapping[str, bytes]) -> str:
    """Return the hash of a secret's content."""
    parts = [f"{key}={hashlib.sha256(value).hexdigest()}" for key, value in sorted(content.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def minicluster(
    slot: str,
    burst: Burst,
    shape: Shape,
    *,
    tag: str,
    instance_name: str,
    config: str,
    curve_secret: str,
    munge_secret: str = "",
    deadline: int | None = None,
    node_selector: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the MiniCluster of a burst: brokers that join a lead elsewhere.

    Args:
        slot: Its name.
        burst: The burst, with its hostnames.
        shape: Description of its pods.
        tag: The instance's tag.
        instance_name: The instance's name, for people.
        config: The brokers' configuration.
        curve_secret: Name of the secret with the certificate.
        munge_secret: Name of the secret with the MUNGE key; empty for none.
        deadline: Seconds until its Job ends; None for never.
        node_selector: Labels of its pods' nodes; none for any.
    """
    own = labels.burst_labels(tag, burst)
    spec: dict[str, Any] = {
        "size": burst.nodes,
        "maxSize": burst.nodes,
        # Without a command, the first pod also just starts a broker, which joins like the others.
        "interactive": True,
        "flux": _flux(shape, config, munge_secret),
        "containers": [_container(shape, curve_secret)],
        "pod": {"labels": own},
        "jobLabels": own,
    }
    if node_selector:
        spec["pod"] |= {"nodeSelector": dict(node_selector)}
    if deadline is not None:
        spec["deadlineSeconds"] = deadline
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {
            "name": slot,
            "labels": own,
            "annotations": labels.burst_annotations(instance_name, burst),
        },
        "spec": spec,
    }


def _flux(shape: Shape, config: str, munge_secret: str) -> dict[str, Any]:
    flux: dict[str, Any] = {
        "brokerConfig": in_here_document(config),
        "logLevel": shape.log_level,
        # A broker ends when its lead does: its pod then completes, and costs nothing.
        "completeWorkers": True,
        "container": (
            {"image": shape.flux_view_image} if shape.flux_view_image else {"disable": True}
        ),
    }
    if shape.wrap:
        flux["wrap"] = shape.wrap
    if munge_secret:
        flux["mungeSecret"] = munge_secret
    return flux


def in_here_document(text: str) -> str:
    """Quote a text for the here-document in which the operator's start script writes it."""
    return re.sub(r"([\\$`])", r"\\\1", text)


def _container(shape: Shape, curve_secret: str) -> dict[str, Any]:
    limits: dict[str, str] = {}
    if shape.cpus is not None:
        limits["cpu"] = str(shape.cpus)
    if shape.memory is not None:
        limits["memory"] = str(int(shape.memory))
    if shape.gpus:
        limits["nvidia.com/gpu"] = str(shape.gpus)
    volume = {"path": SECRET_PATH, "secretName": curve_secret, "readOnly": True}
    container: dict[str, Any] = {
        "image": shape.image,
        "commands": {"pre": _PREPARE},
        "volumes": {"fluxburst": volume},
    }
    if limits:
        container["resources"] = {"limits": limits, "requests": dict(limits)}
    if shape.user is not None:
        container["securityContext"] = {"runAsUser": shape.user}
    return container
