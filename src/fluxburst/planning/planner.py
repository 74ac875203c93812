"""Makes a plan: offers each selected job to the plugins in order, and counts the needed nodes.

A job that a plugin accepts without having room, because of its limits, is offered to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from fluxburst.errors import FluxburstError, InstanceError, JobspecError
from fluxburst.model.collector import collector_paused
from fluxburst.model.job import Job, Mark, queue_order
from fluxburst.model.node import Node
from fluxburst.model.plan import Outcome, Plan
from fluxburst.model.queues import why_not_startable
from fluxburst.model.scheduler import UNKNOWN, Fit, Scheduler
from fluxburst.packing.packer import Packer
from fluxburst.packing.pool import Pool
from fluxburst.packing.worst_fit import WorstFit
from fluxburst.planning.draft import Candidate, Draft, PlannedBursts
from fluxburst.planning.node_counting import Existing, NodeCounter, OwnerPackers
from fluxburst.planning.offering import Offers, Refusals
from fluxburst.planning.plan_inputs import FreeCapacity, PlanLimits, Votes, context_of
from fluxburst.planning.scheduler_check import SchedulerCheck
from fluxburst.plugin.base import BurstPlugin


@contextmanager
def _jobs_unchanged(plugins: Mapping[str, BurstPlugin]) -> Iterator[None]:
    """Let plugins collect jobs in a copy, as in flux-burst, and restore the original afterwards."""
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
        limits: Its restrictions; by default none.
        free_capacity: Remaining free or coming capacity, if the jobs are only
            some of the waiting ones; by default it is counted anew, with all of them.
        scheduler: The instance's rules for starting jobs.

    Attributes:
        free_capacity: The capacity that the plan leaves.
    """

    def __init__(
        self,
        votes: Votes,
        plugins: Mapping[str, BurstPlugin],
        nodes: Sequence[Node],
        limits: PlanLimits | None = None,
        free_capacity: FreeCapacity | None = None,
        scheduler: Scheduler = UNKNOWN,
    ) -> None:
        limits = limits or PlanLimits()
        self._partial = free_capacity is not None
        self.free_capacity = self._before = free_capacity or FreeCapacity()
        self._votes = votes
        self._plugins = plugins
        self._limits = limits
        self._scheduler = scheduler
        self._context = context_of(plugins, nodes, limits, scheduler)
        self._lives = self._context.lives
        self._requests = self._context.requests
        self._existing = Existing(
            self._context.nodes, plugins, self._context.facts.types, self._lives
        )
        refusals = Refusals(self._context)
        self._draft = Draft(plugins)
        self._bursts = PlannedBursts(self._context.facts, limits.name_of)
        self._packers = OwnerPackers(self._context, self._bursts, self._before.pool)
        self._offers = Offers(votes, self._context, self._draft, refusals)
        self._counter = NodeCounter(
            self._context, self._draft, self._bursts, self._packers, refusals
        )

    def plan(self, jobs: Sequence[Job], others: Iterable[Job] = ()) -> Plan:
        """Decide on each job. Plugins are unchanged afterwards.

        Args:
            jobs: The jobs to decide on, in queue order.
            others: Other waiting jobs: the scheduler may start them first. They matter
                if jobs are placed in order, and if capacity is counted anew.

        Raises:
            OrderingError: if the ordering names a plugin that is not loaded.
            InstanceError: if the instance becomes unreachable.
        """
        in_turn = self._scheduler.fit is Fit.WORST
        queue = self._whole_queue(jobs, others) if in_turn else ()
        with _jobs_unchanged(self._plugins), collector_paused():
            candidates = self._candidates(jobs, queue)
            selected = {candidate.id: candidate.job for candidate in candidates}
            self._assign(candidates)
            while in_turn and (waiting := self._withdraw_waiting(queue)):
                self._assign(waiting)
        left, bits = self._packers.leftover(), self._requests.bits
        self.free_capacity = replace(self.free_capacity, pool=left, bits=bits)
        return Plan(
            decisions=tuple(self._draft.decisions[job.id] for job in jobs),
            bursts=tuple(self._bursts.all(self._packers.by_owner, self._draft.any_job_of)),
            assignments=self._draft.assignments(),
            jobs=selected,
            errors=tuple(self._context.facts.unusable.values()),
            shares_burst=self._draft.shares_burst,
        )

    def selected(self, jobs: Sequence[Job]) -> dict[int, Job]:
        """Return the jobs that would be selected, by id, without those that cannot be judged.

        Raises:
            InstanceError: if the instance becomes unreachable.
        """
        return {candidate.id: candidate.job for candidate in self._candidates(jobs)}

    def _whole_queue(self, jobs: Sequence[Job], others: Iterable[Job]) -> Sequence[Job]:
        """Return all of the scheduler's jobs, in the order in which it starts them."""
        if self._partial:
            return jobs
        known = {job.id for job in jobs}
        rest = [job for job in others if job.id not in known]
        return sorted([*jobs, *rest], key=queue_order) if rest else jobs

    # --- their steps -----------------------------------------------------------------------

    def _candidates(self, jobs: Sequence[Job], queue: Sequence[Job] = ()) -> list[Candidate]:
        """Return the selected jobs, in queue order, once earlier assignments have their nodes.

        Nodes are counted in between: only these jobs' constraints distinguish them,
        however many other jobs there are.
        """
        found: list[Candidate] = []
        marked: list[tuple[Candidate, Mark]] = []
        for turn, job in enumerate(jobs):
            candidate, mark = Candidate(job, job.id, turn), job.mark
            if mark is not None:
                marked.append((candidate, mark))
            elif self._select(candidate):
                found.append(candidate)
        self._count_existing([*found, *(c for c, _ in marked)], queue)
        found += [c for c in self._set_aside(marked) if self._select(c)]
        return sorted(found, key=lambda candidate: candidate.turn)

    def _select(self, candidate: Candidate) -> bool:
        """Decide on a job that is no candidate; return whether it is one."""
        job, jobid = candidate.job, candidate.id
        if why := job.not_startable:
            self._draft.decide(jobid, Outcome.NOT_STARTABLE, why)
            return False
        try:
            if not self._votes.select_job(job):
                flagged = bool(job.burstable)
                why = "the selector said no" if flagged else "is not flagged burstable"
                self._draft.decide(jobid, Outcome.NOT_SELECTED, why)
                return False
            self._requests.read(candidate)  # an unreadable jobspec fails here, alone
            if why := why_not_startable(job, self._limits.queues):
                self._draft.decide(jobid, Outcome.NOT_STARTABLE, why)
                return False
        except InstanceError:
            raise
        except FluxburstError as error:
            self._draft.fail(jobid, error)
            return False
        return True

    def _count_existing(self, candidates: Sequence[Candidate], queue: Sequence[Job]) -> None:
        """Count the free or coming nodes, distinguished by these jobs' constraints."""
        jobs = [candidate.job for candidate in candidates]
        constraints = self._requests.gather(candidates, () if self._partial else queue)
        bits, pool = self._before.bits, self._before.pool
        if not self._partial:
            bits = self._lives.constraint_bits(constraints, jobs)
            pool = self._existing.pool(bits)
        elif not self._lives.known_to(bits, constraints, jobs):
            # The previous plan's leftover capacity lacks these bits: none of it is usable.
            bits, pool = self._lives.constraint_bits(constraints, jobs), Pool()
            self._before = replace(self._before, nodes=WorstFit())
        self._requests.bits, self._packers.existing = bits, pool

    def _set_aside(self, marked: Sequence[tuple[Candidate, Mark]]) -> list[Candidate]:
        """Reserve nodes for earlier assignments; return those without room."""
        rest: list[Candidate] = []
        if not marked:
            return rest
        packer = Packer((), self._packers.existing, {}, self._requests.bits)
        for candidate, mark in marked:
            # In a partial plan, free capacity excludes earlier assignments.
            # A job that cannot start takes no nodes: it runs elsewhere, or its user holds it.
            waits = mark.urgency is None and not candidate.job.not_startable
            fits = self._partial or not waits or self._fits(packer, candidate)
            if mark.burst or fits or not self._context.facts.types.get(mark.plugin):
                where = f" in burst {mark.burst}" if mark.burst else ""
                why = f"was assigned to {mark.plugin}{where}"
                self._draft.decide(candidate.id, Outcome.ALREADY_ASSIGNED, why, plugin=mark.plugin)
            else:
                rest.append(candidate)
        return rest

    def _fits(self, packer: Packer, candidate: Candidate) -> bool:
        """Whether a job fits on existing nodes; if so, it takes them."""
        try:
            demands = self._requests.demands_on_existing(candidate)
            return any(not packer.pack([demand]).unplaced for demand in demands)
        except JobspecError:
            return False

    def _assign(self, candidates: Sequence[Candidate]) -> None:
        """Offer jobs to plugins, and count nodes, until each is assigned or refused by all."""
        while candidates:
            candidates = self._counter.count(self._offers.make(candidates))

    def _withdraw_waiting(self, queue: Sequence[Job]) -> list[Candidate]:
        """Add the nodes that assigned jobs lack; return the jobs that would wait."""
        check = SchedulerCheck(
            self._context, self._draft, self._bursts, self._packers, partial=self._partial
        )
        nodes, held_up_by = self._before.nodes, self._before.held_up_by
        if not self._partial:
            nodes, held_up_by = self._existing.worst_fit(self._requests.bits), None
        waiting, self.free_capacity = check.run(queue, nodes, held_up_by)
        return waiting
