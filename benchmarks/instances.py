"""A live Flux for one measurement, with jobs that pend in it.

Usage, inside an instance: python instances.py JOBS makes so many jobs pend, every other one
burstable.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

AT_ONCE = 5_000
"""How many submissions are under way together."""

CONFIG = "[ingest.validator]\ndisable = true\n"
"""What jobs are checked by is not what is measured, and takes half of the time to submit them."""


def in_an_instance(script: str, *step: str) -> Any:
    """Run a script in a Flux instance, with a state directory of its own, that ends with it.

    Returns the JSON that it printed last.
    """
    with tempfile.TemporaryDirectory(prefix="fluxburst-") as directory:
        config, state = Path(directory) / "config", Path(directory) / "state"
        config.mkdir()
        (config / "ingest.toml").write_text(CONFIG)
        environment = {**os.environ, "SHELL": "/bin/sh", "FLUXBURST_STATE_DIR": str(state)}
        command = ["flux", "start", f"--config-path={config}", sys.executable, script, *step]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    return json.loads(done.stdout.strip().splitlines()[-1])


def jobspec(command: list[str], **system: Any) -> str:
    """Return the jobspec of a job of one node, with more system attributes."""
    import flux.job

    spec = flux.job.JobspecV1.from_command(command, num_nodes=1)
    for key, value in system.items():
        spec.setattr(f"system.{key}", value)
    spec.cwd = "/"
    spec.environment = {"PATH": os.environ["PATH"]}
    text: str = spec.dumps()
    return text


def submit(handle: Any, specs: list[str]) -> list[int]:
    """Submit jobs, many at once; return their ids."""
    import flux.job

    ids: list[int] = []
    for start in range(0, len(specs), AT_ONCE):
        futures = [flux.job.submit_async(handle, spec) for spec in specs[start : start + AT_ONCE]]
        ids += [int(flux.job.submit_get_id(future)) for future in futures]
    return ids


def make_pending(jobs: int) -> None:
    """Make jobs pend, in a process of its own: what is left of that shall not be measured."""
    subprocess.run([sys.executable, __file__, str(jobs)], check=True)


def main() -> None:
    """Make jobs pend."""
    import flux

    subprocess.run(["flux", "queue", "stop", "--all", "--quiet"], check=True)
    specs = [jobspec(["hostname"], burstable=1), jobspec(["hostname"])]
    submit(flux.Flux(), [specs[number % 2] for number in range(int(sys.argv[1]))])


if __name__ == "__main__":
    main()
