"""Housekeeping (flux-housekeeping(1)): what runs on nodes after a job has ended on them.

As long as it does, the nodes are not free for jobs, and no job is shown on them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from fluxburst.formats.fluid import format_f58
from fluxburst.formats.units import format_duration


@dataclass(frozen=True)
class Housekeeping:
    """The housekeeping of one job.

    Attributes:
        job: The job's id.
        ranks: The nodes that are not free because of it.
        running: Those of them on which it still runs.
        since: Since when, in seconds since the epoch.
    """

    job: int
    ranks: frozenset[int]
    running: frozenset[int]
    since: float


def on_nodes(found: Iterable[Housekeeping], ranks: Collection[int]) -> list[Housekeeping]:
    """Return the housekeeping because of which some of these nodes are not free."""
    return [one for one in found if not one.ranks.isdisjoint(ranks)]


def told(found: Iterable[Housekeeping], hostnames: Mapping[int, str], now: float) -> str:
    """Return what still runs where and for how long, and what can be done about it; or empty.

    Args:
        found: The housekeeping.
        hostnames: The names of the nodes that it is told of, by rank.
        now: The time, in seconds since the epoch.
    """
    parts, where = [], ""
    for one in found:
        ranks = sorted((one.running or one.ranks) & hostnames.keys())
        if ranks:
            where = ",".join(hostnames[rank] for rank in ranks)
            since = format_duration(max(0.0, round(now - one.since)))
            name = format_f58(one.job)
            parts.append(f"housekeeping of job {name} still runs on {where}, for {since} now")
    if not parts:
        return ""
    return (
        f"{'; '.join(parts)} (see 'flux housekeeping list'; 'flux housekeeping kill "
        f"--targets={where}' ends it)"
    )
