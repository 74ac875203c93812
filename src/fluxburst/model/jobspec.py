"""Counts the resources in a jobspec (RFC 14, RFC 25): pure functions over plain data.

For a range of counts, the minimum applies: the job needs that to start.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from fluxburst.errors import FormatError, JobspecError
from fluxburst.formats.hostlist import idset_minimum
from fluxburst.formats.units import parse_bytes

Vertex = Mapping[str, Any]

_RANGE = re.compile(
    r"(?P<min>[1-9][0-9]{0,17})(?:-(?P<max>[1-9][0-9]{0,17})|\+)"
    r"(?::(?P<operand>[1-9][0-9]{0,17})(?::(?P<operator>[+*^]))?)?"
)
"""A range of RFC 45: ``2-8``, ``2+``, ``2-8:2``, ``2-8:2:*``."""


UNBOUNDED = 2**62
"""The maximum of a range without an end."""

ALTERNATIVES = "xor_slot"
"""Fluxion's alternative slots, of which one is used."""


@dataclass(frozen=True, order=True, slots=True)
class Details:
    """Rare parts of a request, or those that schedulers interpret differently.

    See :mod:`fluxburst.model.scheduler`.

    Attributes:
        others: Other resource types that one needs, besides cores, GPUs and memory, with their
            number; in bytes if the jobspec has a unit. A type around nodes, such as a rack, is
            needed once.
        plain_memory: Memory without a unit of one.
        most: The job's maximum if there is more than it needs; 0 for no more.
        outer_slots: The count of the slot around its node, 1 for none.
        implied: It is exclusive only because it is in a slot.
        exclusive_slot: It is a slot marked exclusive.
        alone: No other job uses its nodes.
    """

    others: tuple[tuple[str, int], ...] = ()
    plain_memory: int = 0
    most: int = 0
    outer_slots: int = 1
    implied: bool = False
    exclusive_slot: bool = False
    alone: bool = False


PLAIN = Details()


@dataclass(frozen=True, order=True, slots=True)
class Chunk:
    """One part of a request.

    Attributes:
        count: How often the part is requested.
        cores: Cores of one.
        gpus: GPUs of one.
        memory: Bytes of one.
        node: Each of the ``count`` needs its own node; otherwise they may share nodes.
        exclusive: Each needs a whole node that no other job uses.
        details: Rare parts of the request.
    """

    count: int
    cores: int
    gpus: int = 0
    memory: int = 0
    node: bool = False
    exclusive: bool = False
    details: Details = PLAIN


def minimum_count(count: object) -> int:
    """Return the smallest number allowed by a ``count`` of RFC 14.

    ``count`` is an integer, a range (``{"min": 2, "max": 8}``), an idset (RFC 22: ``"2,4"``) or a
    compact range (RFC 45: ``"2-8:2:*"``, ``"2+"``).

    Raises:
        JobspecError: if it is none of these, or negative.
    """
    if type(count) is int and count >= 0:
        return count
    try:
        if isinstance(count, dict):
            return _range_minimum(**count)
        if isinstance(count, str):
            return _text_minimum(count.strip())
    except (ValueError, TypeError, FormatError):
        pass
    raise JobspecError(None, f"{count!r} is not a count (RFC 14)")


def _range_minimum(min: object, **rest: object) -> int:
    """Check a range of RFC 14, with its keys as arguments, and return its minimum.

    Raises:
        ValueError: if it is invalid.
    """
    operator = rest.get("operator", "+")
    smallest_operand = 1 if operator == "+" else 2
    smallest = 2 if operator == "^" else 1
    valid = (
        rest.keys() <= {"max", "operator", "operand"}
        and ("operator" in rest) == ("operand" in rest)
        and operator in ("+", "*", "^")
        and _at_least(smallest, min)
        and ("max" not in rest or _at_least(min, rest["max"]))
        and ("operand" not in rest or _at_least(smallest_operand, rest["operand"]))
    )
    if not valid:
        raise ValueError(min)
    assert isinstance(min, int)
    return min


def _at_least(smallest: object, number: object) -> bool:
    return isinstance(smallest, int) and type(number) is int and number >= smallest


def _text_minimum(text: str) -> int:
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    match = _RANGE.fullmatch(inner)
    if match is None:
        minimum = idset_minimum(inner)
        if minimum < 1:
            raise ValueError(text)
        return minimum
    numbers = {key: int(match[key]) for key in ("min", "max", "operand") if match[key]}
    if "operand" in numbers:
        return _range_minimum(**numbers, operator=match["operator"] or "+")
    return _range_minimum(**numbers)


def _vertices(parent: Vertex, key: str) -> Sequence[Vertex]:
    children = parent.get(key, ())
    if not isinstance(children, (list, tuple)):
        raise JobspecError(None, f"{key!r} is not a list")
    return children


def _type_and_count(vertex: object) -> tuple[str, int]:
    if not isinstance(vertex, dict) or not isinstance(vertex.get("type"), str):
        raise JobspecError(None, f"{vertex!r} is not a resource with a type")
    if "count" not in vertex:
        raise JobspecError(None, f"resource {vertex['type']!r} lacks a count")
    count = vertex["count"]
    return vertex["type"], count if type(count) is int and count > 0 else minimum_count(count)


@functools.lru_cache(maxsize=64)
def _bytes_of(kind: str, unit: str) -> int:
    try:
        if not unit.isalpha():
            raise FormatError(unit, "a unit")
        return parse_bytes(f"1{unit}")
    except FormatError as error:
        raise JobspecError(None, f"{kind} has the unknown unit {unit!r}") from error


class _Contents:
    """The sum of everything below a vertex."""

    __slots__ = ("cores", "gpus", "memory", "others", "plain_memory")

    def __init__(self) -> None:
        self.cores = self.gpus = self.memory = self.plain_memory = 0
        self.others: dict[str, int] | None = None

    def add(self, vertices: Sequence[Vertex], times: int = 1) -> _Contents:
        """Add up vertices, and everything below them."""
        for vertex in vertices:
            kind, count = _type_and_count(vertex)
            count *= times
            if kind == "core":
                self.cores += count
            elif kind == "gpu":
                self.gpus += count
            elif kind != "slot":
                self._add_other(kind, count, vertex)
            if kind != ALTERNATIVES and "with" in vertex:
                self.add(_vertices(vertex, "with"), count)
        return self

    def _add_other(self, kind: str, count: int, vertex: Vertex) -> None:
        has_unit = "unit" in vertex
        amount = count * _bytes_of(kind, str(vertex["unit"])) if has_unit else count
        if kind != "memory":
            self.others = self.others or {}
            self.others[kind] = self.others.get(kind, 0) + amount
        elif has_unit:
            self.memory += amount
        else:
            self.plain_memory += amount

    def need(self, kinds: Sequence[str]) -> None:
        """Add the resources around it, which it needs once each."""
        for kind in kinds:
            self.others = {**(self.others or {}), kind: 1}

    def chunk(
        self, count: int, *, node: bool = False, exclusive: bool = False, **more: Any
    ) -> Chunk:
        """Return a request for this, the given number of times."""
        others = tuple(sorted(self.others.items())) if self.others else ()
        if others or self.plain_memory or more:
            details = Details(others, self.plain_memory, **more)
        else:
            details = PLAIN
        return Chunk(count, self.cores, self.gpus, self.memory, node, exclusive, details)


@contextmanager
def _depth_limited() -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise JobspecError(None, "is nested too deeply") from error


def _holds_node(vertex: Vertex) -> bool:
    return any(
        _type_and_count(child)[0] == "node" or _holds_node(child)
        for child in _vertices(vertex, "with")
    )


class _Place(NamedTuple):
    """The position of a vertex: what is above it.

    Attributes:
        times: How often it is requested.
        slots: The count of the innermost slot around it; 0 for none.
        within: The types of the resources around it.
    """

    times: int = 1
    slots: int = 0
    within: tuple[str, ...] = ()

    def below(self, kind: str, count: int) -> _Place:
        """Return the position of everything below a vertex."""
        if kind == "slot":
            return _Place(self.times * count, count, self.within)
        return _Place(self.times * count, self.slots, (*self.within, kind))


def _chunks(vertices: Sequence[Vertex], place: _Place) -> Iterator[Chunk]:
    for vertex in vertices:
        kind, count = _type_and_count(vertex)
        if kind == "node":
            yield _node(vertex, count, place)
        elif kind == "slot" and not _holds_node(vertex):
            yield _slot(vertex, count, place)
        elif kind == "memory":
            yield _Contents().add([vertex], place.times).chunk(1)
        elif kind == ALTERNATIVES or not _vertices(vertex, "with") or kind in ("core", "gpu"):
            contents = _Contents().add([{**vertex, "count": 1}])
            contents.need(place.within)
            yield contents.chunk(count * place.times)
        else:
            yield from _chunks(_vertices(vertex, "with"), place.below(kind, count))


def _node(vertex: Vertex, count: int, place: _Place) -> Chunk:
    """Return the request of a node.

    Everything in a slot is exclusive to the job unless marked otherwise (RFC 14).
    """
    contents = _Contents().add(_vertices(vertex, "with"))
    contents.need(place.within)
    more: dict[str, Any] = {}
    if place.slots > 1:
        more["outer_slots"] = place.slots
    if place.slots and "exclusive" not in vertex:
        more["implied"] = True
    most = _most(vertex["count"])
    if most:
        more["most"] = min(UNBOUNDED, most * place.times)
    exclusive = bool(vertex.get("exclusive", bool(place.slots)))
    return contents.chunk(count * place.times, node=True, exclusive=exclusive, **more)


def _slot(vertex: Vertex, count: int, place: _Place) -> Chunk:
    contents = _Contents().add(_vertices(vertex, "with"))
    contents.need(place.within)
    more: dict[str, Any] = {}
    if vertex.get("exclusive"):
        more["exclusive_slot"] = True
    most = _most(vertex["count"])
    if most:
        more["most"] = min(UNBOUNDED, most * place.times)
    return contents.chunk(count * place.times, **more)


def _most(count: object) -> int:
    """Return the end of a range of consecutive counts; 0 for any other range."""
    if type(count) is int:
        return 0
    if isinstance(count, dict):
        plain = count.get("operator", "+") == "+" and count.get("operand", 1) == 1
        return int(count.get("max", UNBOUNDED)) if plain else 0
    match = _RANGE.fullmatch(str(count).strip().removeprefix("[").removesuffix("]"))
    if match is None or match["operand"]:
        return 0
    return int(match["max"] or UNBOUNDED)


def resources_of(jobspec: object) -> Sequence[Vertex]:
    """Return the resource vertices of a jobspec.

    Raises:
        JobspecError: if it is not a jobspec with at least one.
    """
    if not isinstance(jobspec, dict):
        raise JobspecError(None, "is missing or not an object")
    if not jobspec.get("resources"):
        raise JobspecError(None, "lacks 'resources'")
    return _vertices(jobspec, "resources")


def chunks_of(jobspec: object) -> tuple[Chunk, ...]:
    """Return the request in a jobspec, part by part.

    Raises:
        JobspecError: if its resources violate RFC 14.
    """
    with _depth_limited():
        return tuple(_chunks(resources_of(jobspec), _Place()))


def resource_counts(jobspec: object) -> dict[str, int]:
    """Count each resource type, multiplied down the ``with`` edges; ignores units.

    Agrees with ``flux.job.Jobspec.resource_counts``, which supports fixed counts only.

    Raises:
        JobspecError: if its resources violate RFC 14.
    """
    counts: dict[str, int] = {}

    def add(vertices: Sequence[Vertex], times: int) -> None:
        for vertex in vertices:
            kind, count = _type_and_count(vertex)
            counts[kind] = counts.get(kind, 0) + count * times
            add(_vertices(vertex, "with"), count * times)

    with _depth_limited():
        add(resources_of(jobspec), 1)
    return counts


def _slot_contents(vertices: Sequence[Vertex], times: int) -> Iterator[tuple[Any, int, Vertex]]:
    for vertex in vertices:
        kind, count = _type_and_count(vertex)
        if kind == "slot":
            yield vertex.get("label"), count * times, vertex
        yield from _slot_contents(_vertices(vertex, "with"), count * times)


def task_count(jobspec: object) -> int:
    """Count the tasks of all task descriptors: ``per_slot``, ``per_resource`` or ``total``.

    Raises:
        JobspecError: if its tasks violate RFC 14.
    """
    with _depth_limited():
        slots = list(_slot_contents(resources_of(jobspec), 1))
    assert isinstance(jobspec, dict)
    tasks = 0
    for task in _vertices(jobspec, "tasks"):
        counts = task.get("count") if isinstance(task, dict) else None
        if not isinstance(counts, dict):
            raise JobspecError(None, f"task {task!r} lacks a count")
        own = [(count, slot) for label, count, slot in slots if label == task.get("slot")]
        if not own:
            raise JobspecError(None, f"a task is for the missing slot {task.get('slot')!r}")
        tasks += _tasks_of(counts, own)
    return tasks


def _tasks_of(counts: Mapping[str, Any], slots: Sequence[tuple[int, Vertex]]) -> int:
    if "total" in counts:
        return minimum_count(counts["total"])
    if "per_slot" in counts:
        return minimum_count(counts["per_slot"]) * sum(count for count, _ in slots)
    per = counts.get("per_resource")
    if not isinstance(per, dict) or not isinstance(per.get("type"), str):
        raise JobspecError(None, "a task's count needs one of per_slot, per_resource, total")
    below = sum(
        count * resource_counts({"resources": _vertices(slot, "with")}).get(per["type"], 0)
        for count, slot in slots
    )
    if not below:
        raise JobspecError(None, f"a task counts {per['type']!r}, but its slot has none")
    return minimum_count(per.get("count")) * below
