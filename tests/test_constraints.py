from __future__ import annotations

import contextlib
import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support import at_most

from fluxburst.errors import FormatError, JobspecError
from fluxburst.formats.hostlist import (
    format_idset,
    hostlist_test,
    idset_test,
    parse_hostlist,
    parse_idset,
)
from fluxburst.model.constraints import ALL_ALIKE, ANYTHING, ConstraintBits, compiled, matches
from fluxburst.model.node import Node

unhurried = settings(deadline=None)

PROPERTIES = "abcd"
HOSTLISTS = ["n0", "n[1-3]", "n[2,4-5]", "lead,n[0-1]", "n[00-10]", "x[1-9]y", ""]
IDSETS = ["0", "1-3", "0,4-5", "[2-9]", ""]

some_nodes = st.builds(
    Node,
    rank=st.integers(0, 6),
    hostname=st.sampled_from(["lead", "n0", "n1", "n2", "n4", "n04", "x3y", "xy"]),
    cores=st.just(1),
    properties=st.frozensets(st.sampled_from(PROPERTIES)),
)


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=3)


properties = st.fixed_dictionaries(
    {"properties": some(st.sampled_from([*PROPERTIES, *(f"^{name}" for name in PROPERTIES)]))}
)
hostlists = st.fixed_dictionaries({"hostlist": some(st.sampled_from(HOSTLISTS))})
ranks = st.fixed_dictionaries({"ranks": some(st.sampled_from(IDSETS))})
rank_sets = st.fixed_dictionaries({"ranks": st.sampled_from(IDSETS).map(lambda ids: [ids])})
leaves = properties | hostlists | ranks


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.fixed_dictionaries({"and": some(inner)}),
        st.fixed_dictionaries({"or": some(inner)}),
        st.fixed_dictionaries({"not": inner.map(lambda constraint: [constraint])}),
    )


constraints = st.recursive(leaves, nested, max_leaves=6)
fluxs_constraints = st.recursive(properties | hostlists | rank_sets, nested, max_leaves=6)
"""Flux joins several idsets to one, which is malformed where they overlap."""


def on(node: Node, constraint: Any) -> bool:
    return matches(constraint, properties=node.properties, hostname=node.hostname, rank=node.rank)


# --- what the operators mean ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (None, True),
        ({}, True),
        ({"and": []}, True),
        ({"or": []}, True),
        ({"not": []}, False),
        ({"properties": []}, True),
        ({"hostlist": []}, False),
        ({"ranks": []}, False),
        ({"properties": ["xx"]}, True),
        ({"properties": ["^xx"]}, False),
        ({"properties": ["^zz"]}, True),
        ({"properties": ["xx", "yy"]}, True),
        ({"properties": ["xx", "zz"]}, False),
        ({"properties": ["xx", "^yy"]}, False),
        ({"properties": ["foo0"]}, False),
        ({"properties": ["x"]}, False),
        ({"properties": ["XX"]}, False),
        ({"and": [{"properties": ["xx"]}, {"properties": ["yy"]}]}, True),
        ({"and": [{"properties": ["xx"]}, {"properties": ["zz"]}]}, False),
        ({"or": [{"properties": ["zz"]}, {"properties": ["yy"]}]}, True),
        ({"or": [{"properties": ["zz"]}, {"properties": ["aa"]}]}, False),
        ({"not": [{"or": [{"properties": ["zz"]}, {"properties": ["yy"]}]}]}, False),
        ({"not": [{"properties": ["xx", "zz"]}]}, True),
        ({"hostlist": ["foo[0-2]"]}, True),
        ({"hostlist": ["foo[1-3]"]}, False),
        ({"hostlist": ["bar,foo0"]}, True),
        ({"hostlist": ["bar", "foo[0-1]"]}, True),
        ({"hostlist": ["foo[00-10]"]}, False),
        ({"not": [{"hostlist": ["foo0"]}]}, False),
        ({"ranks": ["0,2", "1"]}, True),
        ({"ranks": ["1-3"]}, False),
        ({"ranks": ["1-3", "0"]}, True),
        ({"properties": ["xx"], "ranks": ["0"]}, True),
        ({"properties": ["xx"], "ranks": ["1"]}, False),
    ],
    ids=json.dumps,
)
def test_an_operator_means_what_the_rfc_says(constraint: Any, expected: bool) -> None:
    # As flux-core's own tests have it: node foo0 of rank 0, with the properties xx and yy.
    assert matches(constraint, properties=("xx", "yy"), hostname="foo0", rank=0) is expected


@pytest.mark.parametrize("constraint", [{"hostlist": ["", "n[0-9]"]}, {"ranks": ["0-99"]}])
def test_what_host_and_rank_a_node_to_come_has_is_not_known(constraint: Any) -> None:
    for asked in (constraint, {"not": [constraint]}, {"not": [{"not": [constraint]}]}):
        assert not matches(asked, properties=())
        assert compiled(asked).may_match(())
        assert compiled(asked).names_nodes


@pytest.mark.parametrize(
    ("constraint", "sure", "possible"),
    [
        ({"or": [{"hostlist": ["n1"]}, {"properties": ["a"]}]}, True, True),
        ({"or": [{"hostlist": ["n1"]}, {"properties": ["b"]}]}, False, True),
        ({"and": [{"hostlist": ["n1"]}, {"properties": ["b"]}]}, False, False),
        ({"and": [{"not": [{"ranks": ["1"]}]}, {"properties": ["a"]}]}, False, True),
        ({"not": [{"and": [{"ranks": ["1"]}, {"properties": ["b"]}]}]}, True, True),
        ({"hostlist": []}, False, False),
        ({"not": [{"ranks": []}]}, True, True),
    ],
)
def test_what_is_not_known_matters_only_where_the_rest_leaves_it_open(
    constraint: Any, sure: bool, possible: bool
) -> None:
    assert matches(constraint, properties=["a"]) is sure
    assert compiled(constraint).may_match(["a"]) is possible


@given(constraints, some_nodes)
@unhurried
def test_what_is_sure_of_a_node_to_come_is_true_of_whichever_comes(
    constraint: Any, node: Node
) -> None:
    """Whatever its host and rank turn out to be."""
    there = matches(constraint, properties=node.properties, hostname=node.hostname, rank=node.rank)
    if matches(constraint, properties=node.properties):
        assert there
    if there:
        assert compiled(constraint).may_match(node.properties)


# --- laws ----------------------------------------------------------------------------------


@given(some_nodes, constraints)
@unhurried
def test_a_double_negation_changes_nothing(node: Node, constraint: Any) -> None:
    assert on(node, {"not": [{"not": [constraint]}]}) is on(node, constraint)
    assert on(node, {"not": [constraint]}) is not on(node, constraint)


@given(some_nodes, some(constraints))
@unhurried
def test_de_morgans_laws_hold(node: Node, several: list[Any]) -> None:
    denied = [{"not": [constraint]} for constraint in several]
    assert on(node, {"not": [{"and": several}]}) is on(node, {"or": denied})
    assert on(node, {"not": [{"or": several}]}) is on(node, {"and": denied})


@given(some_nodes, some(constraints))
@unhurried
def test_and_or_are_those_of_logic(node: Node, several: list[Any]) -> None:
    each = [on(node, constraint) for constraint in several]
    assert on(node, {"and": several}) is all(each)
    assert on(node, {"or": several}) is any(each)


@given(some_nodes, some(constraints))
@unhurried
def test_several_operators_are_their_conjunction(node: Node, several: list[Any]) -> None:
    together = {name: values for constraint in several for name, values in constraint.items()}
    each = [{name: values} for name, values in together.items()]
    assert on(node, together) is on(node, {"and": each})


@given(some_nodes, st.sampled_from(PROPERTIES))
@unhurried
def test_a_property_with_a_circumflex_is_its_negation(node: Node, name: str) -> None:
    plain = {"properties": [name]}
    assert on(node, plain) is (name in node.properties)
    assert on(node, {"properties": [f"^{name}"]}) is on(node, {"not": [plain]})


@given(some_nodes, leaves)
@unhurried
def test_properties_are_all_required_and_hosts_and_ranks_are_alternatives(
    node: Node, leaf: dict[str, list[str]]
) -> None:
    ((name, values),) = leaf.items()
    each = [on(node, {name: [value]}) for value in values]
    assert on(node, leaf) is (all(each) if name == "properties" else any(each))


@given(st.text("nx0123456789", max_size=5), some(st.sampled_from(HOSTLISTS)))
@unhurried
def test_a_host_matches_if_it_is_in_a_list(host: str, lists: list[str]) -> None:
    expanded = {name for text in lists for name in parse_hostlist(text)}
    assert matches({"hostlist": lists}, properties=(), hostname=host) is (host in expanded)
    for name in expanded:
        assert matches({"hostlist": lists}, properties=(), hostname=name)


@pytest.mark.parametrize("host", ["", "n", "n²", "n٣", "n-1", "n1-2", "n+1", "n" + "9" * 5000])
def test_a_host_without_a_number_is_in_no_range(host: str) -> None:
    assert not hostlist_test("n[0-99999]")(host)


@given(st.frozensets(st.integers(0, 40)), st.integers(0, 41))
@unhurried
def test_a_rank_matches_if_it_is_in_a_set(ids: frozenset[int], rank: int) -> None:
    text = format_idset(ids)
    assert idset_test(text)(rank) is (rank in parse_idset(text)) is (rank in ids)
    assert matches({"ranks": [text]}, properties=(), rank=rank) is (rank in ids)


@given(
    st.sampled_from(["n", "", "7", "a-"]),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 20), st.integers(1, 4)), max_size=3),
    st.sampled_from(["", "x", "1", "-ib"]),
    st.from_regex(r"(n|a-|7|)[0-9]{0,4}(x|1|-ib|)", fullmatch=True),
)
@example("n", [(9, 2, 1)], "", "n010")
@unhurried
def test_hosts_that_are_not_expanded_are_the_same(
    prefix: str, ranges: list[tuple[int, int, int]], suffix: str, host: str
) -> None:
    inside = ",".join(f"{a:0{width}d}-{a + b:0{width}d}" for a, b, width in ranges)
    text = f"lead,{prefix}[{inside}]{suffix}" if ranges else "lead"
    expanded = parse_hostlist(text)
    assert hostlist_test(text)(host) is (host in expanded)
    assert all(map(hostlist_test(text), expanded))


@given(st.text("n[]0123,- ", max_size=8))
@unhurried
def test_what_is_not_expanded_is_refused_just_as_well(text: str) -> None:
    for read, test in ((parse_hostlist, hostlist_test), (parse_idset, idset_test)):
        try:
            read(text)
        except FormatError:
            with pytest.raises(FormatError):
                test(text)
        else:
            test(text)


@given(st.lists(some_nodes, min_size=1, max_size=5), fluxs_constraints)
@settings(unhurried, max_examples=100)
def test_a_constraint_matches_as_it_does_in_flux(nodes: list[Node], constraint: Any) -> None:
    resource = pytest.importorskip("flux.resource")
    execution = {
        "R_lite": [{"rank": format_idset(range(len(nodes))), "children": {"core": "0"}}],
        "nodelist": [node.hostname for node in nodes],
        "properties": {
            name: format_idset(n for n, node in enumerate(nodes) if name in node.properties)
            for name in PROPERTIES
            if any(name in node.properties for node in nodes)
        },
    }
    rset = resource.ResourceSet({"version": 1, "execution": execution})
    chosen = rset.copy_constraint(json.dumps(constraint)).ranks
    assert list(chosen) == [
        rank
        for rank, node in enumerate(nodes)
        if matches(constraint, properties=node.properties, hostname=node.hostname, rank=rank)
    ]


# --- what is malformed ---------------------------------------------------------------------


def deep(levels: int) -> dict[str, Any]:
    constraint: dict[str, Any] = {}
    for _ in range(levels):
        constraint = {"and": [constraint]}
    return constraint


@pytest.mark.parametrize(
    ("constraint", "problem"),
    [
        ([], "[] is not an object"),
        ("gpu", "'gpu' is not an object"),
        (0, "0 is not an object"),
        ({"property": ["a"]}, "'property' is not an operator; did you mean 'properties'?"),
        ({"host": ["a"]}, "'host' is not an operator"),
        ({"properties": "gpu"}, "'properties' needs a list, not 'gpu'"),
        ({"and": {"properties": ["a"]}}, "'and' needs a list"),
        ({"ranks": None}, "'ranks' needs a list, not None"),
        ({"properties": ["a", 42]}, "'properties' lists 42, which is not a text"),
        ({"ranks": [0]}, "'ranks' lists 0, which is not a text"),
        ({"properties": ["bar&"]}, "'properties': 'bar&' is not a property (RFC 20)"),
        ({"hostlist": ["foo0-10]"]}, "'hostlist': 'foo0-10]' is not a hostlist (RFC 29)"),
        ({"ranks": ["5,1-3"]}, "'ranks': '5,1-3' is not an idset (RFC 22)"),
        ({"or": ["gpu"]}, "'gpu' is not an object"),
        ({"not": [{"foo": []}]}, "'foo' is not an operator"),
        ({"not": [{}, {}]}, "'not' takes one value, not 2"),
        ({"properties": ["a"], "x": []}, "'x' is not an operator"),
        ({"properties": {1, 2}}, "not JSON"),
        ({("a",): []}, "not JSON"),
        (deep(64), "nested too deeply"),
        (deep(100_000), "nested too deeply"),
    ],
    ids=lambda value: str(value)[:40] if not isinstance(value, dict) else "",
)
def test_what_is_malformed_is_a_jobspec_error_that_says_why(constraint: Any, problem: str) -> None:
    with pytest.raises(JobspecError) as caught:
        compiled(constraint, 7)
    assert caught.value.job == 7
    assert str(caught.value).startswith("job 7: jobspec: constraints: ")
    assert problem in str(caught.value)
    with pytest.raises(JobspecError, match=r"^jobspec: constraints: "):
        matches(constraint, properties=())


names = st.sampled_from(["properties", "hostlist", "ranks", "and", "or", "not", "x", ""])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("a^0-9[],&", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=2),
    max_leaves=8,
)


@given(anything, some_nodes)
@settings(unhurried, max_examples=150)
def test_any_value_is_a_constraint_or_a_jobspec_error(constraint: Any, node: Node) -> None:
    with contextlib.suppress(JobspecError):
        assert on(node, constraint) in (True, False)


@pytest.mark.parametrize(
    "constraint",
    [
        {"ranks": ["0-999999999999", f"7-{10**17}"] * 50},
        {"hostlist": ["n[0-999999999999]"] * 50},
    ],
)
def test_a_huge_range_costs_nothing(constraint: Any) -> None:
    with at_most(0.5):
        assert matches(constraint, properties=(), hostname="n12345678", rank=12345678)
        assert not matches(constraint, properties=(), hostname="m12345678", rank=10**18)


def test_what_may_be_nested_so_deeply_can_be_asked_from_anywhere() -> None:
    assert matches(deep(63), properties=())


# --- reading once, and telling nodes apart -------------------------------------------------


def test_a_constraint_is_read_once() -> None:
    first = compiled({"properties": ["read", "once"]})
    assert compiled({"properties": ["read", "once"]}, 5) is first
    assert compiled(MappingProxyType({"properties": ["read", "once"]})) is first
    assert compiled({"properties": ["once"]}) is not first


@pytest.mark.parametrize("nothing", [None, {}, MappingProxyType({})])
def test_no_constraint_is_the_one_that_matches_anything(nothing: Any) -> None:
    assert compiled(nothing) is ANYTHING
    assert ANYTHING.matches(properties=())
    assert ALL_ALIKE.required_bits(ANYTHING) == 0
    assert ALL_ALIKE.of({"a"}, "n0", 0) == 0


def test_a_constraint_does_not_change_with_what_it_was_read_from() -> None:
    source: dict[str, Any] = {"properties": ["a"]}
    constraint = compiled(source)
    source["properties"].append("b")
    assert constraint.matches(properties={"a"})
    assert not compiled(source).matches(properties={"a"})


@given(st.lists(constraints, max_size=5), some_nodes)
@unhurried
def test_the_kind_of_a_node_says_which_constraints_it_matches(
    several: list[Any], node: Node
) -> None:
    read = [compiled(constraint) for constraint in several]
    kinds = ConstraintBits([*read, ANYTHING])
    kind = kinds.of(node.properties, node.hostname, node.rank)
    for constraint, source in zip(read, several, strict=True):
        wanted = kinds.required_bits(constraint)
        assert wanted > 0
        assert (kind & wanted == wanted) is on(node, source)
    assert kinds.required_bits(ANYTHING) == 0


def test_a_constraint_that_nodes_are_not_told_apart_by_cannot_be_asked_for() -> None:
    with pytest.raises(KeyError):
        ConstraintBits([compiled({"ranks": ["1"]})]).required_bits(compiled({"ranks": ["2"]}))
