"""Making a plan: offer each selected job to the plugins in order, and count the nodes they need.

A job that a plugin accepts but has no room for, because of its limits, is offered to the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from fluxburst.config.policy import Limits
from fluxburst.errors import (
    BurstError,
    FluxburstError,
    InstanceError,
    JobspecError,
    OrderingError,
    did_you_mean,
    text_of,
)
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.spelling import known_name
from fluxburst.model.burst import Burst
from fluxburst.model.burst_names import burst_name
from fluxburst.model.collector import collector_paused
from fluxburst.model.constraints import ALL_ALIKE, Constraint, ConstraintBits, compiled
from fluxburst.model.identity import Users, only_this_user, why_not_run_as
from fluxburst.model.job import Job, Mark, queue_order
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import Node, NodeType
from fluxburst.model.plan import Decision, Outcome, Plan
from fluxburst.model.queues import Queue, why_not_moved, why_not_startable
from fluxburst.model.scheduler import UNKNOWN, Fit, Scheduler
from fluxburst.model.scheduler_reading import as_read_by
from fluxburst.packing.fitting import fits_now, why_unfit
from fluxburst.packing.limits import Budget, Owner, Spent
from fluxburst.packing.packer import Demand, Packer, Packing
from fluxburst.packing.pool import Pool
from fluxburst.packing.rehearsal import Claim, Outlook, Rehearsal
from fluxburst.packing.supply import Candidates
from fluxburst.packing.worst_fit import WorstFit
from fluxburst.planning.existing import Existing
from fluxburst.planning.facts import Facts, facts_of
from fluxburst.planning.job_size import why_too_large
from fluxburst.planning.lacking import Lacking
from fluxburst.planning.lives import Lives, PlannedLives
from fluxburst.planning.setbacks import moves_to
from fluxburst.plugin.base import BurstPlugin, as_burst_error


class Votes(Protocol):
    """The hooks that a plan asks."""

    def select_job(self, job: Job) -> bool:
        """Whether a job is a candidate for bursting."""
        ...

    def order_plugins(self, plugins: Mapping[str, BurstPlugin], job: Job | None) -> Sequence[str]:
        """To which plugins a job is offered, in order."""
        ...

    def schedule_job(self, job: Job, plugin: BurstPlugin) -> bool:
        """Whether a plugin takes a job."""
        ...


@dataclass(frozen=True)
class PlanLimits:
    """What holds a plan back, besides what plugins can supply.

    Attributes:
        allowance: What the limits leave; it is not changed.
        by_owner: Whether each user and queue gets bursts of its own, to be charged for.
        closed: Node types that are not to be asked for, by plugin and name, with the reason.
        tried: Node types of which one burst is to be tried, with the reason for no other.
        stuck: Plugins that do not answer, with the reason.
        why_not_isolated: Returns why a job, by id, is to get no isolated burst; empty if it may.
        why_not_again: Returns why a job, by id, is not offered to a plugin again yet, or to none of
            them (empty name); empty if it is.
        lives: How long nodes live.
        shuns_free_nodes: Whether a job, by id, did not start on free nodes, and is to get new ones.
        name_of: Makes the name of a burst one that no burst before had.
        queues: The instance's queues by name; empty where they are not known.
        users: Whose jobs the instance runs.
    """

    allowance: Budget = field(default_factory=lambda: Budget(Limits(), Spent(0.0), 0.0))
    by_owner: bool = False
    closed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    tried: Mapping[tuple[str, str], str] = field(default_factory=dict)
    stuck: Mapping[str, BurstError] = field(default_factory=dict)
    why_not_isolated: Callable[[int], str] = lambda job: ""
    why_not_again: Callable[[int, str], str] = lambda job, plugin: ""
    lives: Lives = field(default_factory=Lives)
    shuns_free_nodes: Callable[[int], bool] = lambda job: False
    name_of: Callable[[str], str] = str
    queues: Mapping[str, Queue] = field(default_factory=dict)
    users: Users = field(default_factory=only_this_user)


@dataclass(frozen=True)
class FreeCapacity:
    """Capacity that a plan has promised to nobody: what the next plan may begin with.

    Attributes:
        pool: The nodes that are free or coming, with what they have left.
        kinds: The constraints that they are told apart by.
        nodes: The same nodes as the scheduler leaves them, where it places jobs by worst fit.
        held_up_by: The place in the queue, and the id, of a job that holds up all behind it.
    """

    pool: Pool = field(default_factory=Pool)
    kinds: ConstraintBits = ALL_ALIKE
    nodes: WorstFit = field(default_factory=WorstFit)
    held_up_by: tuple[int, int] | None = None


@dataclass(slots=True)
class _Candidate:
    """A selected job on its way through the plugins."""

    job: Job
    turn: int
    offers: Iterator[str] | None = None
    reasons: list[str] = field(default_factory=list)


class _Constraints:
    """What the nodes of jobs must match: by themselves, and once a plugin has accepted them.

    All of a plan are gathered before nodes are counted, as it is by them that nodes are told apart.

    Args:
        plugins: The plugins that have a say in it; with the others jobs keep their own.
    """

    def __init__(self, plugins: Mapping[str, BurstPlugin]) -> None:
        self._plugins = plugins
        self._own: dict[int, Constraint] = {}
        self._with: dict[str, dict[int, Constraint | BurstError]] = {name: {} for name in plugins}

    def own(self, job: Job) -> Constraint:
        """Return the constraint that a job has.

        Raises:
            JobspecError: if it is malformed.
        """
        found = self._own.get(job.id)
        if found is None:
            found = self._own[job.id] = compiled(job.constraint, job.id)
        return found

    def ask(self, job: Job) -> None:
        """Ask each plugin which constraint a job would have with it."""
        for name, plugin in self._plugins.items():
            try:
                self._with[name][job.id] = compiled(plugin.constraint_of(job))
            except InstanceError:
                raise
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a package may raise anything
                why = f"constraint_of() for job {job.id}: {type(error).__name__}: {text_of(error)}"
                self._with[name][job.id] = BurstError(why, plugin=name)

    def of(self, job: Job, plugin: str) -> Constraint:
        """Return the constraint that a job will have with a plugin.

        Raises:
            BurstError: if the plugin could not tell.
        """
        found = self._with[plugin][job.id] if plugin in self._with else self._own[job.id]
        if isinstance(found, BurstError):
            raise found
        return found

    def all(self) -> list[Constraint]:
        """Return all that were gathered."""
        told = [*self._own.values()]
        for answers in self._with.values():
            told += [answer for answer in answers.values() if isinstance(answer, Constraint)]
        return told


def _changes_constraints(plugin: BurstPlugin) -> bool:
    return getattr(plugin.constraint_of, "__func__", None) is not BurstPlugin.constraint_of


@contextmanager
def _jobs_unchanged(plugins: Mapping[str, BurstPlugin]) -> Iterator[None]:
    """Let plugins collect jobs in a copy, as those of flux-burst do, and put back what was."""
    before = {name: plugin.jobs for name, plugin in plugins.items()}
    for plugin in plugins.values():
        plugin.jobs = dict(plugin.jobs)
    try:
        yield
    finally:
        for name, plugin in plugins.items():
            plugin.jobs = before[name]


class Planner:
    """Makes one plan.

    Args:
        votes: The hooks to ask.
        plugins: The loaded plugins, by name.
        nodes: The instance's nodes.
        bounds: What holds it back; by default nothing.
        residual: What is left of the capacity that is free or coming, where the jobs are only
            some of those that wait; by default that is counted anew, with all of them.
        scheduler: By which rules the instance starts jobs.

    Attributes:
        residual: What the plan has left of it.
    """

    def __init__(
        self,
        votes: Votes,
        plugins: Mapping[str, BurstPlugin],
        nodes: Sequence[Node],
        bounds: PlanLimits | None = None,
        residual: FreeCapacity | None = None,
        scheduler: Scheduler = UNKNOWN,
    ) -> None:
        self._votes = votes
        self._scheduler = scheduler
        self._plugins = plugins
        self._bounds = bounds or PlanLimits()
        self._partial = residual is not None
        self.residual = self._before = residual or FreeCapacity()
        self._allowance = self._bounds.allowance.copy()
        self._unusable: dict[str, BurstError] = dict(self._bounds.stuck)
        self._lacking = Lacking(plugins)
        self._facts = {name: self._facts_of(plugin) for name, plugin in plugins.items()}
        self._types = {name: facts.types for name, facts in self._facts.items()}
        self._in_use = {name: dict(facts.in_use) for name, facts in self._facts.items()}
        self._nodes = tuple(nodes)
        self._lives = PlannedLives(self._bounds.lives, plugins, self._types, self._nodes)
        self._there = Existing(self._nodes, plugins, self._types, self._lives)
        self._shares_burst: dict[int, str] = {}
        self._constraints = _Constraints(
            {
                name: plugin
                for name, plugin in plugins.items()
                if self._types[name] and _changes_constraints(plugin)
            }
        )
        self._kinds = ALL_ALIKE
        self._existing = Pool()
        self._packers: dict[Owner, Packer] = {}
        self._decisions: dict[int, Decision] = {}
        self._candidates_by_id: dict[int, _Candidate] = {}
        self._owners: dict[int, Owner] = {}
        self._accepted: dict[str, dict[int, int]] = {name: {} for name in plugins}
        self._bursting: dict[tuple[Owner, str], list[int]] = {}
        self._alone: list[tuple[Owner, str, int, int]] = []
        """Owner, node type, nodes and job of what is to run in isolated bursts."""

    def plan(self, jobs: Sequence[Job], others: Iterable[Job] = ()) -> Plan:
        """Decide on each job. Plugins are as before afterwards.

        Args:
            jobs: The jobs to decide on, in the order of the queue.
            others: More jobs that wait: the scheduler may start them first. They are looked at
                where jobs are placed in turn, and what is free or coming is counted anew.

        Raises:
            OrderingError: if the ordering that was set names a plugin that is not loaded.
            InstanceError: if the instance goes away meanwhile.
        """
        in_turn = self._scheduler.fit is Fit.WORST
        queue = self._whole_queue(jobs, others) if in_turn else ()
        with _jobs_unchanged(self._plugins), collector_paused():
            candidates = self._candidates(jobs, queue)
            selected = {candidate.job.id: candidate.job for candidate in candidates}
            while candidates:
                candidates = self._pack(self._offer(candidates))
            while in_turn and (candidates := self._rehearse(queue)):
                while candidates:
                    candidates = self._pack(self._offer(candidates))
        for packer in self._packers.values():
            self._existing.absorb(packer.leftover())
        self.residual = replace(self.residual, pool=self._existing, kinds=self._kinds)
        return Plan(
            decisions=tuple(self._decisions[job.id] for job in jobs),
            bursts=tuple(self._bursts()),
            assignments={
                name: tuple(ids for _, ids in sorted(jobs.items()))
                for name, jobs in self._accepted.items()
            },
            jobs=selected,
            errors=tuple(self._unusable.values()),
            shares_burst=self._shares_burst,
        )

    def _whole_queue(self, jobs: Sequence[Job], others: Iterable[Job]) -> Sequence[Job]:
        """Return all jobs that the scheduler has, in the order in which it starts them."""
        if self._partial:
            return jobs
        known = {job.id for job in jobs}
        rest = [job for job in others if job.id not in known]
        return sorted([*jobs, *rest], key=queue_order) if rest else jobs

    def selected(self, jobs: Sequence[Job]) -> dict[int, Job]:
        """Return the jobs that would be selected, by id; those that cannot be judged are not.

        Raises:
            InstanceError: if the instance goes away meanwhile.
        """
        return {candidate.job.id: candidate.job for candidate in self._candidates(jobs)}

    def _decide(self, job: Job, outcome: Outcome, *reasons: str, plugin: str = "") -> None:
        self._decisions[job.id] = Decision(job.id, outcome, plugin, reasons)

    def _fail(self, job: Job, error: FluxburstError) -> None:
        self._decisions[job.id] = Decision(job.id, Outcome.FAILED, "", (str(error),), error)

    def _facts_of(self, plugin: BurstPlugin) -> Facts:
        if plugin.name in self._unusable:
            return Facts()
        try:
            return facts_of(plugin)
        except BurstError as error:
            self._unusable[plugin.name] = error
            return Facts()

    # --- the steps -------------------------------------------------------------------------

    def _candidates(self, jobs: Sequence[Job], queue: Sequence[Job] = ()) -> list[_Candidate]:
        """Return the selected jobs, in queue order, once what was given has its nodes.

        Nodes are counted in between: they are told apart by the constraints of these jobs only,
        however many others there are.
        """
        found: list[_Candidate] = []
        given: list[tuple[_Candidate, Mark]] = []
        for turn, job in enumerate(jobs):
            mark = job.mark
            if mark is not None:
                given.append((_Candidate(job, turn), mark))
            elif self._select(job):
                found.append(_Candidate(job, turn))
        self._gather_constraints(queue)
        existing = self._count_nodes([c.job for c in found] + [c.job for c, _ in given])
        found += [c for c in self._set_aside(given, existing) if self._select(c.job)]
        return sorted(found, key=lambda candidate: candidate.turn)

    def _gather_constraints(self, queue: Sequence[Job]) -> None:
        """Learn the constraints of all that stand in the queue, where nodes are counted anew."""
        for job in queue if not self._partial else ():
            if not job.not_startable:
                with suppress(JobspecError):
                    self._constraints.own(job)

    def _count_nodes(self, jobs: Collection[Job]) -> Pool:
        """Return what is free or coming, with nodes told apart by what these jobs ask for."""
        for job in jobs:
            try:
                self._constraints.own(job)
            except JobspecError:
                continue  # given earlier, and malformed: it is not counted
            self._constraints.ask(job)
        if self._partial:
            self._begin_with_residual(jobs)
            return self._existing
        self._kinds = self._lives.kinds(self._constraints.all(), jobs)
        self._existing = self._there.pool(self._kinds)
        return self._existing

    def _begin_with_residual(self, jobs: Collection[Job]) -> None:
        """Take what the plan before has left; where jobs ask for something else, nothing."""
        kinds, constraints = self.residual.kinds, self._constraints.all()
        if self._lives.known_to(kinds, constraints, jobs):
            self._kinds, self._existing = kinds, self.residual.pool
        else:
            self._kinds, self._existing = self._lives.kinds(constraints, jobs), Pool()
            self._before = replace(self._before, nodes=WorstFit())

    def _packer_of(self, owner: Owner) -> Packer:
        """Return what packs an owner's jobs, with the nodes that others have opened in use."""
        name = owner.plugin
        if owner not in self._packers:
            self._packers[owner] = self._new_packer(owner, self._existing)
        in_use = Counter(self._in_use[name])
        hosts: set[str] = set()
        for other, packer in self._packers.items():
            if other.plugin == name and other != owner:
                in_use.update(packer.new_nodes)
                hosts.update(*packer.hosts.values())
        self._packers[owner].in_use = in_use
        self._packers[owner].keep_off(hosts)
        return self._packers[owner]

    def _new_packer(self, owner: Owner, existing: Pool) -> Packer:
        """Return what packs an owner's jobs on what exists, and on new nodes it may have."""
        name, closed = owner.plugin, self._closed_to(owner)
        open_types = [t for t in self._types[name] if (name, t.name) not in closed]
        return Packer(
            open_types,
            existing,
            self._in_use[name],
            self._lives.of_new(name, self._kinds),
            self._allowance,
            owner,
            self._candidates_of(self._plugins[name], open_types),
        )

    def _candidates_of(
        self, plugin: BurstPlugin, types: Sequence[NodeType]
    ) -> Mapping[str, Candidates]:
        """Return the declared nodes that new nodes may come as, where that matters and is known.

        The hosts of an isolated burst are not those of this instance.
        """
        if self._facts[plugin.name].isolated or not self._kinds.names_nodes:
            return {}
        try:
            answers = {kind.name: plugin.candidates(kind.name) for kind in types}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
            self._unusable.setdefault(plugin.name, as_burst_error(error, plugin.name))
            return {}
        return {name: answer for name, answer in answers.items() if answer is not None}

    def _set_aside(
        self, given: Sequence[tuple[_Candidate, Mark]], existing: Pool
    ) -> list[_Candidate]:
        """Keep the nodes free that what was given earlier will use; return what has none."""
        rest: list[_Candidate] = []
        packer = Packer((), existing, {}, self._kinds)
        for candidate, mark in given:
            # Of a partial plan, what was given is not in the residual any more.
            # What cannot start takes no nodes: it runs elsewhere, or its user holds it.
            waits = mark.urgency is None and not candidate.job.not_startable
            fits = self._partial or not waits or self._packs(packer, candidate.job)
            if mark.burst or fits or not self._types.get(mark.plugin):
                where = f" in burst {mark.burst}" if mark.burst else ""
                why = f"was given to {mark.plugin}{where}"
                self._decide(candidate.job, Outcome.GIVEN, why, plugin=mark.plugin)
            else:
                rest.append(candidate)
        return rest

    def _packs(self, packer: Packer, job: Job) -> bool:
        """Whether a job fits on existing nodes, which then are taken.

        If it can, on those that outlive it; it has its nodes all the same if there are only others,
        as they know of no ends in Flux.
        """
        try:
            constraint = self._constraints.own(job)
            return any(
                not packer.pack([Demand(job.id, self._chunks(job), wanted=wanted)]).unplaced
                for until in dict.fromkeys((self._lives.until(job), 0.0))
                for wanted in [self._kinds.wanted(constraint, until)]
            )
        except JobspecError:
            return False

    def _select(self, job: Job) -> bool:
        """Decide on a job that is no candidate; whether it is one."""
        if job.not_startable:
            self._decide(job, Outcome.NOT_STARTABLE, job.not_startable)
            return False
        try:
            wanted = self._votes.select_job(job)
            if not wanted:
                flagged = bool(job.burstable)
                why = "the selector said no" if flagged else "is not flagged burstable"
                self._decide(job, Outcome.NOT_SELECTED, why)
                return False
            # A jobspec that cannot be counted, or matched, fails here, alone.
            job.chunks  # noqa: B018
            self._constraints.own(job)
            closed = why_not_startable(job, self._bounds.queues)
            if closed:
                self._decide(job, Outcome.NOT_STARTABLE, closed)
                return False
        except InstanceError:
            raise
        except FluxburstError as error:
            self._fail(job, error)
            return False
        return True

    def _names_for(self, candidate: _Candidate) -> list[str]:
        """Return the plugins a job is offered to, in order: those that it names, as it does."""
        if why := self._bounds.why_not_again(candidate.job.id, ""):
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

    def _offer(self, candidates: Sequence[_Candidate]) -> dict[str, list[_Candidate]]:
        """Offer each candidate on until a plugin accepts it; return who accepted what."""
        accepted: dict[str, list[_Candidate]] = {}
        for candidate in candidates:
            try:
                if candidate.offers is None:
                    candidate.offers = iter(self._names_for(candidate))
                taker = self._first_taker(candidate, candidate.offers)
            except (OrderingError, InstanceError):
                raise
            except FluxburstError as error:
                self._fail(candidate.job, error)
                continue
            if taker:
                accepted.setdefault(taker, []).append(candidate)
            else:
                reasons = candidate.reasons or ["no burst plugin is offered it"]
                self._decide(candidate.job, Outcome.UNMATCHED, *reasons)
        return accepted

    def _first_taker(self, candidate: _Candidate, offers: Iterator[str]) -> str:
        job = candidate.job
        for name in offers:
            plugin = self._plugins[name]
            if name in self._unusable:
                candidate.reasons.append(f"{name} cannot be asked: {self._unusable[name]}")
                continue
            too_short = self._why_too_short(job, name)
            if too_short:
                candidate.reasons.append(f"{name}: {too_short}")
                continue
            if why := self._why_not_run(name, job) or self._why_not_now(name, job):
                candidate.reasons.append(f"{name}: {why}")
                continue
            if self._votes.schedule_job(job, plugin):
                self._constraints.of(job, name)  # what a plugin could not tell costs this job
                plugin.jobs[job.id] = job
                return name
            candidate.reasons.append(self._why_declined(job, name))
        return ""

    def _why_not_run(self, name: str, job: Job) -> str:
        """Return why a job is not to run on what a plugin brings up, or cannot; empty if it can."""
        facts, users = self._facts[name], self._bounds.users
        if not facts.isolated:
            return users.why_not_run(job.user)
        return self._bounds.why_not_isolated(job.id) or why_not_run_as(
            facts.run_as, job.user, users.owner
        )

    def _why_not_now(self, name: str, job: Job) -> str:
        """Return why a plugin is not asked for a job now; empty where it is."""
        if closed := self._bounds.closed.get((name, "")):
            return f"it is not asked {closed}"
        queue = self._facts[name].queue
        if queue and (why := why_not_moved(job, queue, self._bounds.queues)):
            return why
        moves = self._bounds.closed.get((name, moves_to(queue)))
        if queue and moves and job.queue != queue:
            return f"no job is moved to queue {queue!r} {moves}"
        return self._bounds.why_not_again(job.id, name)

    def _why_too_short(self, job: Job, name: str) -> str:
        """Return why a job may outlive all that a plugin could bring up for it."""
        try:
            constraint = self._constraints.of(job, name)
            return self._lives.why_too_short(job, self._chunks(job), name, constraint)
        except BurstError:
            return ""  # its plugin may decline it without knowing its constraint

    def _why_declined(self, job: Job, name: str) -> str:
        types = self._types[name]
        try:
            why = (
                why_unfit(self._chunks(job), types, self._constraints.of(job, name))
                if types
                else ""
            )
        except BurstError:
            why = ""
        said = f"{name} declined: {why}" if why else f"{name} declined"
        return "; ".join([said, *(() if types else self._lacking.of(name))])

    def _pack(self, accepted: Mapping[str, Sequence[_Candidate]]) -> list[_Candidate]:
        """Count the nodes for what was accepted; return what there is no room for."""
        left_over: list[_Candidate] = []
        for name, candidates in accepted.items():
            if self._types[name] and self._facts[name].isolated:
                for owner, theirs in self._by_owner(name, candidates).items():
                    left_over += self._pack_alone(owner, theirs)
            elif self._types[name]:
                for owner, theirs in self._by_owner(name, candidates).items():
                    left_over += self._pack_for(owner, theirs)
            else:
                for candidate in candidates:
                    self._assign(candidate, name, f"{name} accepts it")
        return sorted(left_over, key=lambda candidate: candidate.turn)

    def _by_owner(
        self, name: str, candidates: Sequence[_Candidate]
    ) -> Mapping[Owner, Sequence[_Candidate]]:
        """Return the jobs that a plugin accepts by whom their bursts are charged to."""
        owners: dict[Owner, list[_Candidate]] = {}
        for candidate in candidates:
            owner = Owner(name)
            if self._bounds.by_owner:
                owner = Owner(name, candidate.job.user, candidate.job.queue)
            owners.setdefault(owner, []).append(candidate)
        return {
            owner._replace(lease=self._lives.lease_for(name, [c.job for c in theirs])): theirs
            for owner, theirs in owners.items()
        }

    def _pack_for(self, owner: Owner, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """Count the nodes for one owner's jobs; return those that there is no room for."""
        name = owner.plugin
        left_over: list[_Candidate] = []
        packing = self._packed(owner, candidates)
        for candidate in candidates:
            job = candidate.job.id
            self._owners[job] = owner
            if job in packing.unplaced:
                self._turn_away(owner, candidate, packing.unplaced[job])
                left_over.append(candidate)
            elif job in packing.placed:
                node_type = packing.placed[job]
                self._bursting.setdefault((owner, node_type), []).append(job)
                self._assign(candidate, name, f"{name} accepts it on new {node_type!r} nodes")
            else:
                self._note_ride(candidate.job, name)
                why = f"{name} accepts it; it fits on nodes that are free or coming"
                self._assign(candidate, name, why)
        return left_over

    def _packed(self, owner: Owner, candidates: Sequence[_Candidate]) -> Packing:
        """Place jobs; those that did not start on free nodes are not left to them again."""
        packer = self._packer_of(owner)
        shunning = {c.job.id for c in candidates if self._bounds.shuns_free_nodes(c.job.id)}
        demands = [self._demand(candidate, owner.plugin) for candidate in candidates]
        packing = packer.pack([demand for demand in demands if demand.job not in shunning])
        if not shunning:
            return packing
        existing, packer.existing = packer.existing, Pool()
        try:
            more = packer.pack([demand for demand in demands if demand.job in shunning])
        finally:
            packer.existing = existing
        return Packing(
            {**packing.placed, **more.placed},
            (*packing.existing, *more.existing),
            {**packing.unplaced, **more.unplaced},
        )

    def _pack_alone(self, owner: Owner, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """Count the nodes for jobs that get a burst each; return those that there is no room for.

        An isolated burst has nothing of what is free here, or coming.
        """
        name = owner.plugin
        left_over: list[_Candidate] = []
        for candidate in candidates:
            job = candidate.job
            owner = owner._replace(lease=self._lives.lease_for(name, [job]))
            packer = self._new_packer(owner, Pool())
            packing = packer.pack([self._demand(candidate, name)])
            if packing.unplaced:
                self._turn_away(owner, candidate, packing.unplaced[job.id])
                left_over.append(candidate)
                continue
            ((node_type, nodes),) = packer.new_nodes.items()
            self._alone.append((owner, node_type, nodes, job.id))
            self._in_use[name][node_type] = self._in_use[name].get(node_type, 0) + nodes
            why = f"{name} accepts it in an isolated burst of {nodes} {node_type!r} nodes"
            self._assign(candidate, name, why)
        return left_over

    # --- what the scheduler makes of it ----------------------------------------------------

    def _rehearse(self, queue: Sequence[Job]) -> list[_Candidate]:
        """Add the nodes that assigned jobs lack to start; return those that would wait."""
        claims = list(self._claims(queue))
        nodes = self._before.nodes if self._partial else self._there.worst_fit(self._kinds)
        strict = self._scheduler.strict_order
        rehearsal = Rehearsal(nodes, self._packers, self._packer_of, strict=strict)
        outlook = rehearsal.run(claims, trim=not self._partial)
        by_id = {job.id: job for job in queue}
        held_up_by = self._before.held_up_by if self._partial else None
        if held_up_by is not None and strict:
            for claim in claims:
                if claim.owner is not None and queue_order(by_id[claim.job]) > held_up_by:
                    outlook.waiting[claim.job] = held_up_by[1]
        elif outlook.held_up_by is not None and outlook.held_up_by not in outlook.waiting:
            held_up_by = queue_order(by_id[outlook.held_up_by])
        self.residual = FreeCapacity(nodes=outlook.left.settled(), held_up_by=held_up_by)
        self._note_opened(outlook)
        return [self._give_up(jobid, outlook.waiting[jobid]) for jobid in sorted(outlook.waiting)]

    def _claims(self, queue: Sequence[Job]) -> Iterator[Claim]:
        """Yield what the scheduler will start, in the order of the queue.

        What runs elsewhere, or is held until its isolated burst is there, is none of it.
        """
        apart = {jobid for _, _, _, jobid in self._alone}
        for job in queue:
            decision, mark = self._decisions.get(job.id), job.mark
            assigned = decision is not None and decision.outcome is Outcome.ASSIGNED
            name = decision.plugin if decision is not None and assigned else ""
            if job.not_startable or job.id in apart or (name and not self._types[name]):
                continue
            if not assigned and not self._is_scheduled(job):
                continue
            if mark is not None and not assigned and (self._partial or mark.urgency is not None):
                continue
            try:
                constraint = self._constraints.of(job, name) if name else self._constraints.own(job)
                wanted, chunks = self._kinds.wanted(constraint), self._chunks(job)
                needs = self._wanted(job, name) if name else wanted
            except (FluxburstError, KeyError):
                continue  # Flux refuses it, too; or it is new, and nodes are not told apart by it
            yield Claim(job.id, chunks, wanted, needs, self._owners[job.id] if name else None)

    def _is_scheduled(self, job: Job) -> bool:
        """Whether the scheduler has a job that is not assigned in its queue."""
        queues = self._bounds.queues
        try:
            queue = queues.get(job.queue)
        except JobspecError:
            return False
        return not any(queues) if queue is None else queue.started

    def _note_opened(self, outlook: Outlook) -> None:
        """Note for which jobs nodes were added, and who is on those that no job asked for."""
        for where, jobs in self._bursting.items():
            self._bursting[where] = [jobid for jobid in jobs if jobid not in outlook.waiting]
        where_of = {jobid: where for where, jobs in self._bursting.items() for jobid in jobs}

        def bring_for(jobid: int, where: tuple[Owner, str]) -> None:
            """Have a burst be brought up for a job, and no other, unless that has no other job."""
            now = self._bursting.get(where_of.get(jobid, where), [])
            if jobid not in where_of or len(now) > 1:
                if jobid in where_of:
                    now.remove(jobid)
                self._bursting.setdefault(where, []).append(jobid)
                where_of[jobid] = where

        for jobid, node_type in outlook.opened.items():
            candidate, name = self._candidates_by_id[jobid], self._decisions[jobid].plugin
            bring_for(jobid, (self._owners[jobid], node_type))
            self._assign(candidate, name, f"{name} accepts it on new {node_type!r} nodes")
        for where, users in outlook.users.items():
            if not self._bursting.get(where):
                for jobid in users:
                    bring_for(jobid, where)

    def _give_up(self, jobid: int, held_up_by: int) -> _Candidate:
        """Take an assignment back of a job that would wait for another."""
        candidate = self._candidates_by_id[jobid]
        name = self._decisions[jobid].plugin
        del self._accepted[name][candidate.turn]
        self._shares_burst.pop(jobid, None)
        why = "the scheduler would not start it beside the jobs before it"
        if held_up_by != jobid:
            other = format_f58(held_up_by)
            why = f"job {other}, before it in the queue, cannot start and holds up all behind it"
        candidate.reasons.append(f"{name}: {why}")
        return candidate

    def _turn_away(self, owner: Owner, candidate: _Candidate, why: str) -> None:
        """Note that there is no room for a job that a plugin has accepted."""
        types, closed = self._types[owner.plugin], self._closed_of(owner)
        if len(closed) == len(types):
            why = ""  # it says what is lacking among those that may be asked for: there are none
        if not self._facts[owner.plugin].isolated:
            why = why_too_large(self._chunks(candidate.job), self._nodes, types) or why
        whole = "; ".join(filter(None, [why, *closed, *self._lacking.of(owner.plugin)]))
        candidate.reasons.append(f"{owner.plugin}: {whole}")
        del self._plugins[owner.plugin].jobs[candidate.job.id]

    def _closed_to(self, owner: Owner) -> Mapping[tuple[str, str], str]:
        """Return what an owner's bursts are not to be of: also what another's is to try."""
        opened = {
            (other.plugin, node_type)
            for other, packer in self._packers.items()
            if other != owner
            for node_type in packer.new_nodes
        } | {(alone.plugin, node_type) for alone, node_type, _, _ in self._alone}
        tried = {kind: why for kind, why in self._bounds.tried.items() if kind in opened}
        return {**self._bounds.closed, **tried}

    def _closed_of(self, owner: Owner) -> list[str]:
        """Return which node types of a plugin are not to be asked for now, and why."""
        return [
            f"{node_type!r} is not asked for: {why}"
            for (plugin, node_type), why in self._closed_to(owner).items()
            if plugin == owner.plugin and any(t.name == node_type for t in self._types[plugin])
        ]

    def _chunks(self, job: Job) -> tuple[Chunk, ...]:
        return as_read_by(job.chunks, self._scheduler)

    def _demand(self, candidate: _Candidate, name: str) -> Demand:
        job = candidate.job
        return Demand(job.id, self._chunks(job), candidate.turn, self._wanted(job, name))

    def _wanted(self, job: Job, name: str) -> int:
        return self._kinds.wanted(self._constraints.of(job, name), self._lives.until(job))

    def _note_ride(self, job: Job, name: str) -> None:
        """Note on which burst a job rides that fits, but not on what is free by now."""
        until = self._lives.until(job)
        burst = self._lives.burst_for(until)
        nodes = self._lives.nodes_for(until)
        if burst and not fits_now(self._chunks(job), nodes, self._constraints.of(job, name)):
            self._shares_burst[job.id] = burst

    def _assign(self, candidate: _Candidate, name: str, why: str) -> None:
        self._accepted[name][candidate.turn] = candidate.job.id
        self._candidates_by_id[candidate.job.id] = candidate
        self._decide(candidate.job, Outcome.ASSIGNED, *candidate.reasons, why, plugin=name)

    def _bursts(self) -> Iterator[Burst]:
        opened = [(owner, t) for owner, packer in self._packers.items() for t in packer.new_nodes]
        for where in dict.fromkeys([*self._bursting, *opened]):
            owner, node_type = where
            packer, jobs = self._packers[owner], self._bursting.get(where) or self._any_of(owner)
            if where in opened and jobs:  # otherwise the scheduler starts its jobs elsewhere
                nodes, hosts = packer.new_nodes[node_type], packer.hosts.get(node_type, ())
                yield self._burst(owner.plugin, node_type, nodes, jobs, hosts)
        for owner, node_type, nodes, job in self._alone:
            yield replace(self._burst(owner.plugin, node_type, nodes, [job]), isolated=True)

    def _any_of(self, owner: Owner) -> Sequence[int]:
        """Return a job of an owner: nodes that others take room on are brought up for its sake."""
        theirs = self._accepted[owner.plugin].values()
        return next(([jobid] for jobid in theirs if self._owners.get(jobid) == owner), [])

    def _burst(
        self,
        name: str,
        node_type: str,
        nodes: int,
        jobs: Sequence[int],
        hosts: Sequence[str] = (),
    ) -> Burst:
        return Burst(
            name=self._bounds.name_of(burst_name(name, self._facts[name].tag, node_type, jobs)),
            plugin=name,
            node_type=node_type,
            nodes=nodes,
            jobs=tuple(jobs),
            price=next(t.price for t in self._types[name] if t.name == node_type),
            hosts=tuple(hosts),
        )
