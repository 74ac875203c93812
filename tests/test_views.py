"""Hooks may look at what they are given; what they do to it costs one job at most."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import pytest
from tests.support import Elsewhere, client_with, job, named, spec

from fluxburst import Burst, BurstPlugin, BurstState, FluxBurst, Job, NodeType, Outcome, hookimpl
from fluxburst.config.policy import Policy
from fluxburst.errors import BurstErrors
from fluxburst.flux.compact_job import CompactJob
from fluxburst.flux.protocol import Changes
from fluxburst.model.burst import BurstRequest

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
    assert "hooks cannot change the loaded plugins or jobs" in first.reasons[0]
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
    return CompactJob(record, json.dumps(plain["spec"]))


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
    assert {assignment.job for assignment in client.ledger.assignments()} == {1}
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


# --- attributes of what hooks are given ----------------------------------------------------------


@dataclass
class Parameters:
    """Parameters of a plugin, some of which hold others."""

    zone: str = "a"
    tags: dict[str, list[str]] = field(default_factory=lambda: {"site": ["x"]})
    lock: Any = field(default_factory=threading.Lock)


class Zoned(Elsewhere):
    """A plugin whose parameters say what it brings up."""

    def __init__(self, name: str) -> None:
        super().__init__(name, NODE)
        self.params = Parameters()


def scribbled(params: Any) -> None:
    params.zone = "expensive"
    params.tags["site"] = []
    params.tags["other"] = []
    params.lock = None


ATTRIBUTES: list[Touch] = [
    lambda plugin: setattr(plugin, "name", "other"),
    lambda plugin: setattr(plugin, "params", None),
    lambda plugin: setattr(plugin, "jobs", {}),
    lambda plugin: setattr(plugin, "bursts", {}),
    lambda plugin: setattr(plugin, "planned", (1,)),
    lambda plugin: setattr(plugin, "isolated", True),
    lambda plugin: setattr(plugin, "node_types", tuple),
    lambda plugin: setattr(plugin, "create", None),
    lambda plugin: delattr(plugin, "params"),
    lambda plugin: delattr(plugin, "name"),
    lambda plugin: plugin.loaded_as("other"),
]
HARMLESS: list[Touch] = [
    lambda plugin: scribbled(plugin.params),
    lambda plugin: setattr(plugin, "parameters", None),
    lambda plugin: plugin.jobs.clear(),
    lambda plugin: plugin.bursts.clear(),
]
OF_CLIENT: list[Touch] = [
    lambda client: setattr(client, "config", None),
    lambda client: setattr(client, "hooks", None),
    lambda client: setattr(client, "instance", None),
    lambda client: setattr(client, "validate", False),
    lambda client: setattr(client, "policy", Policy()),
    lambda client: setattr(client, "plugins", {}),
    lambda client: setattr(client.policy, "limits", None),
    lambda client: setattr(client.policy.limits, "nodes", 10**6),
    lambda client: setattr(client.config, "policy", None),
    lambda client: client.hooks.offers.clear(),
    lambda client: setattr(client.hooks, "offers", {}),
]


def plugin_of(given: Mapping[str, Any]) -> Any:
    """Return the plugin, however a hook comes by it."""
    if "plugin" in given:
        return given["plugin"]
    return (given.get("plugins") or given["client"].plugins)["cloud"]


class Touches:
    """Touches a plugin, or the client, in one hook, where that is of no other job than 1."""

    def __init__(self, hook: str, touch: Touch, *, of_client: bool = False) -> None:
        self.hook = hook
        self.of_client = of_client
        self.touch = touch
        self.called = 0

    def _called(self, hook: str, job: Job | None = None, **given: Any) -> None:
        if hook == self.hook and (job is None or job.id == 1):
            self.called += 1
            self.touch(given["client"] if self.of_client else plugin_of(given))

    @hookimpl
    def fluxburst_select_job(self, job: Job, client: FluxBurst) -> None:
        self._called("select_job", job, client=client)

    @hookimpl
    def fluxburst_order_plugins(self, plugins: Any, job: Job | None, client: FluxBurst) -> None:
        self._called("order_plugins", job, plugins=plugins, client=client)

    @hookimpl
    def fluxburst_schedule_job(self, job: Job, plugin: BurstPlugin, client: FluxBurst) -> None:
        self._called("schedule_job", job, plugin=plugin, client=client)

    @hookimpl
    def fluxburst_job_scheduled(self, job: Job, plugin: BurstPlugin, client: FluxBurst) -> None:
        self._called("job_scheduled", job, plugin=plugin, client=client)

    @hookimpl
    def fluxburst_run_plugin(self, plugin: BurstPlugin, client: FluxBurst) -> None:
        self._called("run_plugin", plugin=plugin, client=client)

    @hookimpl
    def fluxburst_burst_changed(self, burst: Burst, client: FluxBurst) -> None:
        self._called("burst_changed", client=client)


HOOKS = [name.removeprefix("fluxburst_") for name in vars(Touches) if name.startswith("fluxburst_")]
ASKED_HERE = ["select_job", "order_plugins", "schedule_job"]


def state_of(client: FluxBurst) -> tuple[Any, ...]:
    """Return what no hook may change."""
    cloud = client.plugins["cloud"]
    params = cloud.params
    plugin = (
        cloud.name,
        id(params),
        (params.zone, copy.deepcopy(params.tags), id(params.lock)),
        cloud.isolated,
        cloud.node_types(),
        cloud.create,
    )
    return (*plugin, id(client.config), client.policy, dict(client.hooks.offers), client.validate)


def assert_it_ends(client: FluxBurst) -> None:
    """Assert that all that was brought up can be ended."""
    cloud = client.plugins["cloud"]
    assert isinstance(cloud, Elsewhere)
    assert cloud.created
    client.run_unburst()
    assert set(cloud.deleted) == set(cloud.created)
    assert client.ledger.live() == []
    client.close()


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    ("touch", "of_client"),
    [*((touch, False) for touch in ATTRIBUTES), *((touch, True) for touch in OF_CLIENT)],
)
def test_a_hook_that_sets_attributes_changes_nothing_and_is_named(
    touch: Touch, of_client: bool, hook: str
) -> None:
    client = two_jobs(Zoned("cloud"))
    before = state_of(client)
    touches = Touches(hook, touch, of_client=of_client)
    client.hooks.register(touches, "fluxburst-touches")
    first, second = client.plan().decisions
    assert second.outcome is Outcome.ASSIGNED
    said = [first.reasons[0]] if hook in ASKED_HERE else []
    try:
        client.run_burst()
    except BurstErrors as failures:
        said += map(str, failures.errors)
    said += map(str, client.hooks.observer_errors)
    assert touches.called
    assert any(f"fluxburst-touches: fluxburst_{hook}" in text for text in said), said
    assert state_of(client) == before
    client.hooks.unregister(touches)
    client.run_burst()
    assert_it_ends(client)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("touch", HARMLESS)
def test_what_a_hook_sets_that_is_its_own_changes_nothing(touch: Touch, hook: str) -> None:
    client = two_jobs(Zoned("cloud"))
    before = state_of(client)
    touches = Touches(hook, touch)
    client.hooks.register(touches, "fluxburst-touches")
    client.run_burst()
    assert touches.called
    assert list(client.hooks.observer_errors) == []
    assert state_of(client) == before
    assert_it_ends(client)


@pytest.mark.parametrize("touch", [*ATTRIBUTES, *HARMLESS])
def test_a_users_selector_changes_no_plugin_either(touch: Touch) -> None:
    client = two_jobs(Zoned("cloud"))
    before = state_of(client)

    def selects(job: Job) -> bool:
        if job.id == 1:
            touch(client.plugins["cloud"])
        return True

    client.set_selector(selects)
    first, second = client.plan().decisions
    assert second.outcome is Outcome.ASSIGNED
    assert first.outcome is (Outcome.FAILED if touch in ATTRIBUTES else Outcome.ASSIGNED)
    if touch in ATTRIBUTES:
        assert "selects: fluxburst_select_job for job 1" in first.reasons[0]
    assert state_of(client) == before
    client.close()


class OfItself(Zoned):
    """A plugin that learns in its own hooks, and when it is asked, what it is to bring up."""

    @hookimpl
    def fluxburst_select_job(self, job: Job) -> None:
        self.params.zone = "b"
        self.params.tags = {}

    def schedule(self, job: Job) -> bool:
        self.planned = ()
        return super().schedule(job)


def test_a_plugin_changes_itself() -> None:
    cloud = OfItself("cloud")
    client = two_jobs(cloud)
    assert {decision.outcome for decision in client.plan().decisions} == {Outcome.ASSIGNED}
    assert (cloud.params.zone, cloud.params.tags) == ("b", {})
    client.close()


def test_a_hook_that_asks_a_plugin_has_it_answer_by_its_parameters() -> None:
    class Asks:
        seen: Any = None

        @hookimpl
        def fluxburst_order_plugins(self, plugins: Mapping[str, BurstPlugin]) -> Sequence[str]:
            params = plugins["cloud"].params
            self.seen = (params, plugins["cloud"].params is params)
            return sorted(plugins, key=lambda name: plugins[name].node_types()[0].price)

    client = two_jobs(Zoned("cloud"))
    asks = Asks()
    client.hooks.register(asks, "fluxburst-asks")
    assert {decision.outcome for decision in client.plan().decisions} == {Outcome.ASSIGNED}
    seen, same = asks.seen
    assert isinstance(seen, Parameters)
    assert (seen.zone, seen.tags, same) == ("a", {"site": ["x"]}, True)
    client.close()


@pytest.mark.parametrize("where", ["node_types", "schedule", "create", "list_bursts"])
def test_a_plugin_keeps_the_name_that_it_was_loaded_by(where: str) -> None:
    cloud, other = Elsewhere("cloud", NODE), Elsewhere("other", NODE)

    def renames(*_: object) -> NoReturn:
        cloud.name = "prod-db"
        raise AssertionError("it was renamed")

    jobs = (job(1, spec(1, 8, burstable="cloud")), job(2, spec(burstable="other")))
    client = client_with(cloud, other, jobs=jobs)
    setattr(cloud, where, renames)
    said = ""
    calls: list[Callable[[], object]] = [client.plan, client.run_burst, client.reconcile]
    for call in calls:
        try:
            said += str(call())
        except BurstErrors as failures:
            said += str(failures)
    assert cloud.name == "cloud"
    assert len(other.created) == 1
    assert "cannot be changed after loading" in said or where == "list_bursts"
    client.close()
