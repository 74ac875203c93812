"""The housekeeping of a live Flux, from the job manager's statistics."""

from __future__ import annotations

from collections.abc import Sequence

from fluxburst.flux.rpc import Requests
from fluxburst.formats.fluid import parse_fluid
from fluxburst.formats.hostlist import parse_idset
from fluxburst.model.housekeeping import Housekeeping


def ask(requests: Requests) -> Sequence[Housekeeping]:
    """Return what runs now, like ``flux housekeeping list``.

    Raises:
        OSError: if the job manager does not answer.
    """
    stats = requests.ask("job-manager.stats-get", {})
    running = (stats.get("housekeeping") or {}).get("running") or {}
    return [
        Housekeeping(
            parse_fluid(job),
            frozenset(parse_idset(one["allocated"])),
            frozenset(parse_idset(one["pending"])),
            float(one["t_start"]),
        )
        for job, one in running.items()
    ]
