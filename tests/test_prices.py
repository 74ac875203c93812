"""Prices that a provider tells: for how long they are used, and what is where it does not."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator

import pytest

from fluxburst import NodeType
from fluxburst.errors import BurstError
from fluxburst.provider.live_prices import GOOD_SECONDS, LivePrices
from fluxburst.provider.machine_types import MachineTypeOverride, MachineTypes, load

TABLE = load(
    'dated = 2026-08-20\nregion = "here"\nsource = "a price list"\n'
    + "".join(
        f'[[machine_types]]\nname = "{name}"\nvcpus = 16\nthreads_per_core = 2\n'
        f'memory = "64GiB"\nprice = {price}\nspot_price = {price / 2}\n'
        for name, price in (("big", 0.8), ("small", 0.1))
    ),
    "table.toml",
)


class Provider:
    """A provider that tells prices one by one, and may fail in between."""

    def __init__(self, prices: dict[str, float]) -> None:
        self.prices = prices
        self.asked: list[list[str]] = []
        self.fails_after: int | None = None

    def ask(self, machine_types: Collection[str]) -> Iterator[tuple[str, float]]:
        self.asked.append(list(machine_types))
        for number, item in enumerate(self.prices.items()):
            if number == self.fails_after:
                raise BurstError("it is out of order")
            yield item


class Clock:
    """The time, which a test lets pass."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def provider() -> Provider:
    return Provider({"big": 0.9, "big-spot": 0.3, "small": 0.2})


def types(*names: str) -> list[NodeType]:
    prices = {"big": 0.8, "big-spot": 0.4, "small": 0.1}
    return [NodeType(name, cores=8, price=prices[name]) for name in names]


def prices(live: LivePrices, *names: str, table: MachineTypes = TABLE) -> list[float]:
    return [kind.price for kind in live.of(types(*names), table)]


def test_prices_are_those_that_the_provider_tells(provider: Provider) -> None:
    live = LivePrices("cloud", provider.ask)
    assert prices(live, "big", "big-spot", "small") == [0.9, 0.3, 0.2]
    assert (provider.asked, live.problem) == ([["big", "small"]], "")


def test_what_the_provider_does_not_tell_costs_what_the_table_says(provider: Provider) -> None:
    del provider.prices["small"], provider.prices["big-spot"]
    live = LivePrices("cloud", provider.ask)
    assert prices(live, "big", "big-spot", "small") == [0.9, 0.4, 0.1]
    assert dict(live.known) == {"big": 0.9}


def test_a_machine_type_that_the_user_changed_is_not_asked_for(provider: Provider) -> None:
    table = TABLE.with_overrides([MachineTypeOverride("big", price=0.8)])
    live = LivePrices("cloud", provider.ask)
    assert prices(live, "big", table=table) == [0.8]
    assert provider.asked == []


def test_the_provider_is_asked_again_after_an_hour_and_for_what_it_was_not_asked_for(
    provider: Provider, clock: Clock
) -> None:
    live = LivePrices("cloud", provider.ask)
    prices(live, "big", "small")
    provider.prices["big"] = 1.0
    clock.now += GOOD_SECONDS
    assert prices(live, "big") == [0.9]
    clock.now += 1
    assert prices(live, "big") == [1.0]
    prices(live, "small")
    assert provider.asked == [["big", "small"], ["big"], ["small"]]


def test_a_provider_that_fails_is_left_alone_for_an_hour_and_it_is_said_once(
    provider: Provider, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    provider.fails_after = 0
    live = LivePrices("cloud", provider.ask)
    assert [prices(live, "big") for _ in range(2)] == [[0.8], [0.8]]
    assert (len(provider.asked), live.problem) == (1, "it is out of order")
    clock.now += GOOD_SECONDS + 1
    assert prices(live, "big") == [0.8]
    said = "plugin cloud: using the table's prices: it is out of order"
    assert (caplog.messages, len(provider.asked)) == ([said], 2)
    provider.fails_after = None
    clock.now += GOOD_SECONDS + 1
    assert (prices(live, "big"), live.problem) == ([0.9], "")


def test_what_was_told_before_a_failure_is_used(provider: Provider) -> None:
    provider.fails_after = 1
    live = LivePrices("cloud", provider.ask)
    assert prices(live, "big", "small") == [0.9, 0.1]
    assert live.problem == "it is out of order"
