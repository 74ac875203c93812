"""Records on clusters and node pools, as labels and metadata.

The metadata of a pool's machines hold its record, in any text; their labels a short form
(https://cloud.google.com/compute/docs/labeling-resources: lowercase, at most 63), by which bills
can be broken down. Nodes of Kubernetes Engine are machines of Compute Engine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from fluxburst_kubernetes.node_pools import Record

PREFIX = "fluxburst-"

_LABEL = re.compile(r"[a-z0-9_-]{1,63}", re.ASCII)


def labels_of(record: Record) -> dict[str, str]:
    """Return the short form of a record, as labels: lowercase, without dots."""
    kept = ("managed-by", "instance", "burst", "node-type", "former-size")
    texts = record.texts()
    return {f"{PREFIX}{key}": label_value(texts[key]) for key in kept if key in texts}


def label_value(text: str) -> str:
    """Return a text as a label's value: unchanged if valid, else with its hash."""
    if _LABEL.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{re.sub(r'[^a-z0-9]+', '-', text.lower())[:40]}-{digest}"


def foreign(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of others."""
    return {key: value for key, value in labels.items() if not key.startswith(PREFIX)}


def without_prefix(texts: Mapping[str, str]) -> dict[str, str]:
    """Return our texts, by their names in a record."""
    return {
        key.removeprefix(PREFIX): value for key, value in texts.items() if key.startswith(PREFIX)
    }
