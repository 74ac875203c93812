"""Live elastic instances on this machine that grow by one plugin, for tests."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.live import Flux

from fluxburst import Burst, FluxBurst
from fluxburst.cli import main
from fluxburst.cli.progress import follow
from fluxburst.config.file import Config, load
from fluxburst.config.policy import Policy
from fluxburst.provider.elastic import load as load_elastic

PATIENCE_SECONDS = 90.0


def free_port() -> int:
    """Return a port of the loopback device that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(
    condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS, every: float = 0.2
) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"it did not come to be that {what}"
        time.sleep(every)


def outside() -> dict[str, str]:
    """Return an environment without an enclosing instance or job, with fluxburst on PATH.

    The shell reads no startup files of whoever runs the tests: brokers run commands by it.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLUX_", "SLURM_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return {**environment, "SHELL": "/bin/sh", "PATH": path}


def command_line(
    *arguments: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run fluxburst's command line."""
    return subprocess.run(
        [sys.executable, "-m", "fluxburst", *arguments],
        env=environment or outside(),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def refusal_of_init(plugin: str, directory: Path, *options: str) -> str:
    """Have a plugin's ``init`` refuse options in one line, and make nothing; return the line."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as exited:
        main([plugin, "init", str(directory), *options])
    assert (exited.value.code, said.getvalue().count("\n")) == (2, 1)
    assert not directory.exists()
    return said.getvalue()


def provision(client: FluxBurst, seconds: float = PATIENCE_SECONDS) -> list[Burst]:
    """Run a cycle, and wait for what it brings up; return the bursts."""
    client.run_burst()
    return follow(client, seconds, quiet=True)


class ElasticInstance:
    """A running elastic instance, and clients of it with one plugin.

    Attributes:
        directory: Its directory.
        plugin: The plugin's name.
        parameters: What the plugin's parameters are besides what its command wrote; may change.
        flux: Its commands.
    """

    def __init__(
        self, directory: Path, uri: str, plugin: str, parameters: Mapping[str, Any]
    ) -> None:
        self.directory = directory
        self.plugin = plugin
        self.parameters = dict(parameters)
        self.flux = Flux(uri, load_elastic(directory).flux)
        self._client: FluxBurst | None = None

    def table(self, **parameters: Any) -> dict[str, Any]:
        """Return the plugin's parameters: as written, of this instance, and these."""
        written = load(self.directory / "fluxburst.toml").plugins[self.plugin]
        return {**written, **self.parameters, **parameters}

    def client(self, policy: Policy | None = None, **parameters: Any) -> FluxBurst:
        """Return a new client as fluxburst.toml says; that of before is closed."""
        import flux

        self.release()
        tables = {self.plugin: self.table(**parameters)}
        config = Config(plugins=tables, policy=policy or Policy())
        self._client = FluxBurst(flux.Flux(self.flux.uri), config=config)
        self._client.load(self.plugin)
        return self._client

    def release(self) -> None:
        """Close the client of before: another process may act."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def config_file(self, path: Path, **parameters: Any) -> Path:
        """Write a configuration file of this plugin alone, for the command line."""
        lines = [f"[plugins.{self.plugin}]"]
        for name, value in self.table(**parameters).items():
            lines.append(f"{name} = {_toml(value)}")
        path.write_text("\n".join(lines) + "\n")
        return path

    def submit(self, *arguments: str) -> int:
        """Submit a job that may burst; return its id."""
        return int(self.flux("job", "id", self.flux("submit", "--setattr=burstable", *arguments)))

    def nodes(self, state: str) -> int:
        """Return how many nodes are in a state, as ``flux resource list`` has it."""
        return int(self.flux("resource", "list", f"--states={state}", "-no", "{nnodes}"))

    def drained(self) -> str:
        """Return the ranks that are drained."""
        return self.flux("resource", "drain", "-no", "{ranks}")

    def clear(self, **parameters: Any) -> None:
        """End all jobs and bursts."""
        self.flux("cancel", "--all", "--quiet")
        wait_until(lambda: self.flux("jobs", "-no", "{id}") == "", "all jobs have ended")
        self.client(cancel_jobs=True, **parameters).run_unburst()
        self.release()


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k} = {_toml(v)}' for k, v in value.items())}}}"
    return repr(value) if isinstance(value, (int, float)) else f"'{value}'"


@contextmanager
def elastic_instance(
    directory: Path,
    plugin: str,
    options: Sequence[str],
    parameters: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[ElasticInstance]:
    """Make an elastic instance by ``fluxburst PLUGIN init`` and start it, and end it."""
    environment = {**outside(), **(environment or {})}
    command = [plugin.replace("_", "-"), "init", str(directory), f"--port={free_port()}"]
    made = command_line(*command, *options, environment=environment)
    assert made.returncode == 0, made.stderr
    lead = subprocess.Popen(
        [str(directory / "start"), "sh", "-c", 'echo "$FLUX_URI"; exec sleep inf'],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert lead.stdout is not None
    try:
        uri = lead.stdout.readline().strip()
        assert uri, f"the lead did not start: {lead.communicate()[1]}"
        instance = ElasticInstance(directory, uri, plugin, parameters or {})
        yield instance
        instance.release()
    finally:
        lead.terminate()
        lead.communicate(timeout=60)
