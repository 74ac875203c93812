"""Checks whether the scheduler would start the assigned jobs, and which nodes they lack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fluxburst.errors import FluxburstError, JobspecError
from fluxburst.model.job import Job, queue_order
from fluxburst.packing.rehearsal import Claim, Outlook, Rehearsal
from fluxburst.packing.worst_fit import WorstFit
from fluxburst.planning.draft import Candidate, Draft, PlannedBursts
from fluxburst.planning.node_counting import OwnerPackers
from fluxburst.planning.plan_inputs import FreeCapacity, PlanContext


class SchedulerCheck:
    """Starts the jobs of a draft as the scheduler would, and corrects the draft.

    Args:
        context: The facts of the plan.
        draft: The decisions on jobs so far.
        bursts: The planned bursts.
        packers: Open nodes for each owner.
        partial: The jobs are only some of the waiting ones.
    """

    def __init__(
        self,
        context: PlanContext,
        draft: Draft,
        bursts: PlannedBursts,
        packers: OwnerPackers,
        *,
        partial: bool,
    ) -> None:
        self._requests = context.requests
        self._types = context.facts.types
        self._queues = context.limits.queues
        self._strict = context.scheduler.strict_order
        self._draft = draft
        self._bursts = bursts
        self._packers = packers
        self._partial = partial

    def run(
        self, queue: Sequence[Job], nodes: WorstFit, held_up_by: tuple[int, int] | None
    ) -> tuple[list[Candidate], FreeCapacity]:
        """Add the nodes that assigned jobs lack, and withdraw those that would wait.

        Args:
            queue: All waiting jobs, in queue order.
            nodes: The free or coming ones.
            held_up_by: The position and the id of an earlier job that blocks all behind it.

        Returns:
            The jobs that would wait, and the capacity left once the others have started.
        """
        claims = list(self._claims(queue))
        rehearsal = Rehearsal(nodes, self._packers.by_owner, self._packers.of, strict=self._strict)
        outlook = rehearsal.run(claims, trim=not self._partial)
        by_id = {job.id: job for job in queue}
        if held_up_by is not None and self._strict:
            for claim in claims:
                if claim.owner is not None and queue_order(by_id[claim.job]) > held_up_by:
                    outlook.waiting[claim.job] = held_up_by[1]
        elif outlook.held_up_by is not None and outlook.held_up_by not in outlook.waiting:
            held_up_by = queue_order(by_id[outlook.held_up_by])
        self._note_opened(outlook)
        waiting = sorted(outlook.waiting)
        return (
            [self._draft.withdraw(jobid, outlook.waiting[jobid]) for jobid in waiting],
            FreeCapacity(nodes=outlook.left.settled(), held_up_by=held_up_by),
        )

    def _claims(self, queue: Sequence[Job]) -> Iterator[Claim]:
        """Yield the jobs that the scheduler will start, in queue order.

        Skips jobs that run elsewhere, or are held for their isolated burst.
        """
        apart = {isolated.job for isolated in self._bursts.isolated}
        requests = self._requests
        for job in queue:
            jobid = job.id
            name, mark = self._draft.plugin_of(jobid), job.mark
            if job.not_startable or jobid in apart or (name and not self._types[name]):
                continue
            if not name and not self._is_scheduled(job):
                continue
            if mark is not None and not name and (self._partial or mark.urgency is not None):
                continue
            try:
                constraint = (
                    requests.constraint_with(name, jobid)
                    if name
                    else requests.constraint(job, jobid)
                )
                bits, chunks = requests.bits.required_bits(constraint), requests.chunks(job)
                needs = requests.bits_with(name, job, jobid) if name else bits
            except (FluxburstError, KeyError):
                continue  # Flux refuses it, too; or it is new, and its constraint has no bits
            owner = self._draft.owners[jobid] if name else None
            yield Claim(jobid, chunks, bits, needs, owner)

    def _is_scheduled(self, job: Job) -> bool:
        """Whether the scheduler would start a job that is not assigned."""
        try:
            queue = self._queues.get(job.queue)
        except JobspecError:
            return False
        return not any(self._queues) if queue is None else queue.started

    def _note_opened(self, outlook: Outlook) -> None:
        """Note which jobs nodes were added for, and which bursts the jobs use now."""
        self._bursts.regroup(outlook, self._draft.owners)
        for jobid, node_type in outlook.opened.items():
            name = self._draft.plugin_of(jobid)
            self._draft.explain(jobid, f"{name} accepts it on new {node_type!r} nodes")
