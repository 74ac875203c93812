"""Compact placement: a resource policy for each burst, which keeps its machines close.

https://cloud.google.com/compute/docs/instances/use-compact-placement-policies. Such policies have
no labels: the prefix of their names identifies the instance, their descriptions the burst.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fluxburst_compute_engine.parameters import BurstParameters

if TYPE_CHECKING:
    from fluxburst_compute_engine.cloud import Compute


def _prefix(tag: str) -> str:
    return f"fluxburst-{tag}-"


def policy_name(tag: str, burst: str) -> str:
    """Return the name of a burst's policy."""
    return _prefix(tag) + hashlib.sha256(burst.encode()).hexdigest()[:12]


def ensure(compute: Compute, params: BurstParameters, tag: str, burst: str) -> str:
    """Create a burst's policy if configured and missing; return its path, or empty."""
    if not params.compact_placement:
        return ""
    return compute.ensure_policy(params.region, policy_name(tag, burst), burst)


def bursts(compute: Compute, params: BurstParameters, tag: str) -> list[str]:
    """Return the names of the bursts that have a policy."""
    if not params.compact_placement:
        return []
    return [policy.description for policy in compute.policies(params.region, _prefix(tag))]


def remove(compute: Compute, params: BurstParameters, tag: str, burst: str) -> None:
    """Delete a burst's policy, once no machine uses it."""
    if params.compact_placement:
        compute.delete_policy(params.region, policy_name(tag, burst))
