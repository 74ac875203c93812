"""Whatever a package says costs that package only: text that cannot be written, wrong types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from support import Elsewhere, client_on, spec

from fluxburst import Burst, BurstPlugin, BurstState, FluxBurst, Job, NodeType, hookimpl
from fluxburst.errors import BurstError, BurstErrors
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
