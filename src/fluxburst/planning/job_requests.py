"""What jobs ask of nodes, as one plan counts it: resources, constraints, and how long they live."""

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
    """What the jobs of a plan ask for: by themselves, and once a plugin has accepted them.

    All constraints are gathered before nodes are counted, as it is by them that nodes are told
    apart.

    Args:
        plugins: The plugins that have a say in constraints; with the others jobs keep their own.
        lives: How long nodes live.
        scheduler: Who reads the requests.

    Attributes:
        bits: What nodes are told apart by; set once all constraints are gathered.
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
        """Learn what a candidate asks for by itself.

        Raises:
            JobspecError: if it cannot be counted, or matched.
        """
        candidate.chunks = self.chunks(candidate.job)
        self.constraint(candidate.job, candidate.id)

    def chunks(self, job: Job) -> tuple[Chunk, ...]:
        """Return the resources that a job asks for, as the scheduler counts them.

        Raises:
            JobspecError: if they cannot be counted.
        """
        return as_read_by(job.chunks, self._scheduler)

    def constraint(self, job: Job, jobid: int) -> Constraint:
        """Return the constraint that a job has by itself.

        Raises:
            JobspecError: if it is malformed.
        """
        found = self._own.get(jobid)
        if found is None:
            found = self._own[jobid] = compiled(job.constraint, jobid)
        return found

    def constraint_with(self, plugin: str, jobid: int) -> Constraint:
        """Return the constraint that a job will have with a plugin.

        Raises:
            BurstError: if the plugin could not tell.
        """
        found = self._with[plugin][jobid] if plugin in self._with else self._own[jobid]
        if isinstance(found, BurstError):
            raise found
        return found

    def gather(
        self, candidates: Iterable[Candidate], queue: Iterable[Job] = ()
    ) -> list[Constraint]:
        """Gather the constraints of candidates with each plugin, and of all others in the queue.

        Returns:
            All that are known.
        """
        for job in queue:
            if not job.not_startable:
                with suppress(JobspecError):
                    self.constraint(job, job.id)
        for candidate in candidates:
            try:
                self.constraint(candidate.job, candidate.id)
            except JobspecError:
                continue  # assigned earlier, and malformed: it is not counted
            self._ask_plugins(candidate.job, candidate.id)
        gathered = [*self._own.values()]
        for answers in self._with.values():
            gathered += [answer for answer in answers.values() if isinstance(answer, Constraint)]
        return gathered

    def _ask_plugins(self, job: Job, jobid: int) -> None:
        """Ask each plugin which constraint a job would have with it."""
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

    # --- as bits, once nodes are told apart --------------------------------------------------

    def demand(self, candidate: Candidate, plugin: str) -> Demand:
        """Return what a job asks for on nodes of a plugin.

        Raises:
            BurstError: if the plugin could not tell its constraint.
        """
        bits = self.bits_with(plugin, candidate.job, candidate.id)
        return Demand(candidate.id, candidate.chunks, candidate.turn, bits)

    def demands_on_existing(self, candidate: Candidate) -> Iterator[Demand]:
        """Yield what a job asks for on existing nodes: such that outlive it, then any.

        Flux knows of no ends of nodes, so it starts the job on the others, too.

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
        """Return the bits that nodes of a plugin must have to be for a job, and to outlive it.

        Raises:
            BurstError: if the plugin could not tell its constraint.
        """
        return self.bits.required_bits(self.constraint_with(plugin, jobid), self._lives.until(job))
