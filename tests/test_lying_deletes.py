"""A plugin says that a burst is gone, and lists it: it counts and costs until it is not listed."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from tests.support import Joining, client_on, named, spec

from fluxburst import Burst, BurstState, Duration, NodeType, hookimpl
from fluxburst.cli import main
from fluxburst.config.notification import Notification
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.errors import BurstError, BurstErrors
from fluxburst.ledger import Entry
from fluxburst.model.burst import drain_reason
from fluxburst.model.job import JobState
from fluxburst.reports import costs, status
from fluxburst.service.loop import Service
from fluxburst.service.metrics import Metrics
from fluxburst.service.notifier import Notifier
from fluxburst.simulation.embedded import EmbeddedInstance

MINUTE, HOUR = 60.0, 3600.0
NODE = NodeType("node", cores=8, price=2.0, max_nodes=8)
POLICY = Policy(Lifetimes(lease=Duration(24 * HOUR), idle_timeout=Duration(5 * MINUTE)))
MakePackage = Callable[..., str]


class Clinging(Joining):
    """A plugin whose delete() does nothing, and says nothing, as long as it lies."""

    def __init__(self, instance: EmbeddedInstance, there: dict[str, Burst] | None = None) -> None:
        super().__init__("liar", instance, NODE, there=there)
        self.lies = True
        self.asked: list[float] = []
        self.breaks: Exception | None = None

    def delete(self, burst: Burst) -> None:
        self.asked.append(self.instance.now())
        if self.breaks is not None:
            raise self.breaks
        if not self.lies:
            super().delete(burst)


class Adopting(Clinging):
    """The same, of a provider that says all of what is there."""

    def adopt(self) -> Sequence[Burst] | None:
        state = BurstState.STARTING
        return [replace(burst, state=state, jobs=()) for burst in self.there.values()]


class Witness:
    """Notes what observers are told."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.failures: list[tuple[str, str]] = []

    @hookimpl
    def fluxburst_burst_changed(self, burst: Burst, previous: Burst | None) -> None:
        if previous is None or previous.state is not burst.state:
            self.states.append(burst.state.value)

    @hookimpl
    def fluxburst_phase_failed(self, phase: str, error: Exception) -> None:
        self.failures.append((phase, str(error)))


class World:
    """A client whose plugin lies, looked after every half minute of its virtual time."""

    def __init__(self, plugin: type[Clinging] = Clinging, state_dir: Path | None = None) -> None:
        self.instance = EmbeddedInstance()
        self.plugin = plugin(self.instance)
        self.client = client_on(self.instance, self.plugin, policy=POLICY, state_dir=state_dir)
        self.witness = Witness()
        self.client.hooks.register(self.witness, "witness")
        self.said: list[str] = []

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @property
    def entry(self) -> Entry:
        (entry,) = self.client.ledger.entries()
        return entry

    @property
    def name(self) -> str:
        return self.entry.burst.name

    def cost(self) -> float:
        return self.entry.cost(self.client.now())

    def run_a_job(self) -> World:
        """Have a job run on a burst, until that has been idle for too long and is to go."""
        self.instance.submit(spec(1, 8, burstable=1, duration=10 * MINUTE))
        self.client.run_burst()
        return self.watch(15 * MINUTE)

    def watch(self, seconds: float, step: float = 30.0) -> World:
        """Run passes as the service does, and keep what failed in them."""
        until = self.instance.now() + seconds
        while self.instance.now() < until:
            self.instance.advance(step)
            try:
                self.client.run_pass(everything=True, patience=math.inf)
            except BurstErrors as failures:
                self.said += map(str, failures.errors)
        return self

    def about_it(self) -> list[str]:
        return [text for text in self.said if "liar" in text and self.name in text]


@pytest.mark.parametrize("plugin", [Clinging, Adopting])
def test_a_burst_that_is_listed_after_its_deletion_costs_as_long_as_it_is(
    plugin: type[Clinging],
) -> None:
    with World(plugin) as world:
        began = world.instance.now()
        world.run_a_job().watch(2 * HOUR)
        assert world.plugin.asked
        assert (world.entry.live, world.entry.burst.state) == (True, BurstState.ENDING)
        for _ in range(3):
            lived = world.instance.now() - began
            assert world.cost() == pytest.approx(lived / HOUR * NODE.price)
            now = status.of_client(world.client)
            assert now.spending.per_hour == NODE.price
            assert now.spending.total == pytest.approx(world.cost())
            world.watch(HOUR)


def test_reports_of_costs_have_what_a_lying_plugin_costs() -> None:
    with World() as world:
        world.run_a_job().watch(5 * HOUR)
        ledger, now = world.client.ledger, world.client.now()
        (line,) = costs.group(costs.slices(ledger.entries(), ledger.usages(), now), "burst")
        assert line.key == world.name
        assert line.cost == pytest.approx(world.cost())
        assert line.cost > 5 * NODE.price


def test_limits_count_what_a_lying_plugin_has_left() -> None:
    with World() as world:
        world.run_a_job().watch(HOUR)
        spent = status.of_client(world.client)
        assert [entry.burst.name for entry in spent.bursts] == [world.name]
        assert world.plugin.in_use() == {"node": 1}


def test_deleting_is_tried_again_ever_more_rarely() -> None:
    with World() as world:
        world.run_a_job().watch(4 * HOUR, step=10.0)
        pauses = [after - before for before, after in pairwise(world.plugin.asked)]
        assert pauses[:5] == sorted(pauses[:5])
        assert pauses[-1] == max(pauses) == pytest.approx(300.0, abs=20.0)
        assert len(pauses) < 4 * HOUR / 280.0 + 8


@pytest.mark.parametrize("plugin", [Clinging, Adopting])
def test_it_is_said_once_and_names_plugin_and_burst(plugin: type[Clinging]) -> None:
    with World(plugin) as world:
        world.run_a_job().watch(3 * HOUR)
        (text,) = world.about_it()
        assert "reported it gone and still lists it" in text
        assert world.witness.failures == [("unburst", text)]


def test_the_log_of_the_service_has_it_once_and_then_that_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    over = "recovered: earlier failures have cleared"
    with World() as world:
        service = Service(world.client)
        start = world.instance.now()
        world.instance.submit(spec(1, 8, burstable=1, duration=10 * MINUTE))
        said_to_be_over: list[bool] = []
        world.instance.at(start + 3 * HOUR, lambda: said_to_be_over.append(over in caplog.text))
        world.instance.at(start + 3 * HOUR, lambda: setattr(world.plugin, "lies", False))
        world.instance.at(start + 4 * HOUR, service.stop)
        service.run(100_000)
        (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert f"plugin liar, burst {world.name}: its plugin reported it gone" in warning
        assert said_to_be_over == [False]
        assert caplog.text.count(over) == 1
        assert caplog.text.count(f"burst {world.name}: ended its plugin no longer lists it") == 1


def test_a_plugin_that_lies_is_not_asked_for_more_often_than_each_poll() -> None:
    class Counting(Clinging):
        listed = 0

        def list_bursts(self) -> Collection[str]:
            self.listed += 1
            return super().list_bursts()

    with World(Counting) as world:
        world.run_a_job().watch(HOUR)
        assert isinstance(world.plugin, Counting)
        service, before = Service(world.client), world.plugin.listed
        world.instance.at(world.instance.now() + 2 * HOUR, service.stop)
        service.run(100_000)
        # Each that is deleted is listed beside, to learn whether it is all that there is.
        assert world.plugin.listed - before < 2 * HOUR / POLICY.watch.poll * 1.3


# --- where it is shown ---------------------------------------------------------------------------


def test_status_shows_that_it_cannot_be_ended() -> None:
    with World() as world:
        world.run_a_job().watch(HOUR)
        (shown,) = status.of_client(world.client).to_dict()["bursts"]
        assert (shown["state"], shown["ended"]) == ("ending", None)
        assert "terminating it failed, so it may still cost money: plugin liar" in shown["error"]


def test_metrics_show_that_it_cannot_be_ended() -> None:
    def left() -> float | None:
        return metrics.registry.get_sample_value("fluxburst_bursts_not_ended", {"plugin": "liar"})

    metrics = Metrics()
    with World() as world:
        world.client.hooks.register(metrics, "fluxburst")
        world.run_a_job().watch(HOUR)
        metrics.feed(status.of_service(world.client))
        assert left() == 1.0
        failures = {"phase": "unburst", "plugin": "liar"}
        total = "fluxburst_phase_failures_total"
        assert metrics.registry.get_sample_value(total, failures) == 1.0
        world.plugin.lies = False
        world.watch(HOUR)
        metrics.feed(status.of_service(world.client))
        assert left() is None


def test_notifications_tell_of_it_once(tmp_path: Path) -> None:
    told = tmp_path / "told"
    command = ["sh", "-c", f"cat >> {told}; echo >> {told}"]
    notifier = Notifier([Notification(["phase_failed", "burst_ended"], command)])
    with World() as world:
        world.client.hooks.register(notifier, "fluxburst")
        world.run_a_job().watch(2 * HOUR)
        world.plugin.lies = False
        world.watch(HOUR)
        notifier.close()
        events = [json.loads(line) for line in told.read_text().splitlines() if line]
        # The plugin was believed the first time.
        assert [event["event"] for event in events] == [
            "burst_ended",
            "phase_failed",
            "burst_ended",
        ]
        assert world.name in events[1]["error"]
        assert events[1]["plugin"] == "liar"


# --- when it is gone -----------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", [Clinging, Adopting])
def test_what_is_not_listed_any_more_has_ended_and_that_is_said_once(
    plugin: type[Clinging],
) -> None:
    with World(plugin) as world:
        world.run_a_job().watch(2 * HOUR)
        world.witness.states.clear()
        world.plugin.there.clear()  # somebody took it down at the provider
        world.watch(30.0)
        gone = world.client.now()
        world.watch(2 * HOUR)
        assert world.witness.states == ["ended"]
        assert (world.entry.ended, world.entry.burst.error) == (gone, "")
        assert world.entry.reason == "its plugin no longer lists it"
        assert world.cost() == world.entry.cost(gone)
        assert len(world.about_it()) == 1


def test_what_a_plugin_deletes_at_last_has_ended() -> None:
    with World() as world:
        world.run_a_job().watch(2 * HOUR)
        world.plugin.lies = False
        world.watch(10 * MINUTE)
        assert world.entry.burst.state is BurstState.ENDED
        assert world.plugin.there == {}
        tries = len(world.plugin.asked)
        world.watch(2 * HOUR)
        assert len(world.plugin.asked) == tries
        assert not any(node.drained for node in world.instance.nodes())


@pytest.mark.parametrize("plugin", [Clinging, Adopting])
def test_what_comes_back_under_the_name_of_an_ended_burst_costs_from_the_start_of_that(
    plugin: type[Clinging],
) -> None:
    with World(plugin) as world:
        world.plugin.lies = False
        began = world.instance.now()
        world.run_a_job().watch(HOUR)
        assert world.entry.burst.state is BurstState.ENDED
        before = world.cost()
        found = world.instance.now()
        world.plugin.lies = True
        world.plugin.there[world.name] = Burst(world.name, "liar", "node", 1, since=found)
        world.watch(HOUR)
        assert (world.entry.live, world.entry.burst.since) == (True, began)
        assert world.cost() >= before + NODE.price
        world.plugin.lies = False
        world.watch(HOUR)
        assert world.entry.burst.since == began
        assert world.cost() >= before + NODE.price


def test_what_a_burst_has_cost_stays_if_its_provider_starts_it_again() -> None:
    with World(Adopting) as world:
        began = world.instance.now()
        world.instance.submit(spec(1, 8, burstable=1, duration=2 * HOUR))
        world.client.run_burst()
        world.watch(10 * MINUTE)
        assert world.entry.burst.state is BurstState.READY
        there = world.plugin.there
        there[world.name] = replace(there[world.name], since=world.instance.now())
        world.watch(10 * MINUTE)
        assert world.entry.burst.since == began
        assert world.cost() == pytest.approx(NODE.price / 3)


def test_what_lost_nodes_have_cost_stays_in_the_ledger() -> None:
    with World(Adopting) as world:
        world.instance.submit(spec(3, 8, burstable=1, duration=2 * HOUR))
        world.client.run_burst()
        world.watch(HOUR)
        burst = world.entry.burst
        left = replace(burst, nodes=2, hostnames=burst.hostnames[:2])
        world.plugin.there[burst.name] = left
        world.watch(MINUTE)
        assert world.entry.burst.error == "only 2 of its 3 nodes exist"
        assert world.entry.burst.hostnames == left.hostnames
        assert world.cost() >= 3 * NODE.price


def test_what_had_failed_before_it_could_not_be_taken_down_has_failed_in_the_end() -> None:
    class Failing(Clinging):
        def refresh(self, burst: Burst) -> Burst:
            return replace(burst, state=BurstState.FAILED, error="no such image")

        def _make(self, burst: Burst) -> None:
            self.there[burst.name] = burst  # no node of it ever joins

    with World(Failing) as world:
        world.instance.submit(spec(1, 8, burstable=1))
        world.client.run_burst()
        world.watch(MINUTE)
        first = world.client.ledger.entries()[0]
        assert first.burst.problem.startswith("no such image; terminating it failed")
        world.plugin.there.pop(first.burst.name)
        world.watch(MINUTE)
        last = world.client.ledger.entries()[0]
        assert (last.burst.state, last.burst.error) == (BurstState.FAILED, "no such image")


def test_a_plugin_that_then_fails_to_delete_it_is_told_of_as_any_other() -> None:
    with World() as world:
        world.run_a_job().watch(HOUR)
        world.plugin.breaks = BurstError("access denied")
        world.watch(HOUR)
        assert "access denied" in world.entry.burst.leftover
        world.plugin.breaks = None
        world.plugin.there.clear()
        world.watch(10 * MINUTE)
        assert world.entry.burst.state is BurstState.ENDED


def test_what_is_lied_of_again_later_is_said_again() -> None:
    with World() as world:
        world.run_a_job().watch(HOUR)
        there = dict(world.plugin.there)
        world.plugin.there.clear()
        world.watch(10 * MINUTE)
        assert not world.entry.live
        world.plugin.there |= there
        world.watch(HOUR)
        assert world.entry.live
        assert len(world.about_it()) == 2


# --- nodes and jobs ------------------------------------------------------------------------------


def test_no_job_starts_any_more_on_what_could_not_be_taken_down() -> None:
    with World() as world:
        world.run_a_job().watch(10 * MINUTE)
        (node,) = [n for n in world.instance.nodes() if n.hostname in world.entry.burst.hostnames]
        assert (node.drained, node.drain_reason) == (True, drain_reason(world.name))
        waits = world.instance.submit(spec(1, 8, duration=MINUTE))
        world.watch(10 * MINUTE)
        assert world.instance.job(waits).state is JobState.SCHED


def test_hosts_that_another_burst_has_by_now_are_left_to_it() -> None:
    class Reusing(Clinging):
        """Its nodes are always called the same, as those that a site declares."""

        def _make(self, burst: Burst) -> None:
            self.there[burst.name] = replace(burst, hostnames=("cloud0",))
            self.instance.add_nodes(["cloud0"], NODE)

    with World(Reusing) as world:
        world.plugin.lies = False
        world.run_a_job().watch(MINUTE)
        first = world.plugin.created[0]
        world.instance.submit(spec(1, 8, burstable=1, duration=2 * HOUR))
        world.watch(MINUTE)
        world.plugin.there[first] = Burst(first, "liar", "node", 1)
        world.plugin.lies = True
        world.watch(10 * MINUTE)
        entries = {entry.burst.name: entry for entry in world.client.ledger.live()}
        assert entries.keys() == {first, world.plugin.created[1]}
        assert entries[first].burst.hostnames == ()
        assert not any(node.drained for node in world.instance.nodes())
        assert entries[world.plugin.created[1]].burst.state is BurstState.READY


# --- other processes -----------------------------------------------------------------------------


def test_a_later_process_does_not_believe_the_plugin_either(tmp_path: Path) -> None:
    with World(state_dir=tmp_path) as world:
        world.run_a_job().watch(HOUR)
        began = world.entry.burst.since
        instance, there = world.instance, world.plugin.there
    plugin = Clinging(instance, there)
    witness, said = Witness(), list[str]()
    with client_on(instance, plugin, policy=POLICY, state_dir=tmp_path) as client:
        client.hooks.register(witness, "witness")
        for _ in range(120):
            instance.advance(30.0)
            try:
                client.run_pass(everything=True, patience=math.inf)
            except BurstErrors as failures:
                said += map(str, failures.errors)
        (entry,) = client.ledger.entries()
        assert (entry.live, entry.burst.since) == (True, began)
        assert "ended" not in witness.states
        assert len(said) == 1
        assert 1 < len(plugin.asked) < 30


def test_a_client_that_saw_it_end_learns_that_it_is_there(tmp_path: Path) -> None:
    with World(state_dir=tmp_path) as world:
        world.run_a_job()
        world.instance.advance(30.0)
        world.client.run_unburst()
        assert not world.entry.live
        known = world.client.plugins["liar"].bursts[world.name]
        assert known.state is BurstState.ENDED
        world.client.close()
        plugin = Clinging(world.instance, world.plugin.there)
        with (
            client_on(world.instance, plugin, policy=POLICY, state_dir=tmp_path) as other,
            pytest.raises(BurstErrors, match="still lists it"),
        ):
            other.reconcile()
        world.watch(10 * MINUTE)
        assert (world.entry.live, world.entry.burst.state) == (True, BurstState.ENDING)
        world.plugin.lies = False
        world.watch(10 * MINUTE)
        assert world.entry.burst.state is BurstState.ENDED


# --- by hand -------------------------------------------------------------------------------------


def test_unburst_fails_for_what_is_listed_after_it_and_ends_what_is_not() -> None:
    with World() as world:
        world.run_a_job().watch(HOUR)
        for _ in range(2):
            with pytest.raises(BurstErrors, match=f"{world.name}: its plugin reported it gone"):
                world.client.run_unburst()
            assert world.entry.live
        world.plugin.lies = False
        assert world.client.run_unburst() == [world.name]
        assert world.entry.burst.state is BurstState.ENDED


def test_what_is_found_to_be_left_by_hand_counts_from_then_on() -> None:
    with World() as world:
        world.run_a_job()
        world.client.run_unburst()
        (left,) = world.client.remaining()
        assert (left.plugin, left.burst) == ("liar", world.name)
        assert (world.entry.live, world.entry.burst.state) == (True, BurstState.ENDING)
        before = world.cost()
        world.instance.advance(HOUR)
        assert world.cost() == pytest.approx(before + NODE.price)


LIAR = """
from dataclasses import replace
from fluxburst import BurstParameters, BurstPlugin, BurstState, NodeType, PluginType, hookimpl

THERE = []
LIES = [True]

class Liar(BurstPlugin):
    def node_types(self):
        return [NodeType("node", cores=128, gpus=8, price=1.0)]

    def create(self, burst):
        THERE.append(burst.name)
        return replace(burst, state=BurstState.READY)

    def delete(self, burst):
        if not LIES and burst.name in THERE:
            THERE.remove(burst.name)

    def list_bursts(self):
        return list(THERE)

@hookimpl
def fluxburst_register_plugins():
    return [PluginType("liar", BurstParameters, Liar)]
"""


def test_unburst_verify_counts_what_is_left_and_exits_with_1(
    make_package: MakePackage, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as exited:
            main([*arguments, "--mock", "--plugin", "liar", "--state-dir", str(tmp_path / "at")])
        return exited.value.code, *capsys.readouterr()

    make_package("fluxburst_liar", LIAR)
    assert run("run", "--nodes", "2")[0] == 0
    (name,) = sys.modules["fluxburst_liar"].THERE
    for _ in range(3):
        code, out, err = run("unburst", "--all", "--verify")
        assert code == 1
        assert f"plugin liar: burst {name} may exist: its plugin lists it" in err
        assert out == "Nothing to terminate.\n"
        code, out, _ = run("unburst", "--all", "--verify", "--json")
        told = json.loads(out)
        assert (code, told["gone"]) == (1, [])
        assert [left["burst"] for left in told["remaining"]] == [name]
        assert f"{name}   liar" in run("status")[1]
    sys.modules["fluxburst_liar"].LIES.clear()
    code, out, err = run("unburst", "--all", "--verify")
    assert (code, out, err) == (0, f"Terminated: {name} Nothing is left.\n", "")


# --- what is in no record ------------------------------------------------------------------------


class Orphaned(World):
    """A world in which there is a burst of ours from the start that no ledger has."""

    def __init__(self, plugin: type[Clinging] = Adopting) -> None:
        super().__init__(plugin)
        name = named("liar", "0a")
        self.plugin.there[name] = Burst(name, "liar", "node", 3, since=self.instance.now())


@pytest.mark.parametrize("plugin", [Clinging, Adopting])
def test_an_orphan_that_is_listed_after_its_deletion_is_counted_and_said_once(
    plugin: type[Clinging],
) -> None:
    with Orphaned(plugin) as world:
        world.watch(3 * HOUR)
        assert (world.entry.live, world.entry.burst.state) == (True, BurstState.ENDING)
        assert len(world.about_it()) == 1
        assert 1 < len(world.plugin.asked) < 50
        assert [left.burst for left in world.client.remaining()] == [world.name]
        with pytest.raises(BurstErrors, match="still lists it"):
            world.client.run_unburst()
        assert status.of_client(world.client).to_dict()["bursts"][0]["state"] == "ending"


def test_an_orphan_costs_as_long_as_it_is_listed() -> None:
    with Orphaned() as world:
        world.watch(30.0)
        found = world.entry.requested  # nothing can have cost before, in an empty ledger
        for _ in range(3):
            world.watch(HOUR)
            lived = world.instance.now() - found
            assert world.cost() == pytest.approx(3 * NODE.price * lived / HOUR)


def test_an_orphan_that_is_not_listed_any_more_has_ended_and_that_is_said_once() -> None:
    with Orphaned() as world:
        world.watch(HOUR)
        world.witness.states.clear()
        world.plugin.there.clear()
        world.watch(HOUR)
        assert world.witness.states == ["ended"]
        assert len(world.about_it()) == 1
        assert world.client.remaining() == []


def test_what_comes_late_and_is_deleted_then_is_no_lie() -> None:
    """A request that the plugin has failed to make had been taken by the provider all the same."""

    class Late(Clinging):
        def create(self, burst: Burst) -> Burst:
            self.instance.at(self.instance.now() + 10 * MINUTE, lambda: self._make(burst))
            raise BurstError("no answer in time")

    with World(Late) as world:
        world.plugin.lies = False
        world.instance.submit(spec(1, 8, burstable=1))
        world.watch(30 * MINUTE)
        assert not [text for text in world.said if "still lists it" in text]
        assert world.plugin.there == {}
