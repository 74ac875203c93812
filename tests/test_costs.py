from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxburst import Burst, BurstState
from fluxburst.errors import FormatError
from fluxburst.ledger import Entry, Usage
from fluxburst.ledger.entries import DAY, HOUR
from fluxburst.reports import costs

T0 = 1_700_006_400.0
"""Midnight, UTC."""


def bought(
    number: int = 1,
    nodes: int = 2,
    price: float = 3.0,
    since: float = T0,
    ended: float | None = T0 + 4 * HOUR,
    plugin: str = "cloud",
) -> Entry:
    state = BurstState.READY if ended is None else BurstState.ENDED
    burst = Burst(f"b{number}", plugin, "node", nodes, price=price, since=since, state=state)
    return Entry(number, burst, None, "", since, ended=ended)


def sums(
    entry: Entry, *usages: Usage, by: costs.By, now: float = T0 + 9 * HOUR
) -> dict[object, float]:
    return {line.key: line.cost for line in costs.group(costs.slices([entry], usages, now), by)}


def test_a_job_pays_for_its_share_and_what_is_idle_is_nobodys() -> None:
    used = Usage(1, 7, 1000, 1.0, T0 + HOUR, T0 + 2 * HOUR)
    assert sums(bought(), used, by="job") == {7: 3.0, None: 21.0}
    assert sums(bought(), used, by="user") == {1000: 3.0, None: 21.0}
    assert sums(bought(), used, by="burst") == {"b1": 24.0}
    (line,) = costs.group(costs.slices([bought()], [used], T0 + DAY), "plugin")
    assert (line.key, line.node_hours, line.idle_node_hours) == ("cloud", 8.0, 7.0)
    assert line.idle_share == 7 / 8


def test_a_burst_over_midnight_costs_on_both_days() -> None:
    late = bought(since=T0 - HOUR, ended=T0 + 2 * HOUR)
    assert sums(late, by="day") == {"2023-11-14": 6.0, "2023-11-15": 12.0}


def test_a_burst_that_lives_costs_until_now_and_a_job_that_runs_too() -> None:
    used = Usage(1, 7, 1000, 2.0, T0, None)
    assert sums(bought(ended=None), used, by="job", now=T0 + HOUR) == {7: 6.0, None: 0.0}


def test_what_lies_before_the_time_asked_for_does_not_count() -> None:
    used = Usage(1, 7, 1000, 2.0, T0, T0 + 2 * HOUR)
    parts = list(costs.slices([bought()], [used], T0 + DAY, T0 + HOUR))
    assert costs.total(parts).cost == 18.0
    assert {line.key: line.cost for line in costs.group(parts, "job")} == {7: 6.0, None: 12.0}


def test_use_outside_of_the_burst_does_not_count() -> None:
    used = Usage(1, 7, 1000, 2.0, T0 - DAY, T0 + DAY)
    assert sums(bought(), used, by="job") == {7: 24.0, None: 0.0}


def test_jobs_that_had_more_than_there_was_pay_in_proportion() -> None:
    usages = [Usage(1, 7, 1000, 2.0, T0, None), Usage(1, 8, 1001, 1.0, T0, None)]
    found = sums(bought(), *usages, by="job")
    assert found == {7: pytest.approx(16.0), 8: pytest.approx(8.0), None: 0.0}


def test_what_never_came_up_costs_nothing() -> None:
    burst = Burst("b", "cloud", "node", 2, price=3.0, state=BurstState.FAILED)
    entry = Entry(1, burst, None, "", T0, ended=T0 + HOUR)
    assert list(costs.slices([entry], [], T0 + DAY)) == []


times = st.integers(-3 * 24 * 60, 3 * 24 * 60).map(lambda minutes: T0 + 60.0 * minutes)
lives = st.tuples(times, times).map(sorted)


@st.composite
def books(draw: st.DrawFn) -> tuple[list[Entry], list[Usage]]:
    entries = []
    for number in range(1, draw(st.integers(1, 4)) + 1):
        since, ended = draw(lives)
        entries.append(
            bought(
                number,
                draw(st.integers(0, 5)),
                draw(st.sampled_from([0.0, 0.1, 3.0])),
                since,
                draw(st.sampled_from([None, ended])),
                draw(st.sampled_from(["a", "b"])),
            )
        )
    usages = []
    for job in range(draw(st.integers(0, 8))):
        entry = draw(st.sampled_from(entries))
        started, ended = draw(lives)
        nodes = draw(st.floats(0, 6))
        end = draw(st.sampled_from([None, ended]))
        usages.append(Usage(entry.id, job, job % 2, nodes, started, end))
    return entries, usages


@given(books(), times, st.none() | times)
@settings(deadline=None)
def test_the_total_is_the_same_however_it_is_divided(
    book: tuple[list[Entry], list[Usage]], now: float, since: float | None
) -> None:
    entries, usages = book
    parts = list(costs.slices(entries, usages, now, -math.inf if since is None else since))
    total = costs.total(parts)
    assert all(part.node_hours >= -1e-9 for part in parts)
    for by in costs.GROUPINGS:
        lines = costs.group(parts, by)
        for field in ("cost", "node_hours", "idle_cost", "idle_node_hours"):
            divided = sum(getattr(line, field) for line in lines)
            assert divided == pytest.approx(getattr(total, field), abs=1e-6)
    if since is None:
        begun = [entry for entry in entries if entry.billed_from <= now]
        ended = [e for e in begun if e.ended is None or e.ended <= now]
        if len(ended) == len(begun):
            assert total.cost == pytest.approx(sum(e.cost(now) for e in begun), abs=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-11-15", T0),
        ("2023-11-15T01:00", T0 + HOUR),
        ("2023-11-15T01:00:00Z", T0 + HOUR),
        ("2023-11-15 02:00+01:00", T0 + HOUR),
        ("2d", T0 + 3 * DAY),
        ("90", T0 + 5 * DAY - 90),
    ],
)
def test_since_is_a_date_or_how_long_ago(text: str, expected: float) -> None:
    assert costs.parse_since(text, T0 + 5 * DAY) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2023-13-01", "-2d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="a date such as"):
        costs.parse_since(text, T0)
