"""The jobs' requests in one plan: resources, constraints, and required lives of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from fluxburst.errors import BurstError, InstanceError, JobspecError, text_of
from fluxburst.model.constraints import ALL_ALIKE, Constraint, ConstraintBits, compiled
from fluxburst.model.job import Job
from fluxburst.model.jobspec import Chunk
from fluxburst.model.scheduler import Scheduler, as_read_by
from fluxburst.packing.packer import Demand
from fluxburst.planning.draft import Candidate
from fluxburst.planning.lifespans import PlannedLives
from fluxburst.plugin.base import BurstPlugin


class JobRequests:
    """The requests of a plan's jobs: their own, and those after a plugin accepts them.

    All constraints are collected before nodes are counted, since they distinguish the
    nodes.

    Args:
        plugins: The plugins that may change constraints; with others jobs keep their own.
        lives: How long nodes live.
        scheduler: The scheduler that interprets the requests.

    Attributes:
        bits: What distinguishes nodes; set once all constraints are collected.
    """

    def __init__(
        self, plugins: Mapping[str, BurstPlugin], lives: PlannedLives, scheduler: Scheduler
    ) -> None:
        self.bits: ConstraintBits = ALL_ALIKE
        self._plugins = plugins
        self._lives = lives
        self._scheduler = scheduler
        self._own: dict[int, Constraint] = {}
        self._with: dict[str, dict[int, Constraint | BurstError]] = {name: {} for name in plugins}

    def read(self, candidate: Candidate) -> None:
        """Read a candidate's own request.

        Raises:
            JobspecError: if its resources or its constraint are invalid.
        """
        candidate.chunks = self.chunks(candidate.job)
        self.constraint(candidate.job, candidate.id)

    def chunks(self, job: Job) -> tuple[Chunk, ...]:
        """Return a job's resources, as the scheduler interprets them.

        Raises:
            JobspecError: if they are invalid.
        """
        return as_read_by(job.chunks, self._scheduler)

    def constraint(self, job: Job, jobid: int) -> Constraint:
        """Return a job's own constraint.

        Raises:
            JobspecError: if it is malformed.
        """
        found = self._own.get(jobid)
        if found is None:
            found = self._own[jobid] = compiled(job.constraint, jobid)
        return found

    def constraint_with(self, plugin: str, jobid: int) -> Constraint:
        """Return the constraint of a job after a plugin accepts it.

        Raises:
            BurstError: if the plugin could not determine it.
        """
        found = self._with[plugin][jobid] if plugin in self._with else self._own[jobid]
        if isinstance(found, BurstError):
            raise found
        return found

    def gather(
        self, candidates: Iterable[Candidate], queue: Iterable[Job] = ()
    ) -> list[Constraint]:
        """Collect the constraints of candidates with each plugin, and of all other queued jobs.

        Returns:
            All known constraints.
        """
        for job in queue:
            if not job.not_startable:
                with suppress(JobspecError):
                    self.constraint(job, job.id)
        for candidate in candidates:
            try:
                self.constraint(candidate.job, candidate.id)
            except JobspecError:
                continue  # assigned earlier, and malformed: it does not count
            self._ask_plugins(candidate.job, candidate.id)
        gathered = [*self._own.values()]
        for answers in self._with.values():
            gathered += [answer for answer in answers.values() if isinstance(answer, Constraint)]
        return gathered

    def _ask_plugins(self, job: Job, jobid: int) -> None:
        """Ask each plugin for the constraint of a job it accepts."""
        for name, plugin in self._plugins.items():
            try:
                self._with[name][jobid] = compiled(plugin.constraint_of(job))
            except InstanceError:
                raise
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a package may raise anything
                why = f"constraint_of() for job {jobid}: {type(error).__name__}: {text_of(error)}"
                self._with[name][jobid] = BurstError(why, plugin=name)

    # --- as bits, once all constraints are collected ------------------------------------------

    def demand(self, candidate: Candidate, plugin: str) -> Demand:
        """Return a job's request for a plugin's nodes.

        Raises:
            BurstError: if the plugin could not determine its constraint.
        """
        bits = self.bits_with(plugin, candidate.job, candidate.id)
        return Demand(candidate.id, candidate.chunks, candidate.turn, bits)

    def demands_on_existing(self, candidate: Candidate) -> Iterator[Demand]:
        """Yield a job's request for existing nodes: first for those that outlive it, then for any.

        Flux does not know when nodes end, so it may start the job on the others, too.

        Raises:
            JobspecError: if it is malformed.
        """
        job, jobid = candidate.job, candidate.id
        constraint = self.constraint(job, jobid)
        for until in dict.fromkeys((self._lives.until(job), 0.0)):
            yield Demand(
                jobid, self.chunks(job), required_bits=self.bits.required_bits(constraint, until)
            )

    def bits_with(self, plugin: str, job: Job, jobid: int) -> int:
        """Return the bits that a plugin's nodes need to match a job and outlive it.

        Raises:
            BurstError: if the plugin could not determine its constraint.
        """
        return self.bits.required_bits(self.constraint_with(plugin, jobid), self._lives.until(job))
