"""Names of bursts, which tell whose a burst is: nothing is deleted that does not have one of ours.

They are valid hostnames (RFC 1123) and short: providers name machines after them. The middle part
tells the instance, so that two instances that share a provider never touch each other's bursts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

DIGITS = 8
"""How many hexadecimal digits tell the instance, and how many the burst."""


def tag_of(instance: str) -> str:
    """Return what tells an instance from others: 16 hexadecimal digits.

    Args:
        instance: The instance's name.
    """
    return hashlib.sha256(instance.encode()).hexdigest()[:16]


def is_tag(tag: object) -> bool:
    """Whether something can tell an instance in the names of bursts."""
    return isinstance(tag, str) and re.fullmatch("[0-9A-Za-z]+", tag) is not None


def burst_name(plugin: str, tag: str, node_type: str, jobs: Collection[int]) -> str:
    """Return the name of the burst that brings up one node type for these jobs.

    The same jobs give the same name, so that asking twice finds what the first time made.

    Args:
        plugin: The plugin's name.
        tag: What tells the instance; the first eight hexadecimal digits count.
        node_type: The name of the node type.
        jobs: The jobs.
    """
    text = "\n".join([plugin, tag, node_type, *map(str, sorted(jobs))])
    return prefix_of(plugin, tag) + hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def prefix_of(plugin: str, tag: str) -> str:
    """Return what the names of all bursts of a plugin begin with, for one instance."""
    return f"{plugin.lower().replace('_', '-')}-{tag[:DIGITS]}-"


def is_plain(name: str, plugin: str) -> bool:
    """Whether a name is one of capacity by hand as older versions gave it, in every instance."""
    stem = re.escape(plugin.lower().replace("_", "-"))
    return re.fullmatch(rf"{stem}-[0-9]+", name, re.ASCII) is not None


def is_name_of(name: str, plugin: str, tag: str) -> bool:
    """Whether a name is of the form that bursts of a plugin have, for one instance."""
    form = rf"{re.escape(prefix_of(plugin, tag))}[0-9a-f]{{1,{DIGITS}}}(-[0-9]{{1,9}})?"
    return re.fullmatch(form, name, re.ASCII) is not None
