"""Provisions capacity: reserve it, assign the jobs, have the plugins create, process the results.

No plugin receives a request before its intent is in the ledger. If a plugin lacks capacity or
quota, the same pass asks the next.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fluxburst.errors import (
    BurstError,
    BurstErrors,
    CapacityError,
    FluxburstError,
    LimitError,
    ParameterError,
    PatienceError,
    QuotaError,
)
from fluxburst.formats.units import counted, format_duration
from fluxburst.ledger import Breaker
from fluxburst.model.burst import Burst, BurstRequest, BurstState
from fluxburst.model.job import Job
from fluxburst.model.plan import Plan
from fluxburst.packing.limits import Budget
from fluxburst.plugin.base import BurstPlugin
from fluxburst.plugin.validation import check_created, check_name
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.burst_store import is_ours
from fluxburst.reconcile.reserve import Reservation, Reserver
from fluxburst.reconcile.shared import Shared
from fluxburst.reconcile.vetting import Vetting
from fluxburst.reconcile.workers import (
    Answer,
    Call,
    Done,
    Failed,
    TimedOut,
    names_of,
)

_log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """The results of a pass so far.

    Attributes:
        bursts: The bursts that are up, or starting.
        errors: The failures.
        refused: Node types without capacity or quota, by plugin and name, with the reason.
        displaced: The jobs of refused bursts, by id, to be offered elsewhere.
        reoffered: Errors that are void once their jobs have found another place, with these.
    """

    bursts: list[Burst] = field(default_factory=list)
    errors: list[FluxburstError] = field(default_factory=list)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    displaced: dict[int, Job] = field(default_factory=dict)
    reoffered: list[tuple[FluxburstError, frozenset[int]]] = field(default_factory=list)


class Provisioner:
    """Provisions bursts for one client.

    Args:
        shared: What the parts of a client share.
        vetting: Vets its plugins' answers.
        assigner: Assigns its jobs.
        budget: Returns what the limits leave now.
    """

    def __init__(
        self,
        shared: Shared,
        vetting: Vetting,
        assigner: Assigner,
        budget: Callable[[float], Budget],
    ) -> None:
        self._hooks = shared.hooks
        self._store = shared.store
        self._vetting = vetting
        self._assigner = assigner
        self._workers = shared.workers
        self._shared = shared
        self._reserver = Reserver(shared, assigner, budget)
        self.outcome = Outcome()

    def reserve(self, plugins: Mapping[str, BurstPlugin], plan: Plan) -> list[Reservation]:
        """Record a plan for :meth:`start` to apply once the record is durable."""
        return [
            self._reserver.reserve(plugins[name], assigned, plan)
            for name, assigned in plan.assignments.items()
            if assigned
        ]

    def start(self, reservations: Sequence[Reservation], patience: float = math.inf) -> None:
        """Request what was recorded, and process the answers that come within ``patience`` seconds.

        By default, waits for all answers. The results are in :attr:`outcome`.
        """
        for reservation in reservations:
            self._start(reservation)
        self._workers.wait(patience)

    def start_on_demand(
        self, plugins: Sequence[BurstPlugin], nodes: int | None, tasks: int | None
    ) -> None:
        """Have plugins provision capacity on demand, and wait for all of it."""
        for plugin in plugins:
            if plugin.name in self._workers.stuck():
                self._failed(plugin, PatienceError(self._workers.stuck()[plugin.name]))
                continue
            try:
                bursts = self._reserver.reserve_on_demand(plugin, nodes, tasks)
            except FluxburstError as error:
                self._failed(plugin, error)
                continue
            request = BurstRequest(bursts, request_burst=True, nodes=nodes, tasks=tasks)
            self._call(plugin, request, None)
        self._workers.wait(math.inf)

    # --- their steps -----------------------------------------------------------------------

    def _start(self, reservation: Reservation) -> None:
        plugin = reservation.plugin
        for burst in reservation.refused:
            self._failed(plugin, LimitError(burst.error, plugin=plugin.name, burst=burst.name))
        jobs = self._assigner.mark(plugin, reservation.jobs, reservation.marks, self.outcome.errors)
        wanted = [burst for burst in reservation.bursts if not jobs.keys().isdisjoint(burst.jobs)]
        for burst in reservation.bursts:
            if burst not in wanted:
                self._drop(plugin, burst, _NO_JOBS)
        if jobs:
            self._call(plugin, BurstRequest(tuple(wanted), jobs), reservation.placeholder)
        elif reservation.placeholder is not None:
            self._end_placeholder(reservation.placeholder, _NO_JOBS)

    def _end_placeholder(self, placeholder: Burst, why: str) -> None:
        ended = replace(placeholder, state=BurstState.ENDED)
        self._store.ledger.record(ended, self._store.now(), why)

    def _drop(self, plugin: BurstPlugin, burst: Burst, why: str) -> None:
        """Record that a burst was not requested after all."""
        self._store.record(plugin, replace(burst, state=BurstState.ENDED), why)

    def _call(self, plugin: BurstPlugin, request: BurstRequest, placeholder: Burst | None) -> None:
        up = self._vetting.note_before([burst.name for burst in request.bursts])
        for burst in request.bursts:
            self._store.publish(plugin, burst)

        def run() -> Sequence[Burst]:
            plugin.planned = request.bursts
            try:
                return tuple(self._hooks.run_plugin(plugin, request))
            finally:
                plugin.planned = ()

        self._workers.start(
            Call(
                plugin.name,
                "create()",
                self._shared.policy.timeouts.create * max(1, len(request.bursts)),
                run,
                lambda answer: self._settle(plugin, request, placeholder, up, answer),
                bursts=names_of(request.bursts),
            )
        )

    def _settle(
        self,
        plugin: BurstPlugin,
        request: BurstRequest,
        placeholder: Burst | None,
        up: frozenset[str],
        answer: Answer[Sequence[Burst]],
    ) -> None:
        """Process a plugin's answer."""
        match answer:
            case Done(done):
                self._take_created(plugin, request, placeholder, up, done, None)
            case Failed(error):
                done = getattr(error, "bursts", ()) if isinstance(error, FluxburstError) else ()
                self._take_created(plugin, request, placeholder, up, done, error)
            case TimedOut(why):
                self._on_timeout(plugin, request, why)

    def _take_created(
        self,
        plugin: BurstPlugin,
        request: BurstRequest,
        placeholder: Burst | None,
        up: frozenset[str],
        done: Sequence[Burst],
        error: BaseException | None,
    ) -> None:
        """Process the created bursts and the failures; release the jobs of failed bursts."""
        done, unasked = self._ours(plugin, request, done, up)
        done, faults = self._checked(plugin, request, done)
        faults += unasked
        if error is None:
            faults += _unsaid(plugin, request, names_of(done) | {one.burst for one in faults})
        if faults and (error is None or isinstance(error, FluxburstError)):
            error = BurstErrors([*([] if error is None else [error]), *faults], done)
        interrupted = error is not None and not isinstance(error, FluxburstError)
        # An interrupted one may exist: the next pass asks.
        created = names_of(done)
        begun = names_of(request.bursts) if interrupted else created
        plugin.bursts.update({burst.name: burst for burst in done})
        with self._store.batch():
            self._store.save_all(plugin, created)
            self._store.created(done)
            self._settle_placeholder(plugin, placeholder, done, error)
            of = _named_for(request.jobs, done) if done and not request.bursts else {}
            marks = self._assigner.name_bursts(plugin, of)
        self._assigner.set_marks(marks)
        for burst in request.bursts:
            if burst.name not in begun:
                self._missing(plugin, burst, error)
        if error is not None and not request.bursts:
            self._assigner.release(plugin, list(request.jobs), str(error))
        self.outcome.bursts += [self._store.known(burst) for burst in done]
        if isinstance(error, FluxburstError):
            self._blame(plugin, request, error)
        elif error is not None:
            raise error

    def _ours(
        self, plugin: BurstPlugin, request: BurstRequest, done: Sequence[Burst], up: frozenset[str]
    ) -> tuple[list[Burst], list[BurstError]]:
        """Return the requested bursts in an answer, and those with a name reserved for this plugin.

        Also returns the problems of the rest, which is not recorded: it may belong to anyone.
        """
        asked = names_of(request.bursts)
        ours: list[Burst] = []
        faults: list[BurstError] = []
        for burst in done:
            try:
                check_name(getattr(burst, "name", burst), "run()")
                if burst.name not in asked and not is_ours(self._store.ledger, plugin, burst.name):
                    raise BurstError(
                        f"run() returned burst {burst.name!r}, which was not requested, and whose "
                        "name is not reserved for this plugin and instance: it is left alone"
                    )
            except BurstError as fault:
                fault.plugin = plugin.name
                faults.append(fault)
            else:
                ours.append(burst)
        self._vetting.note_asked(names_of(ours) - asked - names_of(plugin.bursts.values()), up)
        return ours, faults

    def _checked(
        self, plugin: BurstPlugin, request: BurstRequest, done: Sequence[Burst]
    ) -> tuple[list[Burst], list[BurstError]]:
        """Return the bursts that came up, and the problems of others, which must be terminated."""
        asked = {burst.name: burst for burst in request.bursts}
        good: list[Burst] = []
        faults: list[BurstError] = []
        for burst in done:
            wanted = asked.get(burst.name)
            if wanted is None:
                wanted = self._store.known(Burst(burst.name, plugin.name, "", 0))
            try:
                created = self._vetting.vetted(check_created(burst, wanted), wanted, "create()")
                good.append(self._with_lease_ahead(created))
                _warn_of_fewer(created, wanted)
            except BurstError as fault:
                fault.plugin, fault.burst = fault.plugin or plugin.name, burst.name
                faults.append(fault)
                left = replace(wanted, state=BurstState.ENDING, error=str(fault))
                plugin.bursts[burst.name] = left
        return good, faults

    def _with_lease_ahead(self, burst: Burst) -> Burst:
        """Return a burst whose lease has not expired.

        Raises:
            BurstError: if it is.
        """
        if burst.lease_until is not None and burst.lease_until <= self._store.now():
            over = format_duration(self._store.now() - burst.lease_until)
            raise BurstError(
                f"create() returned a lease that expired {over} ago: is the provider's clock right?"
            )
        return burst

    def _missing(self, plugin: BurstPlugin, burst: Burst, error: BaseException | None) -> None:
        """Release the jobs of a burst that did not come up."""
        known = plugin.bursts.get(burst.name, burst)
        why = known.error or (str(error) if error else _UNSAID)
        if known.state is BurstState.REQUESTED:  # the plugin has not reported a result
            self._store.record(plugin, replace(known, state=BurstState.FAILED, error=why))
        self._assigner.release(plugin, self._assigner.waiting_for(plugin, {burst.name}), why)

    def _settle_placeholder(
        self,
        plugin: BurstPlugin,
        placeholder: Burst | None,
        done: Sequence[Burst],
        error: BaseException | None,
    ) -> None:
        if placeholder is None:
            return
        if error is None and not done:  # their readiness closes it
            self._store.ledger.set_breaker(Breaker(plugin.name, ""))
        if error is not None:
            state, why = BurstState.FAILED, str(error)
        elif done:
            state, why = BurstState.ENDED, f"it is {', '.join(sorted(names_of(done)))}"
        else:
            state, why = BurstState.READY, "the plugin does not name its bursts"
        self._store.ledger.record(replace(placeholder, state=state), self._store.now(), why)
        self._store.created([placeholder])

    def _blame(self, plugin: BurstPlugin, request: BurstRequest, error: FluxburstError) -> None:
        """Count failures, and note whose jobs to offer elsewhere."""
        by_name = {burst.name: burst for burst in request.bursts}
        if request.jobs and not request.bursts:  # of a plugin that sizes its bursts itself
            self._count_failure(Burst("", plugin.name, "", 0), error)
        for one in error.errors if isinstance(error, BurstErrors) else [error]:
            burst = by_name.get(getattr(one, "burst", ""))
            if burst is None and len(request.bursts) == 1:  # a plugin may raise one error twice
                burst = request.bursts[0]
            if burst is not None:
                self._count_failure(burst, one)
            if burst is not None and _may_fit_elsewhere(one):
                self.outcome.refused[burst.plugin, burst.node_type] = str(one)
                theirs = {j: job for j in burst.jobs if isinstance(job := request.jobs.get(j), Job)}
                self.outcome.displaced.update(theirs)
                if not isinstance(one, ParameterError):  # which the user must fix anyway
                    self.outcome.reoffered.append((one, frozenset(theirs)))
        self._failed(plugin, error)

    def _count_failure(self, burst: Burst, error: FluxburstError) -> None:
        final = getattr(error, "final", False)
        self._store.count_failure(burst, str(error), self._shared.policy.breakers, final=final)

    def _on_timeout(self, plugin: BurstPlugin, request: BurstRequest, why: str) -> None:
        """Treat bursts as failed whose creation timed out, and have them terminated."""
        errors: list[FluxburstError] = []
        for burst in request.bursts:
            self._store.record(plugin, replace(burst, state=BurstState.ENDING, error=why))
            errors.append(PatienceError(why, plugin=plugin.name, burst=burst.name))
            self._assigner.release(plugin, self._assigner.waiting_for(plugin, {burst.name}), why)
        if not request.bursts:
            errors.append(PatienceError(why, plugin=plugin.name))
            self._assigner.release(plugin, list(request.jobs), why)
        self._blame(plugin, request, BurstErrors(errors))

    def _failed(self, plugin: BurstPlugin, error: FluxburstError) -> None:
        self.outcome.errors.append(error)
        self._hooks.phase_failed("run", plugin, error)


def _warn_of_fewer(created: Burst, asked: Burst) -> None:
    """Warn that a plugin provisions fewer nodes than requested; they are used."""
    if created.nodes < asked.nodes:
        _log.warning(
            "plugin %s, burst %s: create() returned %s, but %d were requested: jobs that do not "
            "fit on them are released",
            *(created.plugin, created.name, counted(created.nodes, "node"), asked.nodes),
            extra={"plugin": created.plugin, "burst": created.name, "jobs": asked.jobs},
        )


_NO_JOBS = "none of its jobs could be assigned to it"

_UNSAID = "the plugin did not create it, and gives no reason"


def _unsaid(
    plugin: BurstPlugin, request: BurstRequest, said: Collection[str]
) -> Iterator[BurstError]:
    """Yield the message for each requested burst without any report or record."""
    for burst in request.bursts:
        known = plugin.bursts.get(burst.name, burst)
        if burst.name not in said and known.state in (BurstState.REQUESTED, BurstState.FAILED):
            yield BurstError(known.error or _UNSAID, plugin=plugin.name, burst=burst.name)


def _named_for(jobs: Collection[int], bursts: Sequence[Burst]) -> dict[int, str]:
    """Return the burst of each job, if the plugin sized bursts itself; empty if unknown.

    That is the burst that names the job, or the only one.
    """
    only = bursts[0].name if len(bursts) == 1 else ""
    told = {jobid: burst.name for burst in bursts for jobid in burst.jobs}
    return {jobid: told.get(jobid, only) for jobid in jobs}


def _may_fit_elsewhere(error: FluxburstError) -> bool:
    """Whether another plugin may supply what this one could not."""
    return isinstance(error, (CapacityError, ParameterError, QuotaError, PatienceError))
