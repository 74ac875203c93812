"""Live elastic instances that grow by nodes of EKS, for tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apiserver import free_port
from eks_instances import parameters_of
from eks_site import NODE_ROLE, Site
from growing_pods import command_line, outside
from live import Flux

from fluxburst import FluxBurst
from fluxburst.config import Config, load


class Growing:
    """A running elastic instance."""

    def __init__(self, directory: Path, uri: str, site: Site, namespace: str) -> None:
        self.directory, self.site = directory, site
        self.flux = Flux(uri)
        self.namespace = namespace
        self._client: FluxBurst | None = None

    def table(self, **parameters: Any) -> dict[str, Any]:
        """Return the plugin's table as fluxburst.toml has it, for this AWS."""
        written = load(self.directory / "fluxburst.toml").plugins["eks"]
        ours = parameters_of(self.site, self.directory, namespace=self.namespace)
        return {**ours, **written, **parameters}

    def client(self, **parameters: Any) -> FluxBurst:
        """Return a new client; that of before is closed."""
        import flux

        self.release()
        config = Config(plugins={"eks": self.table(**parameters)})
        self._client = FluxBurst(flux.Flux(self.flux.uri), config=config)
        self._client.load("eks")
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
def growing(directory: Path, site: Site, namespace: str, *options: str) -> Iterator[Growing]:
    """Make an elastic instance and start it, and end it."""
    usual = ["--address=127.0.0.1", f"--port={free_port()}", "--lead-cores=2"]
    usual += [f"--node-role-arn={NODE_ROLE}", "--region=us-east-1", f"--namespace={namespace}"]
    made = command_line("eks", "init", str(directory), *usual, *options)
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
        instance = Growing(directory, uri, site, namespace)
        yield instance
        instance.release()
    finally:
        lead.terminate()
        lead.communicate(timeout=60)
