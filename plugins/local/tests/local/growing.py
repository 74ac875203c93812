"""Live elastic instances on this machine, for tests."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from tests.elastic_instance import ElasticInstance, command_line, elastic_instance, free_port

from fluxburst import FluxBurst
from fluxburst_local import LocalBurst


class Growing(ElasticInstance):
    """A running elastic instance that grows by processes of this machine."""

    def __init__(self, directory: Path, uri: str) -> None:
        super().__init__(directory, uri, "local", {})

    def local(self, **parameters: Any) -> LocalBurst:
        """Return the local plugin of a new client."""
        return local_plugin(self.client(**parameters))

    def fluxburst(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run fluxburst's command line in the instance, with its fluxburst.toml."""
        self.release()
        config = str(self.directory / "fluxburst.toml")
        environment = self.flux.environment
        return command_line("--config", config, *arguments, environment=environment)

    def up(self) -> set[str]:
        """Return the hosts whose brokers are connected, drained or not."""
        import flux

        from fluxburst.flux.live import LiveInstance

        nodes = LiveInstance(flux.Flux(self.flux.uri)).nodes()
        return {node.hostname for node in nodes if node.up}

    def brokers(self) -> dict[str, psutil.Process]:
        """Return the processes of burst brokers of this instance by hostname."""
        return dict(brokers_of(self.directory))

    def clear(self, **parameters: Any) -> None:
        """End all jobs and bursts, and make sure that nothing is left of them."""
        super().clear(**parameters)
        assert self.left_over() == []

    def left_over(self) -> list[str]:
        """Return what is left of bursts on this machine: processes, files, drained ranks."""
        processes = [f"process of {host}" for host in self.brokers()]
        files = [*rundirs_of(self.directory), *self.directory.glob("isolated/*/*")]
        drained = [f"drained: {self.drained()}"] if self.drained() else []
        return processes + [str(path) for path in files] + drained


def brokers_of(directory: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the live burst brokers of an elastic instance, by hostname."""
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            zombie = process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        ours = any(argument.startswith(f"--config-path={directory}/") for argument in command)
        names = [a.removeprefix("-Shostname=") for a in command if a.startswith("-Shostname=")]
        burst = any(argument.startswith("-Srundir=") for argument in command)
        if ours and names and burst and not zombie and command[0] == "broker":
            yield names[0], process


def rundirs_of(directory: Path) -> list[Path]:
    """Return the run directories of burst brokers of an elastic instance."""
    from fluxburst_local.brokers import Brokers

    return list(Path("/tmp").glob(f"fluxburst-{Brokers('flux', directory).tag}-*"))


@contextmanager
def growing(
    directory: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[Growing]:
    """Make an elastic instance and start it, and end it with all of its burst brokers.

    Args:
        directory: Where to make it.
        options: Options of ``fluxburst local init``.
        environment: What to add to the environment to do that in, such as an enclosing instance.
    """
    try:
        with elastic_instance(directory, "local", options, environment=environment) as made:
            instance = Growing(directory, made.flux.uri)
            yield instance
            instance.release()
    finally:
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
    assert "1 job selected, 1 assigned, 0 not." in done.stdout
    assert " ready " in done.stdout
    assert done.stdout.splitlines()[-1] == "3 down"
    assert dict(brokers_of(directory / "elastic")) == {}


def local_plugin(client: FluxBurst) -> LocalBurst:
    plugin = client.plugins["local"]
    assert isinstance(plugin, LocalBurst)
    return plugin
