"""Live elastic instances on this machine, for tests."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from live import Flux

from fluxburst import Burst, FluxBurst
from fluxburst.cli.progress import follow
from fluxburst.config import Config
from fluxburst_local import LocalBurst

PATIENCE_SECONDS = 60.0


def free_port() -> int:
    """Return a port of the loopback device that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command_line(
    *arguments: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run fluxburst's command line."""
    return subprocess.run(
        [sys.executable, "-m", "fluxburst", *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def outside() -> dict[str, str]:
    """Return an environment without an enclosing instance or job.

    The shell reads no startup files of whoever runs the tests: brokers run commands by it.
    """
    enclosing = ("FLUX_", "SLURM_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(enclosing)}
    return {**environment, "SHELL": "/bin/sh"}


class Growing:
    """A running elastic instance."""

    def __init__(self, directory: Path, uri: str) -> None:
        self.directory = directory
        self.flux = Flux(uri)
        self._client: FluxBurst | None = None

    def client(self, **parameters: Any) -> FluxBurst:
        """Return a client with the local plugin loaded, as its fluxburst.toml says.

        One client at a time may act: that of before is closed.
        """
        import flux

        self.release()
        written = {"config_dir": str(self.directory), **parameters}
        client = FluxBurst(flux.Flux(self.flux.uri), config=Config(plugins={"local": written}))
        client.load("local")
        self._client = client
        return client

    def release(self) -> None:
        """Close the client of before: another process may act."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def plugin(self, **parameters: Any) -> LocalBurst:
        """Return the local plugin of a new client."""
        plugin = self.client(**parameters).plugins["local"]
        assert isinstance(plugin, LocalBurst)
        return plugin

    def fluxburst(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run fluxburst's command line in the instance, with its fluxburst.toml."""
        self.release()
        config = str(self.directory / "fluxburst.toml")
        environment = self.flux.environment
        return command_line("--config", config, *arguments, environment=environment)

    def submit(self, *arguments: str) -> int:
        """Submit a job that may burst; return its id."""
        return int(self.flux("job", "id", self.flux("submit", "--setattr=burstable", *arguments)))

    def nodes(self, state: str) -> int:
        """Return how many nodes are in a state, as ``flux resource list`` has it."""
        return int(self.flux("resource", "list", f"--states={state}", "-no", "{nnodes}"))

    def up(self) -> set[str]:
        """Return the hosts whose brokers are connected, drained or not."""
        import flux

        from fluxburst.handles.live import LiveInstance

        nodes = LiveInstance(flux.Flux(self.flux.uri)).nodes()
        return {node.hostname for node in nodes if node.up}

    def drained(self) -> str:
        """Return the ranks that are drained."""
        return self.flux("resource", "drain", "-no", "{ranks}")

    def brokers(self) -> dict[str, psutil.Process]:
        """Return the processes of burst brokers of this instance by hostname."""
        return dict(brokers_of(self.directory))

    def clear(self, **parameters: Any) -> None:
        """End all jobs and bursts, and make sure that nothing is left of them."""
        self.flux("cancel", "--all", "--quiet")
        wait_until(lambda: self.flux("jobs", "-no", "{id}") == "", "all jobs have ended")
        client = self.client(cancel_jobs=True, **parameters)
        client.run_unburst()
        self.release()
        assert self.left_over() == []

    def left_over(self) -> list[str]:
        """Return what is left of bursts on this machine: processes, files, drained ranks."""
        processes = [f"process of {host}" for host in self.brokers()]
        files = [str(path) for path in rundirs_of(self.directory)]
        drained = [f"drained: {self.drained()}"] if self.drained() else []
        return processes + files + drained


def brokers_of(directory: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the live burst brokers of an elastic instance, by hostname."""
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            zombie = process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        ours = any(f"{directory}/config" in argument for argument in command)
        names = [a.removeprefix("-Shostname=") for a in command if a.startswith("-Shostname=")]
        burst = any(argument.startswith("-Srundir=") for argument in command)
        if ours and names and burst and not zombie and command[0] == "broker":
            yield names[0], process


def rundirs_of(directory: Path) -> list[Path]:
    """Return the run directories of burst brokers of an elastic instance."""
    from fluxburst_local.brokers import Brokers

    return list(Path("/tmp").glob(f"fluxburst-{Brokers('flux', directory).tag}-*"))


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Wait until something is so, or fail."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"it did not come to be that {what}")
        time.sleep(0.05)


@contextmanager
def growing(
    directory: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Growing]:
    """Make an elastic instance and start it, and end it.

    Args:
        directory: Where to make it.
        options: Options of ``fluxburst local init``.
        environment: The environment to do that in; by default none of an enclosing instance.
        prefix: A command that runs what starts it, such as srun.
    """
    environment = {**(environment or outside()), "SHELL": "/bin/sh"}
    python = [*prefix, sys.executable, "-m", "fluxburst", "local"]
    made = subprocess.run(
        [*python, "init", str(directory), f"--port={free_port()}", *options],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    lead = subprocess.Popen(
        [*python, "start", str(directory), "--", "sh", "-c", 'echo "$FLUX_URI"; exec sleep inf'],
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
        yield Growing(directory, uri)
    finally:
        lead.terminate()
        lead.communicate(timeout=60)
        for _, process in brokers_of(directory):
            process.kill()


def transcript(directory: Path) -> list[str]:
    """Return a command that does what the README shows, in a directory of its own."""
    fluxburst = shlex.join([sys.executable, "-m", "fluxburst"])
    inner = f"""
    flux submit -N 3 --setattr=burstable hostname
    {fluxburst} --config ./elastic/fluxburst.toml run
    flux job attach $(flux job last)
    {fluxburst} --config ./elastic/fluxburst.toml unburst --all
    flux resource list -s down -no '{{nnodes}} down'
    """
    script = f"""
    cd {shlex.quote(str(directory))} && export SHELL=/bin/sh
    {fluxburst} local init ./elastic --burst-nodes 3 --port {free_port()}
    {fluxburst} local start ./elastic -- sh -c {shlex.quote(inner)}
    """
    return ["sh", "-ec", script]


def check_transcript(done: subprocess.CompletedProcess[str], directory: Path, by: str) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"by launcher {by}." in done.stdout
    assert "1 jobs selected, 1 given, 0 not." in done.stdout
    assert " ready " in done.stdout
    assert done.stdout.splitlines()[-1] == "3 down"
    assert dict(brokers_of(directory / "elastic")) == {}


def bring_up(client: FluxBurst) -> list[Burst]:
    client.run_burst()
    return follow(client, 60, quiet=True)


def local_plugin(client: FluxBurst) -> LocalBurst:
    plugin = client.plugins["local"]
    assert isinstance(plugin, LocalBurst)
    return plugin
