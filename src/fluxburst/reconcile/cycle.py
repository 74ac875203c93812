"""One cycle: everything that acts on the whole queue takes these steps, in this order."""

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
    """What each plugin provisions on demand, whatever the queue holds.

    Attributes:
        nodes: Number of nodes.
        tasks: Number of tasks to make room for.
    """

    nodes: int | None
    tasks: int | None


@dataclass(frozen=True)
class Scope:
    """The scope of a cycle; by default everything.

    Attributes:
        everything: Ask plugins what exists, and repair differences. Otherwise process only
            answers, changes and what is due.
        whole_queue: Plan for all pending jobs. Otherwise for changed ones, and occasionally
            for all.
        patience: How long to wait for plugins, in seconds; a later cycle processes late
            answers.
        on_demand: Provision this, and assign no job; None to apply the plan.
    """

    everything: bool = True
    whole_queue: bool = True
    patience: float = math.inf
    on_demand: OnDemand | None = None


ALL_THE_WAY = Scope()


@dataclass(frozen=True)
class CycleResult:
    """The result of a cycle.

    Attributes:
        plan: The plan for the jobs examined.
        bursts: The bursts that it provisioned.
        errors: Failures; the rest was done.
    """

    plan: Plan
    bursts: Sequence[Burst]
    errors: Sequence[FluxburstError]

    def raise_errors(self) -> None:
        """Raise the failures.

        Raises:
            BurstErrors: if there are any.
        """
        if self.errors:
            raise BurstErrors(self.errors, self.bursts)


def run_cycle(controller: Controller, scope: Scope) -> CycleResult:
    """Hold, read, observe and reconcile, plan, record, assign and provision.

    Raises:
        HeldError: if another client holds the instance; nothing was done.
        InstanceError: if the instance cannot be reached.
        LedgerError: if the ledger is not writable; nothing more was provisioned.
        BurstErrors: likewise, if something had failed before.
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
        controller.scan.start_over()  # the decisions on these jobs were not fully applied
        raise
    return CycleResult(plan, bursts, [*errors, *failures])


def _reconcile(controller: Controller, scope: Scope) -> list[FluxburstError]:
    """Make reality match the ledger; return the failures."""
    if not scope.everything:
        return controller.keep(scope.patience)
    errors = controller.reconcile(scope.patience)
    controller.forget_history()
    return errors


def _plan(controller: Controller, scope: Scope) -> Plan:
    """Plan for all pending jobs, or for changed ones."""
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
    """Apply the plan, or provision on demand; return the bursts and the failures."""
    try:
        if scope.on_demand is None:
            return controller.apply(plan, scope.patience), ()
        controller.scan.start_over()  # the plan is not applied
        return controller.request(scope.on_demand.nodes, scope.on_demand.tasks), ()
    except BurstErrors as failures:
        controller.scan.free_capacity = None  # not all planned capacity came
        return failures.bursts, failures.errors
