"""Isolated bursts: an independent instance runs a job, and the job here tells the truth of it.

Flux has no way to complete a job that has not run in it. So the job is held here (urgency 0, the
former one in its memo) before anything is asked for, and stays so while it runs there. When it
ended there it is ended here, with a fatal exception of type ``burst`` (RFC 21) whose note says how;
if its burst fails it gets its urgency back, once nothing of the burst is left.

What a plugin says of the output of a job that has ended is text for a person: where it can be read,
or, after :data:`UNREAD` or :data:`LOST`, why it cannot.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fluxburst.errors import FluxburstError
from fluxburst.flux.protocol import Instance
from fluxburst.model.burst import Burst, BurstState
from fluxburst.plugin.base import Finding

OUTPUT_LIMIT = 16 * 2**20
"""How many bytes of a job's output are kept here."""

UNREAD = "not fetched yet: "
"""What ``output`` begins with as long as it is to be fetched again; why follows."""

LOST = "lost: "
"""What ``output`` begins with once it is not fetched any more; why follows."""

_CUT = b"\n[fluxburst: the output is longer than 16 MiB, and cut here]\n"

_LOCAL = ("constraints", "queue", "bank", "dependencies", "burstable")
"""What is asked for of the instance here (RFC 25), and means nothing in another."""

_log = logging.getLogger(__name__)


def remote_jobspec(instance: Instance, jobid: int, environment: Sequence[str] = ()) -> str:
    """Return a job's jobspec for another instance, as JSON for ``flux job submit``.

    Its resources, tasks, duration, working directory and files (RFC 37) are as here. What names a
    queue, a bank, nodes or other jobs is left out, as is where standard input and output are
    redirected to: the other instance keeps them.

    Args:
        instance: The instance that the job waits in.
        jobid: The job.
        environment: Patterns (fnmatch) of the variables that it takes along; by default none, as
            those of this host mean little in an image.

    Raises:
        InstanceError: if the instance cannot be asked.
    """
    spec = instance.jobspec(jobid)
    attributes = spec.get("attributes") or {}
    system = {k: v for k, v in (attributes.get("system") or {}).items() if k not in _LOCAL}
    system["environment"] = _chosen(system.get("environment") or {}, environment)
    shell = system.get("shell") or {}
    options = {
        k: v for k, v in (shell.get("options") or {}).items() if k not in ("input", "output")
    }
    if shell:
        system["shell"] = {**shell, "options": options}
    return json.dumps({**spec, "attributes": {**attributes, "system": system}})


def _chosen(variables: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    return {
        name: value
        for name, value in variables.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def end_note(burst: Burst) -> str:
    """Return what is said of a job that has ended in an isolated burst.

    The ``error`` of the burst is why the job ended so, where that is known.
    """
    why = f": {burst.error}" if burst.error else ""
    ended = "completed" if burst.exit_code == 0 else "failed"
    code = f"with exit code {burst.exit_code}"
    return f"it {ended} in burst {burst.name}, {code}{why}{output_note(burst.output)}"


def without_hope(burst: Burst) -> Burst:
    """Return a burst whose output is lost where it has not been fetched yet."""
    if not burst.output.startswith(UNREAD):
        return burst
    return replace(burst, output=f"{LOST}{burst.output.removeprefix(UNREAD)}")


def output_note(output: str) -> str:
    """Return what is said of a job's output, to be put after something else; empty for nothing."""
    if output.startswith((UNREAD, LOST)):
        return f"; its output is {output}"
    return f"; its output: {output}" if output else ""


def lost(burst: Burst, why: str, *, began: bool) -> Burst:
    """Return an isolated burst that is lost, its job having not ended there.

    Where the job has begun, all its nodes had ``joined`` the instance that runs it: so that the
    start is counted, also where the burst was never seen ``READY``.

    Args:
        burst: The burst, as it was.
        why: Why it is lost, for a person.
        began: Whether its job has begun, or may have.
    """
    joined = max(1, burst.nodes) if began else 0
    return replace(burst, state=BurstState.FAILED, joined=joined, error=why)


def as_told(burst: Burst, told: Mapping[str, str]) -> Burst:
    """Return a burst whose machines are there as its lead tells it.

    Args:
        burst: The burst, as it was.
        told: What the lead told: ``exit-code``, with what the job ended, and ``reason``, why, where
            that is known; or ``broken``, why it never will; or ``state``, which is ``running`` once
            the job does. A lead that cannot be heard for a moment tells nothing: the job runs on.
    """
    code = told.get("exit-code", "")
    if code.isdigit():
        why = told.get("reason", "")
        return replace(burst, state=BurstState.READY, exit_code=int(code), error=why)
    running = told.get("state") == "running" or burst.state is BurstState.READY
    if told.get("broken"):
        return lost(burst, told["broken"], began=running)
    return replace(burst, state=BurstState.READY if running else BurstState.STARTING, error="")


def with_output(burst: Burst, directory: Path, read: Callable[[], bytes]) -> Burst:
    """Return a burst whose job has ended with the output of that kept in a file here.

    Where it cannot be read or kept now, its ``output`` says why, after :data:`UNREAD`: the burst
    stays, and is asked for it again, for as long as ``[timeouts] output``. See :func:`kept_output`
    for what is kept.

    Args:
        burst: The burst, with its exit code.
        directory: Where the file is put; made if it is missing.
        read: Returns the output, of which ``OUTPUT_LIMIT`` bytes and one more are enough.
    """
    try:
        return replace(burst, output=_keep(burst, directory, read))
    except (FluxburstError, OSError) as error:
        _log.warning("burst %s: the output of its job cannot be kept yet: %s", burst.name, error)
        return replace(burst, output=f"{UNREAD}{error}")


def kept_output(
    burst: Burst, directory: Path, read: Callable[[], bytes], otherwise: str = ""
) -> str:
    """Keep the output of a burst's job in a file here, and return where it is to be read.

    The file has the burst's name with ``.log``, is its owner's alone, and is written whole and
    once: what is there since the burst began is not read again. Of an output that is longer than
    ``OUTPUT_LIMIT`` the beginning is kept, and the last line says that it was cut.

    Args:
        burst: The burst, whose job has ended.
        directory: Where the file is put; made if it is missing.
        read: Returns the output, of which ``OUTPUT_LIMIT`` bytes and one more are enough.
        otherwise: What to return where the output cannot be read or kept, which is logged.
    """
    try:
        return _keep(burst, directory, read)
    except (FluxburstError, OSError) as error:
        _log.warning("burst %s: the output of its job cannot be kept: %s", burst.name, error)
        return otherwise


def _keep(burst: Burst, directory: Path, read: Callable[[], bytes]) -> str:
    path = directory.expanduser() / f"{burst.name}.log"
    if not _is_there(path, burst.since):
        _write(path, read())
    return str(path)


def output_finding(directory: Path) -> Finding:
    """Say for ``fluxburst doctor`` whether :func:`kept_output` can put files into a directory."""
    path = directory.expanduser()
    advice = "correct the parameter output_dir, or make it a directory that this user may write"
    above = next((one for one in (path, *path.absolute().parents) if one.exists()), Path("/"))
    if not above.is_dir():
        return Finding("error", f"the output of jobs cannot be kept: {above} is a file", advice)
    if not os.access(above, os.W_OK | os.X_OK):
        what = f"the output of jobs cannot be kept in {path}: {above} cannot be written"
        return Finding("error", what, advice)
    there = "" if above == path else ", which is made with the first"
    return Finding("ok", f"the output of jobs is kept in {path}{there}")


def _is_there(path: Path, since: float | None) -> bool:
    """Whether a file is there that is of a burst, and of none before it of the same name."""
    try:
        return path.stat().st_mtime >= (since or 0.0)
    except FileNotFoundError:
        return False


def _write(path: Path, output: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(output[:OUTPUT_LIMIT])
            if len(output) > OUTPUT_LIMIT:
                file.write(_CUT)
        Path(made).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(made).unlink()
        raise
