from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fluxburst.errors import JobspecError
from fluxburst.model.job import Job
from fluxburst.model.jobspec import (
    Chunk,
    Details,
    chunks_of,
    minimum_count,
    resource_counts,
    resources_of,
    task_count,
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

Vertex = dict[str, Any]
GB = 10**9


def vertex(kind: str, count: Any, *children: Vertex, **more: Any) -> Vertex:
    below = {"with": list(children)} if children else {}
    return {"type": kind, "count": count, **more, **below}


def slot(count: Any, *children: Vertex, label: str = "default", **more: Any) -> Vertex:
    return vertex("slot", count, *children, label=label, **more)


def task(label: str = "default", **count: Any) -> dict[str, Any]:
    return {"command": ["app"], "slot": label, "count": count}


def spec(*resources: Vertex, tasks: Any = (), **system: Any) -> dict[str, Any]:
    return {
        "version": 999,
        "resources": list(resources),
        "tasks": list(tasks) or [task(per_slot=1)],
        "attributes": {"system": {"duration": 3600.0, **system}},
    }


# --- the use cases of RFC 14 and RFC 25, counted by hand -----------------------------------


@dataclass(frozen=True)
class Asked:
    nodes: int | None
    cores: int
    tasks: int
    gpus: int = 0
    memory: int = 0
    exclusive: bool = False


def node(count: Any, *children: Vertex, **more: Any) -> Vertex:
    return vertex("node", count, *children, **more)


def core(count: Any) -> Vertex:
    return vertex("core", count)


def gpu(count: Any) -> Vertex:
    return vertex("gpu", count)


def memory(count: Any, unit: str) -> Vertex:
    return vertex("memory", count, unit=unit)


USE_CASES = {
    "14: 1.1": (
        spec(slot(4, node(1))),
        Asked(nodes=4, cores=0, tasks=4, exclusive=True),
    ),
    "14: 1.2": (
        spec(slot({"min": 3, "max": 30, "operator": "+", "operand": 1}, node(1))),
        Asked(nodes=3, cores=0, tasks=3, exclusive=True),
    ),
    "14: 1.3": (
        spec(
            slot(
                4,
                node(1, vertex("socket", {"min": 2}, core({"min": 4})), exclusive=False),
                label="nodelevel",
            ),
            tasks=[task("nodelevel", per_slot=1)],
        ),
        Asked(nodes=4, cores=32, tasks=4),
    ),
    "14: 1.4": (
        spec(
            slot(4, node(1, vertex("socket", 2, core(4))), label="nodelevel"),
            tasks=[task("nodelevel", per_slot=1)],
        ),
        Asked(nodes=4, cores=32, tasks=4, exclusive=True),
    ),
    "14: 1.5": (
        spec(
            vertex(
                "cluster",
                1,
                slot(2, node(1, memory(4, "GB"), vertex("ib10g", 1)), label="ib"),
            ),
            vertex("switch", 1, slot(2, node(1, core(2)), label="bicore")),
            tasks=[task("ib", per_slot=1), task("bicore", per_slot=1)],
        ),
        Asked(nodes=4, cores=4, tasks=4, memory=8 * GB, exclusive=True),
    ),
    "14: 1.6": (
        spec(
            vertex("cluster", 2, slot(1, node({"min": 1}, core(30), exclusive=False))),
            tasks=[task(per_resource={"type": "node", "count": 1})],
        ),
        Asked(nodes=2, cores=60, tasks=2),
    ),
    "14: 1.7": (
        spec(
            vertex("switch", 3, slot(1, node({"min": 1}, core(1), exclusive=False))),
            tasks=[task(per_resource={"type": "node", "count": 1})],
        ),
        Asked(nodes=3, cores=3, tasks=3),
    ),
    "14: 1.8": (
        spec(slot("4,9,16,25", node(1))),
        Asked(nodes=4, cores=0, tasks=4, exclusive=True),
    ),
    "14: 2.1": (
        spec(slot(4, node(1)), tasks=[task(per_slot=5)]),
        Asked(nodes=4, cores=0, tasks=20, exclusive=True),
    ),
    "14: 2.2": (
        spec(slot(4, node(1), label="myslot"), tasks=[task("myslot", total=5)]),
        Asked(nodes=4, cores=0, tasks=5, exclusive=True),
    ),
    "14: 2.3": (
        spec(slot(10, core(2))),
        Asked(nodes=None, cores=20, tasks=10),
    ),
    "14: 2.4": (
        spec(
            node(
                1,
                slot(10, core(1), memory(4, "GB"), label="read-db"),
                slot(1, core(6), memory(24, "GB"), label="db"),
            ),
            tasks=[task("read-db", per_slot=1), task("db", per_slot=1)],
        ),
        Asked(nodes=1, cores=16, tasks=11, memory=64 * GB),
    ),
    "14: 2.5": (
        spec(slot(10, memory({"min": 2}, "GB"), core(1))),
        Asked(nodes=None, cores=10, tasks=10, memory=20 * GB),
    ),
    "14: 2.6": (
        spec(
            slot(2, node(1, memory({"min": 4}, "GB")), label="4GB-node"),
            tasks=[task("4GB-node", total=10)],
        ),
        Asked(nodes=2, cores=0, tasks=10, memory=8 * GB, exclusive=True),
    ),
    "14: 2.7": (
        spec(
            slot(1, node(1)),
            tasks=[
                task(per_slot=1),
                {**task(per_slot=1), "attributes": {"environment": {"FOO": None, "BAR": "2"}}},
            ],
        ),
        Asked(nodes=1, cores=0, tasks=2, exclusive=True),
    ),
    "14: 2.8": (
        spec(
            slot(1, node(1)),
            dependencies=[
                {"type": "in", "scope": "user", "scheme": "string", "value": "foo"},
                {"type": "out", "scope": "user", "scheme": "string", "value": "bar"},
            ],
        ),
        Asked(nodes=1, cores=0, tasks=1, exclusive=True),
    ),
    "14: 2.9": (
        spec(slot(1, node(1)), constraints={"properties": ["amd-mi50"]}),
        Asked(nodes=1, cores=0, tasks=1, exclusive=True),
    ),
    "14: example 1": (
        spec(node(4, slot(1, core(2)))),
        Asked(nodes=4, cores=8, tasks=4),
    ),
    "14: example 2": (
        spec(slot(4, node(1))),
        Asked(nodes=4, cores=0, tasks=4, exclusive=True),
    ),
    "25: 1.1": (
        spec(node(4, slot(1, core(1)))),
        Asked(nodes=4, cores=4, tasks=4),
    ),
    "25: 2.1": (
        spec(node(4, slot(1, core(1), label="myslot")), tasks=[task("myslot", total=5)]),
        Asked(nodes=4, cores=4, tasks=5),
    ),
    "25: 2.3": (
        spec(slot(10, core(2), gpu(1))),
        Asked(nodes=None, cores=20, tasks=10, gpus=10),
    ),
    "25: 2.4": (
        spec(node(4, slot(4, core(1), gpu(1)))),
        Asked(nodes=4, cores=16, tasks=16, gpus=16),
    ),
}


@pytest.mark.parametrize("case", USE_CASES)
def test_the_use_cases_of_rfc_14_and_25_are_counted_as_by_hand(case: str) -> None:
    jobspec, asked = USE_CASES[case]
    job = Job(id=1, spec=jobspec)
    counted = Asked(job.nodes, job.cores, job.tasks, job.gpus, job.memory, job.exclusive)
    assert counted == asked


# --- counts in every notation --------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "minimum"),
    [
        (1, 1), (4, 4), (10**9, 10**9),
        ({"min": 2}, 2), ({"min": 2, "max": 8}, 2), ({"min": 3, "max": 3}, 3),
        ({"min": 2, "max": 16, "operator": "*", "operand": 2}, 2),
        ({"min": 2, "max": 256, "operator": "^", "operand": 2}, 2),
        ("5", 5), ("2,4", 2), ("4,9,16,25", 4), ("2-8", 2), ("3-5,9", 3), ("[2,4]", 2),
        ("2+", 2), ("[2+]", 2), ("100+", 100), ("2+:2:*", 2), ("2+:3", 2), ("2+:2:^", 2),
        ("1-5:2:+", 1), ("1-5:2", 1), ("2-8:2:*", 2), ("[1-4:2:*]", 1), ("2-256:2:^", 2),
        (" 2-8 ", 2), ("1-100000", 1),
    ],
)  # fmt: skip
def test_the_smallest_acceptable_number_counts(count: object, minimum: int) -> None:
    assert minimum_count(count) == minimum


@pytest.mark.parametrize("count", ["1-5000000", "2,4-2000000"])
def test_a_wide_range_is_a_count(count: str) -> None:
    assert minimum_count(count) == int(count[0])


NOT_COUNTS: list[object] = [
    None, True, False, 1.0, 2.5, -1, [], [1], {}, {"max": 3}, {"min": 0}, {"min": -1},
    {"min": True}, {"min": "2"}, {"min": 1.0}, {"min": None}, "", " ", "0", "[]", "0,2", "0-3",
    "0+", "-1", "+", "-", ":", "2-", "2-1", "2,", "two", "2.0", "[2", "2]", "2+5", "-3+", "x+",
    ":2", "٣", "1" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("count", NOT_COUNTS, ids=lambda count: repr(count)[:20])
def test_what_is_not_a_count_is_refused(count: object) -> None:
    with pytest.raises(JobspecError):
        minimum_count(count)


LAX_COUNTS: list[object] = [
    "8-2:2", "2-x:3", "2:3", "2:", "2-8:", "2-8:0", "2-8:x", "2-8:2:%", "2-8:1:*", "1-8:2:^",
    "2-8:2:*:4", "2+-", "2+:0", "1_0+", "+3+", "02", "02+", "02-8:2", "5,2", "3,3",
    {"min": 2, "max": 1}, {"min": 2, "max": "x"}, {"min": 2, "max": None},
    {"min": 2, "max": 8, "operator": "%", "operand": 2},
    {"min": 2, "max": 8, "operator": "*", "operand": 1},
    {"min": 1, "max": 8, "operator": "^", "operand": 2},
    {"min": 2, "operator": "*"}, {"min": 2, "operand": 2}, {"min": 2, "maximum": 8},
]  # fmt: skip


@pytest.mark.parametrize("count", LAX_COUNTS, ids=repr)
def test_a_range_that_breaks_rfc_14_or_45_is_refused(count: object) -> None:
    with pytest.raises(JobspecError):
        minimum_count(count)


def test_a_count_of_zero_is_none_of_it() -> None:
    # RFC 14 asks for a positive integer, but Flux accepts jobs with none of a resource.
    assert minimum_count(0) == 0


@st.composite
def counts(draw: st.DrawFn, largest: int = 3) -> tuple[Any, int]:
    # A count in any notation, and its minimum.
    low = draw(st.integers(1, largest))
    high = low + draw(st.integers(1, 9))
    step = draw(st.integers(2, 3))
    operator = draw(st.sampled_from("+*" if low < 2 else "+*^"))
    forms: list[Any] = [
        low, str(low), {"min": low}, {"min": low, "max": high},
        {"min": low, "max": high, "operator": operator, "operand": step},
        f"{low}-{high}", f"{low},{high + 1}", f"{low}-{high},{high + 5}", f"{low}+",
        f"{low}-{high}:{step}", f"{low}-{high}:{step}:{operator}", f"{low}+:1:+",
    ]  # fmt: skip
    form = draw(st.sampled_from(forms))
    if isinstance(form, str) and draw(st.booleans()):
        form = f"[{form}]"
    return form, low


@given(counts(largest=1000))
@unhurried
def test_counts_agree_with_those_of_flux(count: tuple[Any, int]) -> None:
    theirs = pytest.importorskip("flux.resource.ResourceCount").ResourceCount
    assert minimum_count(count[0]) == theirs.from_count_spec(count[0]).min == count[1]


# --- whole jobspecs, against a counter that walks every single resource ---------------------


@st.composite
def leaves(draw: st.DrawFn) -> list[tuple[Vertex, int]]:
    found = []
    for kind in draw(st.lists(st.sampled_from(["core", "gpu", "memory", "ssd"]), max_size=3)):
        count, low = draw(counts())
        unit = {"unit": draw(st.sampled_from(["B", "KB", "MiB", "GB"]))} if kind == "memory" else {}
        found.append((vertex(kind, count, **unit), low))
    return found


Tree = tuple[Vertex, int, list[Any]]


@st.composite
def trees(draw: st.DrawFn, allowed: tuple[str, ...] = ("rack", "slot", "node", "socket")) -> Tree:
    # A vertex, the minimum of its count, and the same of everything below it.
    kind = draw(st.sampled_from(allowed))
    ranks: dict[str, tuple[str, ...]] = {
        "rack": ("rack", "slot", "node"),
        "slot": ("node", "socket"),
        "node": ("slot", "socket"),
        "socket": (),
    }
    below = tuple(k for k in ranks[kind] if k in allowed)
    children: list[Any] = [(leaf, low, []) for leaf, low in draw(leaves())]
    nested = draw(st.booleans())
    if below and nested:
        children += draw(st.lists(trees(below), min_size=1, max_size=2))
    if not children:
        children = [(core(1), 1, [])]
    count, low = draw(counts())
    made = vertex(kind, count, *(child for child, _, _ in children))
    if kind == "node" and draw(st.booleans()):
        made["exclusive"] = draw(st.booleans())
    if kind == "slot":
        made["label"] = draw(st.sampled_from("abc"))
    return made, low, children


class Naive:
    # Walks one by one through everything that the smallest allocation would hold.
    def __init__(self, forest: list[Tree]) -> None:
        self.found: Counter[str] = Counter()
        self.memory = 0
        self.slots: Counter[str] = Counter()
        self.in_slots: Counter[tuple[str, str]] = Counter()
        self.exclusive = False
        for tree in forest:
            self.walk(tree, None)

    def walk(self, tree: Tree, label: str | None) -> None:
        made, low, children = tree
        for _ in range(low):
            self.found[made["type"]] += 1
            if label is not None:
                self.in_slots[label, made["type"]] += 1
            if made["type"] == "memory":
                powers = {"B": 1, "KB": 1000, "MiB": 1024 * 1024, "GB": 1000 * 1000 * 1000}
                self.memory += powers[made["unit"]]
            if made["type"] == "node" and made.get("exclusive", label is not None):
                self.exclusive = True
            if made["type"] == "slot":
                self.slots[made["label"]] += 1
            for child in children:
                self.walk(child, made.get("label", label) if made["type"] == "slot" else label)


forests = st.lists(trees(), min_size=1, max_size=2)


@given(forests)
@unhurried
def test_what_a_jobspec_asks_for_agrees_with_a_naive_count(forest: list[Tree]) -> None:
    naive = Naive(forest)
    job = Job(id=1, spec=spec(*(tree[0] for tree in forest)))
    assert resource_counts(job.spec) == {k: n for k, n in naive.found.items() if n}
    assert job.nodes == (naive.found["node"] or None)
    assert job.cores == naive.found["core"]
    assert job.gpus == naive.found["gpu"]
    assert job.memory == naive.memory
    assert job.exclusive == naive.exclusive


@given(forests, st.integers(1, 4), st.sampled_from("abc"), st.sampled_from("ab"))
@unhurried
def test_tasks_agree_with_a_naive_count(
    forest: list[Tree], each: int, first: str, second: str
) -> None:
    naive = Naive(forest)
    resources = [tree[0] for tree in forest]
    assume(naive.in_slots[second, "core"] or second not in naive.slots)
    tasks = [
        task(first, per_slot=each),
        task(second, per_resource={"type": "core", "count": each}),
        task(first, total=each + 7),
    ]
    expected = [
        naive.slots[first] * each,
        naive.in_slots[second, "core"] * each,
        each + 7,
    ]
    present = {"a", "b", "c"} & set(naive.slots)
    for one, number in zip(tasks, expected, strict=True):
        if one["slot"] in present:
            assert task_count(spec(*resources, tasks=[one])) == number
    if {first, second} <= present:
        assert task_count(spec(*resources, tasks=tasks)) == sum(expected)


def fixed(tree: Tree) -> Vertex:
    made, low, children = tree
    below = {"with": [fixed(child) for child in children]} if children else {}
    return {**{k: v for k, v in made.items() if k != "with"}, "count": low, **below}


@given(forests)
@unhurried
def test_fixed_counts_agree_with_those_of_flux(forest: list[Tree]) -> None:
    job = pytest.importorskip("flux.job")
    resources = [fixed(tree) for tree in forest]
    label = next(iter(Naive(forest).slots), "default")
    theirs = job.Jobspec(resources, [task(label, per_slot=1)], attributes={}, version=999)
    assert resource_counts({"resources": resources}) == dict(theirs.resource_counts())


def test_the_parts_of_a_request_say_what_needs_a_node_of_its_own() -> None:
    assert chunks_of(spec(slot(3, core(2), gpu(1)), node(2, slot(4, core(1)), exclusive=True))) == (
        Chunk(3, 2, gpus=1),
        Chunk(2, 4, node=True, exclusive=True),
    )


def test_a_slot_that_holds_nodes_asks_for_nodes() -> None:
    in_slots = Details(outer_slots=3, implied=True)
    assert chunks_of(spec(slot(3, node(2, core(8))))) == (
        Chunk(6, 8, node=True, exclusive=True, details=in_slots),
    )


def test_resources_outside_of_slots_and_nodes_are_asked_for_one_by_one() -> None:
    assert chunks_of(spec(core(4), gpu("2+"), memory(3, "GB"))) == (
        Chunk(4, 1),
        Chunk(2, 0, gpus=1),
        Chunk(1, 0, memory=3 * GB),
    )


def test_memory_below_slots_and_sockets_is_multiplied() -> None:
    job = Job(id=1, spec=spec(node(2, vertex("socket", 2, slot(3, core(1), memory(5, "MiB"))))))
    assert (job.nodes, job.cores, job.memory) == (2, 12, 60 * 2**20)


def test_memory_of_each_core_outside_of_a_slot_is_counted() -> None:
    job = Job(id=1, spec=spec(vertex("core", 4, memory(2, "GB"))))
    assert (job.cores, job.memory) == (4, 8 * GB)


# --- malformed jobspecs --------------------------------------------------------------------


FUNCTIONS: list[Callable[[object], object]] = [
    chunks_of, resource_counts, task_count, resources_of,
]  # fmt: skip


@pytest.mark.parametrize(
    ("jobspec", "problem"),
    [
        (None, "missing or not an object"), ([], "missing or not an object"),
        ("x", "missing or not an object"), ({}, "lacks 'resources'"),
        ({"resources": None}, "lacks 'resources'"), ({"resources": []}, "lacks 'resources'"),
        ({"resources": {"type": "node"}}, "not a list"), ({"resources": "node"}, "not a list"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_jobspec_without_resources_is_refused(
    function: Callable[[object], object], jobspec: object, problem: str
) -> None:
    with pytest.raises(JobspecError, match=problem):
        function(jobspec)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (5, "not a resource with a type"), ("core", "not a resource with a type"),
        ({}, "not a resource with a type"), ({"count": 1}, "not a resource with a type"),
        ({"type": 5, "count": 1}, "not a resource with a type"),
        ({"type": "core"}, "'core' lacks a count"),
        ({"type": "core", "count": "many"}, "'many' is not a count"),
        ({"type": "socket", "count": 1, "with": {}}, "'with' is not a list"),
        ({"type": "socket", "count": 1, "with": None}, "'with' is not a list"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("function", [chunks_of, resource_counts])
def test_a_malformed_resource_is_refused_at_the_top_and_in_a_node(
    function: Callable[[object], object], bad: object, problem: str
) -> None:
    for resources in ([bad], [vertex("node", 1, bad)], [vertex("rack", 1, core(1), bad)]):  # type: ignore[arg-type]
        with pytest.raises(JobspecError, match=problem):
            function({"resources": resources})


@pytest.mark.parametrize("bad", [5, "core", None, []])
def test_a_malformed_resource_in_a_slot_is_refused(bad: Any) -> None:
    with pytest.raises(JobspecError):
        chunks_of(spec(slot(1, bad)))


@pytest.mark.parametrize("unit", ["XB", "bytes", "-", None, 5.5j, [], {}])
def test_memory_of_an_unknown_unit_is_refused(unit: object) -> None:
    with pytest.raises(JobspecError, match="unknown unit"):
        chunks_of(spec(vertex("memory", 1, unit=unit)))


@pytest.mark.parametrize("unit", ["0", "00GB", ".5", 7])
def test_a_number_is_not_a_unit(unit: object) -> None:
    with pytest.raises(JobspecError):
        chunks_of(spec(vertex("memory", 1, unit=unit)))


@pytest.mark.parametrize(
    "tasks",
    [{}, "x", [5], [None], [{}], [{"count": 5}], [{"slot": "default", "count": {}}],
     [task(per_slot="x")], [task(per_slot=None)], [task(total=-1)], [task(total=1.5)],
     [task(per_resource=5)], [task(per_resource={"type": "core"})],
     [task(per_resource={"type": "core", "count": "x"})], [task(other=3)]],
)  # fmt: skip
def test_malformed_tasks_are_refused(tasks: Any) -> None:
    jobspec = {**spec(slot(1, core(1))), "tasks": tasks}
    if tasks == {}:
        jobspec["tasks"] = {"command": ["x"]}
    with pytest.raises(JobspecError):
        task_count(jobspec)


@pytest.mark.parametrize("kind", [[], {}])
def test_tasks_per_resource_of_a_malformed_type_are_refused(kind: object) -> None:
    with pytest.raises(JobspecError):
        task_count(spec(slot(1, core(1)), tasks=[task(per_resource={"type": kind, "count": 1})]))


@pytest.mark.parametrize(
    "one", [task("nowhere", per_slot=1), task(per_resource={"type": "gpu", "count": 1})]
)
def test_tasks_on_what_is_not_asked_for_are_refused(one: dict[str, Any]) -> None:
    with pytest.raises(JobspecError):
        task_count(spec(slot(2, core(1)), tasks=[one]))


@pytest.mark.parametrize("function", FUNCTIONS[:3], ids=lambda function: function.__name__)
def test_a_jobspec_nested_too_deeply_is_refused(function: Callable[[object], object]) -> None:
    deep = core(1)
    for _ in range(5000):
        deep = vertex("socket", 1, deep)
    with pytest.raises(JobspecError):
        function(spec(deep))


words = st.sampled_from(
    ["node", "slot", "core", "gpu", "memory", "rack", "with", "type", "count", "label", "2-4", "a"]
)
scalars = st.none() | st.booleans() | st.integers(-2, 9) | st.floats(0, 3) | words
keys = st.sampled_from(["type", "count", "with", "label", "unit", "exclusive", "min", "per_slot"])
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=12,
)
almost_vertices: st.SearchStrategy[Any] = st.recursive(
    json_values,
    lambda inner: st.fixed_dictionaries(
        {"type": words | json_values, "count": st.integers(1, 3) | json_values},
        optional={"with": st.lists(inner, max_size=3) | inner, "unit": json_values},
    ),
    max_leaves=6,
)
almost_tasks = st.lists(
    json_values
    | st.fixed_dictionaries(
        {"slot": words | json_values, "count": json_values},
        optional={"command": json_values},
    )
)
almost_jobspecs = json_values | st.fixed_dictionaries(
    {"resources": st.lists(almost_vertices, max_size=3) | json_values},
    optional={"tasks": almost_tasks | json_values, "attributes": json_values},
)


@given(almost_jobspecs)
@example(spec(slot(1, 5)))  # type: ignore[arg-type]
@unhurried
def test_any_json_has_chunks_or_is_a_jobspec_error(jobspec: object) -> None:
    try:
        found = chunks_of(jobspec)
    except JobspecError:
        return
    assert isinstance(found, tuple)


@given(almost_jobspecs)
@unhurried
def test_any_json_has_resource_counts_or_is_a_jobspec_error(jobspec: object) -> None:
    try:
        found = resource_counts(jobspec)
    except JobspecError:
        return
    assert all(type(number) is int and number >= 0 for number in found.values())


@given(almost_jobspecs)
@example(spec(slot(1, core(1)), tasks=[task(per_resource={"type": [], "count": 1})]))
@unhurried
def test_any_json_has_a_task_count_or_is_a_jobspec_error(jobspec: object) -> None:
    try:
        found = task_count(jobspec)
    except JobspecError:
        return
    assert type(found) is int
    assert found >= 0


def test_a_jobspec_error_does_not_name_a_job_it_does_not_know() -> None:
    with pytest.raises(JobspecError) as caught:
        chunks_of({})
    assert caught.value.job is None
    assert str(caught.value) == "jobspec: lacks 'resources'"
