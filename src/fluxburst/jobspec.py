"""Counting what a jobspec asks for (RFC 14, RFC 25): pure functions over plain data.

Where a count is a range, the minimum counts: it is what the job needs to start.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fluxburst.errors import FormatError, JobspecError
from fluxburst.quantities import parse_bytes
from fluxburst.sets import idset_minimum

Vertex = Mapping[str, Any]

_RANGE = re.compile(
    r"(?P<min>[1-9][0-9]{0,17})(?:-(?P<max>[1-9][0-9]{0,17})|\+)"
    r"(?::(?P<operand>[1-9][0-9]{0,17})(?::(?P<operator>[+*^]))?)?"
)
"""A range of RFC 45: ``2-8``, ``2+``, ``2-8:2``, ``2-8:2:*``."""


@dataclass(frozen=True, order=True, slots=True)
class Chunk:
    """One part of a request.

    Attributes:
        count: How many times the part is asked for.
        cores: Cores of one.
        gpus: GPUs of one.
        memory: Bytes of one.
        node: Each of the ``count`` needs a node of its own; otherwise they may share nodes.
        exclusive: Each needs a whole node that no other job uses.
    """

    count: int
    cores: int
    gpus: int = 0
    memory: int = 0
    node: bool = False
    exclusive: bool = False


def minimum_count(count: object) -> int:
    """Return the smallest number that a ``count`` of RFC 14 accepts.

    ``count`` is an integer, a range (``{"min": 2, "max": 8}``), an idset (RFC 22: ``"2,4"``) or a
    compact range (RFC 45: ``"2-8:2:*"``, ``"2+"``).

    Raises:
        JobspecError: if it is none of these, or below zero.
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
    """Check a range of RFC 14, whose keys are the arguments, and return its minimum.

    Raises:
        ValueError: if it is not one.
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
def _bytes_of(unit: str) -> int:
    try:
        if not unit.isalpha():
            raise FormatError(unit, "a unit")
        return parse_bytes(f"1{unit}")
    except FormatError as error:
        raise JobspecError(None, f"memory has the unknown unit {unit!r}") from error


def _memory(vertex: Vertex, count: int) -> int:
    return count * _bytes_of(str(vertex.get("unit", "B")))


def _within(vertex: Vertex) -> tuple[int, int, int]:
    """Cores, GPUs and bytes of everything below ``vertex``."""
    cores = gpus = memory = 0
    for child in _vertices(vertex, "with"):
        kind, count = _type_and_count(child)
        if kind == "core":
            cores += count
        elif kind == "gpu":
            gpus += count
        elif kind == "memory":
            memory += _memory(child, count)
        if "with" in child:
            inner_cores, inner_gpus, inner_memory = _within(child)
            cores += count * inner_cores
            gpus += count * inner_gpus
            memory += count * inner_memory
    return cores, gpus, memory


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


def _chunks(vertices: Sequence[Vertex], times: int, in_slot: bool) -> Iterator[Chunk]:
    for vertex in vertices:
        kind, count = _type_and_count(vertex)
        count *= times
        if kind == "node":
            # What is in a slot belongs to the job alone unless it says otherwise (RFC 14).
            exclusive = bool(vertex.get("exclusive", in_slot))
            yield Chunk(count, *_within(vertex), node=True, exclusive=exclusive)
        elif kind == "slot" and not _holds_node(vertex):
            yield Chunk(count, *_within(vertex))
        elif kind in ("core", "gpu"):
            yield Chunk(count, *_within({"with": [{**vertex, "count": 1}]}))
        elif kind == "memory":
            yield Chunk(1, 0, memory=_memory(vertex, count))
        else:
            yield from _chunks(_vertices(vertex, "with"), count, in_slot or kind == "slot")


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
    """Return what a jobspec asks for, part by part.

    Raises:
        JobspecError: if its resources do not follow RFC 14.
    """
    with _depth_limited():
        return tuple(_chunks(resources_of(jobspec), 1, False))


def resource_counts(jobspec: object) -> dict[str, int]:
    """Count each resource type, multiplied down the ``with`` edges; units are not looked at.

    Agrees with ``flux.job.Jobspec.resource_counts``, which counts fixed counts only.

    Raises:
        JobspecError: if its resources do not follow RFC 14.
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
        JobspecError: if its tasks do not follow RFC 14.
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
            raise JobspecError(None, f"a task is for slot {task.get('slot')!r}, which is not there")
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
        raise JobspecError(None, f"a task counts {per['type']!r}, of which its slot has none")
    return minimum_count(per.get("count")) * below
