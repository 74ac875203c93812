"""Hooks do not call what plans or acts: that is done for somebody already."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from support import Elsewhere, client_with, job, spec

from fluxburst import Burst, FluxBurst, Job, NodeType, hookimpl
from fluxburst.errors import BurstErrors
from fluxburst.plan import Outcome

Call = Callable[[FluxBurst], object]
CALLS: dict[str, Call] = {
    "plan": lambda client: client.plan(),
    "select_jobs": lambda client: client.select_jobs(),
    "run_burst": lambda client: client.run_burst(),
    "run_unburst": lambda client: client.run_unburst(),
    "reconcile": lambda client: client.reconcile(),
    "run_pass": lambda client: client.run_pass(everything=True, patience=1.0),
    "request_burst": lambda client: client.request_burst("cloud", 1, None),
    "request_bursts": lambda client: client.request_bursts(1, None),
    "refresh_bursts": lambda client: client.refresh_bursts(),
    "adopt_bursts": lambda client: client.adopt_bursts(),
    "hold": lambda client: client.hold(),
    "reconfigure": lambda client: client.reconfigure(client.config),
}


class CallsBack:
    """Calls the client where it is asked of job 1, and where it is told."""

    def __init__(self, call: Call) -> None:
        self.call = call

    @hookimpl
    def fluxburst_select_job(self, job: Job, client: FluxBurst) -> None:
        if job.id == 1:
            self.call(client)

    @hookimpl
    def fluxburst_burst_changed(self, burst: Burst, client: FluxBurst) -> None:
        self.call(client)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_hook_that_calls_back_costs_its_job_only_and_is_named(call: Call) -> None:
    cloud = Elsewhere("cloud", NodeType("node", cores=8))
    jobs = (job(1, spec(1, 8, burstable=1)), job(2))
    with client_with(cloud, jobs=jobs) as client:
        client.hooks.register(CallsBack(call), "fluxburst-back")
        first, second = client.plan().decisions
        assert (first.outcome, second.outcome) == (Outcome.FAILED, Outcome.ASSIGNED)
        assert "fluxburst-back" in first.reasons[0]
        assert "cannot be called from a hook" in first.reasons[0]
        with suppress(BurstErrors):
            client.run_burst()
        assert len(cloud.created) == 1
        assert {error.distribution for error in client.hooks.observer_errors} == {"fluxburst-back"}


def test_the_loaded_plugins_cannot_be_replaced_at_once() -> None:
    with client_with(Elsewhere("cloud")) as client:
        with pytest.raises(AttributeError):
            client.plugins = {}  # type: ignore[misc, assignment]
        assert list(client.plugins) == ["cloud"]
