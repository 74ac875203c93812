"""Doing what a plan says, and undoing it: marks, the run and unburst hooks, and what they left.

A job is marked before anything is brought up for it, and freed again if that fails. A plugin that
fails keeps no other from running, or from being taken down; all that failed is raised at the end.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from fluxburst.bursts import Burst, BurstRequest, BurstState
from fluxburst.errors import FAILURES, BurstErrors, FluxburstError, RequestError
from fluxburst.handles.protocol import Instance
from fluxburst.jobs import Job, Mark
from fluxburst.manager import Manager
from fluxburst.plan import Plan
from fluxburst.plugins import COMING_STATES, BurstPlugin, as_burst_error

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
            jobs = self._give(plugin, {jobid: plan.jobs[jobid] for jobid in assigned}, plan)
            planned = tuple(burst for burst in plan.bursts if burst.plugin == name)
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
        return [burst for plugin in self._plugins.values() for burst in plugin.bursts.values()]

    # --- the steps -------------------------------------------------------------------------

    def _give(self, plugin: BurstPlugin, jobs: Mapping[int, Job], plan: Plan) -> dict[int, Job]:
        """Mark jobs as given to a plugin, before anything is brought up for them."""
        burst_of = {job: b.name for b in plan.bursts if b.plugin == plugin.name for job in b.jobs}
        burst_of.update({job: name for job, name in plan.riding.items() if job in jobs})
        marks = {jobid: Mark(plugin.name, burst_of.get(jobid, "")) for jobid in jobs}
        ended = self._instance.set_marks(marks)
        _log.info("plugin %s: given %d jobs", plugin.name, len(marks) - len(ended))
        given = {jobid: job for jobid, job in jobs.items() if jobid not in ended}
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

    def _take_back(self, plugin: BurstPlugin, jobs: Collection[int]) -> None:
        """Free jobs that were given to a plugin which could not bring capacity up for them."""
        if jobs:
            self._instance.set_marks(dict.fromkeys(jobs))
        for jobid in jobs:
            plugin.jobs.pop(jobid, None)

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


def _refreshed(plugin: BurstPlugin, burst: Burst) -> Burst:
    """Return a burst as its plugin sees it; a plugin that cannot tell leaves a note on it."""
    try:
        return replace(plugin.refresh(burst), error="")
    except FAILURES as error:  # a provider's library may raise anything
        return replace(burst, error=str(as_burst_error(error, plugin.name, burst.name)))


def _joined(burst: Burst, up: Collection[str]) -> Burst:
    """Return the burst with its state as the instance's nodes show it."""
    if burst.state not in COMING_STATES or not burst.hostnames:
        return burst
    joined = sum(hostname in up for hostname in burst.hostnames)
    if joined == burst.nodes:
        return replace(burst, state=BurstState.READY)
    return replace(burst, state=BurstState.JOINING) if joined else burst
