"""Isolated bursts: an independent instance runs a job, and the job here tells the truth of it.

Flux has no way to complete a job that has not run in it. So the job is held here (urgency 0, the
former one in its memo) before anything is asked for, and stays so while it runs there. When it
ended there it is ended here, with a fatal exception of type ``burst`` (RFC 21) whose note says how;
if its burst fails it gets its urgency back, once nothing of the burst is left.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fluxburst.bursts import Burst
from fluxburst.handles.protocol import Instance

_LOCAL = ("constraints", "queue", "bank", "dependencies", "burstable")
"""What is asked for of the instance here (RFC 25), and means nothing in another."""


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
    """Return what is said of a job that has ended in an isolated burst."""
    where = f"; its output: {burst.output}" if burst.output else ""
    ended = "completed" if burst.exit_code == 0 else "failed"
    return f"it {ended} in burst {burst.name}, with exit code {burst.exit_code}{where}"
