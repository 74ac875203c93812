"""What a plugin says that is not so harms nobody else: nodes, jobs, budgets, and the service."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.support import Apart, Elsewhere, client_on, named, spec

from fluxburst import Burst, BurstState, Duration, FluxBurst, NodeType, hookimpl
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.errors import BurstErrors
from fluxburst.ledger import Assignment
from fluxburst.model.job import JobState
from fluxburst.model.node import Node
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

NODE = NodeType("node", cores=8, price=1.0, max_nodes=64)
SHORT = Policy(lifetimes=Lifetimes(max_lifetime=Duration(3600.0)))
SITE = ("site1", "site2")


class Liar(Elsewhere):
    """Says of its bursts what it is told to; ``there`` is its cloud."""

    def __init__(self, there: dict[str, Burst] | None = None, name: str = "liar") -> None:
        super().__init__(name, NODE)
        self.there = {} if there is None else there
        self.hosts: tuple[str, ...] = ()
        self.orphans: Sequence[Burst] | None = None

    def create(self, burst: Burst) -> Burst:
        self.created.append(burst.name)
        self.there[burst.name] = replace(burst, state=BurstState.STARTING)
        return self.there[burst.name]

    def refresh(self, burst: Burst) -> Burst:
        return replace(burst, hostnames=self.hosts or burst.hostnames)

    def adopt(self) -> Sequence[Burst] | None:
        return self.orphans

    def delete(self, burst: Burst) -> None:
        super().delete(burst)
        self.there.pop(burst.name, None)

    def list_bursts(self) -> Collection[str]:
        return list(self.there)


def site() -> EmbeddedInstance:
    """Return an instance with two nodes of the site."""
    nodes = [Node(n + 1, host, cores=8, free_cores=8) for n, host in enumerate(SITE)]
    lead = Node(0, "lead", cores=1, free_cores=1)
    return EmbeddedInstance(Recording((), (lead, *nodes)), name="lead:/run/flux")


def strangers_job(instance: EmbeddedInstance) -> int:
    """Have somebody's job run on the site's nodes."""
    running = instance.submit(spec(2, 8, duration=86400.0), userid=4242)
    instance.advance(1.0)
    assert instance.job(running).state is JobState.RUN
    return running


def passes(client: FluxBurst, count: int, seconds: float = 60.0) -> list[str]:
    """Run passes as the service does; return what failed."""
    said: list[str] = []
    for _ in range(count):
        client.instance.advance(seconds)  # type: ignore[attr-defined]
        try:
            client.run_pass(everything=True, patience=float("inf"))
        except BurstErrors as failures:
            said += map(str, failures.errors)
    return said


def assert_the_site_is_left_alone(instance: EmbeddedInstance, running: int) -> None:
    assert not any(node.drained for node in instance.nodes())
    assert instance.job(running).state is JobState.RUN


# --- hosts of others -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["refresh", "adopt"])
def test_hosts_that_were_up_before_are_refused_after_a_restart_too(
    how: str, tmp_path: Path
) -> None:
    instance = site()
    running = strangers_job(instance)
    instance.submit(spec(2, 8, burstable=1, duration=60.0))
    liar = Liar()
    with client_on(instance, liar, state_dir=tmp_path, policy=SHORT) as client:
        client.run_burst()
    again = Liar(liar.there)
    if how == "refresh":
        again.hosts = SITE
    else:
        there = liar.there.values()
        again.orphans = [replace(b, state=BurstState.READY, hostnames=SITE) for b in there]
    with client_on(instance, again, state_dir=tmp_path, policy=SHORT) as client:
        said = passes(client, 5)
        assert any("'site1', which was up before" in text for text in said) or how == "refresh"
        assert all(not entry.burst.hostnames for entry in client.ledger.entries())
        passes(client, 115)
        with suppress(BurstErrors):
            client.run_unburst()
    assert_the_site_is_left_alone(instance, running)
    assert set(again.deleted) >= set(liar.created)


def test_nodes_that_joined_while_nobody_looked_are_taken_for_a_bursts_after_a_restart(
    tmp_path: Path,
) -> None:
    instance = site()
    strangers_job(instance)
    instance.submit(spec(2, 8, burstable=1, duration=600.0))
    liar = Liar()
    with client_on(instance, liar, state_dir=tmp_path) as client:
        client.run_burst()
    instance.add_nodes(["new1", "new2"], NODE)
    again = Liar(liar.there)
    again.hosts = ("new1", "new2")
    with client_on(instance, again, state_dir=tmp_path) as client:
        assert passes(client, 1, 5.0) == []
        (entry,) = client.ledger.live()
    assert (entry.burst.hostnames, entry.burst.state) == (("new1", "new2"), BurstState.READY)


@pytest.mark.parametrize("content", ["", "[]", '{"lead": 1}', '{"[": ["x"]}', None])
def test_hosts_that_are_up_are_refused_where_it_is_lost_what_was_up_before(
    content: str | None, tmp_path: Path
) -> None:
    instance = site()
    running = strangers_job(instance)
    instance.submit(spec(2, 8, burstable=1, duration=60.0))
    liar = Liar()
    with client_on(instance, liar, state_dir=tmp_path) as client:
        client.run_burst()
    kept = tmp_path / "up-before.json"
    if content is None:
        kept.unlink()
    else:
        kept.write_text(content)
    again = Liar(liar.there)
    again.hosts = SITE
    with client_on(instance, again, state_dir=tmp_path) as client:
        passes(client, 2)
        assert [entry.burst.hostnames for entry in client.ledger.live()] == [()]
        with suppress(BurstErrors):
            client.run_unburst()
    assert_the_site_is_left_alone(instance, running)


@pytest.mark.parametrize("state", ["READY", "STARTING", "FAILED", "DRAINING", "ENDING"])
def test_what_is_in_no_record_goes_without_a_node_that_it_may_not_have(state: str) -> None:
    instance = site()
    running = strangers_job(instance)
    liar = Liar()
    client = client_on(instance, liar)
    orphan = Burst(named("liar", "0a"), "liar", "node", 2, hostnames=SITE, state=BurstState[state])
    liar.orphans = [replace(orphan, lease_until=client.now() + 900.0)]
    passes(client, 30)
    assert set(liar.deleted) == {orphan.name}
    assert_the_site_is_left_alone(instance, running)


# --- jobs that have not ended --------------------------------------------------------------------

ENDS: Sequence[dict[str, Any]] = (
    {"exit_code": 0},
    {"output": "/tmp/out"},
    {"exit_code": 1, "isolated": True},
)
"""What only an isolated burst can say."""


class SaysItEnded(Liar):
    """Says in one method that the job of its burst has ended there."""

    def __init__(self, method: str, **end: Any) -> None:
        super().__init__()
        self.method, self.end = method, end

    def _said(self, method: str, burst: Burst) -> Burst:
        return replace(burst, **self.end) if method == self.method else burst

    def create(self, burst: Burst) -> Burst:
        super().create(burst)
        self.there[burst.name] = replace(self.there[burst.name], hostnames=("new1", "new2"))
        return self._said("create", self.there[burst.name])

    def refresh(self, burst: Burst) -> Burst:
        return self._said("refresh", burst)

    def renew(self, burst: Burst) -> Burst:
        return self._said("renew", burst)

    def adopt(self) -> Sequence[Burst] | None:
        if self.method == "bursts":
            self.bursts.update({n: replace(b, **self.end) for n, b in self.bursts.items()})
        if self.method not in ("adopt", "bursts"):
            return None
        return [self._said("adopt", self.bursts.get(n, b)) for n, b in self.there.items()]


class RunsAndSaysItEnded(SaysItEnded):
    """The same of one that brings its bursts up itself."""

    def run(
        self, request_burst: bool = False, nodes: int | None = None, tasks: int | None = None
    ) -> Sequence[Burst]:
        if self.created:
            return []
        burst = Burst(named("liar", "0a"), "liar", "node", 2, tuple(self.jobs))
        return [self._said("run", self.create(burst))]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("method", ["create", "refresh", "adopt", "renew", "run", "bursts"])
def test_a_job_has_not_ended_in_a_burst_that_is_not_isolated(
    method: str, end: dict[str, Any]
) -> None:
    instance = site()
    strangers_job(instance)
    waiting = instance.submit(spec(2, 8, burstable=1, duration=86400.0))
    liar = (RunsAndSaysItEnded if method == "run" else SaysItEnded)(method, **end)
    client = client_on(instance, liar)
    said = passes(client, 2, 1.0)
    said += [entry.burst.error for entry in client.ledger.entries()]
    if liar.there:
        instance.add_nodes(("new1", "new2"), NODE)
    said += passes(client, 40)
    assert instance.job(waiting).state in JobState.RUN | JobState.SCHED
    assert all(not e.burst.isolated and e.burst.exit_code is None for e in client.ledger.entries())
    assert all(not entry.burst.output for entry in client.ledger.entries())
    assert any("liar" in t and "not isolated" in t for t in said) or method == "bursts", said


@pytest.mark.parametrize("method", ["adopt", "bursts"])
def test_a_burst_is_not_ended_under_running_jobs_for_what_its_plugin_says_of_their_end(
    method: str,
) -> None:
    instance = site()
    strangers_job(instance)
    waiting = instance.submit(spec(2, 8, burstable=1, duration=600.0))
    liar = SaysItEnded("")
    client = client_on(instance, liar)
    passes(client, 1, 1.0)
    instance.add_nodes(("new1", "new2"), NODE)
    passes(client, 2, 5.0)
    liar.there = {name: replace(b, state=BurstState.READY) for name, b in liar.there.items()}
    assert instance.job(waiting).state is JobState.RUN
    liar.method, liar.end = method, {"exit_code": 0, "isolated": True}
    passes(client, 3, 5.0)
    (entry,) = client.ledger.live()
    assert (entry.burst.state, liar.deleted) == (BurstState.READY, [])
    assert instance.job(waiting).state is JobState.RUN


# --- jobs that were never given away -------------------------------------------------------------

CLAIMED = named("liar", "0a")
MEMO = {"plugin": "liar", "burst": CLAIMED, "urgency": 16}


class ApartLiar(Apart):
    """Says of its isolated bursts what is put there."""

    def __init__(self) -> None:
        super().__init__("liar", NODE)


def claims_a_held_job(
    instance: EmbeddedInstance, plugin: Liar | ApartLiar, *, burstable: int, memo: object
) -> tuple[FluxBurst, int]:
    """Return a client whose plugin says that it has run a user's own held job to its end."""
    held = instance.submit(spec(2, 8, burstable=burstable, duration=60.0), userid=4242)
    instance.set_urgencies({held: 0})
    instance.set_memo(held, "fluxburst", memo)
    claim = Burst(CLAIMED, "liar", "node", 1, (held,), BurstState.READY)
    plugin.there[CLAIMED] = replace(claim, isolated=True, exit_code=0)
    if isinstance(plugin, Liar):
        plugin.orphans = list(plugin.there.values())
    return client_on(instance, plugin), held


def assert_it_stays(client: FluxBurst, held: int) -> None:
    with suppress(BurstErrors):
        client.run_unburst()
    (job,) = [job for job in client.instance.pending_jobs() if job.id == held]
    assert (job.state, job.urgency) == (JobState.SCHED, 0)
    assert all(not entry.burst.jobs for entry in client.ledger.entries())
    assert not client.ledger.usages()


@pytest.mark.parametrize(
    ("plugin", "burstable", "memo"),
    [
        (Liar, 1, MEMO),
        (ApartLiar, 1, None),
        (ApartLiar, 1, {**MEMO, "burst": "another"}),
        (ApartLiar, 1, {**MEMO, "plugin": "another"}),
        (ApartLiar, 0, MEMO),
    ],
)
def test_a_held_job_is_not_ended_for_what_a_plugin_says_of_a_burst_in_no_record(
    plugin: type[Liar | ApartLiar], burstable: int, memo: object
) -> None:
    liar = plugin()
    client, held = claims_a_held_job(site(), liar, burstable=burstable, memo=memo)
    passes(client, 4)
    assert CLAIMED in liar.deleted
    assert_it_stays(client, held)


def test_a_job_that_the_ledger_knows_is_not_claimed_by_a_burst_in_no_record() -> None:
    client, held = claims_a_held_job(site(), ApartLiar(), burstable=1, memo=MEMO)
    client.ledger.assign([Assignment(held, "other", "b", client.now())])
    client.ledger.release([held], client.now(), "it was taken back")
    passes(client, 4)
    assert_it_stays(client, held)


# --- names that nobody asked for -----------------------------------------------------------------


class Says:
    """A package whose hook answers for every plugin."""

    def __init__(self, *bursts: Burst) -> None:
        self.bursts = bursts

    @hookimpl
    def fluxburst_run_plugin(self) -> Sequence[Burst]:
        return list(self.bursts)


@pytest.mark.parametrize("name", ["prod-db-1", named("other", "0a"), None, "../x"])
def test_names_that_were_not_asked_for_are_neither_recorded_nor_deleted(name: str) -> None:
    instance = site()
    strangers_job(instance)
    instance.submit(spec(2, 8, burstable=1))
    liar = Liar()
    client = client_on(instance, liar)
    client.hooks.register(Says(Burst(name, "liar", "node", 3, state=BurstState.READY)), "says")
    with pytest.raises(BurstErrors, match=r"plugin liar.* returned"):
        client.run_burst()
    passes(client, 3)
    with suppress(BurstErrors):
        client.run_unburst()
    assert name not in {entry.burst.name for entry in client.ledger.entries()}
    assert name not in liar.deleted


# --- what was to be taken down -------------------------------------------------------------------


class SaysNothingIsGone:
    """A package that answers for every plugin that nothing of it is gone."""

    @hookimpl
    def fluxburst_unburst_plugin(self) -> Sequence[str]:
        return []


def test_what_is_not_said_to_be_gone_is_not_taken_for_ended() -> None:
    instance = site()
    strangers_job(instance)
    instance.submit(spec(2, 8, burstable=1))
    liar = Liar()
    client = client_on(instance, liar)
    client.run_burst()
    client.hooks.register(silent := SaysNothingIsGone(), "silent")
    assert client.run_unburst() == []
    passes(client, 1, 5.0)
    assert [entry.burst.name for entry in client.ledger.live()] == liar.created
    client.hooks.unregister(silent)
    assert client.run_unburst() == liar.created
    assert liar.deleted == liar.created


# --- what ends no service ------------------------------------------------------------------------


class Clears:
    """An observer that breaks what a plugin knows."""

    @hookimpl
    def fluxburst_burst_changed(self, burst: Burst, client: FluxBurst) -> None:
        client.plugins[burst.plugin].bursts.clear()


@pytest.mark.parametrize("value", [None, {"x": None}, 5])
def test_what_a_plugin_knows_cannot_be_set_to_what_is_no_bursts(value: Any) -> None:
    liar = Liar()
    with pytest.raises(TypeError):
        liar.bursts = value
    with pytest.raises(TypeError, match="bursts must map names to Bursts"):
        liar.bursts["x"] = value


def test_an_observer_that_clears_what_a_plugin_knows_ends_nothing() -> None:
    instance = site()
    strangers_job(instance)
    instance.submit(spec(2, 8, burstable=1))
    liar = Liar()
    client = client_on(instance, liar)
    client.hooks.register(Clears(), "clears")
    client.run_burst()
    assert passes(client, 3) == []
    assert [entry.burst.name for entry in client.ledger.live()] == liar.created
    assert client.run_unburst() == liar.created
    assert liar.deleted == liar.created


@pytest.mark.parametrize("method", ["create", "list_bursts"])
@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, BaseException])
def test_whatever_a_plugin_raises_is_a_failure_of_that_plugin(
    method: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_: object) -> NoReturn:
        raise error

    instance = site()
    strangers_job(instance)
    instance.submit(spec(2, 8, burstable=1))
    liar = Liar()
    monkeypatch.setattr(liar, method, raises)
    monkeypatch.setattr(Liar, method, raises)
    client = client_on(instance, liar)
    said = passes(client, 1)
    assert any("liar" in text and error.__name__ in text for text in said), said


# --- money ---------------------------------------------------------------------------------------


def test_what_is_in_no_record_costs_no_more_than_it_can() -> None:
    instance = site()
    liar = Liar()
    client = client_on(instance, liar)
    name = named("liar", "0a")
    liar.orphans = [
        Burst(name, "liar", "node", 10**9, state=BurstState.READY, since=0.0, price=5.0)
    ]
    said = passes(client, 2)
    assert any("1000000000 nodes" in text and "at most 64" in text for text in said)
    assert liar.deleted
    assert sum(entry.cost(client.now()) for entry in client.ledger.entries()) < 1.0


class Counts(Liar):
    """Says in one method that its burst has so many nodes, or something else of it."""

    def __init__(self, method: str, **said: Any) -> None:
        super().__init__()
        self.method, self.said = method, said

    def create(self, burst: Burst) -> Burst:
        now = super().create(burst)
        return replace(now, **self.said) if "create" in self.method else now

    def refresh(self, burst: Burst) -> Burst:
        return replace(burst, **self.said) if self.method == "refresh" else burst

    def adopt(self) -> Sequence[Burst] | None:
        if self.method != "adopt":
            return None
        return [replace(burst, **self.said) for burst in self.there.values()]


@pytest.mark.parametrize("state", [BurstState.STARTING, BurstState.READY])
@pytest.mark.parametrize("nodes", [4, 1000, 10**30])
@pytest.mark.parametrize("method", ["create", "refresh", "adopt"])
def test_a_burst_never_has_more_nodes_than_were_asked_for(
    method: str, nodes: int, state: BurstState
) -> None:
    instance = site()
    instance.submit(spec(3, 8, burstable=1, duration=60.0))
    strangers_job(instance)
    client = client_on(instance, Counts(method, nodes=nodes, state=state))
    said = passes(client, 3)
    said += [entry.burst.error for entry in client.ledger.entries()]
    assert {entry.burst.nodes for entry in client.ledger.entries()} == {3}
    assert any(
        "more than the 3 requested" in text or "is not a number of nodes" in text for text in said
    ), said


class Writes(Liar):
    """Writes into what it knows of its bursts itself how many nodes they have."""

    def refresh(self, burst: Burst) -> Burst:
        self.bursts[burst.name] = replace(self.bursts[burst.name], nodes=1000)
        return burst


def test_a_plugin_that_writes_more_nodes_than_were_asked_for_into_a_burst_changes_nothing() -> None:
    instance = site()
    instance.submit(spec(3, 8, burstable=1, duration=60.0))
    strangers_job(instance)
    client = client_on(instance, Writes())
    passes(client, 3)
    client.run_unburst()
    assert {entry.burst.nodes for entry in client.ledger.entries()} == {3}


class TellsLater(Counts):
    """Says at first that it has no nodes, and that it has very many later."""

    def refresh(self, burst: Burst) -> Burst:
        return replace(burst, state=BurstState.READY, nodes=1000)


@pytest.mark.parametrize("plugin", [Counts, TellsLater])
def test_a_burst_whose_plugin_tells_no_number_of_nodes_has_those_asked_for(
    plugin: type[Counts],
) -> None:
    instance = site()
    strangers_job(instance)
    instance.submit(spec(3, 8, burstable=1, duration=60.0))
    client = client_on(instance, plugin("create", nodes=0))
    passes(client, 3)
    assert [entry.burst.nodes for entry in client.ledger.entries()] == [3]


@pytest.mark.parametrize("method", ["create", "refresh", "adopt"])
@pytest.mark.parametrize(
    "said",
    [
        {"joined": 10**30},
        {"jobs": (10**30,)},
        {"jobs": (-1,)},
        {"since": 10**400},
        {"exit_code": 10**30},
    ],
)
def test_numbers_that_nothing_can_have_are_refused_where_they_come_in(
    method: str, said: dict[str, Any]
) -> None:
    instance = site()
    strangers_job(instance)
    instance.submit(spec(3, 8, burstable=1, duration=60.0))
    for_ever = Policy(lifetimes=Lifetimes(lease=Duration(float("inf"))))
    client = client_on(instance, Counts(method, **said), policy=for_ever)
    failed = passes(client, 3)
    failed += [entry.burst.error for entry in client.ledger.entries()]
    (field,) = said
    assert any(f"returned a burst whose {field} is not" in text for text in failed), failed


@pytest.mark.parametrize("lease", [1e12, 1e300, 10**30, 10**400])
def test_a_lease_that_is_later_than_any_date_is_none(lease: float) -> None:
    instance = site()
    strangers_job(instance)
    instance.submit(spec(3, 8, burstable=1, duration=60.0))
    for_ever = Policy(lifetimes=Lifetimes(lease=Duration(float("inf"))))
    client = client_on(instance, Counts("create", lease_until=lease), policy=for_ever)
    assert passes(client, 3) == []
    assert [entry.burst.lease_until for entry in client.ledger.live()] == [None]


def test_a_lease_that_its_plugin_sets_is_not_renewed_to_last_for_ever() -> None:
    instance = site()
    strangers_job(instance)
    instance.submit(spec(3, 8, burstable=1, duration=86400.0))
    for_ever = Policy(lifetimes=Lifetimes(lease=Duration(float("inf"))))
    liar = Counts("create", lease_until=instance.now() + 7200.0, hostnames=("a", "b", "c"))
    client = client_on(instance, liar, policy=for_ever)
    passes(client, 1)
    instance.add_nodes(("a", "b", "c"), NODE)
    assert passes(client, 100) == []
