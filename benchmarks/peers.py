"""Running a peer from PyPI in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".nox" / "peers"

REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "ray": ("ray==2.60.0",),
    "toil": ("toil==9.6.0",),
    "flux-burst": ("flux-burst==0.0.15", "flux-python==0.88.0", "ply", "pyyaml", "cffi"),
}
SCRIPTS: Mapping[str, str] = {
    "ray": "ray_planner.py",
    "toil": "toil_planner.py",
    "flux-burst": "flux_burst_cycle.py",
}


def python_of(peer: str) -> Path:
    """Return the interpreter of the peer's environment, which is made if it is not there."""
    environment = ENVIRONMENTS / peer
    python = environment / "bin" / "python"
    ready = environment / "ready"
    if not ready.exists():
        print(f"installing {', '.join(REQUIREMENTS[peer])} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *REQUIREMENTS[peer]], check=True)
        ready.touch()
    return python


def run_peer(peer: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Any:
    """Run a peer's script and return the JSON it printed last."""
    # One of them has a package of the same name as ours.
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python_of(peer), str(HERE / "peers" / SCRIPTS[peer]), *arguments],
        env={**own, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])
