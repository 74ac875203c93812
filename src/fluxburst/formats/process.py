"""Runs commands of Flux, Slurm and ssh: as lists, never through a shell, always with a timeout."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from fluxburst.errors import FluxburstError

PATIENCE_SECONDS = 60.0
"""Timeout of a command that should answer at once."""

END_SECONDS = 10.0
"""How long a command may take to end before it is killed."""

_LINES_SHOWN = 3


class CommandError(FluxburstError):
    """A command could not be run, failed, or did not end.

    Attributes:
        command: The command with its arguments.
        status: Its exit status; None if it has none.
        output: Its standard error, or else its standard output.
    """

    def __init__(self, command: Sequence[str], problem: str, *, status: int | None, output: str):
        said = "; ".join(line.strip() for line in output.strip().splitlines()[-_LINES_SHOWN:])
        super().__init__(f"{shlex.join(command[:3])}: {problem}{said and f': {said}'}")
        self.command = tuple(command)
        self.status = status
        self.output = output


def run(
    command: Sequence[str],
    *,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    timeout: float = PATIENCE_SECONDS,
) -> str:
    """Run a command and return its standard output.

    Args:
        command: The command and its arguments.
        stdin: Its standard input.
        environment: Its environment; by default this process's.
        timeout: Seconds after which it is ended.

    Raises:
        CommandError: if it does not exist, fails, or does not end in time.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - a list, and no shell
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        problem = f"cannot be run: {error.strerror or error}"
        raise CommandError(command, problem, status=None, output="") from error
    try:
        output, errors = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired as error:
        _end(process)
        problem = f"did not end within {timeout:.0f} seconds"
        raise CommandError(command, problem, status=None, output="") from error
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        problem = f"failed with status {process.returncode}"
        said = errors.strip() or output
        raise CommandError(command, problem, status=process.returncode, output=said)
    return output


def _end(process: subprocess.Popen[str]) -> None:
    """End a command, with SIGTERM first: a killed broker leaves processes behind.

    Does not wait for processes that the command started, which may hold its pipes open.
    """
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):  # its input is no longer needed
                pipe.close()
