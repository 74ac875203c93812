"""Live elastic instances that grow by pods, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apiserver import Server, free_port
from live import Flux

from fluxburst import FluxBurst
from fluxburst.config import Config, load


def outside() -> dict[str, str]:
    """Return an environment without an enclosing instance, in which fluxburst is a command."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLUX_", "SLURM_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return {**environment, "SHELL": "/bin/sh", "PATH": path}


def command_line(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run fluxburst's command line."""
    return subprocess.run(
        [sys.executable, "-m", "fluxburst", *arguments],
        env=environment or outside(),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


class Growing:
    """A running elastic instance."""

    def __init__(self, directory: Path, uri: str, server: Server, namespace: str) -> None:
        self.directory = directory
        self.flux = Flux(uri)
        self.parameters = {
            "kubeconfig": str(server.kubeconfig),
            "namespace": namespace,
            "poll_interval": 0.1,
        }
        self._client: FluxBurst | None = None

    def client(self, **parameters: Any) -> FluxBurst:
        """Return a new client as its fluxburst.toml says; that of before is closed."""
        import flux

        self.release()
        written = load(self.directory / "fluxburst.toml").plugins["kubernetes"]
        table = {**written, **self.parameters, **parameters}
        config = Config(plugins={"kubernetes": table})
        self._client = FluxBurst(flux.Flux(self.flux.uri), config=config)
        self._client.load("kubernetes")
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
def growing(directory: Path, server: Server, namespace: str, *options: str) -> Iterator[Growing]:
    """Make an elastic instance and start it, and end it."""
    usual = ["--address=127.0.0.1", f"--port={free_port()}", "--cores=2", "--lead-cores=2"]
    made = command_line(
        "kubernetes", "init", str(directory), f"--namespace={namespace}", *usual, *options
    )
    assert made.returncode == 0, made.stderr
    lead = subprocess.Popen(
        [str(directory / "start"), "sh", "-c", 'echo "$FLUX_URI"; exec sleep inf'],
        env=outside(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert lead.stdout is not None
    try:
        uri = lead.stdout.readline().strip()
        assert uri, f"the lead did not start: {lead.communicate()[1]}"
        instance = Growing(directory, uri, server, namespace)
        yield instance
        instance.release()
    finally:
        lead.terminate()
        lead.communicate(timeout=60)
