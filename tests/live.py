"""A live Flux on this machine, for tests."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fluxburst.model.job import ACTIVE

TWO_QUEUES = """
[resource]
noverify = true

[[resource.config]]
hosts = "node[0-1]"
cores = "0-1"

[[resource.config]]
hosts = "node0"
properties = ["lead"]

[[resource.config]]
hosts = "node1"
properties = ["burst"]

[queues.batch]
requires = ["lead"]

[queues.burst]
requires = ["burst"]

[policy.jobspec.defaults.system]
queue = "batch"
"""


class Flux:
    """A running instance: its URI, and its commands, by a ``flux`` command."""

    def __init__(self, uri: str, command: str = "flux") -> None:
        self.uri = uri
        self.command = command

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which processes find the instance."""
        return {**os.environ, "FLUX_URI": self.uri}

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run a flux command and return what it printed."""
        done = subprocess.run(
            [self.command, *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"flux {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()


@contextmanager
def running_flux(
    config: Mapping[str, str] | None = None,
    *,
    size: int = 1,
    keep: Path | None = None,
    command: str = "flux",
) -> Iterator[Flux]:
    """Start an instance with configuration files (name to content), and end it.

    It ends with its standard input, so also with whoever started it. With a directory to ``keep``
    its state in, the next one with that directory goes on with its jobs, under the same URI.
    """
    kept = [f"-Slocal-uri=local://{keep}/local", f"-Sstatedir={keep}"] if keep else []
    several = [f"--test-size={size}", "--test-exit-mode=leader"] if size > 1 else []
    with tempfile.TemporaryDirectory(prefix="fluxburst-") as directory:
        for name, content in (config or {}).items():
            (Path(directory) / name).write_text(content)
        process = subprocess.Popen(
            [
                command,
                "start",
                *several,
                *kept,
                f"--config-path={directory}",
                "sh",
                "-c",
                'echo "$FLUX_URI"; exec cat',
            ],
            env={**os.environ, "SHELL": "/bin/sh"},  # which reads no startup files of the user's
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        uri = process.stdout.readline().strip()
        try:
            if not uri:
                raise AssertionError(f"flux did not start: {process.communicate()[1]}")
            yield Flux(uri, command)
        finally:
            process.communicate(timeout=60)


def tidy(flux: Flux) -> None:
    """Leave an instance as one that has just started. Commands of Flux would take seconds."""
    import flux as bindings
    from flux.constants import FLUX_USERID_UNKNOWN

    handle = bindings.Flux(flux.uri)

    def ask(topic: str, **request: Any) -> dict[str, Any]:
        return handle.rpc(topic, request, nodeid=0).get() or {}

    ask("job-manager.queue-start", start=True, all=True, nocheckpoint=False)
    ask("job-manager.queue-enable", enable=True, all=True)
    whose = {"userid": FLUX_USERID_UNKNOWN, "states": int(ACTIVE)}
    ask("job-manager.raiseall", dry_run=False, severity=0, type="cancel", **whose)
    ask("job-manager.drain")
    for ranks in ask("resource.status")["drain"]:
        ask("resource.undrain", targets=ranks)
