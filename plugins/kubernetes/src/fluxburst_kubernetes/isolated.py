"""Isolated bursts: a MiniCluster that is an instance of its own, and runs one job.

Its brokers find each other by the operator's headless service, and have the certificate that the
operator makes up for each MiniCluster. The job and the script that runs it travel as a secret.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fluxburst import Burst, BurstState
from fluxburst.sets import format_hostlist
from fluxburst_kubernetes import labels, manifests
from fluxburst_kubernetes.states import Found, Patience, health, host_of_pod

SERVICE = "flux-service"
"""The operator's headless service, by which pods find each other."""

PORT = 8050
SCRIPT, JOBSPEC = "run", "jobspec.json"
_CERTIFICATE = "/mnt/flux/config/curve/curve.cert"
_EXIT_CODE = re.compile(r"exit-code (\d+)")
_ENDED = {
    "interrupted": "its container was started again, and its job is not run twice",
    "refused": "its instance did not take the job: the log of the pod tells why",
}


def secret_name(minicluster: str) -> str:
    """Return the name of the secret with a MiniCluster's job."""
    return f"job-{minicluster}"


def secret(name: str, tag: str, burst: Burst, jobspec: str) -> dict[str, Any]:
    """Return the secret with a burst's job, and the script that runs it."""
    script = importlib.resources.files(__package__).joinpath("run_isolated.sh").read_bytes()
    content = {JOBSPEC: jobspec.encode(), SCRIPT: script}
    made = manifests.secret(name, tag, content)
    made["metadata"]["labels"] = labels.burst_labels(tag, burst)
    return made


def broker_config(minicluster: str, namespace: str, nodes: int) -> str:
    """Return the brokers' configuration: see flux-config-bootstrap(5)."""
    lead = f"{minicluster}-0"
    address = f"{lead}.{SERVICE}.{namespace}.svc.cluster.local"
    entries = [
        f"[[bootstrap.hosts]]\nhost = {json.dumps(lead)}\n"
        f'bind = "tcp://eth0:{PORT}"\nconnect = "tcp://{address}:{PORT}"'
    ]
    if nodes > 1:
        rest = format_hostlist([f"{minicluster}-{index}" for index in range(1, nodes)])
        entries.append(f"[[bootstrap.hosts]]\nhost = {json.dumps(rest)}")
    head = f"[bootstrap]\ncurve_cert = {json.dumps(_CERTIFICATE)}"
    return "\n\n".join([head, *entries]) + "\n"


def minicluster(made: Mapping[str, Any], config: str) -> dict[str, Any]:
    """Return a MiniCluster of a connected burst as one that is an instance of its own."""
    metadata, spec = made["metadata"], made["spec"]
    container = {
        key: value for key, value in spec["containers"][0].items() if key not in ("commands",)
    }
    own = {
        "interactive": False,
        # Or the operator's script prints the certificate into the log, beside the job's output.
        "logging": {"quiet": True},
        "network": {"headlessName": SERVICE},
        "flux": {**spec["flux"], "brokerConfig": manifests.in_here_document(config)},
        "containers": [
            {**container, "command": f"sh {manifests.SECRET_PATH}/{SCRIPT}", "launcher": True}
        ],
    }
    notes = {**metadata["annotations"], labels.ISOLATED: "true"}
    return {
        **made,
        "metadata": {**metadata, "annotations": notes},
        "spec": {**spec, **own},
    }


@dataclass(frozen=True)
class Outcome:
    """What has become of an isolated burst's job.

    Attributes:
        exit_code: With what it ended; None as long as it has not.
        problem: Why it never will, for a person; empty as long as it may.
        runs: Whether all pods run, and so the job does, or waits there for the last broker.
        waiting: What it waits for, for a person.
        pod: The name of the pod whose log has the job's output; empty as long as there is none.
        container: The container of it that the job has ended in; empty as long as it has not.
        restarted: Whether that was started again since: the log is of the container before.
    """

    exit_code: int | None = None
    problem: str = ""
    runs: bool = False
    waiting: str = ""
    pod: str = ""
    container: str = ""
    restarted: bool = False


def outcome(found: Found, now: float, patience: Patience) -> Outcome:
    """Return what has become of a job, from the pods of its MiniCluster."""
    size = int(found.minicluster["spec"]["size"])
    hosts = [f"{found.slot}-{index}" for index in range(size)]
    by_host = {host_of_pod(found.slot, pod): pod for pod in found.pods}
    lead = by_host.get(hosts[0])
    pod = "" if lead is None else str(lead["metadata"]["name"])
    said = _Said() if lead is None else _said(lead)
    if match := _EXIT_CODE.fullmatch(said.message):
        return Outcome(int(match[1]), pod=pod, container=said.container, restarted=said.restarted)
    if said.message:
        return Outcome(problem=_ENDED.get(said.message, said.message), pod=pod)
    # The other brokers end first when the job is done, and only the first pod tells how.
    phases = {host: (one.get("status") or {}).get("phase") for host, one in by_host.items()}
    needed = [host for host in hosts if host == hosts[0] or phases.get(host) != "Succeeded"]
    seen = health(found, needed, needed, now, patience)  # which brokers are up cannot be seen
    if seen.lost:
        return Outcome(problem=seen.problem, pod=pod)
    runs = all(phases.get(host) == "Running" for host in needed)
    return Outcome(runs=runs, waiting=seen.waiting, pod=pod)


def as_it_is(burst: Burst, seen: Outcome, output: str) -> Burst:
    """Return a burst as its outcome has it."""
    burst = replace(burst, hostnames=(), isolated=True, output=output, error=seen.waiting)
    if seen.problem:
        return replace(burst, state=BurstState.FAILED, error=seen.problem)
    if seen.exit_code is not None:
        return replace(burst, state=BurstState.READY, exit_code=seen.exit_code, error="")
    return replace(burst, state=BurstState.READY if seen.runs else BurstState.STARTING)


@dataclass(frozen=True)
class _Said:
    """A termination message, the container's name, and whether that was started again since."""

    message: str = ""
    container: str = ""
    restarted: bool = False


def _said(pod: Mapping[str, Any]) -> _Said:
    """Return the first termination message that is known: of a container before its last start."""
    statuses: Sequence[Mapping[str, Any]] = pod.get("status", {}).get("containerStatuses") or ()
    for status in statuses:
        for state in ("lastState", "state"):
            ended = (status.get(state) or {}).get("terminated") or {}
            if ended.get("message"):
                return _Said(str(ended["message"]), str(status["name"]), state == "lastState")
    return _Said()
