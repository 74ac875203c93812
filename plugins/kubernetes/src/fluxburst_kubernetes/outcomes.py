"""Determines the state of an isolated burst's job from its MiniCluster's pods.

Only the first pod's container for the job counts: sidecars that others inject into pods have other
names. Its report is its termination message, in the form of
``run_isolated.sh``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fluxburst import Burst, BurstState
from fluxburst.provider.isolation import lost
from fluxburst_kubernetes.states import Found, Patience, health, host_of_pod

KILLED = 137
"""Exit code of a container killed by the kernel: 128 and SIGKILL."""

OUT_OF_MEMORY = "OOMKilled"
"""The reason of a container killed for exceeding its memory limit."""

_EXIT_CODE = re.compile(r"exit-code (\d+)\s*")
_INTERRUPTED, _REFUSED, _NODE_LOST = "interrupted", "refused", "node-lost"
_REJECTED = "Pod was rejected"
"""Prefix of the message of a pod that a kubelet rejected."""

_NOT_TAKEN = "its instance rejected the job: see the log of the pod"
_ANEW = "its first pod is gone, and its replacement does not run the job"


@dataclass(frozen=True)
class Outcome:
    """The state of an isolated burst's job.

    Attributes:
        exit_code: Its exit code; None until it ends.
        reason: Why it ended so, for people, unless the container itself reports it.
        problem: Why it will never end, for people; empty while it may.
        began: Whether it has begun, or may have.
        runs: Whether all pods run, so that the job runs, or waits for the last broker.
        waiting: What it waits for, for people.
        pod: The name of the pod whose log has the job's output; empty if there is none yet.
        container: Its container for the job.
        restarted: Whether that has restarted since: the log is the previous container's.
    """

    exit_code: int | None = None
    reason: str = ""
    problem: str = ""
    began: bool = False
    runs: bool = False
    waiting: str = ""
    pod: str = ""
    container: str = ""
    restarted: bool = False


def outcome(found: Found, now: float, patience: Patience, *, ran: bool = False) -> Outcome:
    """Return the state of a job.

    Args:
        found: The objects of its burst.
        now: The time.
        patience: The time limits.
        ran: Whether the job is known to have run.
    """
    size = int(found.minicluster["spec"]["size"])
    hosts = [f"{found.slot}-{index}" for index in range(size)]
    pods = {host: _first(found, host) for host in hosts}
    lead = pods[hosts[0]]
    seen = Outcome(
        began=ran or all(_has_started(found.slot, pod) for pod in pods.values()),
        pod="" if lead is None else str(lead["metadata"]["name"]),
        container=found.slot,
    )
    ended = _ended(found.slot, [lead, *pods.values()], seen)
    if ended is not None:
        return ended
    problem = _broken(found.slot, lead, ran=ran)
    if problem:
        return replace(seen, problem=problem, began=seen.began and problem != _NOT_TAKEN)
    # When the job is done, the other brokers end first, and only the first pod knows the result.
    phases = {host: _status(pod).get("phase") for host, pod in pods.items()}
    needed = [host for host in hosts if host == hosts[0] or phases[host] != "Succeeded"]
    there = replace(found, pods=[pod for pod in pods.values() if pod is not None])
    state = health(there, needed, needed, now, patience)  # the brokers are not observable
    if state.lost:
        return replace(seen, problem=state.problem)
    runs = all(phases[host] == "Running" for host in needed)
    return replace(seen, runs=runs, waiting=state.waiting)


def as_it_is(burst: Burst, seen: Outcome, output: str) -> Burst:
    """Return a burst with its job's state."""
    burst = replace(burst, hostnames=(), isolated=True, output=output, waiting_for=seen.waiting)
    if seen.exit_code is not None:
        return replace(burst, state=BurstState.READY, exit_code=seen.exit_code, error=seen.reason)
    if seen.problem:
        return lost(burst, seen.problem, began=seen.began)
    return replace(burst, state=BurstState.READY if seen.runs else BurstState.STARTING)


def _first(found: Found, host: str) -> Mapping[str, Any] | None:
    """Return a host's first pod: later ones run no job."""
    own = [pod for pod in found.pods if host_of_pod(found.slot, pod) == host]
    made = [(one["metadata"].get("creationTimestamp") or "", n) for n, one in enumerate(own)]
    return own[min(made)[1]] if own else None


def _ended(name: str, pods: Sequence[Mapping[str, Any] | None], seen: Outcome) -> Outcome | None:
    """Return how a job has ended; None if no pod reports an end.

    The first pod reports the exit code; any pod killed for lack of memory ends the whole job.
    """
    for number, pod in enumerate(pods):
        own = _own(name, pod)
        for when in ("lastState", "state"):  # the state before the last start counts
            terminated = (own.get(when) or {}).get("terminated") or {}
            restarted = number == 0 and when == "lastState"
            match = _EXIT_CODE.fullmatch(str(terminated.get("message") or ""))
            if match and number == 0:
                return replace(seen, exit_code=int(match[1]), restarted=restarted)
            if terminated.get("reason") == OUT_OF_MEMORY and not match:
                who = str((pod or {})["metadata"]["name"])
                why = f"the container of {who} was killed for lack of memory ({OUT_OF_MEMORY})"
                return replace(seen, exit_code=KILLED, reason=why, restarted=restarted)
    return None


def _broken(name: str, lead: Mapping[str, Any] | None, *, ran: bool) -> str:
    """Return why an unfinished job will never end, according to its container."""
    own = _own(name, lead)
    before = _terminated(own, "lastState")
    ended = _terminated(own, "state")
    message = str(ended.get("message") or "").strip()
    if message == _REFUSED:
        return _NOT_TAKEN
    if message == _INTERRUPTED:
        how = _how(before) or "reason unknown"
        return f"its container ended while its job ran, and was restarted: {how}"
    if message == _NODE_LOST:
        return "a node of its instance was lost while its job ran"
    if ended and ended.get("exitCode") == 0:  # else it restarts, or its pod has failed
        return f"its pod has ended: {_how(ended)}"
    if ran and lead is not None and _status(lead).get("phase", "Pending") == "Pending":
        return _ANEW
    return ""


def _has_started(name: str, pod: Mapping[str, Any] | None) -> bool:
    """Whether the container of a pod was started, or may have been."""
    status, own = _status(pod), _own(name, pod)
    if own:
        states = (own.get("state") or {}, own.get("lastState") or {})
        return any("running" in state or "terminated" in state for state in states)
    rejected = str(status.get("message") or "").startswith(_REJECTED)
    return status.get("phase", "Pending") != "Pending" and not rejected


def _own(name: str, pod: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the status of the container for the job, which has the MiniCluster's name."""
    statuses: Sequence[Mapping[str, Any]] = _status(pod).get("containerStatuses") or ()
    return next((one for one in statuses if one["name"] == name), {})


def _status(pod: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return (pod or {}).get("status") or {}


def _terminated(own: Mapping[str, Any], when: str) -> Mapping[str, Any]:
    return (own.get(when) or {}).get("terminated") or {}


def _how(terminated: Mapping[str, Any]) -> str:
    """Return how a container ended, for people; empty if it has not."""
    if not terminated:
        return ""
    said = str(terminated.get("message") or "").strip()
    how = f"{terminated.get('reason') or 'ended'}, exit code {terminated.get('exitCode')}"
    return f"{how}: {said}" if said else how
