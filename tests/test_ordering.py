from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxburst.errors import RequestError
from fluxburst.model.job import Job
from fluxburst.model.node import NodeType
from fluxburst.plugin.base import BurstParameters, BurstPlugin
from fluxburst.plugin.orderings import (
    ORDERINGS,
    Ordering,
    as_loaded,
    by_price,
    fewest_jobs,
    from_config,
    round_robin,
)


class Fake(BurstPlugin):
    def __init__(self, jobs: int = 0, types: Sequence[NodeType] = ()) -> None:
        super().__init__(BurstParameters())
        self.types = types
        self.jobs = {number: Job(id=number) for number in range(jobs)}

    def node_types(self) -> Sequence[NodeType]:
        return self.types


def priced(*cores_and_prices: tuple[int, float]) -> Fake:
    return Fake(types=[NodeType(f"t{c}-{p}", c, price=p) for c, p in cores_and_prices])


def names(ordering: Ordering, plugins: Mapping[str, BurstPlugin]) -> list[str]:
    answer = list(ordering(plugins))
    assert all(plugins[name] is plugin for name, plugin in answer)
    return [name for name, _ in answer]


def test_as_loaded_keeps_the_order_of_loading() -> None:
    assert names(as_loaded, {"c": Fake(9), "a": Fake(), "b": Fake(2)}) == ["c", "a", "b"]


def test_by_price_puts_the_cheapest_core_hour_first_and_unpriced_plugins_last() -> None:
    plugins = {
        "none": priced(),
        "dear": priced((1, 1.0)),
        "cheap": priced((1, 9.0), (100, 10.0)),
        "middle": priced((4, 2.0)),
    }
    assert names(by_price, plugins) == ["cheap", "middle", "dear", "none"]


def test_by_price_keeps_the_order_of_loading_where_prices_are_equal() -> None:
    plugins = {"b": priced((2, 2.0)), "a": priced((4, 4.0)), "c": priced((1, 1.0))}
    assert names(by_price, plugins) == ["b", "a", "c"]


def test_by_price_bears_a_type_without_cores() -> None:
    assert names(by_price, {"a": priced((0, 5.0)), "b": priced((1, 1.0))}) == ["b", "a"]


def test_fewest_jobs_puts_the_plugin_with_the_least_first() -> None:
    plugins = {"a": Fake(3), "b": Fake(0), "c": Fake(1), "d": Fake(0)}
    assert names(fewest_jobs, plugins) == ["b", "d", "c", "a"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5))
@settings(deadline=None)
def test_round_robin_starts_one_further_for_each_job_taken(jobs: list[int]) -> None:
    plugins = {str(number): Fake(count) for number, count in enumerate(jobs)}
    start = sum(jobs) % len(jobs)
    expected = [str((start + step) % len(jobs)) for step in range(len(jobs))]
    assert names(round_robin, plugins) == expected


def test_round_robin_deals_jobs_out_in_turn() -> None:
    plugins = {name: Fake() for name in "abc"}
    dealt = []
    for number in range(7):
        first = names(round_robin, plugins)[0]
        plugins[first].jobs[number] = Job(id=number)
        dealt.append(first)
    assert dealt == list("abcabca")


@pytest.mark.parametrize("name", ORDERINGS)
def test_an_ordering_offers_to_each_plugin_once(name: str) -> None:
    assert names(ORDERINGS[name], {}) == []
    plugins: dict[str, BurstPlugin] = {"a": Fake(2), "b": priced((1, 1.0)), "c": Fake(1)}
    assert sorted(names(ORDERINGS[name], plugins)) == ["a", "b", "c"]
    assert list(plugins) == ["a", "b", "c"]


def test_an_ordering_is_named_in_the_config() -> None:
    assert from_config("as_loaded") is as_loaded
    assert from_config("by_price") is by_price
    assert from_config("fewest_jobs") is fewest_jobs
    assert from_config("round_robin") is round_robin


@pytest.mark.parametrize("name", ["by_prise", "", "loaded", 5, None, [], ["by_price"], {}, True])
def test_an_ordering_that_is_not_known_is_refused_with_the_choices(name: object) -> None:
    with pytest.raises(RequestError) as caught:
        from_config(name)
    assert repr(name) in str(caught.value)
    assert all(known in str(caught.value) for known in ORDERINGS)


def test_the_nearest_ordering_is_suggested() -> None:
    with pytest.raises(RequestError, match="did you mean 'by_price'"):
        from_config("by_prise")
