"""Live elastic instances that grow by instances of Compute Engine, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compute_sites import SMALL
from fake_compute import Site, free_port
from live import Flux

from fluxburst import FluxBurst
from fluxburst.config import Config, load


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"it did not come to be that {what}"
        time.sleep(0.05)


def outside(site: Site) -> dict[str, str]:
    """Return an environment without an enclosing instance, in which fluxburst is a command."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLUX_", "SLURM_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return {**environment, **site.environment, "SHELL": "/bin/sh", "PATH": path}


def command_line(
    environment: Mapping[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run fluxburst's command line."""
    return subprocess.run(
        [sys.executable, "-m", "fluxburst", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


class Growing:
    """A running elastic instance."""

    def __init__(self, directory: Path, uri: str, site: Site) -> None:
        self.directory, self.site = directory, site
        self.flux = Flux(uri)
        self._client: FluxBurst | None = None

    def table(self, **parameters: Any) -> dict[str, Any]:
        """Return the plugin's table: that of its fluxburst.toml, and more."""
        written = load(self.directory / "fluxburst.toml").plugins["compute_engine"]
        return {**written, **self.site.parameters, **parameters}

    def client(self, **parameters: Any) -> FluxBurst:
        """Return a new client; that of before is closed."""
        import flux

        self.release()
        config = Config(plugins={"compute_engine": self.table(**parameters)})
        self._client = FluxBurst(flux.Flux(self.flux.uri), config=config)
        self._client.load("compute_engine")
        return self._client

    def release(self) -> None:
        """Close the client of before: another process may act."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def submit(self, *arguments: str) -> int:
        """Submit a job that may burst; return its id."""
        return int(self.flux("job", "id", self.flux("submit", "--setattr=burstable", *arguments)))

    def nodes(self, state: str) -> int:
        """Return how many nodes are in a state, as ``flux resource list`` has it."""
        return int(self.flux("resource", "list", f"--states={state}", "-no", "{nnodes}"))

    def drained(self) -> str:
        """Return the ranks that are drained."""
        return self.flux("resource", "drain", "-no", "{ranks}")


@contextmanager
def growing(directory: Path, site: Site, *options: str) -> Iterator[Growing]:
    """Make an elastic instance of burst nodes of 4 cores and start it, and end it."""
    usual = ["--address=127.0.0.1", f"--port={free_port()}", "--lead-cores=4"]
    kinds = [f"--machine-type={SMALL}=3"]
    made = command_line(
        outside(site), "compute-engine", "init", str(directory), *kinds, *usual, *options
    )
    assert made.returncode == 0, made.stderr
    lead = subprocess.Popen(
        [str(directory / "start"), "sh", "-c", 'echo "$FLUX_URI"; exec sleep inf'],
        env=outside(site),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert lead.stdout is not None
    try:
        uri = lead.stdout.readline().strip()
        assert uri, f"the lead did not start: {lead.communicate()[1]}"
        instance = Growing(directory, uri, site)
        yield instance
        instance.release()
    finally:
        lead.terminate()
        lead.communicate(timeout=60)
