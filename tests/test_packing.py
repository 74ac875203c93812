from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fluxburst.formats.units import ByteSize
from fluxburst.model.constraints import ALL_ALIKE, ANYTHING, Constraint, ConstraintBits, compiled
from fluxburst.model.jobspec import Chunk
from fluxburst.model.node import Node, NodeType
from fluxburst.packing.fitting import NO_MATCH, could_fit, fits_now, why_unfit
from fluxburst.packing.packer import Demand, Packer, Packing
from fluxburst.packing.pool import Pool, pool_of

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SMALL = NodeType("small", 4, price=1.0)
LARGE = NodeType("large", 16, price=4.0)
GPU = NodeType("gpu", 8, gpus=4, price=10.0)

CONSTRAINTS = [
    compiled(constraint)
    for constraint in (
        {"properties": ["a"]},
        {"properties": ["^a"]},
        {"or": [{"properties": ["a", "b"]}, {"hostlist": ["n[0-1]"]}]},
        {"not": [{"ranks": ["0"]}]},
    )
]
KINDS = ConstraintBits(CONSTRAINTS)
A = KINDS.required_bits(CONSTRAINTS[0])


def on(node: Node, constraint: Constraint) -> bool:
    return constraint.matches(properties=node.properties, hostname=node.hostname, rank=node.rank)


def asked_by(job: Demand) -> Constraint:
    return next((c for c in CONSTRAINTS if KINDS.required_bits(c) == job.required_bits), ANYTHING)


def demands(*jobs: Sequence[Chunk] | Chunk) -> list[Demand]:
    return [
        Demand(number, (chunks,) if isinstance(chunks, Chunk) else tuple(chunks), turn=number)
        for number, chunks in enumerate(jobs)
    ]


def free(rank: int, cores: int, gpus: int = 0, **more: int | bool | frozenset[str]) -> Node:
    given: dict[str, object] = {"free_cores": cores, "free_gpus": gpus, **more}
    return Node(rank, f"n{rank}", cores, gpus, **given)  # type: ignore[arg-type]


# --- worlds: what can be supplied, what is there, what is asked for -------------------------


@dataclass(frozen=True)
class World:
    types: tuple[NodeType, ...]
    nodes: tuple[Node, ...]
    jobs: tuple[Demand, ...]
    in_use: dict[str, int] = field(default_factory=dict)

    def packer(self, kinds: ConstraintBits = KINDS) -> Packer:
        return Packer(self.types, pool_of(self.nodes, kinds), self.in_use, kinds)


some_properties = st.sampled_from(["", "", "a", "b", "ab"])


@st.composite
def node_types(draw: st.DrawFn) -> tuple[NodeType, ...]:
    memory = st.none() | st.integers(1, 64).map(ByteSize)
    return tuple(
        NodeType(
            name,
            cores=draw(st.integers(1, 16)),
            gpus=draw(st.sampled_from([0, 0, 1, 4])),
            memory=draw(memory),
            price=draw(st.sampled_from([0.0, 1.0, 2.5])),
            max_nodes=draw(st.none() | st.integers(0, 6)),
            properties=tuple(draw(some_properties)),
        )
        for name in draw(st.sampled_from(["", "a", "ab", "abc"]))
    )


@st.composite
def instance_nodes(draw: st.DrawFn) -> tuple[Node, ...]:
    found = []
    for rank in range(draw(st.integers(0, 4))):
        cores, gpus = draw(st.integers(0, 8)), draw(st.integers(0, 2))
        memory = draw(st.none() | st.integers(0, 64))
        found.append(
            Node(
                rank,
                f"n{rank}",
                cores,
                gpus,
                free_cores=draw(st.just(cores) | st.integers(0, cores)),
                free_gpus=draw(st.just(gpus) | st.integers(0, gpus)),
                memory=memory,
                free_memory=None if memory is None else draw(st.integers(0, memory)),
                up=draw(st.sampled_from([True, True, True, False])),
                drained=draw(st.sampled_from([False, False, False, True])),
                properties=frozenset(draw(some_properties)),
            )
        )
    return tuple(found)


@st.composite
def some_chunks(draw: st.DrawFn, exclusive: bool = True) -> Chunk:
    own_node = draw(st.booleans())
    chunk = Chunk(
        count=draw(st.integers(1, 6)),
        cores=draw(st.integers(0, 18)),
        gpus=draw(st.sampled_from([0, 0, 0, 1, 2])),
        memory=draw(st.sampled_from([0, 0, 1, 7, 30])),
        node=own_node,
        exclusive=own_node and exclusive and draw(st.booleans()),
    )
    # A part of memory alone is a test of its own, below.
    assume(chunk.cores or chunk.gpus or not chunk.memory)
    return chunk


@st.composite
def worlds(
    draw: st.DrawFn, exclusive: bool = True, parts: int = 2, constrained: bool = True
) -> World:
    types = draw(node_types())
    chunk = some_chunks(exclusive=exclusive)
    few = draw(st.lists(st.lists(chunk, min_size=1, max_size=parts), min_size=1, max_size=4))
    jobs = demands(*draw(st.lists(st.sampled_from(few), max_size=10)))
    bits = (
        [0, *map(KINDS.required_bits, CONSTRAINTS)] if constrained and draw(st.booleans()) else [0]
    )
    return World(
        types,
        draw(instance_nodes()),
        tuple(job._replace(required_bits=draw(st.sampled_from(bits))) for job in jobs),
        {t.name: draw(st.integers(0, 2)) for t in types if draw(st.booleans())},
    )


def asks_the_same(one: Demand, other: Demand) -> bool:
    return (one.chunks, one.required_bits) == (other.chunks, other.required_bits)


def usable(nodes: Sequence[Node]) -> list[Node]:
    return [n for n in nodes if n.up and not n.drained]


def total(jobs: Sequence[Demand], dimension: str) -> int:
    return sum(c.count * int(getattr(c, dimension)) for job in jobs for c in job.chunks)


def whole_nodes(jobs: Sequence[Demand]) -> int:
    return sum(c.count for job in jobs for c in job.chunks if c.exclusive)


def idle(nodes: Sequence[Node]) -> list[Node]:
    return [n for n in nodes if n.free_cores == n.cores and n.free_gpus == n.gpus]


def fits_one(chunk: Chunk, cores: float, gpus: float, memory: float | None) -> bool:
    room = math.inf if memory is None else memory
    return chunk.cores <= cores and chunk.gpus <= gpus and chunk.memory <= room


def check(world: World, packer: Packer, packing: Packing, jobs: Sequence[Demand]) -> None:
    # Everything about an outcome that can be told from outside.
    by_id = {job.job: job for job in jobs}
    outcomes = [*packing.placed, *packing.existing, *packing.unplaced]
    assert sorted(outcomes) == sorted(by_id), "every job has one outcome"
    assert all(packing.unplaced.values()), "with a reason, where it was not placed"

    types = {t.name: t for t in world.types}
    for name, opened in packer.new_nodes.items():
        assert opened > 0
        limit = types[name].max_nodes
        assert limit is None or opened + world.in_use.get(name, 0) <= limit
    assert set(packing.placed.values()) <= set(packer.new_nodes)

    here = usable(world.nodes)
    on_existing = [by_id[job] for job in packing.existing]
    placed = [*on_existing, *(by_id[job] for job in packing.placed)]
    new = [types[name] for name, opened in packer.new_nodes.items() for _ in range(opened)]
    assert total(on_existing, "cores") <= sum(n.free_cores for n in here)
    assert total(on_existing, "gpus") <= sum(n.free_gpus for n in here)
    assert whole_nodes(on_existing) <= len(idle(here))
    assert total(placed, "cores") <= sum(n.free_cores for n in here) + sum(t.cores for t in new)
    assert total(placed, "gpus") <= sum(n.free_gpus for n in here) + sum(t.gpus for t in new)
    assert whole_nodes(placed) <= len(idle(here)) + len(new)
    memories = [n.free_memory for n in here] + [t.memory for t in new]
    assert total(placed, "memory") <= sum(math.inf if m is None else m for m in memories)

    for job in placed:
        own, constraint = packing.placed.get(job.job), asked_by(job)
        rooms = [(n.free_cores, n.free_gpus, n.free_memory) for n in here if on(n, constraint)]
        rooms += [
            (t.cores, t.gpus, t.memory)
            for t in new
            if t.name == own and constraint.matches(properties=t.properties)
        ]
        for chunk in job.chunks:
            fitting = [room for room in rooms if fits_one(chunk, *room)]
            assert len(fitting) >= (chunk.count if chunk.node else 1), "each on a node of its own"


def rooms(pool: Pool) -> list[tuple[int, float, float]]:
    # (cores, GPUs, memory) that each node of a pool has left.
    return [
        (int(room.cores), gpus, room.memory)
        for gpus, room, nodes in pool.fitting(Chunk(1, -99, -99, -99))
        for _ in range(nodes)
    ]


# --- what must hold of every outcome -------------------------------------------------------


@given(worlds())
@example(World((), (), ()))
@settings(unhurried, max_examples=75)
def test_no_node_is_overcommitted_and_no_limit_exceeded(world: World) -> None:
    packer = world.packer()
    check(world, packer, packer.pack(world.jobs), world.jobs)


@given(worlds(exclusive=False))
@settings(unhurried, max_examples=100)
def test_cores_and_gpus_are_conserved(world: World) -> None:
    packer = world.packer()
    packing = packer.pack(world.jobs)
    left = rooms(packer.existing) + [room for s in packer.supplies for room in rooms(s.pool)]
    assert all(cores >= 0 and gpus >= 0 and memory >= 0 for cores, gpus, memory in left)
    types = {t.name: t for t in world.types}
    new = [types[name] for name, opened in packer.new_nodes.items() for _ in range(opened)]
    placed = [job for job in world.jobs if job.job not in packing.unplaced]
    here = usable(world.nodes)
    for position, dimension in enumerate(("cores", "gpus")):
        had = sum(getattr(n, f"free_{dimension}") for n in here)
        had += sum(getattr(t, dimension) for t in new)
        assert sum(room[position] for room in left) == had - total(placed, dimension)


@given(worlds())
@unhurried
def test_the_same_world_is_packed_the_same_way(world: World) -> None:
    first, second = world.packer(), world.packer()
    assert first.pack(world.jobs) == second.pack(world.jobs)
    assert first.new_nodes == second.new_nodes


@given(worlds(), st.integers(0, 10))
@unhurried
def test_a_second_call_continues_the_first(world: World, cut: int) -> None:
    packer = world.packer()
    first = packer.pack(world.jobs[:cut])
    opened = packer.new_nodes
    second = packer.pack(world.jobs[cut:])
    assert all(packer.new_nodes[name] >= count for name, count in opened.items())
    both = Packing(
        {**first.placed, **second.placed},
        first.existing + second.existing,
        {**first.unplaced, **second.unplaced},
    )
    check(world, packer, both, world.jobs)


@given(worlds())
@unhurried
def test_packing_nothing_changes_nothing(world: World) -> None:
    packer = world.packer()
    packer.pack(world.jobs)
    opened = packer.new_nodes
    assert packer.pack([]) == Packing({}, (), {})
    assert packer.new_nodes == opened


@given(worlds())
@unhurried
def test_nodes_that_are_down_or_drained_are_never_used(world: World) -> None:
    away = tuple(replace(n, up=False) if n.rank % 2 else replace(n, drained=True)
                 for n in world.nodes)  # fmt: skip
    packer = replace(world, nodes=away).packer()
    bare = replace(world, nodes=()).packer()
    assert packer.pack(world.jobs) == bare.pack(world.jobs)
    assert packer.new_nodes == bare.new_nodes


def test_what_fits_nowhere_does_not_make_a_large_node_look_cheap() -> None:
    types = (
        NodeType("small", cores=1, price=1.0, properties=("p",)),
        NodeType("large", cores=3, price=2.5, properties=("p",)),
    )
    constraint = compiled({"properties": ["p"]})
    kinds = ConstraintBits([constraint])
    first = Demand(0, (Chunk(1, 1),), required_bits=kinds.required_bits(constraint))
    giant = Demand(1, (Chunk(1, 1000),), turn=1)
    packer = Packer(types, Pool(), {}, kinds)
    assert dict(packer.pack([first, giant]).placed) == {0: "small"}


@given(worlds())
@unhurried
def test_a_job_that_fits_nowhere_is_unplaced_whatever_else_is_there(world: World) -> None:
    giant = Demand(999, (Chunk(1, 1000),), turn=-1)
    packer, without = world.packer(), world.packer()
    packing = packer.pack([giant, *world.jobs])
    rest = without.pack(world.jobs)
    assert "1000 cores" in packing.unplaced[999]
    assert {**packing.placed} == {**rest.placed}
    assert sorted(packing.existing) == sorted(rest.existing)
    assert packer.new_nodes == without.new_nodes


@given(worlds(parts=1))
@settings(unhurried, max_examples=100)
def test_where_limits_bind_the_later_of_two_alike_is_left_out(world: World) -> None:
    packing = world.packer().pack(world.jobs)
    for out in (job for job in world.jobs if job.job in packing.unplaced):
        alike = [job for job in world.jobs if asks_the_same(job, out)]
        assert all(job.job in packing.unplaced for job in alike if job.turn > out.turn)


@given(worlds(parts=1), st.randoms(use_true_random=False))
@example(
    World((SMALL,), (free(0, 64),), tuple(reversed(demands(Chunk(1, 40), Chunk(1, 40))))), None
)
@unhurried
def test_the_order_of_the_list_does_not_matter(world: World, random: object) -> None:
    jobs = list(world.jobs)
    if random is not None:
        random.shuffle(jobs)  # type: ignore[attr-defined]
    packing = world.packer().pack(jobs)
    for out in (job for job in jobs if job.job in packing.unplaced):
        alike = [job for job in jobs if asks_the_same(job, out)]
        assert all(job.job in packing.unplaced for job in alike if job.turn > out.turn)


@given(worlds(parts=1))
@unhurried
def test_without_limits_a_job_is_placed_exactly_if_a_type_has_room_for_it(world: World) -> None:
    types = tuple(replace(t, max_nodes=None) for t in world.types)
    packing = replace(world, types=types, nodes=()).packer().pack(world.jobs)
    for job in world.jobs:
        matching = [t for t in types if asked_by(job).matches(properties=t.properties)]
        fits = any(fits_one(job.chunks[0], t.cores, t.gpus, t.memory) for t in matching)
        assert (job.job in packing.placed) == fits
        assert could_fit(job.chunks, types, asked_by(job)) or not fits


@given(worlds())
@example(World((SMALL, GPU), (), tuple(demands([Chunk(1, 4), Chunk(1, 1, gpus=1)]))))
@unhurried
def test_a_job_of_several_parts_is_placed_if_one_type_has_room_for_all(world: World) -> None:
    types = tuple(replace(t, max_nodes=None) for t in world.types)
    packing = replace(world, types=types, nodes=()).packer().pack(world.jobs)
    for job in world.jobs:
        matching = [t for t in types if asked_by(job).matches(properties=t.properties)]
        assert (job.job in packing.placed) == could_fit(job.chunks, matching)


# --- existing nodes first ------------------------------------------------------------------


@given(worlds(parts=1))
@unhurried
def test_a_job_alone_uses_new_nodes_only_if_it_does_not_fit_on_existing_ones(
    world: World,
) -> None:
    for job in world.jobs[:3]:
        packer = world.packer()
        packing = packer.pack([job])
        assert (job.job in packing.existing) == fits_now(job.chunks, world.nodes, asked_by(job))
        assert not (job.job in packing.existing and packer.new_nodes)


def test_existing_nodes_are_used_before_new_ones() -> None:
    packer = Packer([SMALL], pool_of([free(0, 8)]), {})
    packing = packer.pack(demands(*[Chunk(1, 4)] * 3))
    assert len(packing.existing) == 2
    assert packer.new_nodes == {"small": 1}


def test_a_job_may_use_existing_nodes_and_new_ones() -> None:
    packer = Packer([SMALL], pool_of([free(0, 4)]), {})
    packing = packer.pack(demands(Chunk(3, 4, node=True)))
    assert packing.placed == {0: "small"}
    assert packer.new_nodes == {"small": 2}


def test_what_other_jobs_have_of_an_existing_node_is_not_used() -> None:
    packer = Packer([SMALL], pool_of([free(0, 8, free_cores=3)]), {})
    assert packer.pack(demands(Chunk(1, 4))).placed == {0: "small"}
    assert packer.pack(demands(Chunk(1, 3))).existing == (0,)


def test_an_existing_node_in_use_is_not_taken_exclusively() -> None:
    packer = Packer([SMALL], pool_of([free(0, 8, free_cores=7)]), {})
    packing = packer.pack(demands(Chunk(1, 1, node=True, exclusive=True)))
    assert packing.placed == {0: "small"}


def test_existing_nodes_are_shared_between_the_packers_of_several_plugins() -> None:
    existing = pool_of([free(0, 4)])
    first, second = Packer([SMALL], existing, {}), Packer([SMALL], existing, {})
    assert first.pack(demands(Chunk(1, 4))).existing == (0,)
    assert second.pack(demands(Chunk(1, 4))).placed == {0: "small"}


def test_memory_of_existing_nodes_counts_where_it_is_known() -> None:
    known = free(0, 8, memory=10, free_memory=10)
    unknown = free(1, 8)
    for nodes, here in (((known,), False), ((unknown,), True), ((known, unknown), True)):
        packing = Packer([SMALL], pool_of(nodes), {}).pack(demands(Chunk(1, 1, memory=11)))
        assert bool(packing.existing) == here


# --- constraints ---------------------------------------------------------------------------


def matching_any(jobs: Sequence[Demand], properties: object, node: Node | None = None) -> bool:
    return any(
        on(node, asked_by(job)) if node else asked_by(job).matches(properties=properties)  # type: ignore[arg-type]
        for job in jobs
    )


@given(worlds())
@settings(unhurried, max_examples=100)
def test_of_nodes_that_match_never_more_is_taken_than_there_is(world: World) -> None:
    packer = world.packer()
    packing = packer.pack(world.jobs)
    types = {t.name: t for t in world.types}
    bits = {job.required_bits for job in world.jobs}
    for several in itertools.chain.from_iterable(
        itertools.combinations(bits, size) for size in range(1, len(bits) + 1)
    ):
        jobs = [job for job in world.jobs if job.required_bits in several]
        here = [n for n in usable(world.nodes) if matching_any(jobs, (), n)]
        new = [
            (types[name], opened)
            for name, opened in packer.new_nodes.items()
            if matching_any(jobs, types[name].properties)
        ]
        on_existing = [job for job in jobs if job.job in packing.existing]
        placed = [job for job in jobs if job.job not in packing.unplaced]
        for dimension in ("cores", "gpus"):
            free_here = sum(getattr(n, f"free_{dimension}") for n in here)
            opened = sum(getattr(t, dimension) * count for t, count in new)
            assert total(on_existing, dimension) <= free_here
            assert total(placed, dimension) <= free_here + opened
        assert whole_nodes(on_existing) <= len(idle(here))
        assert whole_nodes(placed) <= len(idle(here)) + sum(count for _, count in new)


@given(worlds(constrained=False))
@unhurried
def test_constraints_that_no_job_has_change_nothing(world: World) -> None:
    told_apart, alike = world.packer(KINDS), world.packer(ALL_ALIKE)
    assert told_apart.pack(world.jobs) == alike.pack(world.jobs)
    assert told_apart.new_nodes == alike.new_nodes


@given(worlds(parts=1))
@unhurried
def test_a_constraint_never_helps_a_job_alone(world: World) -> None:
    for job in world.jobs[:3]:
        if not world.packer().pack([job]).unplaced:
            assert not world.packer().pack([job._replace(required_bits=0)]).unplaced


def wanting(wanted: int, *chunks: Chunk) -> list[Demand]:
    return [job._replace(required_bits=wanted) for job in demands(*chunks)]


WITH_A = frozenset("a")
SMALL_WITH_A = replace(SMALL, name="with-a", price=9.0, properties=("a",))


def packer_of(types: Sequence[NodeType], *nodes: Node) -> Packer:
    return Packer(types, pool_of(nodes, KINDS), {}, KINDS)


def test_a_constrained_job_uses_existing_nodes_that_match_and_no_others() -> None:
    packer = packer_of([SMALL, SMALL_WITH_A], free(0, 4), free(1, 4, properties=WITH_A))
    packing = packer.pack(wanting(A, Chunk(1, 4), Chunk(1, 4)))
    assert packing.existing == (0,)
    assert packing.placed == {1: "with-a"}
    assert packer.new_nodes == {"with-a": 1}


def test_a_node_is_not_counted_for_a_constrained_job_and_for_another() -> None:
    jobs = demands(Chunk(1, 4), Chunk(1, 4))
    jobs[1] = jobs[1]._replace(required_bits=A)
    packer = packer_of([SMALL, SMALL_WITH_A], free(0, 4, properties=WITH_A))
    packing = packer.pack(jobs)
    assert packing.existing == (1,)
    assert packing.placed == {0: "small"}


def test_what_constrained_jobs_leave_of_a_node_is_for_the_others() -> None:
    jobs = demands(Chunk(1, 3), Chunk(1, 1), Chunk(1, 1))
    jobs[0] = jobs[0]._replace(required_bits=A)
    packer = packer_of([SMALL_WITH_A])
    assert set(packer.pack(jobs).placed.values()) == {"with-a"}
    assert packer.new_nodes == {"with-a": 2}
    assert rooms(packer.supplies[0].pool) == [(3, 0, math.inf)]


def test_a_large_job_leaves_the_nodes_that_match_to_a_small_one_that_needs_them() -> None:
    jobs = demands(Chunk(1, 4), Chunk(1, 1))
    jobs[1] = jobs[1]._replace(required_bits=A)
    packing = packer_of([SMALL], free(0, 4, properties=WITH_A)).pack(jobs)
    assert packing.existing == (1,)
    assert packing.placed == {0: "small"}


def test_nodes_opened_for_others_are_used_if_they_match() -> None:
    packer = packer_of([SMALL_WITH_A])
    packer.pack(demands(Chunk(1, 1)))
    assert packer.pack(wanting(A, Chunk(3, 1))).placed == {0: "with-a"}
    assert packer.new_nodes == {"with-a": 1}


def test_a_job_of_many_nodes_uses_only_those_that_match() -> None:
    packer = packer_of([SMALL, SMALL_WITH_A], free(0, 4), free(1, 4, properties=WITH_A))
    packing = packer.pack(wanting(A, Chunk(3, 1, node=True, exclusive=True)))
    assert packing.placed == {0: "with-a"}
    assert packer.new_nodes == {"with-a": 2}
    assert rooms(packer.existing) == [(4, 0, math.inf)]


@pytest.mark.parametrize(
    "chunks", [(Chunk(1, 1),), (Chunk(2, 1, node=True),), (Chunk(1, 1), Chunk(1, 2))]
)
def test_a_job_that_no_type_matches_is_unplaced_and_says_so(chunks: tuple[Chunk, ...]) -> None:
    packing = packer_of([SMALL, LARGE]).pack([Demand(0, chunks, required_bits=A)])
    assert packing.unplaced == {0: "no node type has what its constraints ask for"}
    assert why_unfit(chunks, [SMALL, LARGE], CONSTRAINTS[0]) == NO_MATCH


def test_that_the_types_that_match_are_too_small_is_said() -> None:
    packing = packer_of([LARGE, SMALL_WITH_A]).pack(wanting(A, Chunk(1, 5)))
    which = "no node type with what its constraints ask for has room for"
    assert packing.unplaced == {0: f"{which} 5 cores on one node"}
    assert why_unfit([Chunk(1, 5)], [LARGE, SMALL_WITH_A], CONSTRAINTS[0]) == f"{which} it"


def test_that_the_types_that_match_are_used_up_is_said_of_them_alone() -> None:
    packer = packer_of([SMALL, replace(SMALL_WITH_A, max_nodes=1)])
    packing = packer.pack(wanting(A, Chunk(1, 4), Chunk(1, 4)))
    assert packing.unplaced == {1: "1 more of 'with-a' needed, 0 left of 1"}


def test_what_keeps_a_job_of_several_parts_out_is_said() -> None:
    packer = Packer([SMALL, GPU], Pool(), {})
    for parts, why in (
        ([Chunk(1, 1), Chunk(1, 9)], "no node type has room for 9 cores on one node"),
        ([Chunk(1, 1, memory=1), Chunk(1, 99, gpus=1)], "room for 99 cores, 1 GPU on one node"),
        ([Chunk(1, 8), Chunk(1, 4, gpus=5)], "room for 4 cores, 5 GPUs on one node"),
    ):
        assert why in packer.pack(demands(parts)).unplaced[0]
    wide, long = NodeType("wide", 8), NodeType("long", 1, gpus=1)
    packing = Packer([wide, long], Pool(), {}).pack(demands([Chunk(1, 8), Chunk(1, 1, gpus=1)]))
    assert packing.unplaced == {0: "no node type has room for each of its parts"}


def test_why_nothing_fits_is_empty_where_something_does() -> None:
    assert why_unfit([Chunk(1, 4)], [LARGE, SMALL_WITH_A], CONSTRAINTS[0]) == ""
    assert why_unfit([Chunk(1, 4)], [LARGE], ANYTHING) == ""
    assert why_unfit([Chunk(1, 99)], [LARGE], ANYTHING) == "no node type has room for it"


# --- sharing and whole nodes ---------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 16), st.integers(1, 4))
@unhurried
def test_jobs_that_share_nodes_do_share(jobs: int, cores: int, each: int) -> None:
    assume(each <= cores)
    packer = Packer([NodeType("t", cores)], Pool(), {})
    packer.pack(demands(*[Chunk(1, each)] * jobs))
    assert packer.new_nodes == {"t": math.ceil(jobs / (cores // each))}


def test_small_jobs_fill_what_large_ones_leave() -> None:
    packer = Packer([NodeType("t", 8)], Pool(), {})
    packer.pack(demands(*[Chunk(1, 2)] * 3, *[Chunk(1, 6)] * 3))
    assert packer.new_nodes == {"t": 3}


def test_the_slots_of_a_job_share_a_node() -> None:
    packer = Packer([LARGE], Pool(), {})
    packer.pack(demands(Chunk(4, 4)))
    assert packer.new_nodes == {"large": 1}


def test_gpus_count_like_cores() -> None:
    packer = Packer([GPU], Pool(), {})
    packer.pack(demands(*[Chunk(1, 1, gpus=1)] * 5))
    assert packer.new_nodes == {"gpu": 2}


def test_memory_counts_like_cores() -> None:
    packer = Packer([NodeType("t", 64, memory=ByteSize(100))], Pool(), {})
    packer.pack(demands(*[Chunk(1, 1, memory=40)] * 5))
    assert packer.new_nodes == {"t": 3}


@pytest.mark.parametrize("exclusive", [False, True])
@given(count=st.integers(1, 20))
@unhurried
def test_a_job_of_many_nodes_has_as_many(exclusive: bool, count: int) -> None:
    packer = Packer([LARGE], Pool(), {})
    packer.pack(demands(Chunk(count, 1, node=True, exclusive=exclusive)))
    assert packer.new_nodes == {"large": count}


def test_jobs_of_many_nodes_share_them_unless_exclusive() -> None:
    packer = Packer([LARGE], Pool(), {})
    packer.pack(demands(*[Chunk(4, 4, node=True)] * 4))
    assert packer.new_nodes == {"large": 4}
    packer = Packer([LARGE], Pool(), {})
    packer.pack(demands(*[Chunk(4, 4, node=True, exclusive=True)] * 4))
    assert packer.new_nodes == {"large": 16}


def test_an_exclusive_job_leaves_nothing_for_others() -> None:
    packer = Packer([LARGE], Pool(), {})
    packer.pack(demands(Chunk(1, 1, node=True, exclusive=True), Chunk(1, 1)))
    assert packer.new_nodes == {"large": 2}


def test_two_parts_that_need_nodes_of_their_own_do_not_share_one() -> None:
    packer = Packer([LARGE], Pool(), {})
    packer.pack(demands([Chunk(1, 1, node=True), Chunk(1, 2, node=True)]))
    assert packer.new_nodes == {"large": 2}


def test_parts_of_memory_alone_fit_where_memory_is_not_known() -> None:
    packer = Packer([SMALL], Pool(), {})
    assert packer.pack(demands(Chunk(2, 0, memory=5))).placed == {0: "small"}


def test_parts_of_memory_alone_fit_now_where_memory_is_not_known() -> None:
    assert fits_now((Chunk(2, 0, memory=5),), (free(0, 4),))


# --- types, prices, limits -----------------------------------------------------------------


@given(
    st.permutations([NodeType(name, 8, 2, price=p) for name, p in (("a", 3), ("b", 1), ("c", 2))]),
    st.lists(some_chunks(), min_size=1, max_size=6),
)
@unhurried
def test_of_types_that_fit_equally_the_cheapest_is_chosen(
    types: list[NodeType], chunks: list[Chunk]
) -> None:
    packer = Packer(types, Pool(), {})
    packer.pack(demands(*chunks))
    assert set(packer.new_nodes) <= {"b"}


def test_when_the_cheapest_type_is_used_up_the_next_is_chosen() -> None:
    cheap = NodeType("cheap", 4, price=1.0, max_nodes=2)
    packer = Packer([replace(cheap, name="dear", price=2.0, max_nodes=None), cheap], Pool(), {})
    packing = packer.pack(demands(*[Chunk(1, 4)] * 3))
    assert packer.new_nodes == {"cheap": 2, "dear": 1}
    assert sorted(packing.placed.values()) == ["cheap", "cheap", "dear"]


def test_a_node_with_gpus_is_not_opened_for_a_job_without() -> None:
    packer = Packer([GPU, replace(LARGE, price=9.9)], Pool(), {})
    packer.pack(demands(Chunk(1, 8)))
    assert packer.new_nodes == {"large": 1}


def test_nodes_in_use_count_against_the_limit() -> None:
    limited = replace(SMALL, max_nodes=3)
    packer = Packer([limited], Pool(), {"small": 2, "other": 50})
    packing = packer.pack(demands(*[Chunk(1, 4)] * 3))
    assert packer.new_nodes == {"small": 1}
    assert packing.placed == {0: "small"}
    assert all("'small' needed, 0 left of 3" in why for why in packing.unplaced.values())


def test_more_nodes_in_use_than_allowed_leave_none() -> None:
    packer = Packer([replace(SMALL, max_nodes=3)], Pool(), {"small": 5})
    assert packer.pack(demands(Chunk(1, 1))).placed == {}
    assert packer.new_nodes == {}


def test_a_job_that_needs_more_nodes_than_are_left_takes_none() -> None:
    packer = Packer([replace(SMALL, max_nodes=3)], Pool(), {})
    packing = packer.pack(demands(Chunk(4, 1, node=True), Chunk(1, 1)))
    assert list(packing.unplaced) == [0]
    assert packing.placed == {1: "small"}
    assert packer.new_nodes == {"small": 1}


def test_a_job_that_cannot_be_placed_wholly_gives_back_what_it_took() -> None:
    packer = Packer([replace(SMALL, max_nodes=0)], pool_of([free(0, 4)]), {})
    packing = packer.pack(demands([Chunk(1, 4), Chunk(1, 4)], Chunk(1, 4)))
    assert list(packing.unplaced) == [0]
    assert packing.existing == (1,)


def test_where_limits_bind_the_queue_decides_and_not_the_size() -> None:
    packer = Packer([replace(LARGE, max_nodes=1)], Pool(), {})
    packing = packer.pack(demands(Chunk(1, 2), Chunk(1, 16)))
    assert packing.placed == {0: "large"}
    assert list(packing.unplaced) == [1]


def test_a_plugin_without_node_types_places_nothing() -> None:
    packing = Packer([], Pool(), {}).pack(demands(Chunk(1, 1)))
    assert "no node type has room for 1 core" in packing.unplaced[0]


def test_what_does_not_fit_is_said_in_every_dimension() -> None:
    packing = Packer([SMALL], Pool(), {}).pack(demands(Chunk(1, 9, gpus=2, memory=2**30)))
    assert packing.unplaced[0] == "no node type has room for 9 cores, 2 GPUs, 1GiB on one node"


@pytest.mark.parametrize(("nodes", "together"), [(4, True), (5, False)])
def test_a_job_that_only_nodes_of_two_types_have_room_for_together_is_told_so(
    nodes: int, together: bool
) -> None:
    types = [replace(SMALL, max_nodes=2), replace(LARGE, max_nodes=2)]
    packing = Packer(types, Pool(), {}).pack(demands(Chunk(nodes, 1, node=True)))
    limits = [f"{nodes} more of {name!r} needed, 2 left of 2" for name in ("small", "large")]
    one_type = ["and all new nodes of one job are of one node type"] if together else []
    assert packing.unplaced == {0: "; ".join(limits + one_type)}


# --- continuing ----------------------------------------------------------------------------


def test_nodes_opened_in_one_call_are_filled_in_the_next() -> None:
    packer = Packer([LARGE], Pool(), {})
    packer.pack(demands(Chunk(1, 6)))
    assert packer.pack(demands(Chunk(1, 6))).placed == {0: "large"}
    assert packer.new_nodes == {"large": 1}
    packer.pack(demands(Chunk(1, 6)))
    assert packer.new_nodes == {"large": 2}


def test_a_call_in_vain_leaves_room_for_the_next() -> None:
    packer = Packer([replace(SMALL, max_nodes=1)], Pool(), {})
    assert packer.pack(demands(Chunk(2, 4))).unplaced
    assert packer.pack(demands(Chunk(1, 4))).placed == {0: "small"}


def test_a_copied_pool_is_not_changed_with_the_original() -> None:
    existing = pool_of([free(0, 4)])
    copy = existing.copy()
    Packer([], existing, {}).pack(demands(Chunk(1, 3)))
    assert rooms(copy) == [(4, 0, math.inf)]
    assert rooms(existing) == [(1, 0, math.inf)]


# --- what fits now -------------------------------------------------------------------------


def fits_by_hand(chunk: Chunk, nodes: Sequence[Node]) -> bool:
    units = 0
    for n in usable(nodes):
        if chunk.exclusive and n not in idle([n]):
            continue
        if not (n.free_cores or n.free_gpus):
            continue
        room = [n.free_cores, n.free_gpus, math.inf if n.free_memory is None else n.free_memory]
        want = [chunk.cores, chunk.gpus, chunk.memory]
        here = 0
        while here < chunk.count and all(w <= r for w, r in zip(want, room, strict=True)):
            room = [r - w for w, r in zip(want, room, strict=True)]
            here += 1
            if chunk.node:
                break
        units += here
    return units >= chunk.count


@given(some_chunks(), instance_nodes())
@settings(unhurried, max_examples=150)
def test_what_fits_now_agrees_with_filling_nodes_one_by_one(
    chunk: Chunk, nodes: tuple[Node, ...]
) -> None:
    assert fits_now((chunk,), nodes) == fits_by_hand(chunk, nodes)
    assert fits_now((chunk,), nodes) == fits_by_hand(chunk, nodes), "asking changes nothing"


@given(some_chunks(), instance_nodes(), st.sampled_from(CONSTRAINTS))
@unhurried
def test_only_on_nodes_that_match_does_a_job_fit_now(
    chunk: Chunk, nodes: tuple[Node, ...], constraint: Constraint
) -> None:
    matching = [node for node in nodes if on(node, constraint)]
    assert fits_now((chunk,), nodes, constraint) == fits_by_hand(chunk, matching)
    assert fits_now((chunk,), nodes) == fits_by_hand(chunk, nodes)


def test_what_fits_now_is_asked_of_the_nodes_as_they_are() -> None:
    for cores in range(1, 200):
        assert fits_now((Chunk(1, cores),), (free(0, cores),))
        assert not fits_now((Chunk(1, cores + 1),), (free(0, cores),))


def test_the_parts_of_a_job_fit_now_only_together() -> None:
    nodes = (free(0, 4), free(1, 4))
    assert fits_now((Chunk(1, 4), Chunk(1, 4)), nodes)
    assert not fits_now((Chunk(1, 4), Chunk(1, 4), Chunk(1, 1)), nodes)
