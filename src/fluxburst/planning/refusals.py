"""Why a job is not assigned to a plugin, or could not be."""

from __future__ import annotations

from collections.abc import Mapping

from fluxburst.errors import BurstError
from fluxburst.model.identity import why_not_run_as
from fluxburst.model.job import Job
from fluxburst.model.queues import why_not_moved
from fluxburst.packing.fitting import why_unfit
from fluxburst.planning.draft import Candidate
from fluxburst.planning.job_size import why_too_large
from fluxburst.planning.plan_context import PlanContext
from fluxburst.planning.setbacks import moves_to
from fluxburst.plugin.base import BurstPlugin


class _Lacking:
    """Why plugins can supply less than they were set up for; each is asked once.

    Args:
        plugins: The plugins by name.
    """

    def __init__(self, plugins: Mapping[str, BurstPlugin]) -> None:
        self._plugins = plugins
        self._known: dict[str, list[str]] = {}

    def of(self, name: str) -> list[str]:
        """Return what one plugin says; a plugin that cannot tell says nothing."""
        if name not in self._known:
            try:
                self._known[name] = [str(line) for line in self._plugins[name].lacking()]
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - it is said elsewhere what a plugin cannot do
                self._known[name] = []
        return self._known[name]


class Refusals:
    """What a plan tells users whose jobs a plugin does not get; each names the plugin.

    Args:
        context: What the plan knows.
    """

    def __init__(self, context: PlanContext) -> None:
        self._limits = context.limits
        self._facts = context.facts
        self._lives = context.lives
        self._requests = context.requests
        self._nodes = context.nodes
        self._lacking = _Lacking(context.plugins)

    def why_not_asked(self, candidate: Candidate, plugin: str) -> str:
        """Return why a plugin is not asked whether it takes a job; empty where it is."""
        if plugin in self._facts.unusable:
            return f"{plugin} cannot be asked: {self._facts.unusable[plugin]}"
        job, jobid = candidate.job, candidate.id
        why = (
            self._why_too_short(candidate, plugin)
            or self._why_not_run(job, jobid, plugin)
            or self._why_not_now(job, jobid, plugin)
        )
        return f"{plugin}: {why}" if why else ""

    def why_declined(self, candidate: Candidate, plugin: str) -> str:
        """Return that a plugin has declined a job, and why, where that can be told."""
        types, why = self._facts.types[plugin], ""
        try:
            if types:
                constraint = self._requests.constraint_with(plugin, candidate.id)
                why = why_unfit(candidate.chunks, types, constraint)
        except BurstError:
            pass  # it may have declined the job without knowing its constraint
        said = f"{plugin} declined: {why}" if why else f"{plugin} declined"
        return "; ".join([said, *(() if types else self._lacking.of(plugin))])

    def why_no_nodes(
        self, candidate: Candidate, plugin: str, why: str, closed: Mapping[tuple[str, str], str]
    ) -> str:
        """Return why there are no nodes for a job that a plugin has accepted.

        Args:
            candidate: The job.
            plugin: The plugin.
            why: Why the job was not placed.
            closed: The node types that are not to be asked for, by plugin and name.
        """
        types = self._facts.types[plugin]
        not_asked_for = [
            f"{node_type!r} is not asked for: {reason}"
            for (name, node_type), reason in closed.items()
            if name == plugin and any(t.name == node_type for t in types)
        ]
        if len(not_asked_for) == len(types):
            why = ""  # it says what is lacking among those that may be asked for: there are none
        if not self._facts.of[plugin].isolated:
            why = why_too_large(candidate.chunks, self._nodes, types) or why
        lines = filter(None, [why, *not_asked_for, *self._lacking.of(plugin)])
        return f"{plugin}: {'; '.join(lines)}"

    def _why_too_short(self, candidate: Candidate, plugin: str) -> str:
        """Return why a job may outlive all that a plugin could provision for it."""
        try:
            constraint = self._requests.constraint_with(plugin, candidate.id)
            return self._lives.why_too_short(candidate.job, candidate.chunks, plugin, constraint)
        except BurstError:
            return ""  # its plugin may decline it without knowing its constraint

    def _why_not_run(self, job: Job, jobid: int, plugin: str) -> str:
        """Return why a job is not to run on what a plugin provisions, or cannot."""
        facts, users = self._facts.of[plugin], self._limits.users
        if not facts.isolated:
            return users.why_not_run(job.user)
        return self._limits.why_not_isolated(jobid) or why_not_run_as(
            facts.run_as, job.user, users.owner
        )

    def _why_not_now(self, job: Job, jobid: int, plugin: str) -> str:
        """Return why a plugin is not asked for a job now."""
        closed, queues = self._limits.closed, self._limits.queues
        if why := closed.get((plugin, "")):
            return f"it is not asked {why}"
        queue = self._facts.of[plugin].queue
        if queue and (why := why_not_moved(job, queue, queues)):
            return why
        moves = closed.get((plugin, moves_to(queue)))
        if queue and moves and job.queue != queue:
            return f"no job is moved to queue {queue!r} {moves}"
        return self._limits.why_not_again(jobid, plugin)
