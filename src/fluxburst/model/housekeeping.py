"""Housekeeping (flux-housekeeping(1)): runs on nodes after a job has ended on them.

Meanwhile the nodes are not free for jobs, although Flux shows no job on them.
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
        ranks: The nodes that it occupies.
        running: Those of them where it still runs.
        since: Its start, in seconds since the epoch.
    """

    job: int
    ranks: frozenset[int]
    running: frozenset[int]
    since: float


def on_nodes(found: Iterable[Housekeeping], ranks: Collection[int]) -> list[Housekeeping]:
    """Return the housekeeping that occupies some of these nodes."""
    return [one for one in found if not one.ranks.isdisjoint(ranks)]


def told(found: Iterable[Housekeeping], hostnames: Mapping[int, str], now: float) -> str:
    """Describe what still runs where and for how long, with advice; empty for nothing.

    Args:
        found: The housekeeping.
        hostnames: The names of its nodes, by rank.
        now: Current time, in seconds since the epoch.
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
