"""The tags of AWS that say what fluxburst made a cluster or a node group for."""

from __future__ import annotations

from collections.abc import Mapping

from fluxburst_kubernetes.node_pools import Record, read_record

PREFIX = "fluxburst.io/"
MOST_OF_A_TAG = 256

# A tag's value has letters, digits, spaces and + - = . _ : / @ alone; a hostlist has none of these
# that stand for what it has beside them.
_TO_TAG = str.maketrans("[],", ":/ ")
_FROM_TAG = str.maketrans(":/ ", "[],")


def tags_of(record: Record) -> dict[str, str]:
    """Return the tags that say what a node group, or a cluster, was made for."""
    texts = record.texts()
    if "hostnames" in texts:
        texts["hostnames"] = texts["hostnames"].translate(_TO_TAG)
    return {f"{PREFIX}{name}": text for name, text in texts.items() if len(text) <= MOST_OF_A_TAG}


def record_of(tags: Mapping[str, str]) -> Record | None:
    """Return what tags say; None for those of others."""
    texts = {
        name.removeprefix(PREFIX): text for name, text in tags.items() if name.startswith(PREFIX)
    }
    if "hostnames" in texts:
        texts["hostnames"] = texts["hostnames"].translate(_FROM_TAG)
    return read_record(texts)
