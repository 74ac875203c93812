"""Hooks may look at what they are given; what they do to it costs one job at most."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from support import Elsewhere, client_with, job, named, spec

from fluxburst import Burst, BurstPlugin, BurstState, FluxBurst, Job, NodeType, Outcome, hookimpl
from fluxburst.bursts import BurstRequest
from fluxburst.errors import BurstErrors
from fluxburst.handles.packed import PackedJob
from fluxburst.handles.protocol import Changes

NODE = NodeType("node", cores=8)
Touch = Callable[[Any], object]

TOUCHES: list[Touch] = [
    lambda plugins: plugins.pop("cloud"),
    lambda plugins: plugins.popitem(),
    lambda plugins: plugins.clear(),
    lambda plugins: plugins.update(other=None),
    lambda plugins: plugins.setdefault("other", None),
    lambda plugins: plugins.__setitem__("cloud", None),
    lambda plugins: plugins.__delitem__("cloud"),
    lambda plugins: plugins.__ior__({"other": None}),
]


class Orders:
    """Changes the loaded plugins where it is asked about job 1."""

    def __init__(self, touch: Touch, *, of_client: bool) -> None:
        self.touch = touch
        self.of_client = of_client

    @hookimpl
    def fluxburst_order_plugins(
        self, plugins: Mapping[str, BurstPlugin], job: Job | None, client: FluxBurst
    ) -> None:
        if job is not None and job.id == 1:
            self.touch(client.plugins if self.of_client else plugins)


def two_jobs(cloud: BurstPlugin) -> FluxBurst:
    return client_with(cloud, jobs=(job(1, spec(1, 8, burstable=1)), job(2)))


@pytest.mark.parametrize("of_client", [True, False])
@pytest.mark.parametrize("touch", TOUCHES)
def test_a_hook_that_changes_the_plugins_costs_that_job_only_and_is_named(
    touch: Touch, of_client: bool
) -> None:
    cloud = Elsewhere("cloud", NODE)
    client = two_jobs(cloud)
    client.request_burst("cloud", 1, None)
    client.hooks.register(Orders(touch, of_client=of_client), "fluxburst-orders")
    first, second = client.plan().decisions
    assert (first.outcome, second.outcome) == (Outcome.FAILED, Outcome.ASSIGNED)
    assert "fluxburst-orders" in first.reasons[0]
    assert "cannot change them" in first.reasons[0]
    assert dict(client.plugins) == {"cloud": cloud}
    client.run_burst()
    assert len(client.run_unburst()) == 2


def test_a_users_ordering_cannot_unload_a_plugin_either() -> None:
    cloud = Elsewhere("cloud", NODE)
    client = two_jobs(cloud)

    def greedy(plugins: Any) -> Iterator[tuple[str, BurstPlugin]]:
        yield "cloud", plugins.pop("cloud")

    client.set_ordering(greedy)
    assert {decision.outcome for decision in client.plan().decisions} == {Outcome.FAILED}
    assert "greedy" in client.plan().decisions[0].reasons[0]
    assert dict(client.plugins) == {"cloud": cloud}


def test_whoever_has_the_client_can_change_its_plugins() -> None:
    client = two_jobs(Elsewhere("cloud", NODE))
    client.plugins["other"] = Elsewhere("other", NODE)
    client.plugins.move_to_end("other", last=False)
    assert list(client.plugins) == ["other", "cloud"]
    client.plugins.pop("other")
    assert list(client.plugins) == ["cloud"]


class Scribbles:
    """Writes into every job that it is given, at every depth, and says nothing."""

    seen: list[dict[str, Any]]

    def __init__(self) -> None:
        self.seen = []

    def scribble(self, job: Any) -> None:
        self.seen.append(copy.deepcopy(dict(job.copy())))
        job["spec"]["attributes"]["system"].update(burstable=False, duration=1e9)
        job["spec"]["resources"].clear()
        job["annotations"] = {"user": {"fluxburst": {"plugin": "other", "burst": "x"}}}
        job["id"], job["userid"], job["urgency"] = 99, 0, 31

    @hookimpl(tryfirst=True)
    def fluxburst_select_job(self, job: Job) -> None:
        self.scribble(job)

    @hookimpl(tryfirst=True)
    def fluxburst_order_plugins(self, job: Job | None) -> None:
        if job is not None:
            self.scribble(job)

    @hookimpl(tryfirst=True)
    def fluxburst_schedule_job(self, job: Job) -> None:
        self.scribble(job)

    @hookimpl(tryfirst=True)
    def fluxburst_run_plugin(self, request: BurstRequest) -> None:
        for one in request.jobs.values():
            self.scribble(one)

    @hookimpl
    def fluxburst_job_scheduled(self, job: Job) -> None:
        self.scribble(job)

    @hookimpl
    def fluxburst_jobs_unmatched(self, jobs: Sequence[Job]) -> None:
        for one in jobs:
            self.scribble(one)


class Wraps(Scribbles):
    """Does the same around the others."""

    @hookimpl(wrapper=True)
    def fluxburst_select_job(self, job: Job) -> Any:
        self.scribble(job)
        return (yield)


class Schedules(Elsewhere):
    """Does the same as a plugin that is asked whether it takes a job."""

    def schedule(self, job: Job) -> bool:
        taken = super().schedule(job)
        Scribbles().scribble(job)
        return taken


def packed(plain: Job) -> Job:
    record = {key: value for key, value in plain.items() if key != "spec"}
    return PackedJob(record, json.dumps(plain["spec"]))


@pytest.mark.parametrize("make", [Job, packed])
def test_what_a_hook_does_to_a_job_nobody_else_sees_and_nothing_records(
    make: Callable[[Job], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [
        make(job(1, spec(1, 8, burstable=1), urgency=20)),
        make(job(2, spec(1, 64, burstable=1))),
    ]
    before = [dict(one) for one in jobs]
    client = client_with(Schedules("cloud", NODE))
    told = Changes(jobs, (), complete=True)
    monkeypatch.setattr(type(client.instance), "pending_changes", lambda _: told)
    monkeypatch.setattr(type(client.instance), "set_marks", lambda _, marks: ())
    witnesses = [Scribbles(), Wraps(), Scribbles()]
    for witness in witnesses:
        client.hooks.register(witness, f"fluxburst-{id(witness)}")
    assert client.plan().assignments == {"cloud": (1,)}
    (unmatched,) = client.run_burst()
    assert [dict(one) for one in jobs] == before
    assert dict(unmatched) == before[1]
    (entry,) = client.ledger.entries()
    assert (entry.burst.jobs, entry.user) == ((1,), 1000)
    assert {placement.job for placement in client.ledger.placements()} == {1}
    for witness in witnesses:
        assert witness.seen
        for seen in witness.seen:
            seen.pop("annotations", None)  # which say to whom it was given
            assert seen == before[seen["id"] - 1]


class Meddles:
    """Writes into what plugins know of their bursts."""

    @hookimpl
    def fluxburst_schedule_job(self, plugin: BurstPlugin) -> None:
        plugin.bursts.clear()
        plugin.jobs.clear()
        stolen = Burst("prod-db-1", plugin.name, "node", 1, state=BurstState.READY)
        plugin.bursts[stolen.name] = stolen


def test_of_a_hook_that_writes_into_what_a_plugin_knows_nothing_is_forgotten_or_deleted() -> None:
    cloud = Elsewhere("cloud", NODE)
    client = two_jobs(cloud)
    client.request_burst("cloud", 1, None)
    client.hooks.register(Meddles(), "fluxburst-meddles")
    client.run_burst()
    client.reconcile()
    (planned,) = [entry.burst.name for entry in client.ledger.entries() if entry.burst.jobs]
    gone = client.run_unburst()
    assert sorted(gone) == sorted([named("cloud", 1), planned])
    assert "prod-db-1" not in cloud.deleted
    assert client.ledger.entry("prod-db-1") is None


def test_what_a_hook_itself_brought_up_is_ours_where_its_name_is() -> None:
    name = named("cloud", 5)

    class Runs:
        @hookimpl
        def fluxburst_run_plugin(self, plugin: BurstPlugin) -> Collection[Burst]:
            answer = Burst("mine", plugin.name, "node", 1, state=BurstState.READY)
            return [answer, replace(answer, name=name)]

    client = two_jobs(Elsewhere("cloud", NODE))
    client.hooks.register(Runs(), "fluxburst-runs")
    with pytest.raises(BurstErrors, match="mine"):
        client.run_burst()
    assert client.run_unburst() == [name]
