"""Whatever a package says costs that package only: text that cannot be written, wrong types."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, NoReturn

import pytest
from tests.support import Elsewhere, client_on, spec

from fluxburst import Burst, BurstPlugin, BurstState, FluxBurst, Job, NodeType, hookimpl
from fluxburst.errors import BurstError, BurstErrors, UnexpectedError
from fluxburst.reconcile.workers import Answer, Call, Done, Failed, PluginWorkers
from fluxburst.service.loop import Report, Service
from fluxburst.simulation.embedded import EmbeddedInstance

BYTES = "provider said: caf\udce9"
"""What Python reads of a command that prints Latin-1."""

ESCAPED = r"provider said: caf\udce9"


class Mumbles(Elsewhere):
    """Says in one place, or raises there, what UTF-8 cannot write; its bursts stay ``STARTING``."""

    def __init__(self, where: str) -> None:
        super().__init__("mumbles", NodeType("node", cores=8))
        self.where = where
        self.there: dict[str, Burst] = {}

    def _raise_at(self, where: str) -> None:
        if self.where == where:
            raise BurstError(BYTES)
        if self.where == f"other {where}":
            raise OSError(BYTES)

    def _said(self, burst: Burst, method: str) -> Burst:
        self._raise_at(method)
        place, _, field = self.where.partition(" ")
        changes: dict[str, Any] = {field: BYTES} if field and place == method else {}
        return replace(burst, **changes)

    def create(self, burst: Burst) -> Burst:
        self.created.append(burst.name)
        self.there[burst.name] = replace(burst, state=BurstState.STARTING)
        return self._said(replace(burst, state=BurstState.STARTING), "create")

    def refresh(self, burst: Burst) -> Burst:
        return self._said(burst, "refresh")

    def renew(self, burst: Burst) -> Burst:
        return self._said(burst, "renew")

    def run(self, *arguments: Any, **named: Any) -> Sequence[Burst]:
        self._raise_at("run")
        return super().run(*arguments, **named)

    def delete(self, burst: Burst) -> None:
        super().delete(burst)
        self._raise_at("delete")
        self.there.pop(burst.name, None)

    def adopt(self) -> Sequence[Burst] | None:
        self._raise_at("adopt")
        return [self._said(burst, "adopt") for burst in self.there.values()]

    def list_bursts(self) -> Iterable[str]:  # type: ignore[override]
        self._raise_at("list_bursts")
        return [*self.there, *([BYTES] if self.where == "list_bursts name" else [])]

    def lacking(self) -> Iterable[str]:
        return [BYTES] if self.where == "lacking" else []

    def schedule(self, job: Job) -> bool:
        self._raise_at("schedule")
        return super().schedule(job)


SAID = [
    *(f"{prefix}{method}" for prefix in ("", "other ") for method in ("create", "refresh", "run")),
    *("delete", "renew", "adopt", "list_bursts", "schedule", "lacking", "list_bursts name"),
    *(
        f"{method} {field}"
        for method in ("create", "refresh", "adopt", "renew")
        for field in ("error", "output", "node_type")
    ),
    *("create hostnames", "refresh hostnames", "create name"),
]


def watched(*plugins: BurstPlugin, passes: int = 6) -> tuple[FluxBurst, list[Report]]:
    """Return a client of a service that has made passes for a job of each plugin, and of these."""
    instance = EmbeddedInstance()
    for plugin in plugins:
        instance.submit(spec(1, 8, burstable=plugin.name, duration=60.0))
    client = client_on(instance, *plugins)
    reports: list[Report] = []
    service = Service(client, tell=reports.append)
    client.hold()
    for _ in range(passes):
        instance.advance(600.0)
        reports.append(service.pass_once())
    return client, reports


@pytest.mark.parametrize("where", SAID)
def test_text_that_utf_8_cannot_write_ends_no_pass_and_no_unburst(where: str) -> None:
    mumbles, good = Mumbles(where), Elsewhere("good")
    client, _ = watched(mumbles, good)
    with client:
        with suppress(BurstErrors):
            client.run_unburst()
        assert len(good.created) >= 1
        assert set(good.deleted) == set(good.created)
        written = [(e.burst.error, e.burst.output, e.reason) for e in client.ledger.entries()]
        decided = [decision.reasons for _, decision in client.ledger.decisions()]
        for text in [text for texts in [*written, *decided] for text in texts]:
            text.encode()


def test_text_that_utf_8_cannot_write_is_escaped_in_the_ledger() -> None:
    client, reports = watched(Mumbles("create"))
    with client:
        assert any(ESCAPED in str(report.error) for report in reports)
        assert any(ESCAPED in entry.burst.error for entry in client.ledger.entries())


class Says:
    """A package that says why, in what UTF-8 cannot write."""

    @hookimpl
    def fluxburst_select_job(self, job: Job) -> NoReturn:
        raise BurstError(BYTES)


def test_text_of_a_hook_that_utf_8_cannot_write_ends_no_pass() -> None:
    instance = EmbeddedInstance()
    instance.submit(spec(1, 8, burstable=1))
    with client_on(instance, Elsewhere("good")) as client:
        client.hooks.register(Says(), "fluxburst-says")
        with suppress(BurstErrors):
            client.run_pass(everything=True, patience=5.0)
        ((_, decision),) = client.ledger.decisions()
        assert any(ESCAPED in reason for reason in decision.reasons)


class Gone:
    """A package that says that what nobody can be called is gone."""

    @hookimpl
    def fluxburst_unburst_plugin(self) -> Sequence[str]:
        return [BYTES]


def test_names_that_utf_8_cannot_write_end_no_unburst() -> None:
    good = Elsewhere("good")
    client, _ = watched(good)
    with client:
        client.hooks.register(Gone(), "fluxburst-gone")
        with suppress(BurstErrors):
            client.run_unburst()
        assert not any(entry.burst.name == BYTES for entry in client.ledger.entries())


class Idle:
    """A package that answers for a plugin that nothing has come up, and does not say why."""

    def __init__(self) -> None:
        self.asked = 0

    @hookimpl(tryfirst=True)
    def fluxburst_run_plugin(self, plugin: BurstPlugin) -> Sequence[Burst] | None:
        if plugin.name != "idle":
            return None
        self.asked += 1
        return []


def test_what_does_not_come_up_without_a_word_opens_the_breaker_and_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    instance, idle, good = EmbeddedInstance(), Elsewhere("idle"), Elsewhere("good")
    for name in ("idle", "good"):
        instance.submit(spec(1, 8, burstable=name, duration=60.0))
    with client_on(instance, idle, good) as client:
        says = Idle()
        client.hooks.register(says, "fluxburst-idle")
        service = Service(client)
        for _ in range(10):
            service.pass_once()
        assert says.asked == client.config.policy.breakers.failures
        assert client.ledger.breakers()["idle", "node"].failures == says.asked
        assert len([e for e in client.ledger.entries() if e.burst.plugin == "idle"]) == says.asked
        assert len(good.created) == 1
    warned = [r.getMessage() for r in caplog.records if "did not create it" in r.getMessage()]
    assert len(warned) == says.asked
    assert all(text.startswith("plugin idle, burst idle-") for text in warned)


# --- other types ---------------------------------------------------------------------------------

TYPES: list[dict[str, Any]] = [
    {"price": Decimal("0.40")},
    {"price": "0.40"},
    {"price": math.nan},
    {"price": None},
    {"cores": "8"},
    {"cores": 1.5},
    {"cores": True},
    {"gpus": None},
    {"memory": "8G"},
    {"max_nodes": math.inf},
    {"max_lifetime": "1h"},
    {"properties": ("\ud800",)},
]


class Wrong(Elsewhere):
    """Is what it is told to be, or answers that."""

    def __init__(self, **answers: Any) -> None:
        super().__init__("wrong", answers.pop("type", NodeType("node", cores=8)))
        object.__setattr__(self, "answers", answers)

    def __getattribute__(self, name: str) -> Any:
        answers = object.__getattribute__(self, "__dict__").get("answers", {})
        if name not in answers:
            return super().__getattribute__(name)
        value = answers[name]
        return (lambda *_, **__: value) if callable(getattr(BurstPlugin, name)) else value


def assert_it_costs_only_itself(wrong: Elsewhere, reports: Sequence[Report], said: str) -> None:
    """Hold that a plugin is said to be wrong, and that nobody reckons with an unexpected error."""
    assert [report.error for report in reports] == [None] * len(reports)
    errors = [str(error) for report in reports if report.plan for error in report.plan.errors]
    assert any("plugin wrong" in text and said in text for text in errors), errors
    assert wrong.created == []


@pytest.mark.parametrize("fields", TYPES, ids=str)
def test_a_node_type_of_other_types_costs_its_plugin_only_and_is_named(
    fields: dict[str, Any],
) -> None:
    wrong = Wrong(type=replace(NodeType("node", cores=8), **fields))
    good = Elsewhere("good")
    client, reports = watched(wrong, good, passes=2)
    with client:
        assert len(good.created) == 1
        (field,) = fields
        assert_it_costs_only_itself(wrong, reports, field)


def is_of_its_type(what: str, value: Any) -> bool:
    """Whether a value may be of no use, but is of the type that it should be."""
    return (
        what == "in_use"
        if isinstance(value, dict)
        else (isinstance(value, str) and what in ("queue", "run_as"))
    )


OF_ANOTHER_TYPE = [
    (what, value)
    for what in ("queue", "instance_tag", "isolated", "run_as", "in_use")
    for value in (None, 5, ["batch"], {"a": 1}, "\ud800")
    if not is_of_its_type(what, value)
]


@pytest.mark.parametrize(("what", "value"), OF_ANOTHER_TYPE)
def test_what_a_plugin_is_of_another_type_costs_it_only_and_is_named(what: str, value: Any) -> None:
    wrong, good = Wrong(**{what: value}), Elsewhere("good")
    client, reports = watched(wrong, good, passes=2)
    with client:
        assert len(good.created) == 1
        assert_it_costs_only_itself(wrong, reports, what)


# --- what nobody reckons with --------------------------------------------------------------------


def test_an_unexpected_error_ends_a_pass_and_not_the_service(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance, good = EmbeddedInstance(), Elsewhere("good")
    instance.submit(spec(1, 8, burstable=1))
    with client_on(instance, good) as client:
        works, reports = client.run_pass, list[Report]()

        def fails(**_: Any) -> NoReturn:
            raise ZeroDivisionError("of nobody's")

        def tell(report: Report) -> None:
            reports.append(report)
            if len(reports) == 5:
                monkeypatch.setattr(client, "run_pass", works)

        monkeypatch.setattr(client, "run_pass", fails)
        began = instance.now()
        Service(client, tell=tell).run(passes=6)
        assert [type(report.error) for report in reports[:5]] == [UnexpectedError] * 5
        assert reports[5].error is None
        assert len(good.created) == 1
        assert instance.now() - began >= 0.5
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.exc_info
    assert "ZeroDivisionError: of nobody's" in record.getMessage()


def test_an_answer_that_cannot_be_taken_is_a_failure_of_its_plugin(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said: list[str] = []

    def take(answer: Answer[int]) -> None:
        match answer:
            case Done(value):
                said.append(f"{1 // value}")
            case Failed():
                said.append(str(answer.error()))

    workers = PluginWorkers(lambda: None)
    for plugin, value in (("bad", 0), ("good", 1)):
        workers.start(Call(plugin, "create()", 5.0, partial(int, value), take))
    workers.wait(math.inf)
    workers.close()
    assert sorted(said) == [
        "1",
        "plugin bad: ZeroDivisionError: integer division or modulo by zero",
    ]
    assert "plugin bad: cannot process the answer of create()" in caplog.text
