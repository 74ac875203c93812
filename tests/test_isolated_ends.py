"""The end of a job in an isolated burst is its end: how often it is started, and its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import Apart, Joining, client_on, job, spec

from fluxburst import Burst, BurstState, FluxBurst, NodeType, hookimpl
from fluxburst.config.policy import Breaking, Deciding, Policy, Timeouts
from fluxburst.errors import BurstError, UnreachableError
from fluxburst.formats.units import Duration
from fluxburst.model.job import JobState
from fluxburst.model.plan import Outcome
from fluxburst.provider.isolation import LOST, UNREAD, end_note, lost, with_output
from fluxburst.reports import timeline
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

NODE = NodeType("node", cores=4, price=2.0)
PATIENT = Breaking(failures=1000)
MINUTE = 60.0


@pytest.fixture
def instance() -> EmbeddedInstance:
    return EmbeddedInstance(Recording((job(1, spec(1, burstable=1)),), ()))


@pytest.fixture
def cloud() -> Apart:
    return Apart("apart", NODE)


@pytest.fixture
def client(instance: EmbeddedInstance, cloud: Apart) -> Iterator[FluxBurst]:
    made = client_on(instance, cloud, policy=Policy(breakers=PATIENT))
    yield made
    made.close()


def burst_there(cloud: Apart) -> Burst:
    (burst,) = cloud.there.values()
    return burst


def losing(cloud: Apart, why: str = "its machine was taken back") -> None:
    """Have whatever runs in a cloud be lost, and whatever is coming run."""
    for burst in list(cloud.there.values()):
        if burst.state is BurstState.STARTING:
            cloud.becomes(burst.name, state=BurstState.READY)
        elif burst.state is BurstState.READY:
            cloud.becomes(burst.name, state=BurstState.FAILED, error=why)


def passes(client: FluxBurst, instance: EmbeddedInstance, each: Callable[[], None]) -> None:
    for _ in range(30):
        client.run_burst()
        each()
        instance.advance(MINUTE)


# --- how often it is started ---------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
def test_a_job_whose_bursts_are_lost_is_started_so_often_and_then_released(
    instance: EmbeddedInstance, cloud: Apart, caplog: pytest.LogCaptureFixture, most: int
) -> None:
    told: list[tuple[str, str]] = []

    class Told:
        @hookimpl
        def fluxburst_phase_failed(self, phase: str, error: Exception) -> None:
            told.append((phase, str(error)))

    policy = Policy(breakers=PATIENT, policy=Deciding(starts=most))
    client = client_on(instance, cloud, policy=policy)
    client.hooks.register(Told(), "told")
    passes(client, instance, lambda: losing(cloud))
    assert cloud.ran == [1] * most
    now = instance.job(1)
    assert (now.state, now.urgency, now.mark) == (JobState.SCHED, 16, None)
    times = "once" if most == 1 else "3 times"
    each = "" if most == 1 else " each time"
    why = f"was started {times} in isolated bursts and lost{each}; no further retry"
    (decision,) = client.plan().decisions
    assert (decision.outcome, decision.reasons) == (Outcome.UNMATCHED, (f"apart: {why}",))
    assert [(phase, why in said) for phase, said in told] == [("run", True)]
    assert "its machine was taken back" in told[0][1]
    assert caplog.text.count(why) == 1
    events = timeline.of_job(client.ledger, 1, client.now()).events
    freed = [event.why for event in events if event.kind == "taken back"]
    assert freed == ["its machine was taken back"] * most
    assert [event.why for event in events if event.kind == "decided"][-1] == f"apart: {why}"


def test_it_may_run_on_nodes_that_join_when_it_is_not_started_in_isolation_again(
    instance: EmbeddedInstance, cloud: Apart
) -> None:
    here = Joining("here", instance, NODE)
    policy = Policy(breakers=PATIENT, policy=Deciding(starts=1))
    client = client_on(instance, cloud, here, policy=policy)
    passes(client, instance, lambda: losing(cloud))
    assert (cloud.ran, len(here.created)) == ([1], 1)


def test_starts_are_counted_by_the_ledger_so_that_no_restart_forgets_them(
    instance: EmbeddedInstance, tmp_path: Path
) -> None:
    there: dict[str, Burst] = {}
    ran: list[int] = []
    for _ in range(30):
        cloud = Apart("apart", NODE, there=there)
        policy = Policy(breakers=PATIENT)
        with client_on(instance, cloud, policy=policy, state_dir=tmp_path) as client:
            client.run_burst()
        losing(cloud)
        ran += cloud.ran
        instance.advance(MINUTE)
    assert ran == [1, 1, 1]


def test_what_the_breaker_counts_is_not_forgotten_by_a_job_that_runs_and_is_lost(
    instance: EmbeddedInstance, cloud: Apart
) -> None:
    policy = Policy(breakers=Breaking(failures=2), policy=Deciding(starts=1000))
    client = client_on(instance, cloud, policy=policy)
    passes(client, instance, lambda: losing(cloud))
    (breaker,) = client.ledger.breakers().values()
    lost_so_far = sum(client.ledger.lost_starts().values())
    assert breaker.failures == lost_so_far
    assert 3 < lost_so_far < 10
    assert "taken back" in breaker.error


def test_a_job_that_ends_closes_the_breaker(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart
) -> None:
    def once() -> None:
        if len(cloud.ran) < 2:
            losing(cloud)
        elif cloud.there:
            cloud.becomes(burst_there(cloud).name, state=BurstState.READY, exit_code=0)

    passes(client, instance, once)
    assert instance.job(1).state is JobState.INACTIVE
    assert client.ledger.breakers() == {}


def test_what_was_brought_back_by_hand_does_not_count(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart
) -> None:
    for _ in range(5):
        client.run_burst()
        cloud.becomes(burst_there(cloud).name, state=BurstState.READY)
        client.run_burst()
        client.run_unburst()
    client.run_burst()
    assert cloud.ran == [1] * 6


def test_what_never_began_does_not_count(
    instance: EmbeddedInstance, client: FluxBurst, cloud: Apart
) -> None:
    for _ in range(5):
        client.run_burst()
        cloud.becomes(burst_there(cloud).name, state=BurstState.FAILED, error="no image")
        client.run_burst()
    assert len(cloud.ran) == 6
    assert client.ledger.lost_starts() == {}


@pytest.mark.parametrize("began", [True, False])
def test_a_loss_says_whether_the_job_had_begun(began: bool) -> None:
    coming = Burst("b-1", "apart", "node", 1, (1,), BurstState.STARTING, isolated=True)
    now = lost(coming, "evicted", began=began)
    assert now == replace(coming, state=BurstState.FAILED, error="evicted", joined=int(began))


def test_a_start_that_is_seen_only_by_its_loss_counts(
    instance: EmbeddedInstance, cloud: Apart
) -> None:
    class Late(Apart):
        def refresh(self, burst: Burst) -> Burst:
            return lost(burst, "evicted", began=True)

    late = Late("apart", NODE)
    late.lists = False
    client = client_on(instance, late, policy=Policy(breakers=PATIENT))
    passes(client, instance, lambda: None)
    assert late.ran == [1, 1, 1]


# --- what is gone --------------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [True, False])
def test_what_one_list_says_is_not_its_end_where_its_plugin_sees_it(
    instance: EmbeddedInstance, cloud: Apart, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    client = client_on(instance, cloud)
    client.run_burst()
    cloud.becomes(burst_there(cloud).name, state=BurstState.READY)
    client.run_burst()
    remnant = replace(burst_there(cloud), state=BurstState.FAILED, jobs=())
    with monkeypatch.context() as briefly:
        briefly.setattr(cloud, "adopt", lambda: [remnant] if listed else [])
        client.run_burst()
    client.run_burst()
    assert (cloud.ran, cloud.deleted) == ([1], [])
    cloud.there.clear()
    client.run_burst()
    assert len(cloud.deleted) == 1


# --- its output ----------------------------------------------------------------------------------


class Silent(Apart):
    """Its output cannot be fetched until ``says`` is set; ``asked`` is how often it was tried."""

    says: bytes | None = None
    output_dir = Path()

    def refresh(self, burst: Burst) -> Burst:
        now = super().refresh(burst)
        return now if now.exit_code is None else with_output(now, self.output_dir, self._read)

    def adopt(self) -> Any:
        return None

    def _read(self) -> bytes:
        if self.says is None:
            raise UnreachableError("the kubelet does not answer")
        return self.says


@pytest.fixture
def silent(tmp_path: Path) -> Silent:
    cloud = Silent("apart", NODE)
    cloud.output_dir = tmp_path / "output"
    return cloud


def ended(instance: EmbeddedInstance, silent: Silent, **policy: Any) -> FluxBurst:
    """Return a client whose job has ended there, by a burst that still has its output."""
    client = client_on(instance, silent, policy=Policy(**policy))
    client.run_burst()
    silent.becomes(burst_there(silent).name, state=BurstState.READY)
    client.run_burst()
    silent.becomes(burst_there(silent).name, exit_code=3, error="it was killed")
    client.run_burst()
    return client


def test_output_is_fetched_again_before_the_burst_goes(
    instance: EmbeddedInstance, silent: Silent
) -> None:
    client = ended(instance, silent)
    burst = burst_there(silent)
    entry = client.ledger.entry(burst.name)
    assert entry is not None
    assert (entry.burst.exit_code, silent.deleted) == (3, [])
    assert entry.burst.output == f"{UNREAD}the kubelet does not answer"
    assert instance.job(1).state is JobState.SCHED
    instance.advance(MINUTE)
    silent.says = b"the result is 42\n"
    client.run_burst()
    kept = silent.output_dir / f"{burst.name}.log"
    assert kept.read_bytes() == silent.says
    note = f"it failed in burst {burst.name}, with exit code 3: it was killed; its output: {kept}"
    assert instance.job(1)["exception_note"] == note
    (usage,) = client.ledger.usages()
    assert usage.ended == instance.now() - MINUTE
    assert (silent.deleted, silent.ran) == ([burst.name], [1])


@pytest.mark.parametrize("gone", [True, False])
def test_output_that_is_not_to_be_had_is_said_to_be_lost_and_nothing_is_run_again(
    instance: EmbeddedInstance, silent: Silent, caplog: pytest.LogCaptureFixture, gone: bool
) -> None:
    client = ended(instance, silent, timeouts=Timeouts(output=Duration(10 * MINUTE)))
    name = burst_there(silent).name
    tries = 0
    while instance.job(1).state is JobState.SCHED:
        tries += 1
        if gone:
            silent.there.clear()
        instance.advance(MINUTE)
        client.run_burst()
    assert tries == (1 if gone else 10)
    note = instance.job(1)["exception_note"]
    assert note.endswith(f"its output is {LOST}the kubelet does not answer")
    assert f"burst {name}: the output of its job is {LOST}" in caplog.text
    entry = client.ledger.entry(name)
    assert entry is not None
    assert (entry.burst.exit_code, entry.reason) == (3, note)
    assert (silent.ran, client.ledger.lost_starts()) == ([1], {})


def test_a_job_that_has_ended_ends_here_whoever_takes_its_burst_down_meanwhile(
    instance: EmbeddedInstance, silent: Silent
) -> None:
    client = ended(instance, silent)
    client.run_unburst()
    assert instance.job(1).state is JobState.INACTIVE
    assert LOST in instance.job(1)["exception_note"]
    client.run_burst()
    assert silent.ran == [1]


def test_a_plugin_that_cannot_be_asked_takes_nothing_back_of_how_a_job_ended(
    instance: EmbeddedInstance, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ended(instance, silent)

    def refuse(burst: Burst) -> Burst:
        raise BurstError("the API server is away")

    monkeypatch.setattr(silent, "refresh", refuse)
    instance.advance(MINUTE)
    client.run_burst()
    entry = client.ledger.entry(burst_there(silent).name)
    assert entry is not None
    assert (entry.burst.exit_code, entry.burst.error) == (3, "it was killed")
    assert "the API server is away" in end_note(entry.burst)
