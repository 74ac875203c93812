"""Lifetimes: whether nodes live as long as jobs may run."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from fluxburst.errors import FluxburstError, FluxUnavailableError, InstanceError
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.units import format_duration
from fluxburst.model.constraints import compiled
from fluxburst.model.job import Job
from fluxburst.model.node import NodeType
from fluxburst.model.queues import Queue
from fluxburst.packing.fitting import could_fit
from fluxburst.planning.lifespans import Lifespans, why_not_renewable
from fluxburst.plugin.base import BurstPlugin, Finding
from fluxburst.reports.doctor.installation import Installation
from fluxburst.simulation.embedded import EmbeddedInstance

_LONGER = "raise max_lifetime or the node type's limit, or shorten these jobs' time limits"
_LIMIT_JOBS = (
    "have Flux set a limit (policy.jobspec.defaults.system.duration, flux-config-policy(5)), or "
    "set assumed_duration in [lifetimes]"
)


class LifetimeFindings:
    """Compares the lives of nodes with the limits of jobs.

    Args:
        lifespans: The configured lifetimes.
        plugins: The loaded plugins, by name.
        jobs: The pending jobs that may burst.
        queues: The instance's queues, by name.
        served: Whether a service runs that renews leases.
    """

    def __init__(
        self,
        lifespans: Lifespans,
        plugins: Mapping[str, BurstPlugin],
        jobs: Collection[Job],
        queues: Mapping[str, Queue],
        *,
        served: bool,
    ) -> None:
        self._lifespans = lifespans
        self._types = {name: _types_of(plugin) for name, plugin in plugins.items()}
        self._fixed = {name: why_not_renewable(plugin) for name, plugin in plugins.items()}
        self._jobs = jobs
        self._queues = queues
        self._served = served

    def all(self) -> Iterator[Finding]:
        """Yield all findings."""
        found = [
            *(one for name in self._types for one in self._of_plugin(name)),
            *self._of_queues(),
            *self._of_jobs(),
            *self._of_leases(),
        ]
        yield from found
        if all(one.level == "ok" for one in found):
            yield Finding("ok", "nodes live as long as the waiting jobs may run")

    def _of_plugin(self, name: str) -> Iterator[Finding]:
        fixed = self._fixed[name]
        if fixed:
            what = f"leases of {name} cannot be renewed ({fixed}): their jobs set the length"
            yield Finding("ok", what)
        for kind in self._types[name]:
            if self._lifespans.for_jobs(kind, fixed) <= 0:
                lives = format_duration(self._lifespans.of_type(kind))
                startup = format_duration(self._lifespans.lifetimes.startup)
                teardown = format_duration(self._lifespans.teardown)
                what = (
                    f"no job with a time limit ever fits on {kind.name!r} nodes of {name}: "
                    f"they live {lives} at most, with {startup} for startup and "
                    f"{teardown} for teardown"
                )
                yield Finding("error", what, "raise max_lifetime, or lower startup or teardown")

    def _of_queues(self) -> Iterator[Finding]:
        """Compare the time limits of queues with the longest life of a node."""
        most = self._most()
        for queue in self._queues.values():
            which = f"queue {queue.name!r}" if queue.name else "the instance"
            if queue.duration == 0 and math.isfinite(most) and self._assumes_for_ever:
                what = f"jobs of {which} without a time limit run without end, and never burst"
                yield Finding("warning", f"{what}: no node lives forever", _LIMIT_JOBS)
            for limit, of in ((queue.duration, "get"), (queue.longest, "may ask for")):
                if limit and math.isfinite(limit) and limit > most:
                    what = f"jobs of {which} {of} up to {format_duration(limit)}"
                    lives = f"no node lives longer for jobs than {format_duration(most)}"
                    yield Finding("warning", f"{what}, and {lives}", _LONGER)

    def _of_jobs(self) -> Iterator[Finding]:
        """Name the jobs that no plugin's nodes can outlive."""
        without: list[Job] = []
        longer: list[Job] = []
        for job in self._jobs:
            needed = self._needed(job)
            if needed and self._types and not self._outlived(job, needed):
                (without if math.isinf(needed) else longer).append(job)
        if without:
            what = f"{_named(without)} may burst but has no time limit: no node lives forever"
            yield Finding("warning", what, _LIMIT_JOBS)
        if longer:
            longest = max(longer, key=self._needed)
            runs = format_duration(self._needed(longest))
            most = format_duration(max(0.0, self._most()))
            what = f"{_named(longer)} may burst but may run longer than any node lives for jobs"
            yield Finding("warning", f"{what}: {runs} at most, and {most}", _LONGER)

    def _of_leases(self) -> Iterator[Finding]:
        """Warn about long jobs if no service renews leases."""
        lease = self._lifespans.lease - self._lifespans.lifetimes.startup
        renewed = [name for name, fixed in self._fixed.items() if not fixed]
        long = [job for job in self._jobs if self._needed(job) > lease]
        if renewed and long and not self._served and math.isfinite(lease):
            what = (
                f"{_named(long)} may burst but may run longer than a lease of "
                f"{format_duration(self._lifespans.lease)}, which only a service renews"
            )
            yield Finding("warning", what, "run fluxburst watch, or raise lifetimes.lease")

    @property
    def _assumes_for_ever(self) -> bool:
        return math.isinf(self._lifespans.lifetimes.assumed_duration)

    def _most(self) -> float:
        """Return the longest time a job may run on any new node; inf if unknown."""
        lives = [
            self._lifespans.for_jobs(kind, self._fixed[name])
            for name, kinds in self._types.items()
            for kind in kinds
        ]
        return max(lives, default=math.inf)

    def _outlived(self, job: Job, needed: float) -> bool:
        """Whether some node can outlive a job; true if the job fails to fit for other reasons."""
        try:
            constraint = compiled(job.constraint, job.id)
            roomy = [
                (name, kind)
                for name, kinds in self._types.items()
                for kind in kinds
                if could_fit(job.chunks, [kind], constraint)
            ]
        except FluxburstError:
            return True
        suits = self._lifespans.suits
        return not roomy or any(suits(needed, kind, self._fixed[name]) for name, kind in roomy)

    def _needed(self, job: Job) -> float:
        try:
            return self._lifespans.needed(job)
        except FluxburstError:
            return 0.0


def _types_of(plugin: BurstPlugin) -> Sequence[NodeType]:
    try:
        return list(plugin.node_types())
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the plugin's own check reports it
        return []


def _named(jobs: Sequence[Job]) -> str:
    more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
    return f"job {format_f58(jobs[0].id)}{more}"


def knows_leases(plugin: BurstPlugin) -> bool:
    """Whether a plugin knows its leases: some have to ask the instance, which may be down."""
    try:
        _ = plugin.not_renewable
    except (FluxUnavailableError, InstanceError):
        return False
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - another check reports it
        return True
    return True


def check_lifetimes(installation: Installation) -> Iterator[Finding]:
    """Compare the lives of nodes with the time limits of jobs, if the instance can be reached."""
    client = installation.client
    jobs: list[Job] = []
    queues: Mapping[str, Queue] = {}
    plugins = {name: one for name, one in client.plugins.items() if knows_leases(one)}
    if client.plugins and not plugins:
        return
    live = installation.reached and not isinstance(installation.instance, EmbeddedInstance)
    if installation.reached:
        jobs = [job for job in client.instance.pending_jobs() if job.burstable]
        queues = client.instance.queues()
    yield from LifetimeFindings(
        Lifespans(client.policy.lifetimes),
        plugins,
        jobs,
        queues,
        served=not live or bool(client.holder()),
    ).all()
