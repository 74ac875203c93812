"""Doing what a plan says, and undoing it: marks, the run and unburst hooks, and what they left.

A job is marked before anything is brought up for it, and freed again if that fails. A plugin that
fails keeps no other from running, or from being taken down; all that failed is raised at the end.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from fluxburst.bursts import Burst, BurstRequest, BurstState
from fluxburst.errors import FAILURES, BurstError, BurstErrors, FluxburstError, RequestError
from fluxburst.fluids import format_f58
from fluxburst.handles.protocol import Instance
from fluxburst.jobs import Job, Mark
from fluxburst.manager import Manager
from fluxburst.plan import Plan
from fluxburst.plugins import COMING_STATES, LIVE_STATES, BurstPlugin, as_burst_error

_log = logging.getLogger(__name__)


class Executor:
    """Acts for one client.

    Args:
        hooks: The client's hooks.
        plugins: The loaded plugins, by name; the client's own mapping, not a copy.
        instance: The instance that jobs wait in.
    """

    def __init__(
        self, hooks: Manager, plugins: Mapping[str, BurstPlugin], instance: Instance
    ) -> None:
        self._hooks = hooks
        self._plugins = plugins
        self._instance = instance

    def apply(self, plan: Plan) -> list[Burst]:
        """Do what a plan says; its plugins must be loaded. See :meth:`FluxBurst.apply`."""
        for failure in plan.failures:
            self._hooks.phase_failed("plan", None, failure)
        self._forget_ended_jobs()
        errors: list[FluxburstError] = []
        bursts: list[Burst] = []
        for name, assigned in plan.assignments.items():
            plugin = self._plugins[name]
            offered = {jobid: plan.jobs[jobid] for jobid in assigned}
            jobs = self._give(plugin, offered, plan, errors)
            planned = tuple(
                burst
                for burst in plan.bursts
                if burst.plugin == name and not jobs.keys().isdisjoint(burst.jobs)
            )
            if jobs:
                bursts += self._run(plugin, BurstRequest(planned, jobs), errors)
        unmatched = [plan.jobs[jobid] for jobid in plan.unmatched]
        if unmatched:
            self._hooks.jobs_unmatched(unmatched)
        if errors:
            raise BurstErrors(errors, bursts)
        return bursts

    def request(
        self, plugins: Sequence[BurstPlugin], nodes: int | None, tasks: int | None
    ) -> list[Burst]:
        """Have plugins bring up capacity by hand. See :meth:`FluxBurst.request_bursts`."""
        errors: list[FluxburstError] = []
        bursts: list[Burst] = []
        request = BurstRequest(request_burst=True, nodes=nodes, tasks=tasks)
        for plugin in plugins:
            bursts += self._run(plugin, request, errors)
        if errors:
            raise BurstErrors(errors, bursts)
        return bursts

    def take_down(self, names: Collection[str] | None) -> list[str]:
        """Take bursts down: all, or the named ones. See :meth:`FluxBurst.run_unburst`."""
        errors: list[FluxburstError] = []
        ended: list[Burst] = []
        emptied: set[str] = set()
        for name, bursts in self._bursts_to_take_down(names, errors).items():
            problems = len(errors)
            ended += self._unburst(self._plugins[name], bursts, errors)
            if names is None and len(errors) == problems:
                emptied.add(name)
        self._free_jobs_of(ended, emptied)
        if errors:
            raise BurstErrors(errors, ended)
        return [burst.name for burst in ended]

    def refresh(self) -> list[Burst]:
        """Look at what has become of all bursts. See :meth:`FluxBurst.refresh_bursts`."""
        up = {node.hostname for node in self._instance.nodes() if node.up}
        for plugin in self._plugins.values():
            before = dict(plugin.bursts)
            for name, burst in before.items():
                if burst.state in COMING_STATES:
                    plugin.bursts[name] = _joined(_refreshed(plugin, burst), up)
            self._tell_changes(plugin, before)
            now = [plugin.bursts[n] for n, b in before.items() if b.state in COMING_STATES]
            self._end_failed(plugin, [b for b in now if b.state is BurstState.FAILED], [])
        return [burst for plugin in self._plugins.values() for burst in plugin.bursts.values()]

    def adopt(self) -> list[FluxburstError]:
        """Learn which bursts are out there. See :meth:`FluxBurst.adopt_bursts`."""
        errors: list[FluxburstError] = []
        for plugin, bursts in self._adopt(errors):
            _log.debug("plugin %s: %d bursts are there", plugin.name, len(bursts))
        return errors

    def reconcile(self) -> list[FluxburstError]:
        """Mend what is not as it was left. See :meth:`FluxBurst.reconcile`."""
        errors: list[FluxburstError] = []
        for plugin, bursts in self._adopt(errors):
            failed = [burst for burst in bursts if burst.state is BurstState.FAILED]
            idle = [burst for burst in failed if not self._busy(burst)]
            self._end_failed(plugin, idle, errors)
            sound = {burst.name for burst in bursts} - {burst.name for burst in failed}
            self._take_back(
                plugin,
                [
                    job.id
                    for job, mark in self._given(plugin)
                    if mark.burst and mark.burst not in sound
                ],
            )
        return errors

    # --- the steps -------------------------------------------------------------------------

    def _give(
        self,
        plugin: BurstPlugin,
        jobs: Mapping[int, Job],
        plan: Plan,
        errors: list[FluxburstError],
    ) -> dict[int, Job]:
        """Mark jobs as given to a plugin, before anything is brought up for them."""
        burst_of = {job: b.name for b in plan.bursts if b.plugin == plugin.name for job in b.jobs}
        burst_of.update({job: name for job, name in plan.riding.items() if job in jobs})
        marks = {
            jobid: Mark(plugin.name, burst_of.get(jobid, ""), _queue_before(job, plugin))
            for jobid, job in jobs.items()
        }
        left = {*self._instance.set_marks(marks)}
        left |= self._move(plugin, [job for job in jobs.values() if job.id not in left], errors)
        _log.info("plugin %s: given %d jobs", plugin.name, len(marks) - len(left))
        given = {jobid: job for jobid, job in jobs.items() if jobid not in left}
        plugin.jobs.update(given)
        for job in given.values():
            self._hooks.job_scheduled(job, plugin)
        return given

    def _run(
        self, plugin: BurstPlugin, request: BurstRequest, errors: list[FluxburstError]
    ) -> Sequence[Burst]:
        """Have a plugin run; free the jobs of what did not come up, also when interrupted."""
        plugin.planned = request.bursts
        before = dict(plugin.bursts)
        done: Sequence[Burst] = ()
        begun = request.bursts
        try:
            done = begun = tuple(self._hooks.run_plugin(plugin, request))
        except FluxburstError as error:
            done = begun = getattr(error, "bursts", ())
            errors.append(error)
            self._hooks.phase_failed("run", plugin, error)
            if not request.bursts:
                self._take_back(plugin, list(request.jobs))
        except BaseException:
            # Interrupted: what was begun may be there, what was not begun is not.
            begun = tuple(burst for burst in request.bursts if burst.name in plugin.bursts)
            raise
        finally:
            plugin.planned = ()
            # What a package brought up in its own way is known to nobody else, least of all when
            # the rest failed.
            plugin.bursts.update({burst.name: burst for burst in done})
            names = {burst.name for burst in begun}
            failed = [burst for burst in request.bursts if burst.name not in names]
            self._take_back(plugin, [job for burst in failed for job in burst.jobs])
            self._tell_changes(plugin, before)
        return done

    def _move(
        self, plugin: BurstPlugin, jobs: Sequence[Job], errors: list[FluxburstError]
    ) -> set[int]:
        """Move jobs to a plugin's queue; return those that could not be, which are free again."""
        elsewhere = [job.id for job in jobs if plugin.queue and job.queue != plugin.queue]
        refused = self._instance.move_jobs(elsewhere, plugin.queue) if elsewhere else {}
        for jobid, why in refused.items():
            problem = f"job {format_f58(jobid)} cannot be moved to queue {plugin.queue!r}: {why}"
            errors.append(BurstError(problem, plugin=plugin.name))
        self._take_back(plugin, list(refused))
        return set(refused)

    def _move_back(self, plugin: BurstPlugin, jobs: Collection[int]) -> None:
        """Move jobs that were taken from another queue back to it."""
        queues: dict[str, list[int]] = {}
        for job, mark in self._given(plugin):
            if job.id in jobs and mark.queue and job.queue != mark.queue:
                queues.setdefault(mark.queue, []).append(job.id)
        for queue, moving in queues.items():
            for jobid, why in self._instance.move_jobs(moving, queue).items():
                _log.warning("job %s stays in its queue: %s", format_f58(jobid), why)

    def _given(self, plugin: BurstPlugin) -> Iterator[tuple[Job, Mark]]:
        """Yield the pending jobs that a plugin was given, with their marks."""
        for job in self._instance.pending_jobs():
            mark = job.mark
            if mark is not None and mark.plugin == plugin.name:
                yield job, mark

    def _take_back(self, plugin: BurstPlugin, jobs: Collection[int]) -> None:
        """Free jobs that were given to a plugin which could not bring capacity up for them."""
        if jobs:
            if plugin.queue:
                self._move_back(plugin, jobs)
            self._instance.set_marks(dict.fromkeys(jobs))
        for jobid in jobs:
            plugin.jobs.pop(jobid, None)

    def _adopt(self, errors: list[FluxburstError]) -> Iterator[tuple[BurstPlugin, list[Burst]]]:
        """Yield each plugin that can tell, with its bursts as they are out there."""
        for plugin in self._plugins.values():
            try:
                there = _checked(plugin.adopt())
            except FAILURES as error:  # a provider's library may raise anything
                failure = as_burst_error(error, plugin.name)
                errors.append(failure)
                self._hooks.phase_failed("adopt", plugin, failure)
                continue
            if there is not None:
                yield plugin, self._adopted(plugin, there)

    def _adopted(self, plugin: BurstPlugin, there: Sequence[Burst]) -> list[Burst]:
        """Let a plugin know its bursts as they are out there."""
        before = dict(plugin.bursts)
        names = {burst.name for burst in there}
        for name, burst in before.items():
            if name not in names and burst.state in LIVE_STATES:
                plugin.bursts[name] = replace(burst, state=BurstState.ENDED)
        jobs: dict[str, list[int]] = {}
        for job, mark in self._given(plugin) if there else ():
            jobs.setdefault(mark.burst, []).append(job.id)
        bursts = []
        for burst in there:
            known = before.get(burst.name)
            given = known.jobs if known else tuple(jobs.get(burst.name, ()))
            bursts.append(replace(burst, jobs=given))
            plugin.bursts[burst.name] = bursts[-1]
        self._tell_changes(plugin, before)
        return bursts

    def _busy(self, burst: Burst) -> bool:
        """Whether jobs run on what is left of a burst."""
        ranks = [n.rank for n in self._instance.nodes() if n.hostname in burst.hostnames]
        return bool(ranks and self._instance.jobs_on(ranks))

    def _end_failed(
        self, plugin: BurstPlugin, failed: Sequence[Burst], errors: list[FluxburstError]
    ) -> None:
        """Take down what is left of bursts that failed, and free the jobs that wait for them."""
        if not failed:
            return
        problems: list[FluxburstError] = []
        gone = {burst.name for burst in self._unburst(plugin, failed, problems)}
        errors += problems
        for burst in failed:
            why = "; ".join(map(str, problems))
            left = f"; what is left of it could not be taken down, it may cost money: {why}"
            plugin.bursts[burst.name] = (
                burst
                if burst.name in gone
                else replace(burst, state=BurstState.ENDING, error=burst.error + left)
            )
        names = {burst.name for burst in failed}
        self._take_back(
            plugin, [job.id for job, mark in self._given(plugin) if mark.burst in names]
        )

    def _bursts_to_take_down(
        self, names: Collection[str] | None, errors: list[FluxburstError]
    ) -> dict[str, list[Burst]]:
        chosen: dict[str, list[Burst]] = {}
        for plugin in self._plugins.values():
            known = {
                name: burst
                for name, burst in plugin.bursts.items()
                if burst.state is not BurstState.ENDED
            }
            try:
                for name in plugin.list_bursts():
                    known.setdefault(name, Burst(name, plugin.name, "", 0))
            except FAILURES as error:  # a provider's library may raise anything
                errors.append(as_burst_error(error, plugin.name))
            chosen[plugin.name] = [
                burst for name, burst in known.items() if names is None or name in names
            ]
        found = {burst.name for bursts in chosen.values() for burst in bursts}
        unknown = sorted(set(names or ()) - found)
        if unknown and errors:  # it may be one of a plugin that could not be asked
            raise BurstErrors(errors)
        if unknown:
            raise RequestError(f"there is no burst {', '.join(map(repr, unknown))}")
        return {name: bursts for name, bursts in chosen.items() if bursts or names is None}

    def _unburst(
        self, plugin: BurstPlugin, bursts: Sequence[Burst], errors: list[FluxburstError]
    ) -> list[Burst]:
        """Have a plugin take bursts down; return those that are gone."""
        before = dict(plugin.bursts)
        try:
            gone = list(self._hooks.unburst_plugin(plugin, bursts))
        except FluxburstError as error:
            gone = [burst.name for burst in getattr(error, "bursts", ())]
            errors.append(error)
            self._hooks.phase_failed("unburst", plugin, error)
        ended = [replace(b, state=BurstState.ENDED) for b in bursts if b.name in gone]
        plugin.bursts.update({burst.name: burst for burst in ended})
        self._tell_changes(plugin, before)
        return ended

    def _free_jobs_of(self, ended: Sequence[Burst], emptied: Collection[str]) -> None:
        """Take the marks off jobs that still wait for bursts that are gone.

        Of a plugin that has nothing left out there, no mark means anything any more.
        """
        names = {(burst.plugin, burst.name) for burst in ended}
        waiting: dict[str, list[int]] = {}
        for job in self._instance.pending_jobs() if names or emptied else ():
            mark = job.mark
            if mark and (mark.plugin in emptied or (mark.plugin, mark.burst) in names):
                waiting.setdefault(mark.plugin, []).append(job.id)
        for name, jobs in waiting.items():
            self._take_back(self._plugins[name], jobs)

    def _forget_ended_jobs(self) -> None:
        if any(plugin.jobs for plugin in self._plugins.values()):
            active = set(self._instance.job_ids())
            for plugin in self._plugins.values():
                for jobid in plugin.jobs.keys() - active:
                    del plugin.jobs[jobid]

    def _tell_changes(self, plugin: BurstPlugin, before: Mapping[str, Burst]) -> None:
        for name, burst in plugin.bursts.items():
            if burst != before.get(name):
                _log.info("burst %s: %s", name, f"{burst.state.value} {burst.error}".strip())
                self._hooks.burst_changed(burst, before.get(name))


def _checked(there: Sequence[Burst] | None) -> list[Burst] | None:
    """Return what adopt() answered.

    Raises:
        BurstError: if it is something else than bursts.
    """
    if there is None:
        return None
    if isinstance(there, Iterable) and all(isinstance(burst, Burst) for burst in there):
        return list(there)
    raise BurstError(f"adopt() answered {there!r}, not the bursts that are there")


def _queue_before(job: Job, plugin: BurstPlugin) -> str:
    """Return the queue that a job is taken from, also where it was given away before."""
    if not plugin.queue:
        return ""
    if job.mark is not None and job.mark.queue:
        return job.mark.queue
    return job.queue if job.queue != plugin.queue else ""


def _refreshed(plugin: BurstPlugin, burst: Burst) -> Burst:
    """Return a burst as its plugin sees it; a plugin that cannot tell leaves a note on it."""
    try:
        now = plugin.refresh(replace(burst, error=""))
        if not isinstance(now, Burst) or now.name != burst.name:
            raise BurstError(f"refresh() answered {now!r}, not the burst as it is now")
        return now
    except FAILURES as error:  # a provider's library may raise anything
        return replace(burst, error=str(as_burst_error(error, plugin.name, burst.name)))


def _joined(burst: Burst, up: Collection[str]) -> Burst:
    """Return the burst with its state as the instance's nodes show it."""
    if burst.state not in COMING_STATES or not burst.hostnames:
        return burst
    joined = sum(hostname in up for hostname in burst.hostnames)
    if joined == burst.nodes:
        return replace(burst, state=BurstState.READY, joined=joined, error="")
    return replace(burst, state=BurstState.JOINING, joined=joined) if joined else burst
