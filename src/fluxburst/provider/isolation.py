"""Isolated bursts: an independent instance runs a job, and the job here reports its result.

Flux cannot complete a job that did not run in it. So the job is held here (urgency 0, the
former one in its memo) before anything is requested, and while it runs there. When it has ended
there, it is ended here with a fatal exception of type ``burst`` (RFC 21) whose note has the result;
if its burst fails, it gets its urgency back once nothing of the burst is left.

A plugin describes an ended job's output as text for people: where to read it,
or, after :data:`UNREAD` or :data:`LOST`, why that is impossible.
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
"""The maximum number of bytes of a job's output kept here."""

UNREAD = "not fetched yet: "
"""Prefix of ``output`` while fetching it will be retried; the reason follows."""

LOST = "lost: "
"""Prefix of ``output`` once fetching it was given up; the reason follows."""

_CUT = b"\n[fluxburst: the output is longer than 16 MiB, and cut here]\n"

_LOCAL = ("constraints", "queue", "bank", "dependencies", "burstable")
"""Requests to this instance (RFC 25) that mean nothing in another."""

_log = logging.getLogger(__name__)


def remote_jobspec(instance: Instance, jobid: int, environment: Sequence[str] = ()) -> str:
    """Return a job's jobspec for another instance, as JSON for ``flux job submit``.

    Keeps its resources, tasks, duration, working directory and files (RFC 37). Leaves out a
    queue, a bank, nodes or other jobs, and redirections of standard input and output:
    the other instance keeps the output.

    Args:
        instance: The instance of the job.
        jobid: The job.
        environment: Patterns (fnmatch) of environment variables to pass; by default none, since
            those of this host mean little in an image.

    Raises:
        InstanceError: if the instance cannot be reached.
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
    """Return the note about a job that has ended in an isolated burst.

    The burst's ``error`` is the reason for its end, if known.
    """
    why = f": {burst.error}" if burst.error else ""
    ended = "completed" if burst.exit_code == 0 else "failed"
    code = f"with exit code {burst.exit_code}"
    return f"it {ended} in burst {burst.name}, {code}{why}{output_note(burst.output)}"


def without_hope(burst: Burst) -> Burst:
    """Return a burst whose output counts as lost if it has not been fetched yet."""
    if not burst.output.startswith(UNREAD):
        return burst
    return replace(burst, output=f"{LOST}{burst.output.removeprefix(UNREAD)}")


def output_note(output: str) -> str:
    """Return the part of a note about a job's output; empty for none."""
    if output.startswith((UNREAD, LOST)):
        return f"; its output is {output}"
    return f"; its output: {output}" if output else ""


def lost(burst: Burst, why: str, *, began: bool) -> Burst:
    """Return a lost isolated burst, whose job has not ended there.

    If the job has begun, all nodes had ``joined`` the instance that runs it: so the start counts,
    even if the burst was never seen ``READY``.

    Args:
        burst: The burst's last state.
        why: Why it is lost, for people.
        began: Whether its job has begun, or may have.
    """
    joined = max(1, burst.nodes) if began else 0
    return replace(burst, state=BurstState.FAILED, joined=joined, error=why)


def as_told(burst: Burst, told: Mapping[str, str]) -> Burst:
    """Return a burst with existing machines in its state according to its lead.

    Args:
        burst: The burst's last state.
        told: The lead's reports: ``exit-code`` of the job, and ``reason`` for it, if
            known; or ``broken``, why it will never end; or ``state``, which is ``running`` once the
            job runs. A temporarily unreachable lead reports nothing: the job runs on.
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
    """Return a burst whose job has ended, with the job's output kept in a file here.

    If it cannot be read or kept now, its ``output`` says why, after :data:`UNREAD`: the burst
    stays, and fetching is retried for as long as ``[timeouts] output``. See :func:`kept_output`
    for the file.

    Args:
        burst: The burst, with its exit code.
        directory: Directory of the file; created if missing.
        read: Returns the output, or at least ``OUTPUT_LIMIT`` + 1 bytes of it.
    """
    try:
        return replace(burst, output=_keep(burst, directory, read))
    except (FluxburstError, OSError) as error:
        _log.warning("burst %s: cannot keep the output of its job yet: %s", burst.name, error)
        return replace(burst, output=f"{UNREAD}{error}")


def kept_output(
    burst: Burst, directory: Path, read: Callable[[], bytes], otherwise: str = ""
) -> str:
    """Keep the output of a burst's job in a file here, and return where to read it.

    The file is named after the burst, with ``.log``, is readable by its owner only, and is written
    atomically, once: a file newer than the burst's start is not fetched again. Of a longer output,
    the first ``OUTPUT_LIMIT`` bytes are kept, and the last line says that it was cut.

    Args:
        burst: The burst, whose job has ended.
        directory: Directory of the file; created if missing.
        read: Returns the output, or at least ``OUTPUT_LIMIT`` + 1 bytes of it.
        otherwise: The result if the output cannot be read or kept, which is logged.
    """
    try:
        return _keep(burst, directory, read)
    except (FluxburstError, OSError) as error:
        _log.warning("burst %s: cannot keep the output of its job: %s", burst.name, error)
        return otherwise


def _keep(burst: Burst, directory: Path, read: Callable[[], bytes]) -> str:
    path = directory.expanduser() / f"{burst.name}.log"
    if not _is_there(path, burst.since):
        _write(path, read())
    return str(path)


def output_finding(directory: Path) -> Finding:
    """Check for ``fluxburst doctor`` whether :func:`kept_output` can write to a directory."""
    path = directory.expanduser()
    advice = "correct the parameter output_dir, or make it a directory writable by this user"
    above = next((one for one in (path, *path.absolute().parents) if one.exists()), Path("/"))
    if not above.is_dir():
        return Finding("error", f"cannot keep the output of jobs: {above} is a file", advice)
    if not os.access(above, os.W_OK | os.X_OK):
        what = f"cannot keep the output of jobs in {path}: {above} is not writable"
        return Finding("error", what, advice)
    there = "" if above == path else ", created on first use"
    return Finding("ok", f"the output of jobs is kept in {path}{there}")


def _is_there(path: Path, since: float | None) -> bool:
    """Whether a file exists that belongs to a burst, not to an earlier one of the same name."""
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
