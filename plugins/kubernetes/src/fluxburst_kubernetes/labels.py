"""Labels and annotations that identify our objects in a cluster.

Labels (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/) are searchable,
but limited to 63 characters of a small alphabet; annotations hold the rest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fluxburst import Burst
from fluxburst.formats.hostlist import format_hostlist

MANAGED_BY = "app.kubernetes.io/managed-by"
PREFIX = "fluxburst.io/"
INSTANCE, BURST, NODE_TYPE = f"{PREFIX}instance", f"{PREFIX}burst", f"{PREFIX}node-type"
INSTANCE_NAME, HOSTNAMES, JOBS = f"{PREFIX}instance-name", f"{PREFIX}hostnames", f"{PREFIX}jobs"
TYPE_NAME, PRICE = f"{PREFIX}node-type-name", f"{PREFIX}price"
ISOLATED = f"{PREFIX}isolated"
LEASE, CONTENT = f"{PREFIX}lease-until", f"{PREFIX}content-sha256"

_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)


def label_value(text: str) -> str:
    """Return a text as a label's value: unchanged if valid, else with its hash."""
    if _VALUE.fullmatch(text):
        return text
    kept = re.sub(r"[^A-Za-z0-9]+", "-", text, flags=re.ASCII).strip("-")[:40].strip("-")
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{kept}-{digest}" if kept else digest


def instance_labels(tag: str) -> dict[str, str]:
    """Return the labels of all objects of an instance."""
    return {MANAGED_BY: "fluxburst", INSTANCE: tag}


def burst_labels(tag: str, burst: Burst) -> dict[str, str]:
    """Return the labels of a burst's MiniCluster, Job and pods."""
    labels = {**instance_labels(tag), BURST: label_value(burst.name)}
    return {**labels, NODE_TYPE: label_value(burst.node_type)} if burst.node_type else labels


def burst_annotations(instance_name: str, burst: Burst) -> dict[str, str]:
    """Return the annotations of a burst's MiniCluster."""
    annotations = {
        BURST: burst.name,
        INSTANCE_NAME: instance_name,
        TYPE_NAME: burst.node_type,
        PRICE: repr(burst.price),
        HOSTNAMES: format_hostlist(burst.hostnames),
        JOBS: ",".join(map(str, burst.jobs)),
    }
    return annotations if burst.lease_until is None else {**annotations, **lease(burst.lease_until)}


def lease(until: float) -> dict[str, str]:
    """Return the annotation of a lease, in seconds since the epoch."""
    return {LEASE: f"{until:.3f}"}


@dataclass(frozen=True)
class Written:
    """A MiniCluster's annotations about its burst; the node type is empty if missing."""

    name: str
    node_type: str
    price: float
    hostnames: tuple[str, ...]
    jobs: tuple[int, ...]
    lease_until: float | None
    isolated: bool = False

    def burst(self, plugin: str) -> Burst:
        """Return the burst described by this, as it was requested from a plugin."""
        return Burst(
            self.name,
            plugin,
            self.node_type,
            len(self.hostnames),
            self.jobs,
            price=self.price,
            lease_until=self.lease_until,
        )


def read(minicluster: Mapping[str, Any]) -> Written:
    """Return the description of a burst on one of our MiniClusters; ignores damaged values.

    Its hostnames are those of its pods, whatever the annotation for people says.
    """
    metadata = minicluster["metadata"]
    labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    spec = minicluster.get("spec") or {}
    size = int(spec.get("size") or 0)
    hosts = tuple(f"{metadata['name']}-{index}" for index in range(size))
    return Written(
        notes.get(BURST) or labels[BURST],
        notes.get(TYPE_NAME) or labels.get(NODE_TYPE, ""),
        _number(notes.get(PRICE)) or 0.0,
        hosts,
        tuple(int(job) for job in notes.get(JOBS, "").split(",") if job.isdigit()),
        _number(notes.get(LEASE)),
        notes.get(ISOLATED) == "true",
    )


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
