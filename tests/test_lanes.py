"""Each plugin has a thread of its own: a slow one holds nobody up, a hung one is left alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from tests.support import Elsewhere, Joining, client_on, job, spec

from fluxburst import Burst, BurstParameters, BurstState, FluxBurst, NodeType, PluginType
from fluxburst.config.policy import Policy, Timeouts
from fluxburst.errors import BurstErrors, CapacityError, FluxburstError, PatienceError
from fluxburst.formats.units import Duration
from fluxburst.hooks.packages import Package
from fluxburst.model.job import Mark
from fluxburst.reconcile.workers import Answer, Call, Done, Failed, PluginWorkers, TimedOut
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

LONG = 60.0
"""Seconds after which a test that waits has failed."""

SHORT = Policy(timeouts=Timeouts(create=Duration(0.2), delete=Duration(0.2), list=Duration(0.2)))


@contextmanager
def workers() -> Iterator[PluginWorkers]:
    made = PluginWorkers(lambda: None)
    try:
        yield made
    finally:
        made.close()


class Calls:
    """Calls for a test, and what became of them, in order."""

    def __init__(self) -> None:
        self.settled: list[str] = []
        self.given_up: list[str] = []
        self.ran: list[tuple[str, str]] = []

    def make(
        self, plugin: str, what: str, run: Callable[[], Any] = str, timeout: float = LONG
    ) -> Call[Any]:
        def noted() -> Any:
            self.ran.append((what, threading.current_thread().name))
            return run()

        def on_answer(answer: Answer[Any]) -> None:
            (self.given_up if isinstance(answer, TimedOut) else self.settled).append(what)

        return Call(plugin, what, timeout, noted, on_answer, frozenset({what}))


# --- the threads -------------------------------------------------------------------------------


def test_a_plugins_calls_are_made_in_order_in_one_thread() -> None:
    calls = Calls()
    with workers() as threads:
        for number in range(20):
            threads.start(calls.make("cloud", str(number)))
        threads.wait(LONG)
    assert calls.settled == [str(number) for number in range(20)]
    assert [what for what, _ in calls.ran] == calls.settled
    assert {thread for _, thread in calls.ran} == {"fluxburst-cloud"}


def test_two_plugins_work_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=LONG)
    calls = Calls()
    with workers() as threads:
        threads.start(calls.make("one", "a", both.wait))
        threads.start(calls.make("two", "b", both.wait))
        threads.wait(LONG)
    assert sorted(calls.settled) == ["a", "b"]
    assert {thread for _, thread in calls.ran} == {"fluxburst-one", "fluxburst-two"}


def test_answers_are_settled_by_whoever_waits() -> None:
    where: list[threading.Thread] = []
    with workers() as threads:
        call = Calls().make("cloud", "a")
        call.on_answer = lambda _: where.append(threading.current_thread())
        threads.start(call)
        threads.wait(LONG)
    assert where == [threading.current_thread()]


def test_who_has_no_patience_takes_what_was_answered_and_leaves_the_rest() -> None:
    release, answered = threading.Event(), threading.Event()
    calls = Calls()
    made = PluginWorkers(answered.set)
    try:
        made.start(calls.make("slow", "a", lambda: release.wait(LONG)))
        made.start(calls.make("fast", "b"))
        assert answered.wait(LONG)
        made.wait(0)
        assert (calls.settled, made.in_flight) == (["b"], frozenset({"a"}))
        assert (made.busy("slow"), made.busy("fast"), made.stuck()) == (True, False, {})
        release.set()
        made.wait(LONG)
        assert (calls.settled, made.in_flight) == (["b", "a"], frozenset())
    finally:
        release.set()
        made.close()


def test_what_a_call_raises_is_its_answer() -> None:
    answers: list[Answer[Any]] = []

    def fails() -> None:
        raise ValueError("no")

    with workers() as threads:
        call = Calls().make("cloud", "a", fails)
        call.on_answer = answers.append
        threads.start(call)
        threads.wait(LONG)
    (answer,) = answers
    assert isinstance(answer, Failed)
    assert isinstance(answer.error(), ValueError)


def test_what_interrupts_is_no_failure_of_the_plugin() -> None:
    answers: list[Answer[Any]] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    with workers() as threads:
        call = Calls().make("cloud", "a", interrupted)
        call.on_answer = answers.append
        threads.start(call)
        threads.wait(LONG)
    (answer,) = answers
    assert isinstance(answer, Failed)
    with pytest.raises(KeyboardInterrupt):
        answer.error()


def test_a_call_that_timed_out_is_told_a_second_time_what_it_answers() -> None:
    release = threading.Event()
    answers: list[Answer[Any]] = []
    with workers() as threads:
        call = Calls().make("cloud", "slow", lambda: release.wait(LONG), timeout=0.05)
        call.on_answer = answers.append
        threads.start(call)
        threads.wait(LONG)
        assert [type(answer) for answer in answers] == [TimedOut]
        release.set()
        while threads.stuck():
            threads.wait(LONG)
            threading.Event().wait(0.01)
    assert answers[1:] == [Done(True)]


def test_what_waits_behind_a_call_that_hangs_is_given_up_and_never_made() -> None:
    release = threading.Event()
    calls = Calls()
    with workers() as threads:
        threads.start(calls.make("cloud", "hangs", lambda: release.wait(LONG), timeout=0.1))
        threads.start(calls.make("cloud", "behind"))
        threads.start(calls.make("other", "elsewhere"))
        threads.wait(LONG)
        assert calls.given_up == ["hangs", "behind"]
        assert calls.settled == ["elsewhere"]
        assert list(threads.stuck()) == ["cloud"]
        assert "hangs has not answered for" in threads.stuck()["cloud"]
        threads.start(calls.make("cloud", "later"))
        threads.wait(LONG)
        assert calls.given_up == ["hangs", "behind", "later"]
        release.set()
        while threads.stuck():
            threads.wait(LONG)
            threading.Event().wait(0.01)
        threads.start(calls.make("cloud", "again"))
        threads.wait(LONG)
    assert calls.settled == ["elsewhere", "hangs", "again"]
    assert [what for what, _ in calls.ran if what in ("behind", "later")] == []


def test_a_call_is_given_up_once_however_often_it_is_waited_for() -> None:
    release = threading.Event()
    calls = Calls()
    with workers() as threads:
        threads.start(calls.make("cloud", "hangs", lambda: release.wait(LONG), timeout=0.05))
        for _ in range(3):
            threads.wait(LONG)
        release.set()
    assert calls.given_up == ["hangs"]


# --- in a client -------------------------------------------------------------------------------


class Hangs(Joining):
    """A plugin whose create() answers when it is told to, and not before."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.release = threading.Event()
        self.asked = threading.Event()
        self.listed = 0

    def create(self, burst: Burst) -> Burst:
        self.asked.set()
        assert self.release.wait(LONG)
        return super().create(burst)

    def list_bursts(self) -> Collection[str]:
        self.listed += 1
        return super().list_bursts()


def wide(*jobids: int) -> EmbeddedInstance:
    return EmbeddedInstance(Recording(tuple(job(n, spec(1, 8, burstable=1)) for n in jobids)))


def a_pass(client: FluxBurst) -> list[FluxburstError]:
    try:
        client.run_burst()
    except BurstErrors as errors:
        return list(errors.errors)
    return []


def until(what: Callable[[], object], client: FluxBurst) -> None:
    for _ in range(int(LONG * 100)):
        if what():
            return
        a_pass(client)
        threading.Event().wait(0.01)
    raise AssertionError("it never happened")


def test_a_slow_plugin_holds_up_no_other() -> None:
    instance = wide(1, 2)
    slow = Hangs("slow", instance, NodeType("node", cores=8, max_nodes=1))

    class Releases(Elsewhere):
        def create(self, burst: Burst) -> Burst:
            assert slow.asked.wait(LONG)
            slow.release.set()
            return super().create(burst)

    fast = Releases("fast")
    with client_on(instance, slow, fast) as client:
        assert client.run_burst() == []
        assert (len(slow.created), len(fast.created)) == (1, 1)


def test_who_has_no_patience_leaves_a_slow_plugin_to_a_later_pass() -> None:
    instance = wide(1, 2)
    slow = Hangs("slow", instance, NodeType("node", cores=8, max_nodes=1))
    fast = Elsewhere("fast")
    with client_on(instance, slow, fast) as client:
        client.run_pass(everything=True, patience=0.5)
        assert (slow.created, len(fast.created)) == ([], 1)
        states = {e.burst.plugin: e.burst.state for e in client.ledger.live()}
        assert states == {"slow": BurstState.REQUESTED, "fast": BurstState.READY}
        client.run_pass(everything=True, patience=0.0)
        assert [p.mark and p.mark.plugin for p in instance.pending_jobs()] == ["slow", "fast"]
        slow.release.set()
        client.reconcile()
        assert len(slow.created) == 1
        client.reconcile()
        states = {e.burst.plugin: e.burst.state for e in client.ledger.live()}
        assert states["slow"] is BurstState.READY
        assert (slow.deleted, fast.deleted) == ([], [])


def test_a_creation_that_hangs_is_given_up_and_its_jobs_go_to_the_next_plugin() -> None:
    instance = wide(1)
    hung, fast = Hangs("hung", instance), Elsewhere("fast")
    with client_on(instance, hung, fast, policy=SHORT) as client:
        assert a_pass(client) == []
        assert len(fast.created) == 1
        assert [p.mark for p in instance.pending_jobs()] == [Mark("fast", fast.created[0])]
        (entry,) = client.ledger.live("hung")
        assert entry.burst.state is BurstState.ENDING
        assert "create() has not answered for" in entry.burst.error
        hung.release.set()


def test_a_creation_that_hangs_and_has_no_other_place_is_an_error() -> None:
    instance = wide(1)
    hung = Hangs("hung", instance)
    with client_on(instance, hung, policy=SHORT) as client:
        (error,) = a_pass(client)
        assert isinstance(error, PatienceError)
        assert (error.plugin, error.burst != "") == ("hung", True)
        assert [p.mark for p in instance.pending_jobs()] == [None]
        hung.release.set()


def test_a_plugin_that_is_stuck_is_left_alone_and_that_is_said() -> None:
    instance = wide(1)
    hung = Hangs("hung", instance)
    with client_on(instance, hung, policy=SHORT) as client:
        a_pass(client)
        listed = hung.listed
        errors = a_pass(client)
        assert any("create() has not answered for" in str(error) for error in errors)
        (decision,) = client.plan().decisions
        assert "hung cannot be asked: " in decision.reasons[0]
        assert "create() has not answered for" in decision.reasons[0]
        assert (hung.listed, hung.deleted) == (listed, [])
        assert client.ledger.live("hung")[0].burst.state is BurstState.ENDING
        hung.release.set()


def test_a_stuck_plugin_is_not_asked_for_nodes_on_demand() -> None:
    instance = wide(1)
    hung = Hangs("hung", instance)
    with client_on(instance, hung, policy=SHORT) as client:
        a_pass(client)
        known = len(client.ledger.entries())
        with pytest.raises(BurstErrors, match=r"create\(\) has not answered for"):
            client.run_burst(request_burst=True, nodes=1)
        assert len(client.ledger.entries()) == known
        hung.release.set()


def test_a_burst_of_a_stuck_plugin_that_does_not_join_is_one_failure() -> None:
    class Falls(Joining):
        release: threading.Event | None = None

        def list_bursts(self) -> Collection[str]:
            assert self.release is None or self.release.wait(LONG)
            return super().list_bursts()

    instance = wide(1)
    silent = Falls("silent", instance, boot=1e6)
    with client_on(instance, silent, policy=SHORT) as client:
        a_pass(client)
        silent.release = threading.Event()
        instance.advance(SHORT.timeouts.join + 60.0)
        for _ in range(5):
            a_pass(client)
        (entry,) = client.ledger.live("silent")
        assert (entry.burst.state, silent.deleted) == (BurstState.ENDING, [])
        assert "did not join within" in entry.burst.error
        assert client.ledger.breakers()["silent", "node"].failures == 1
        assert [p.mark for p in instance.pending_jobs()] == [None]
        silent.release.set()
        until(lambda: silent.deleted, client)


def test_what_comes_of_a_creation_that_was_given_up_is_taken_down() -> None:
    instance = wide(1)
    hung, fast = Hangs("hung", instance), Elsewhere("fast")
    with client_on(instance, hung, fast, policy=SHORT) as client:
        a_pass(client)
        assert hung.there == {}
        hung.release.set()
        until(lambda: not client.ledger.live("hung"), client)
        assert hung.created == hung.deleted
        assert hung.there == {}
        assert all(not node.up for node in instance.nodes())
        assert [p.mark for p in instance.pending_jobs()] == [Mark("fast", fast.created[0])]
        (entry,) = [e for e in client.ledger.entries() if e.burst.plugin == "hung"]
        assert entry.burst.state is BurstState.FAILED


def test_what_comes_of_a_creation_after_the_client_went_is_taken_down_by_the_next() -> None:
    instance = wide(1)
    hung = Hangs("hung", instance)
    with client_on(instance, hung, policy=SHORT) as client:
        a_pass(client)
    hung.release.set()
    for _ in range(int(LONG * 100)):
        if hung.there:
            break
        threading.Event().wait(0.01)
    (name,) = hung.there
    again = Joining("hung", instance, there=hung.there)
    again.fails = None
    with client_on(instance, again) as client:
        client.reconcile()
        assert again.deleted == [name]
        assert again.there == {}
        assert client.ledger.live() == []


def test_a_deletion_that_hangs_is_an_error_and_is_asked_for_again() -> None:
    class Stays(Joining):
        release = threading.Event()

        def delete(self, burst: Burst) -> None:
            assert self.release.wait(LONG)
            super().delete(burst)

    instance = wide(1)
    cloud = Stays("cloud", instance)
    with client_on(instance, cloud, policy=SHORT) as client:
        client.run_burst()
        with pytest.raises(BurstErrors, match=r"delete\(\) has not answered for"):
            client.run_unburst()
        (entry,) = client.ledger.live()
        assert entry.burst.state is BurstState.ENDING
        assert "it may still cost money" in entry.burst.problem
        cloud.release.set()
        name = entry.burst.name
        until(lambda: name not in {e.burst.name for e in client.ledger.live()}, client)
        assert name in cloud.deleted
        assert name not in cloud.there


def test_a_list_that_hangs_leaves_what_is_known_as_it_is() -> None:
    class Mute(Joining):
        release = threading.Event()
        mute = False

        def list_bursts(self) -> Collection[str]:
            if self.mute:
                assert self.release.wait(LONG)
            return super().list_bursts()

    instance = wide(1)
    cloud = Mute("cloud", instance)
    with client_on(instance, cloud, policy=SHORT) as client:
        client.run_burst()
        client.reconcile()
        cloud.mute = True
        with pytest.raises(BurstErrors, match=r"list_bursts\(\) has not answered for"):
            client.reconcile()
        (entry,) = client.ledger.live()
        assert entry.burst.state is BurstState.READY
        assert cloud.deleted == []
        cloud.mute = False
        cloud.release.set()


def test_a_client_that_is_closed_while_a_plugin_hangs_leaves_it_to_itself() -> None:
    instance = wide(1)
    hung = Hangs("hung", instance)
    client = client_on(instance, hung, policy=SHORT)
    a_pass(client)
    client.close()
    assert hung.created == []
    hung.release.set()


def test_the_answer_to_a_plugin_that_was_reloaded_meanwhile_counts_for_its_successor() -> None:
    class Refusing(Elsewhere):
        release = threading.Event()

        def __init__(self, _: BurstParameters) -> None:
            super().__init__("cloud")

        def create(self, burst: Burst) -> Burst:
            assert self.release.wait(LONG)
            raise CapacityError("none left", plugin=self.name, burst=burst.name)

    with client_on(wide(1)) as client:
        offered = [PluginType("cloud", BurstParameters, Refusing)]
        client.hooks.add(Package("cloud", "cloud"), object(), offered)
        client.load("cloud")
        client.run_pass(everything=True, patience=0.0)
        (entry,) = client.ledger.live()
        former = client.plugins["cloud"]
        client.reconfigure(client.config)
        assert client.plugins["cloud"] is not former
        client.plan()
        Refusing.release.set()
        with suppress(BurstErrors):
            client.run_pass(everything=True, patience=LONG)
        assert client.plugins["cloud"].bursts[entry.burst.name].state is BurstState.FAILED
        assert client.ledger.live() == []
        assert [a for a in client.ledger.assignments() if a.released is None] == []
