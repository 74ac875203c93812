from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fluxburst.errors import FormatError
from fluxburst.flux.resources import (
    RankResources,
    nodes_from_status,
    parse_r,
    properties_of,
    status_from_nodes,
)
from fluxburst.model.node import Node

unhurried = settings(deadline=None)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def rset(*entries: tuple[str, str, str], hosts: list[str], **more: Any) -> dict[str, Any]:
    lite = [
        {"rank": rank, "children": {"core": cores, **({"gpu": gpus} if gpus else {})}}
        for rank, cores, gpus in entries
    ]
    execution = {"R_lite": lite, "nodelist": hosts, "starttime": 0.0, "expiration": 0.0, **more}
    return {"version": 1, "execution": execution}


NOTHING = rset(hosts=[""])


def status(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    everything = rset(("0-3", "0-7", "0-1"), hosts=["lead,burst[0-2]"])
    resource = {"offline": "", "exclude": "", "drain": {}}
    sched = {"all": everything, "allocated": NOTHING, "down": NOTHING}
    for key, value in changes.items():
        (resource if key in resource else sched)[key] = value
    return resource, sched


def test_an_r_gives_each_rank_its_host_and_its_cores_and_gpus() -> None:
    parsed = parse_r(rset(("0-1", "0-3", "0"), ("4", "2,5", ""), hosts=["a", "b[7-8]"]))
    assert parsed == {
        0: RankResources("a", frozenset({0, 1, 2, 3}), frozenset({0})),
        1: RankResources("b7", frozenset({0, 1, 2, 3}), frozenset({0})),
        4: RankResources("b8", frozenset({2, 5}), frozenset()),
    }


def test_hosts_belong_to_ranks_in_ascending_order_as_flux_assigns_them() -> None:
    parsed = parse_r(rset(("3", "0", ""), ("0-1", "0", ""), hosts=["a", "b", "c"]))
    assert {rank: has.hostname for rank, has in parsed.items()} == {0: "a", 1: "b", 3: "c"}


def test_an_empty_r_gives_nothing() -> None:
    assert parse_r(NOTHING) == {}


@pytest.mark.parametrize(
    "value",
    [
        None, 5, "R", [], {}, {"version": 1}, {"execution": None}, {"execution": {}},
        {"execution": {"R_lite": []}}, {"execution": {"R_lite": None, "nodelist": []}},
        {"execution": {"R_lite": [5], "nodelist": ["a"]}},
        {"execution": {"R_lite": [{"rank": "0"}], "nodelist": ["a"]}},
        {"execution": {"R_lite": [{"children": {}}], "nodelist": ["a"]}},
        {"execution": {"R_lite": [{"rank": "0", "children": {"core": 3}}], "nodelist": ["a"]}},
        rset(("x", "0", ""), hosts=["a"]), rset(("0", "0-", ""), hosts=["a"]),
        rset(("0", "0", ""), hosts=["a["]), rset(("0-3", "0", ""), hosts=["a", "b"]),
        rset(("0", "0", ""), hosts=[]),
    ],
)  # fmt: skip
def test_what_is_not_an_r_is_refused(value: object) -> None:
    with pytest.raises(FormatError):
        parse_r(value)


rank_entries = st.fixed_dictionaries({"rank": json_values, "children": json_values})
almost_r = st.builds(
    lambda lite, hosts: {"execution": {"R_lite": lite, "nodelist": hosts}},
    json_values | st.lists(rank_entries, max_size=3),
    json_values | st.lists(st.text("ab[0-3],", max_size=6), max_size=3),
)


@given(json_values | st.fixed_dictionaries({"execution": json_values}) | almost_r)
@unhurried
def test_any_json_is_an_r_or_a_format_error(value: object) -> None:
    try:
        parsed = parse_r(value)
    except FormatError:
        return
    assert all(type(rank) is int for rank in parsed)


def test_properties_are_given_to_each_of_their_ranks() -> None:
    value = rset(("0-2", "0", ""), hosts=["a[0-2]"], properties={"gpu": "0-1", "fast": "1"})
    assert properties_of(value) == {0: frozenset({"gpu"}), 1: frozenset({"gpu", "fast"})}
    assert properties_of(rset(("0", "0", ""), hosts=["a"])) == {}


def test_nodes_know_what_they_have_and_what_is_free() -> None:
    allocated = rset(("1", "0-2", "1"), ("2", "0-7", "0-1"), hosts=["burst[0-1]"])
    nodes = nodes_from_status(*status(allocated=allocated))
    assert [(n.rank, n.hostname, n.cores, n.gpus, n.free_cores, n.free_gpus) for n in nodes] == [
        (0, "lead", 8, 2, 8, 2),
        (1, "burst0", 8, 2, 5, 1),
        (2, "burst1", 8, 2, 0, 0),
        (3, "burst2", 8, 2, 8, 2),
    ]
    assert [node.idle for node in nodes] == [True, False, False, True]


def test_nodes_that_are_offline_are_not_up_and_those_kept_from_jobs_are_not_usable() -> None:
    nodes = nodes_from_status(
        *status(offline="1", down=rset(("2", "0-7", "0-1"), hosts=["burst1"]))
    )
    assert [node.up for node in nodes] == [True, False, True, True]
    assert [node.usable for node in nodes] == [True, False, False, True]


def test_nodes_that_are_drained_or_excluded_are_set_aside() -> None:
    nodes = nodes_from_status(*status(drain={"1-2": {"reason": "disk"}}, exclude="0"))
    assert [node.drained for node in nodes] == [True, True, True, False]
    assert [node.usable for node in nodes] == [False, False, False, True]
    assert all(node.up for node in nodes)


@pytest.mark.parametrize(
    "changes",
    [{"offline": 5}, {"offline": "x"}, {"drain": [5]}, {"drain": {"x": {}}}, {"exclude": "1-"},
     {"all": None}, {"allocated": {}}, {"down": []}, {"all": rset(("0", "", ""), hosts=["a"],
     properties=5)}, {"all": rset(("0", "0", ""), hosts=["a"], properties={"p": 5})}],
)  # fmt: skip
def test_a_malformed_status_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        nodes_from_status(*status(**changes))


@st.composite
def node_lists(draw: st.DrawFn) -> tuple[Node, ...]:
    nodes = []
    for rank in sorted(draw(st.sets(st.integers(0, 40), max_size=5))):
        cores, gpus = draw(st.integers(0, 6)), draw(st.integers(0, 3))
        nodes.append(
            Node(
                rank=rank,
                hostname=f"n{draw(st.integers(0, 12)):02d}",
                cores=cores,
                gpus=gpus,
                free_cores=draw(st.integers(0, cores)),
                free_gpus=draw(st.integers(0, gpus)),
                up=draw(st.booleans()),
                drained=draw(st.booleans()),
                properties=frozenset(draw(st.sets(st.sampled_from(["a", "b"])))),
            )
        )
    return tuple(nodes)


@given(node_lists())
@unhurried
def test_nodes_written_as_a_status_are_read_back(nodes: tuple[Node, ...]) -> None:
    answers = json.loads(json.dumps(status_from_nodes(nodes)))
    read = nodes_from_status(answers["resource.status"], answers["sched.resource-status"])
    assert read == nodes


@given(node_lists())
@example((Node(1, "b", 1), Node(0, "a", 1)))
@unhurried
def test_nodes_in_any_order_keep_their_hostnames(nodes: tuple[Node, ...]) -> None:
    answers = status_from_nodes(tuple(reversed(nodes)))
    read = nodes_from_status(answers["resource.status"], answers["sched.resource-status"])
    assert {node.rank: node.hostname for node in read} == {n.rank: n.hostname for n in nodes}


def test_ranks_and_counts_agree_with_those_of_flux() -> None:
    resource = pytest.importorskip("flux.resource")
    value = rset(("3", "0", ""), ("0-1", "0-3", "0-1"), hosts=["c,n[1-2]"])
    theirs, ours = resource.ResourceSet(value), parse_r(value)
    assert [has.hostname for _, has in sorted(ours.items())] == list(theirs.nodelist)
    assert sum(len(has.cores) for has in ours.values()) == theirs.ncores
    assert sum(len(has.gpus) for has in ours.values()) == theirs.ngpus
