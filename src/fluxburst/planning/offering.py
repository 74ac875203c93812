"""Offers jobs to plugins, one after another, until one accepts; records why the others do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fluxburst.errors import BurstError, FluxburstError, InstanceError, OrderingError, did_you_mean
from fluxburst.formats.spelling import known_name
from fluxburst.formats.units import counted
from fluxburst.model.identity import why_not_run_as
from fluxburst.model.job import Job
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import Node, NodeType
from fluxburst.model.plan import Outcome
from fluxburst.model.queues import why_not_moved
from fluxburst.packing.fitting import why_unfit
from fluxburst.planning.draft import Candidate, Draft
from fluxburst.planning.plan_inputs import PlanContext, Votes
from fluxburst.planning.setbacks import moves_to
from fluxburst.plugin.base import BurstPlugin


class Offers:
    """Offers candidates to plugins; a candidate that returns is offered to the next.

    Args:
        votes: The hooks to ask.
        context: The facts of the plan.
        draft: The decisions on jobs so far.
        refusals: Why plugins are not asked, or decline.
    """

    def __init__(
        self, votes: Votes, context: PlanContext, draft: Draft, refusals: Refusals
    ) -> None:
        self._votes = votes
        self._plugins = context.plugins
        self._limits = context.limits
        self._requests = context.requests
        self._draft = draft
        self._refusals = refusals

    def make(self, candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
        """Offer each candidate until a plugin accepts it; return who accepted what.

        Raises:
            OrderingError: if the ordering names a plugin that is not loaded.
            InstanceError: if the instance becomes unreachable.
        """
        accepted: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            try:
                if candidate.offers is None:
                    candidate.offers = iter(self._names_for(candidate))
                taker = self._first_taker(candidate, candidate.offers)
            except (OrderingError, InstanceError):
                raise
            except FluxburstError as error:
                self._draft.fail(candidate.id, error)
                continue
            if taker:
                accepted.setdefault(taker, []).append(candidate)
            else:
                reasons = candidate.reasons or ["no burst plugin is offered it"]
                self._draft.decide(candidate.id, Outcome.UNMATCHED, *reasons)
        return accepted

    def _names_for(self, candidate: Candidate) -> list[str]:
        """Return the plugins for a job, in order: those that it names, in its spelling."""
        if why := self._limits.why_not_again(candidate.id, ""):
            candidate.reasons.append(why)
            return []
        names = self._votes.order_plugins(self._plugins, candidate.job)
        asked = dict.fromkeys(known_name(n, self._plugins) for n in candidate.job.asks_for)
        candidate.reasons += [
            f"asks for plugin {name!r}, which is not loaded{did_you_mean(name, self._plugins)}"
            for name in asked
            if name not in self._plugins
        ]
        return [name for name in asked if name in names] if asked else list(names)

    def _first_taker(self, candidate: Candidate, offers: Iterator[str]) -> str:
        """Return the first plugin that accepts a job; empty for none."""
        job, jobid = candidate.job, candidate.id
        for name in offers:
            if why := self._refusals.why_not_asked(candidate, name):
                candidate.reasons.append(why)
                continue
            plugin = self._plugins[name]
            if self._votes.schedule_job(job, plugin):
                # If a plugin cannot determine its constraint, it does not get this job.
                self._requests.constraint_with(name, jobid)
                plugin.jobs[jobid] = job
                return name
            candidate.reasons.append(self._refusals.why_declined(candidate, name))
        return ""


class Refusals:
    """Explains to users why a plugin does not get their jobs; each reason names the plugin.

    Args:
        context: The facts of the plan.
    """

    def __init__(self, context: PlanContext) -> None:
        self._limits = context.limits
        self._facts = context.facts
        self._lives = context.lives
        self._requests = context.requests
        self._nodes = context.nodes
        self._lacking = _Lacking(context.plugins)

    def why_not_asked(self, candidate: Candidate, plugin: str) -> str:
        """Return why a plugin is not asked whether it takes a job; empty if it is."""
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
        """Return that a plugin has declined a job, with the reason if known."""
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
        """Return why there are no nodes for an accepted job.

        Args:
            candidate: The job.
            plugin: The plugin.
            why: Why the job was not placed.
            closed: The node types that must not be requested, by plugin and name.
        """
        types = self._facts.types[plugin]
        not_asked_for = [
            f"{node_type!r} is not asked for: {reason}"
            for (name, node_type), reason in closed.items()
            if name == plugin and any(t.name == node_type for t in types)
        ]
        if len(not_asked_for) == len(types):
            why = ""  # it concerns the types that may be requested, and there are none
        if not self._facts.of[plugin].isolated:
            why = _why_too_large(candidate.chunks, self._nodes, types) or why
        lines = filter(None, [why, *not_asked_for, *self._lacking.of(plugin)])
        return f"{plugin}: {'; '.join(lines)}"

    def _why_too_short(self, candidate: Candidate, plugin: str) -> str:
        """Return why a job may outlive everything that a plugin could provision for it."""
        try:
            constraint = self._requests.constraint_with(plugin, candidate.id)
            return self._lives.why_too_short(candidate.job, candidate.chunks, plugin, constraint)
        except BurstError:
            return ""  # its plugin may decline it without knowing its constraint

    def _why_not_run(self, job: Job, jobid: int, plugin: str) -> str:
        """Return why a job must not, or cannot, run on a plugin's nodes."""
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


class _Lacking:
    """Why plugins can supply less than they were configured for; each is asked once.

    Args:
        plugins: The plugins by name.
    """

    def __init__(self, plugins: Mapping[str, BurstPlugin]) -> None:
        self._plugins = plugins
        self._known: dict[str, list[str]] = {}

    def of(self, name: str) -> list[str]:
        """Return one plugin's reason; empty if it cannot tell."""
        if name not in self._known:
            try:
                self._known[name] = [str(line) for line in self._plugins[name].lacking()]
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - other checks report broken plugins
                self._known[name] = []
        return self._known[name]


def _why_too_large(
    chunks: Iterable[Chunk], nodes: Sequence[Node], node_types: Iterable[NodeType]
) -> str:
    """Return that a job is larger than the instance with all its nodes; empty if it is not.

    No joining nodes can help such a job. Flux's own scheduler rejects it at
    submission, and Fluxion lets it pend forever.

    Args:
        chunks: The job's request.
        nodes: All nodes known to the instance, up or down.
        node_types: A plugin's node types; an embedded instance need not know its nodes beforehand.
    """
    if not nodes:
        return ""  # an empty embedded instance learns of nodes only when they join
    chunks, supplied = tuple(chunks), [(one, one.max_nodes) for one in node_types]
    most = [(one.cores, count) for one, count in supplied if count is not None]
    if len(most) < len(supplied):
        return ""  # it can provision any number
    wanted = sum(chunk.count for chunk in chunks if chunk.node or chunk.exclusive)
    if wanted > max(len(nodes), sum(count for _, count in most)):
        asked = counted(wanted, "node")
        return f"needs {asked}, but the instance has {len(nodes)} in all (declared)"
    cores, there = sum(one.count * one.cores for one in chunks), sum(node.cores for node in nodes)
    if cores > max(there, sum(each * count for each, count in most)):
        return f"needs {counted(cores, 'core')}, but the instance has {there} in all (declared)"
    return ""
