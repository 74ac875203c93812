"""Hooks and plugins do not call what plans or acts: that is done for somebody already."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import Elsewhere, at_most, client_with, job, spec

from fluxburst import Burst, BurstState, FluxBurst, Job, NodeType, hookimpl
from fluxburst.errors import BurstErrors
from fluxburst.model.plan import Outcome, Plan
from fluxburst.plugin.orderings import as_loaded

Call = Callable[[FluxBurst], object]
CALLS: dict[str, Call] = {
    "plan": lambda client: client.plan(),
    "select_jobs": lambda client: client.select_jobs(),
    "run_burst": lambda client: client.run_burst(),
    "run_cycle": lambda client: client.run_cycle(),
    "run_unburst": lambda client: client.run_unburst(),
    "reconcile": lambda client: client.reconcile(),
    "run_pass": lambda client: client.run_pass(everything=True, patience=1.0),
    "request_burst": lambda client: client.request_burst("cloud", 1, None),
    "request_bursts": lambda client: client.request_bursts(1, None),
    "refresh_bursts": lambda client: client.refresh_bursts(),
    "adopt_bursts": lambda client: client.adopt_bursts(),
    "hold": lambda client: client.hold(),
    "reconfigure": lambda client: client.reconfigure(client.config),
    "apply": lambda client: client.apply(Plan((), (), {}, {})),
    "remaining": lambda client: client.remaining(),
    "wait_for_jobs": lambda client: client.wait_for_jobs(),
    "load": lambda client: client.load("mock"),
    "set_selector": lambda client: client.set_selector(bool),
    "reset_selector": lambda client: client.reset_selector(),
    "set_ordering": lambda client: client.set_ordering(as_loaded),
    "close": lambda client: client.close(),
}
OF_PLUGINS = {
    "here": ["node_types", "in_use", "constraint_of", "schedule"],
    "in its thread": ["create", "refresh", "list_bursts"],
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


class CallsBackWhileItRuns:
    """Calls the client in the thread of the plugin."""

    def __init__(self, call: Call) -> None:
        self.call = call

    @hookimpl
    def fluxburst_run_plugin(self, client: FluxBurst) -> None:
        self.call(client)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_hook_that_calls_back_in_a_plugins_thread_is_named(call: Call) -> None:
    cloud = Elsewhere("cloud", NodeType("node", cores=8))
    with client_with(cloud, jobs=(job(1, spec(1, 8, burstable=1)),)) as client:
        client.hooks.register(CallsBackWhileItRuns(call), "fluxburst-back")
        with pytest.raises(BurstErrors, match=r"fluxburst-back: .*cannot be called from a hook"):
            client.run_burst()


class Inquisitive(Elsewhere):
    """A burst plugin that keeps the client, and calls it where it is asked for ``what``."""

    def __init__(self, name: str, call: Call) -> None:
        super().__init__(name, NodeType("node", cores=8))
        self.call = call
        self.what = ""
        self.client: FluxBurst | None = None

    @hookimpl
    def fluxburst_configure(self, client: FluxBurst) -> None:
        self.client = client

    def _look(self, what: str) -> None:
        if what == self.what:
            assert self.client is not None
            self.call(self.client)

    def node_types(self) -> tuple[NodeType, ...]:
        self._look("node_types")
        return super().node_types()

    def in_use(self) -> dict[str, int]:
        self._look("in_use")
        return super().in_use()

    def constraint_of(self, job: Job) -> Any:
        self._look("constraint_of")
        return super().constraint_of(job)

    def schedule(self, job: Job) -> bool:
        self._look("schedule")
        return super().schedule(job)

    def create(self, burst: Burst) -> Burst:
        self._look("create")
        return replace(super().create(burst), state=BurstState.STARTING)

    def refresh(self, burst: Burst) -> Burst:
        self._look("refresh")
        return super().refresh(burst)

    def list_bursts(self) -> Collection[str]:
        self._look("list_bursts")
        return super().list_bursts()


@pytest.mark.parametrize("what", OF_PLUGINS["here"])
@pytest.mark.parametrize("name", ["plan", "select_jobs", "run_burst", "run_pass", "reconcile"])
def test_a_plugin_that_calls_back_is_named_and_nothing_is_done_twice(name: str, what: str) -> None:
    cloud, other = Inquisitive("cloud", CALLS[name]), Elsewhere("other")
    jobs = (job(1, spec(1, 8, burstable="cloud")), job(2, spec(burstable="other")))
    with client_with(cloud, other, jobs=jobs) as client:
        cloud.what = what
        plan = client.plan()
        client.run_burst()
    first, second = plan.decisions
    said = " ".join([*first.reasons, *map(str, plan.errors)])
    assert "cannot be called from a" in said
    assert "cloud" in said
    assert second.outcome is Outcome.ASSIGNED
    assert len(other.created) == 1


@pytest.mark.parametrize("what", OF_PLUGINS["in its thread"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_plugin_that_calls_back_in_its_thread_waits_for_nobody(call: Call, what: str) -> None:
    cloud, other = Inquisitive("cloud", call), Elsewhere("other")
    jobs = (job(1, spec(1, 8, burstable="cloud")), job(2, spec(burstable="other")))
    with client_with(cloud, other, jobs=jobs) as client, at_most(30.0):
        cloud.what = what
        said: list[str] = []
        for _ in range(2):
            try:
                client.run_pass(everything=True, patience=10.0)
            except BurstErrors as failures:
                said.append(str(failures))
            said += [entry.burst.error for entry in client.ledger.entries()]
        cloud.what = ""
    assert any("cannot be called from a" in text for text in said), said
    assert len(other.created) == 1


LOOKS: dict[str, Call] = {
    "now": lambda client: client.now(),
    "nodes": lambda client: client.nodes(),
    "list_jobs": lambda client: client.list_jobs(),
    "iter_plugins": lambda client: list(client.iter_plugins()),
    "plugins": lambda client: client.plugins["cloud"],
    "policy": lambda client: client.policy.limits,
    "config": lambda client: client.config.source,
    "ledger": lambda client: client.ledger.entries(),
    "state_dir": lambda client: client.state_dir,
    "instance": lambda client: client.instance.name,
}
OF_THE_SERVICE = {
    "choices",
    "holder",
    "next_due",
    "queue_counts",
    "strangers",
    "why_unwritable",
}
"""What only looks, too, and is of use to a service and the command line."""


@pytest.mark.parametrize("call", LOOKS.values(), ids=LOOKS)
def test_a_hook_may_look_at_the_client(call: Call) -> None:
    cloud = Elsewhere("cloud", NodeType("node", cores=8))
    with client_with(cloud, jobs=(job(1, spec(1, 8, burstable=1)),)) as client:
        for hooks in CallsBack(call), CallsBackWhileItRuns(call):
            client.hooks.register(hooks, "fluxburst-looks")
        client.run_burst()
        assert len(cloud.created) == 1
        assert list(client.hooks.observer_errors) == []


def test_the_documentation_says_of_each_method_whether_a_hook_may_call_it() -> None:
    methods = {name for name in dir(FluxBurst) if not name.startswith("_")}
    assert methods == CALLS.keys() | LOOKS.keys() - {"config", "instance"} | OF_THE_SERVICE
    text = (Path(__file__).parents[1] / "docs" / "hooks.md").read_text()
    section = text.partition("### Client methods that hooks may call\n")[2]
    refused, _, allowed = section.partition("\n### ")[0].partition("All else may be called")
    assert set(re.findall(r"`(\w+)`", refused)) - {"RuntimeError"} == CALLS.keys()
    assert set(re.findall(r"`(\w+)`", allowed)) == LOOKS.keys()


def test_the_loaded_plugins_cannot_be_replaced_at_once() -> None:
    with client_with(Elsewhere("cloud")) as client:
        with pytest.raises(AttributeError):
            client.plugins = {}  # type: ignore[misc, assignment]
        assert list(client.plugins) == ["cloud"]
