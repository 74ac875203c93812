"""What fluxburst writes on clusters and node pools: records, as labels and metadata.

What a node pool is for is in the metadata of its machines, which holds any text, and in short in
their labels (https://cloud.google.com/compute/docs/labeling-resources: lowercase, at most 63), by
which bills are told apart. Nodes of Kubernetes Engine are machines of Compute Engine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from fluxburst_kubernetes.node_pools import Record

PREFIX = "fluxburst-"

_LABEL = re.compile(r"[a-z0-9_-]{1,63}", re.ASCII)


def labels_of(record: Record) -> dict[str, str]:
    """Return a record in short, as labels: lowercase, and no points."""
    kept = ("managed-by", "instance", "burst", "node-type", "former-size")
    texts = record.texts()
    return {f"{PREFIX}{key}": label_value(texts[key]) for key in kept if key in texts}


def label_value(text: str) -> str:
    """Return a text as the value of a label: itself where it can be one, else with its hash."""
    if _LABEL.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{re.sub(r'[^a-z0-9]+', '-', text.lower())[:40]}-{digest}"


def foreign(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that are not ours."""
    return {key: value for key, value in labels.items() if not key.startswith(PREFIX)}


def without_prefix(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts that are ours, by their names in a record."""
    return {
        key.removeprefix(PREFIX): value for key, value in texts.items() if key.startswith(PREFIX)
    }
