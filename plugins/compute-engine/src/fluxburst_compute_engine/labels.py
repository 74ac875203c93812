"""Labels and metadata that identify our resources in a project.

Labels (https://cloud.google.com/compute/docs/labeling-resources) are searchable, but limited to
63 lowercase letters, digits, ``_`` and ``-``; an instance's metadata hold the rest.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fluxburst import Burst
from fluxburst.errors import FormatError
from fluxburst.formats.hostlist import format_hostlist, parse_hostlist

MANAGED_BY, MANAGER = "managed-by", "fluxburst"
PREFIX = "fluxburst-"
INSTANCE, BURST, NODE_TYPE, LEASE = (
    f"{PREFIX}{what}" for what in ("instance", "burst", "node-type", "lease-until")
)
INSTANCE_NAME, HOSTS, JOBS, PRICE, ISOLATED = (
    f"{PREFIX}{what}" for what in ("instance-name", "hosts", "jobs", "price", "isolated")
)

_VALUE = re.compile(r"[a-z0-9_-]{0,63}", re.ASCII)


def label_value(text: str) -> str:
    """Return a text as a label's value: unchanged if valid, else with its hash."""
    if _VALUE.fullmatch(text):
        return text
    kept = re.sub(r"[^a-z0-9]+", "-", text.lower(), flags=re.ASCII).strip("-")[:40].strip("-")
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{kept}-{digest}" if kept else digest


def instance_labels(tag: str) -> dict[str, str]:
    """Return the labels of all resources of an instance."""
    return {MANAGED_BY: MANAGER, INSTANCE: tag}


def burst_labels(tag: str, name: str) -> dict[str, str]:
    """Return the labels for finding a burst's resources."""
    return {**instance_labels(tag), BURST: label_value(name)}


def labels_of(tag: str, burst: Burst) -> dict[str, str]:
    """Return the labels of a burst's machines."""
    labels = {**burst_labels(tag, burst.name), NODE_TYPE: label_value(burst.node_type)}
    if burst.lease_until is not None:
        labels[LEASE] = str(math.ceil(burst.lease_until))
    return labels


def metadata_of(instance_name: str, burst: Burst) -> dict[str, str]:
    """Return the metadata about a burst on its machines."""
    return {
        BURST: burst.name,
        NODE_TYPE: burst.node_type,
        INSTANCE_NAME: instance_name,
        HOSTS: format_hostlist(burst.hostnames),
        PRICE: repr(burst.price),
        JOBS: ",".join(map(str, burst.jobs)),
        ISOLATED: "true" if burst.isolated else "false",
    }


@dataclass(frozen=True)
class Written:
    """A machine's metadata about its burst; missing values are empty, or 0."""

    name: str
    node_type: str
    price: float
    hosts: tuple[str, ...]
    jobs: tuple[int, ...]
    isolated: bool = False


def read(labels: Mapping[str, str], metadata: Mapping[str, str]) -> Written:
    """Return the metadata about a burst on one of our machines; ignores damaged values."""
    try:
        price = float(metadata.get(PRICE, ""))
    except ValueError:
        price = 0.0
    try:
        hosts = parse_hostlist(metadata.get(HOSTS, ""))
    except FormatError:
        hosts = ()
    return Written(
        metadata.get(BURST) or labels[BURST],
        metadata.get(NODE_TYPE) or labels.get(NODE_TYPE, ""),
        price if 0 <= price < math.inf else 0.0,
        hosts,
        tuple(int(job) for job in metadata.get(JOBS, "").split(",") if job.isdigit()),
        metadata.get(ISOLATED) == "true",
    )
