"""Time one burst cycle of flux-burst over the jobs of a Flux instance.

Usage, inside a Flux instance whose burstable jobs are pending:
python flux_burst_cycle.py
"""

# The package `fluxburst` here is flux-burst's, not this project's of the same name.
# mypy: disable-error-code="attr-defined,import-not-found,misc"

from __future__ import annotations

import json
import os
import time
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flux
import flux.job
from flux.constants import FLUX_USERID_UNKNOWN

from fluxburst.client import FluxBurst
from fluxburst.plugin.base import BurstParameters, BurstPlugin, burstable_plugins

PLUGIN_NAME = "memory"


class MemoryPlugin(BurstPlugin):
    """Accepts every job and brings up nothing."""

    def schedule(self, job: dict[str, Any]) -> bool:
        """Take the job."""
        self.jobs[job["id"]] = job
        return True

    def run(self, *args: object, **kwargs: object) -> None:
        """Bring up nothing."""


def list_jobs(handle: flux.Flux) -> dict[str, Any]:
    """Every job of the instance, in the form of flux-burst's own list_jobs.

    That one reads one response only, but current versions of Flux send the jobs in
    a stream of responses.
    """
    rpc = flux.job.job_list(handle, max_entries=0, userid=FLUX_USERID_UNKNOWN)
    return {"jobs": rpc.get_jobs()}


def make_client() -> FluxBurst:
    """A client with the plugin above and the listing mended.

    Its update_jobspec stays as it is. It raises no error on a current Flux, though
    it changes no jobspec: it writes to a key of the job's directory that repeats
    the path of that directory.
    """
    burstable_plugins[PLUGIN_NAME] = SimpleNamespace(init=MemoryPlugin)
    client = FluxBurst()
    client.load(PLUGIN_NAME, BurstParameters())
    client.flux.list_jobs = lambda: list_jobs(client.flux.handle)
    return client


def time_cycle(client: FluxBurst) -> float:
    """Seconds of one run_burst; the line it prints for each job is dropped."""
    with Path(os.devnull).open("w", encoding="utf-8") as devnull, redirect_stdout(devnull):
        start = time.perf_counter()
        client.run_burst()
        return time.perf_counter() - start


def main() -> None:
    """Run one cycle and print the result line."""
    client = make_client()
    seconds = time_cycle(client)
    result = {
        "peer": "flux-burst",
        "version": version("flux-burst"),
        "seconds": seconds,
        "selected": len(client.plugins[PLUGIN_NAME].jobs),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
