"""One cycle: whatever acts on the whole queue goes through these steps, in this order."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fluxburst.errors import BurstErrors, FluxburstError
from fluxburst.model.burst import Burst
from fluxburst.model.plan import Plan
from fluxburst.reconcile.controller import Controller


@dataclass(frozen=True)
class OnDemand:
    """What each plugin is to provision, whatever the queue holds.

    Attributes:
        nodes: How many nodes.
        tasks: How many tasks there is to be room for.
    """

    nodes: int | None
    tasks: int | None


@dataclass(frozen=True)
class Scope:
    """How far a cycle goes; by default all the way.

    Attributes:
        everything: Ask plugins what is there, and repair the difference. Otherwise only what was
            answered, what changed and what is due is taken in.
        whole_queue: Plan for all pending jobs. Otherwise for those that changed, and at times
            for all.
        patience: How long to wait for plugins, in seconds; what is not answered by then is taken
            in by a later cycle.
        on_demand: Provision this, and assign no job; None to do what the plan says.
    """

    everything: bool = True
    whole_queue: bool = True
    patience: float = math.inf
    on_demand: OnDemand | None = None


ALL_THE_WAY = Scope()


@dataclass(frozen=True)
class CycleResult:
    """What a cycle has brought about.

    Attributes:
        plan: The plan for the jobs that it looked at.
        bursts: The bursts that it provisioned.
        errors: What failed; the rest was done.
    """

    plan: Plan
    bursts: Sequence[Burst]
    errors: Sequence[FluxburstError]

    def raise_errors(self) -> None:
        """Raise what failed.

        Raises:
            BurstErrors: if anything did.
        """
        if self.errors:
            raise BurstErrors(self.errors, self.bursts)


def run_cycle(controller: Controller, scope: Scope) -> CycleResult:
    """Hold, read, observe and reconcile, plan, record, assign and provision.

    Raises:
        HeldError: if another client holds the instance; nothing was done.
        InstanceError: if the instance cannot be asked.
        LedgerError: if the ledger cannot be written; nothing more was provisioned.
        BurstErrors: if it cannot, and something had failed before.
    """
    controller.store.hold()
    controller.read_queue()
    controller.forget_gone()
    errors = _reconcile(controller, scope)
    controller.require_ledger(errors)
    controller.forget_promises()
    try:
        plan = _plan(controller, scope)
        bursts, failures = _provision(controller, scope, plan)
    except Exception:
        controller.scan.start_over()  # what was decided on these jobs was not done, or not all
        raise
    return CycleResult(plan, bursts, [*errors, *failures])


def _reconcile(controller: Controller, scope: Scope) -> list[FluxburstError]:
    """Make what is there what it should be; return what failed."""
    if not scope.everything:
        return controller.keep(scope.patience)
    errors = controller.reconcile(scope.patience)
    controller.forget_history()
    return errors


def _plan(controller: Controller, scope: Scope) -> Plan:
    """Plan for all pending jobs, or for those that changed."""
    scan = controller.scan
    if scope.whole_queue:
        controller.read_queue(again=True)  # it may have changed while plugins answered
        scan.start_over()
    started = time.monotonic()
    all_jobs = scan.is_due(started)
    jobs = scan.full() if all_jobs else controller.changed_jobs()
    with controller.parts.planners.planner(None if all_jobs else scan.free_capacity) as planner:
        plan = planner.plan(jobs, controller.pending_queue.jobs.values())
    scan.free_capacity = planner.free_capacity
    if all_jobs:
        scan.record_full(started, time.monotonic() - started, controller.policy.watch.poll)
    return plan


def _provision(
    controller: Controller, scope: Scope, plan: Plan
) -> tuple[Sequence[Burst], Sequence[FluxburstError]]:
    """Do what the plan says, or what is asked for on demand; return what came, and what failed."""
    try:
        if scope.on_demand is None:
            return controller.apply(plan, scope.patience), ()
        controller.scan.start_over()  # the plan is not carried out
        return controller.request(scope.on_demand.nodes, scope.on_demand.tasks), ()
    except BurstErrors as failures:
        controller.scan.free_capacity = None  # what was promised did not all come
        return failures.bursts, failures.errors
