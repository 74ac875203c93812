"""Determines the state of a burst's pods from its MiniCluster, its Job and the pods themselves.

Conditions and reasons are those of
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and
https://kubernetes.io/docs/concepts/workloads/controllers/job/.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from fluxburst import Burst, BurstState
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.formats.units import format_duration

HOPELESS = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "ErrImageNeverPull",
        "ImagePullBackOff",
        "InvalidImageName",
    }
)
"""Permanent reasons for a waiting container."""


@dataclass(frozen=True)
class Found:
    """A burst in the cluster: its MiniCluster, its Job if there is one, and its pods.

    Attributes:
        at: When they were so, in seconds since the epoch.
    """

    minicluster: Mapping[str, Any]
    job: Mapping[str, Any] | None
    pods: Sequence[Mapping[str, Any]]
    at: float = field(default_factory=time.time)

    @property
    def slot(self) -> str:
        """The name of its MiniCluster."""
        return str(self.minicluster["metadata"]["name"])

    @property
    def leaving(self) -> bool:
        """Whether it is being deleted."""
        return bool(self.minicluster["metadata"].get("deletionTimestamp"))

    @property
    def since(self) -> float | None:
        """When its Job started, in seconds since the epoch; None until then."""
        return seconds(((self.job or {}).get("status") or {}).get("startTime"))


@dataclass(frozen=True)
class Health:
    """The problems of a burst.

    Attributes:
        lost: Hosts that will not join, or are gone; with the reason.
        waiting: What it waits for, for people; empty if unknown.
    """

    lost: Mapping[str, str]
    waiting: str = ""

    @property
    def problem(self) -> str:
        """Why it failed, for people: each reason once, with its hosts."""
        by_reason: dict[str, list[str]] = {}
        for host, reason in self.lost.items():
            by_reason.setdefault(reason, []).append(host)
        return "; ".join(f"{format_hostlist(h)}: {reason}" for reason, h in by_reason.items())


@dataclass(frozen=True)
class Patience:
    """How many seconds pods may be missing or unschedulable, and may take to join."""

    pending: float
    join: float


def seconds(text: str | None) -> float | None:
    """Convert a time of the API (RFC 3339, UTC) to seconds since the epoch."""
    return None if not text else datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def health(
    found: Found, hosts: Sequence[str], up: Iterable[str], now: float, patience: Patience
) -> Health:
    """Return the problems of a burst.

    Args:
        found: Its objects in the cluster.
        hosts: The hostnames of its nodes.
        up: The hostnames with connected brokers.
        now: The time.
        patience: The time limits.
    """
    if found.leaving:
        return Health(dict.fromkeys(hosts, "its MiniCluster is being deleted"))
    ended = _ended(found.job)
    if ended:
        return Health(dict.fromkeys(hosts, ended))
    pods = {host: pod for pod in found.pods if (host := host_of_pod(found.slot, pod)) in hosts}
    connected = set(up)
    lost: dict[str, str] = {}
    waiting: dict[str, str] = {}
    for host in hosts:
        if host in pods:
            broken, why = _pod(pods[host], now, patience, joined=host in connected)
        else:
            broken, why = _missing(found, now, patience)
        if why:
            (lost if broken else waiting)[host] = why
    return Health(lost, Health(waiting).problem)


def as_it_is(
    burst: Burst,
    found: Found,
    up: Collection[str],
    now: float,
    patience: Patience,
    *,
    adopting: bool = False,
) -> Burst:
    """Return a burst in the state of its pods, with the hosts that have joined.

    Args:
        burst: The burst, with its hosts.
        found: Its objects in the cluster.
        up: Its hosts with connected brokers.
        now: The time.
        patience: The time limits.
        adopting: Whether to leave out lost hosts.
    """
    hosts = burst.hostnames
    seen = health(found, hosts, up, now, patience)
    burst = replace(burst, since=burst.since if found.since is None else found.since)
    if seen.lost:
        left = tuple(host for host in hosts if host not in seen.lost) if adopting else hosts
        return replace(burst, state=BurstState.FAILED, hostnames=left, error=seen.problem)
    if len(up) == len(hosts):
        return replace(burst, state=BurstState.READY, error="")
    state = BurstState.JOINING if up else BurstState.STARTING
    return replace(burst, state=state, joined=len(up), waiting_for=seen.waiting)


def _ended(job: Mapping[str, Any] | None) -> str:
    """Return how a Job has ended, empty if it has not."""
    for condition in ((job or {}).get("status") or {}).get("conditions") or ():
        if condition.get("status") == "True" and condition.get("type") == "Failed":
            return f"its Job failed: {_said(condition)}"
        if condition.get("status") == "True" and condition.get("type") == "Complete":
            return "its brokers have ended"
    return ""


def host_of_pod(slot: str, pod: Mapping[str, Any]) -> str:
    """Return the hostname of a pod: NAME-INDEX for an Indexed Job."""
    named = (pod.get("spec") or {}).get("hostname")
    match = re.match(rf"{re.escape(slot)}-\d+(?=-|$)", pod["metadata"]["name"])
    return str(named or (match[0] if match else ""))


def _missing(found: Found, now: float, patience: Patience) -> tuple[bool, str]:
    created = seconds(found.minicluster["metadata"].get("creationTimestamp"))
    began = found.since or created or now
    broken = now - began > patience.pending
    late = f" within {format_duration(patience.pending)}" if broken else " yet"
    if found.job is None:
        asks = ": is the Flux Operator running?" if broken else ""
        return broken, f"the Flux Operator has created no Job{late}{asks}"
    asks = f": see kubectl describe job {found.slot}" if broken else ""
    return broken, f"there is no pod{late}{asks}"


def _pod(
    pod: Mapping[str, Any], now: float, patience: Patience, *, joined: bool
) -> tuple[bool, str]:
    """Return whether a pod is lost, and why; or what it waits for."""
    status = pod.get("status") or {}
    phase = status.get("phase", "Pending")
    if pod["metadata"].get("deletionTimestamp"):
        return True, "its pod is being deleted"
    if phase in ("Failed", "Succeeded"):
        return True, f"its pod has ended: {_said(status) or _exit(status) or phase}"
    statuses = _containers(status)
    for container in statuses:
        waits = (container.get("state") or {}).get("waiting") or {}
        if waits.get("reason") in HOPELESS:
            return True, _said(waits)
    unschedulable = _condition(status, "PodScheduled")
    if unschedulable.get("status") == "False":
        began = seconds(unschedulable.get("lastTransitionTime")) or now
        return now - began > patience.pending, _said(unschedulable)
    if phase == "Running" and not joined:
        began = _running_since(pod) or now
        did_not = f"its pod runs, but did not join within {format_duration(patience.join)}: kubectl"
        return (
            (True, f"{did_not} logs {pod['metadata']['name']} may show why")
            if now - began > patience.join
            else (False, "")
        )
    return False, ""


def _containers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _running_since(pod: Mapping[str, Any]) -> float | None:
    status = pod["status"]
    began = [
        at
        for container in status.get("containerStatuses") or ()
        if (at := seconds(((container.get("state") or {}).get("running") or {}).get("startedAt")))
    ]
    return max(began, default=None) or seconds(status.get("startTime"))


def _exit(status: Mapping[str, Any]) -> str:
    """Return how a pod's container ended, empty if unknown."""
    for container in _containers(status):
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended:
            return f"{ended.get('reason', 'ended')}, exit code {ended.get('exitCode')}"
    return ""


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    matching = [c for c in status.get("conditions") or () if c.get("type") == kind]
    return matching[0] if matching else {}


def _said(where: Mapping[str, Any]) -> str:
    """Return a reason and its message, as far as available."""
    return ": ".join(str(where[key]) for key in ("reason", "message") if where.get(key))
