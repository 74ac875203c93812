"""Isolated bursts: a MiniCluster that is a separate instance, and runs one job.

Its brokers find each other through the operator's headless service, and have the certificate that
the operator generates for each MiniCluster. The job and the script for it travel as a secret.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

from fluxburst import Burst
from fluxburst.formats.hostlist import format_hostlist
from fluxburst_kubernetes import labels, manifests

SERVICE = "flux-service"
"""The operator's headless service, through which pods find each other."""

PORT = 8050
SCRIPT, JOBSPEC = "run", "jobspec.json"
_CERTIFICATE = "/mnt/flux/config/curve/curve.cert"


def secret_name(minicluster: str) -> str:
    """Return the name of the secret with a MiniCluster's job."""
    return f"job-{minicluster}"


def secret(name: str, tag: str, burst: Burst, jobspec: str) -> dict[str, Any]:
    """Return the secret with a burst's job, and the script for running it."""
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
    """Turn the MiniCluster of a connected burst into a separate instance."""
    metadata, spec = made["metadata"], made["spec"]
    container = {
        key: value for key, value in spec["containers"][0].items() if key not in ("commands",)
    }
    own = {
        "interactive": False,
        # Otherwise the operator's script prints the certificate into the log with the job's output.
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
