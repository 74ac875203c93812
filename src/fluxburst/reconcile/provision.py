"""Bringing capacity up: reserve it, assign the jobs, have the plugins create, see what came.

Nothing is asked of a plugin before its intent is in the ledger. What a plugin has no capacity or
quota for is offered to the next within the same pass.
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
    """What a pass has brought about so far.

    Attributes:
        bursts: What came up, or is coming.
        errors: What failed.
        refused: Node types that had no capacity or quota, by plugin and name, with the reason.
        displaced: The jobs of what was refused, by id, to be offered on.
        reoffered: Errors that do not count once their jobs have found another place, with these.
    """

    bursts: list[Burst] = field(default_factory=list)
    errors: list[FluxburstError] = field(default_factory=list)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    displaced: dict[int, Job] = field(default_factory=dict)
    reoffered: list[tuple[FluxburstError, frozenset[int]]] = field(default_factory=list)


class Provisioner:
    """Brings bursts up for one client.

    Args:
        shared: What the parts of a client share.
        vetting: What vets what its plugins answer.
        assigner: What gives its jobs away.
        budget: Tells what the limits leave now.
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
        """Record what a plan says, which :meth:`start` is to do once that is durable."""
        return [
            self._reserver.reserve(plugins[name], assigned, plan)
            for name, assigned in plan.assignments.items()
            if assigned
        ]

    def start(self, reservations: Sequence[Reservation], patience: float = math.inf) -> None:
        """Start what was intended, and take in what is answered within ``patience`` seconds.

        By default it is waited for all of it. What comes of it is in :attr:`outcome`.
        """
        for reservation in reservations:
            self._start(reservation)
        self._workers.wait(patience)

    def start_on_demand(
        self, plugins: Sequence[BurstPlugin], nodes: int | None, tasks: int | None
    ) -> None:
        """Have plugins bring up capacity by hand, and wait for all of it."""
        for plugin in plugins:
            try:
                bursts = self._reserver.reserve_on_demand(plugin, nodes, tasks)
            except FluxburstError as error:
                self._failed(plugin, error)
                continue
            request = BurstRequest(bursts, request_burst=True, nodes=nodes, tasks=tasks)
            self._call(plugin, request, None)
        self._workers.wait(math.inf)

    # --- the steps -------------------------------------------------------------------------

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
        """Record that a burst was not asked for after all."""
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
        """Take what a plugin answered."""
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
        """Take what a plugin created, and how it failed; free the jobs of what did not come up."""
        done, unasked = self._ours(plugin, request, done, up)
        done, faults = self._checked(plugin, request, done)
        faults += unasked
        if error is None:
            faults += _unsaid(plugin, request, names_of(done) | {one.burst for one in faults})
        if faults and (error is None or isinstance(error, FluxburstError)):
            error = BurstErrors([*([] if error is None else [error]), *faults], done)
        interrupted = error is not None and not isinstance(error, FluxburstError)
        # What was interrupted may be there: the next pass asks.
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
        """Return what was answered that was asked for, or has a name that only this plugin gives.

        And what is wrong with the rest, of which nothing is recorded: it may be anybody's.
        """
        asked = names_of(request.bursts)
        ours: list[Burst] = []
        faults: list[BurstError] = []
        for burst in done:
            try:
                check_name(getattr(burst, "name", burst), "run()")
                if burst.name not in asked and not is_ours(self._store.ledger, plugin, burst.name):
                    raise BurstError(
                        f"run() answered burst {burst.name!r}, which was not asked for, and whose "
                        "name is none that this plugin gives for this instance: it is left alone"
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
        """Return the bursts that came up, and what is wrong with others, which are to be ended."""
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
        """Return a burst whose lease is not over.

        Raises:
            BurstError: if it is.
        """
        if burst.lease_until is not None and burst.lease_until <= self._store.now():
            over = format_duration(self._store.now() - burst.lease_until)
            raise BurstError(
                f"create() answered with a lease that was over {over} ago: is the provider's "
                "clock right?"
            )
        return burst

    def _missing(self, plugin: BurstPlugin, burst: Burst, error: BaseException | None) -> None:
        """Free the jobs of a burst that did not come up."""
        known = plugin.bursts.get(burst.name, burst)
        why = known.error or (str(error) if error else _UNSAID)
        if known.state is BurstState.REQUESTED:  # the plugin has not said what became of it
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
        if error is None and not done:  # others close it once they are ready
            self._store.ledger.set_breaker(Breaker(plugin.name, ""))
        if error is not None:
            state, why = BurstState.FAILED, str(error)
        elif done:
            state, why = BurstState.ENDED, f"it is {', '.join(sorted(names_of(done)))}"
        else:
            state, why = BurstState.READY, "the plugin does not say what it brought up"
        self._store.ledger.record(replace(placeholder, state=state), self._store.now(), why)
        self._store.created([placeholder])

    def _blame(self, plugin: BurstPlugin, request: BurstRequest, error: FluxburstError) -> None:
        """Count failures, and note whose jobs are to be offered on."""
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
                if not isinstance(one, ParameterError):  # which a person must know of anyway
                    self.outcome.reoffered.append((one, frozenset(theirs)))
        self._failed(plugin, error)

    def _count_failure(self, burst: Burst, error: FluxburstError) -> None:
        final = getattr(error, "final", False)
        self._store.count_failure(burst, str(error), self._shared.policy.breakers, final=final)

    def _on_timeout(self, plugin: BurstPlugin, request: BurstRequest, why: str) -> None:
        """Take bursts for failed whose creation has not been answered, and have them taken down."""
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
    """Say that a plugin brings up fewer nodes than it was asked for; what comes is used."""
    if created.nodes < asked.nodes:
        _log.warning(
            "plugin %s, burst %s: create() answered %s, and %d were asked for: jobs that do not "
            "fit on what comes are released",
            *(created.plugin, created.name, counted(created.nodes, "node"), asked.nodes),
            extra={"plugin": created.plugin, "burst": created.name, "jobs": asked.jobs},
        )


_NO_JOBS = "none of its jobs could be given to it"

_UNSAID = "the plugin did not bring it up, and does not say why"


def _unsaid(
    plugin: BurstPlugin, request: BurstRequest, said: Collection[str]
) -> Iterator[BurstError]:
    """Yield what to say of each burst that was asked for, of which nothing was said or is known."""
    for burst in request.bursts:
        known = plugin.bursts.get(burst.name, burst)
        if burst.name not in said and known.state in (BurstState.REQUESTED, BurstState.FAILED):
            yield BurstError(known.error or _UNSAID, plugin=plugin.name, burst=burst.name)


def _named_for(jobs: Collection[int], bursts: Sequence[Burst]) -> dict[int, str]:
    """Return for which of the bursts that a plugin sized itself each job waits; empty if unknown.

    That is the one which says that it is for that job, or the only one.
    """
    only = bursts[0].name if len(bursts) == 1 else ""
    told = {jobid: burst.name for burst in bursts for jobid in burst.jobs}
    return {jobid: told.get(jobid, only) for jobid in jobs}


def _may_fit_elsewhere(error: FluxburstError) -> bool:
    """Whether what one plugin could not bring up may come from another."""
    return isinstance(error, (CapacityError, ParameterError, QuotaError, PatienceError))
