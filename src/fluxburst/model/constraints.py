"""Constraints of jobs (RFC 31): which nodes a job may run on.

What the RFC leaves to operators that list no values is as in flux-core: no ``properties`` match
every node, while an empty ``hostlist``, or no ``ranks``, match none. An object with several
operators, of which the RFC does not speak, means all of them.

A node that is still to come may have no hostname and no rank yet. What asks for these is neither
met nor not met then, and stays so under ``not``, as in the logic of Kleene.
"""

from __future__ import annotations

import copy
import functools
import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fluxburst.errors import FormatError, JobspecError, did_you_mean
from fluxburst.formats.hostlist import hostlist_test, idset_test
from fluxburst.model.node import NodeType

MOST_LEVELS = 16


class Ends:
    """When nodes end, as a few bits: by these a plan tells apart which nodes live long enough.

    However many jobs and nodes there are, the ends are told apart by a few levels: a node is taken
    to end at the highest level that it reaches, a job to need the lowest that is late enough. So a
    node may be held for shorter-lived than it is, and never for longer-lived. Of new nodes it is
    exact.

    All times are in seconds since the epoch; inf is never.

    Args:
        hosts: When nodes end, by hostname; others never do.
        coming: When nodes end that have no hostname yet.
        new: When nodes end that may be brought up: each is a level.
        wanted: Until when jobs need nodes to live: levels that none of them needs are left out.
    """

    def __init__(
        self,
        hosts: Mapping[str, float] | None = None,
        coming: Collection[float] = (),
        new: Collection[float] = (),
        wanted: Iterable[float] = (),
    ) -> None:
        self._hosts = hosts or {}
        known = sorted({*self._hosts.values(), *coming, *new} - {math.inf})
        self._soonest = known[0] if known else math.inf
        self._levels = _levels(known, new, wanted)

    def of_host(self, hostname: str) -> float:
        """Return when a node ends."""
        return self._hosts.get(hostname, math.inf)

    def kind(self, end: float) -> int:
        """Return the bits of a node that ends then: one for each level that it reaches."""
        return (1 << bisect_right(self._levels, end)) - 1

    def required_bits(self, until: float) -> int:
        """Return the bit that a node must have to live until then; 0 where all of them do."""
        if until <= self._soonest:
            return 0
        return 1 << bisect_left(self._levels, until)

    def judge(self, wanted: Iterable[float], ends: Collection[float]) -> bool:
        """Whether the levels tell right which of nodes that end so live as long as is wanted."""
        if math.isinf(self._soonest) and not any(map(math.isfinite, ends)):
            return True
        kinds = [(end, self.kind(end)) for end in ends]
        return all(
            bool(kind & bit or not bit) == (until <= end)
            for until in set(wanted)
            for bit in [self.required_bits(until)]
            for end, kind in kinds
        )


def _levels(
    known: Sequence[float], new: Collection[float], wanted: Iterable[float]
) -> Sequence[float]:
    """Return the levels: the ends that are the first late enough for a job, and never."""
    if not known:
        return ()
    found = {known[place] for until in wanted if (place := bisect_left(known, until)) < len(known)}
    levels = sorted(found)
    step = -(-len(levels) // (MOST_LEVELS - 1)) if levels else 1
    return sorted({*levels[step - 1 :: step], *new, math.inf})


ENDLESS = Ends()
"""Where no node ends."""


_ILLEGAL = frozenset("!&'\"`|()")
"""What no property may contain (RFC 20); ``^`` is allowed here, where it negates."""

_DEPTH = 64
"""How deeply operators may be nested."""


class Target(NamedTuple):
    """What constraints look at of a node (an execution target, as the RFCs call it).

    ``hostname`` is empty, and ``rank`` None, where they are not known yet.
    """

    properties: frozenset[str]
    hostname: str = ""
    rank: int | None = None


Test = Callable[[Target], bool | None]
"""Whether a node matches; None where that depends on what is not known of it yet."""


@dataclass(frozen=True, eq=False, slots=True)
class Constraint:
    """A constraint that was read, ready to be asked about many nodes.

    Those of the same text are the same object, as a rule, which makes them quick to compare.
    ``names_nodes`` is whether it asks for hostnames or ranks.
    """

    text: str
    test: Test
    names_nodes: bool = False

    def matches(
        self, *, properties: Collection[str], hostname: str = "", rank: int | None = None
    ) -> bool:
        """Whether a node is sure to match; see :func:`matches`."""
        return self.test(Target(frozenset(properties), hostname, rank)) is True

    def may_match(self, properties: Collection[str]) -> bool:
        """Whether a node with these properties could match, by its hostname and its rank."""
        return self.test(Target(frozenset(properties))) is not False


def _anything(_: Target) -> bool:
    return True


ANYTHING = Constraint("{}", _anything)
"""The constraint of a job that has none."""


def matches(
    constraint: Mapping[str, Any] | None,
    *,
    properties: Collection[str],
    hostname: str = "",
    rank: int | None = None,
) -> bool:
    """Whether a node is sure to match a constraint (RFC 31).

    Args:
        constraint: The constraint object. None, and one without operators, match every node; one
            with several operators means all of them.
        properties: The node's properties (RFC 20).
        hostname: Its hostname; empty where it is not known yet.
        rank: Its rank; None where it is not known yet.

    Raises:
        JobspecError: if the constraint does not follow the RFC.
    """
    return compiled(constraint).matches(properties=properties, hostname=hostname, rank=rank)


def compiled(constraint: object, job: int | None = None) -> Constraint:
    """Read a constraint; one that was read before is not read again.

    Args:
        constraint: The constraint object, or None for none.
        job: Whose it is, for the error.

    Raises:
        JobspecError: if it does not follow RFC 31.
    """
    if constraint is None or constraint == {}:
        return ANYTHING
    try:
        if not isinstance(constraint, Mapping):
            raise _malformed(f"{constraint!r} is not an object")
        return _read(_as_json(constraint))
    except RecursionError:
        raise JobspecError(job, "constraints: nested too deeply") from None
    except JobspecError as error:
        raise JobspecError(job, error.problem) from error


def _malformed(problem: str) -> JobspecError:
    return JobspecError(None, f"constraints: {problem}")


def _as_json(constraint: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(constraint))
    except (TypeError, ValueError) as error:
        raise _malformed(f"not JSON ({error})") from error


@functools.lru_cache(maxsize=1024)
def _read(text: str) -> Constraint:
    constraint = json.loads(text)
    return Constraint(text, _test_of(constraint, _DEPTH), _names_nodes(constraint))


def _names_nodes(constraint: Mapping[str, Any]) -> bool:
    """Whether a constraint that can be read asks for hostnames or ranks."""
    return any(
        any(_names_nodes(value) for value in values) if name in _CONDITIONALS else name in _OF_NODES
        for name, values in constraint.items()
    )


def _test_of(constraint: object, depth: int) -> Test:
    """Return the test of a constraint object: all its operators have to match."""
    if not isinstance(constraint, dict):
        raise _malformed(f"{constraint!r} is not an object")
    if not depth:
        raise _malformed("nested too deeply")
    tests = [_operation(name, values, depth) for name, values in constraint.items()]
    return tests[0] if len(tests) == 1 else _all(tests)


def _operation(name: str, values: object, depth: int) -> Test:
    if name not in (*_LEAVES, *_CONDITIONALS):
        known = did_you_mean(name, (*_LEAVES, *_CONDITIONALS))
        raise _malformed(f"{name!r} is not an operator{known}")
    if not isinstance(values, list):
        raise _malformed(f"{name!r} needs a list, not {values!r}")
    if name in _CONDITIONALS:
        return _CONDITIONALS[name]([_test_of(value, depth - 1) for value in values])
    for value in values:
        if not isinstance(value, str):
            raise _malformed(f"{name!r} lists {value!r}, which is not a text")
    try:
        return _LEAVES[name](values)
    except FormatError as error:
        raise _malformed(f"{name!r}: {error}") from error


# --- the operators -------------------------------------------------------------------------


def _properties(values: Sequence[str]) -> Test:
    for value in values:
        if not _ILLEGAL.isdisjoint(value):
            raise FormatError(value, "a property (RFC 20)")
    wanted = frozenset(value for value in values if not value.startswith("^"))
    barred = frozenset(value[1:] for value in values if value.startswith("^"))
    return lambda node: wanted <= node.properties and barred.isdisjoint(node.properties)


def _hostlist(values: Sequence[str]) -> Test:
    """Return the test of ``hostlist``; an empty list matches no node, whatever its name."""
    within = [hostlist_test(value) for value in values]

    def test(node: Target) -> bool | None:
        if within and not node.hostname:
            return None
        return any(has(node.hostname) for has in within)

    return test


def _ranks(values: Sequence[str]) -> Test:
    within = [idset_test(value) for value in values]

    def test(node: Target) -> bool | None:
        rank = node.rank
        if rank is None:
            return None if within else False
        return any(has(rank) for has in within)

    return test


def _all(tests: Sequence[Test]) -> Test:
    def test(node: Target) -> bool | None:
        unknown = False
        for one in tests:
            answer = one(node)
            if answer is False:
                return False
            unknown = unknown or answer is None
        return None if unknown else True

    return test


def _any(tests: Sequence[Test]) -> Test:
    """Return the test of ``or``; without values it matches everything (RFC 31)."""

    def test(node: Target) -> bool | None:
        unknown = False
        for one in tests:
            answer = one(node)
            if answer:
                return True
            unknown = unknown or answer is None
        return None if unknown else not tests

    return test


def _not(tests: Sequence[Test]) -> Test:
    """Return the test of ``not``, which takes one value; without it matches nothing (RFC 31)."""
    if len(tests) > 1:
        raise _malformed(f"'not' takes one value, not {len(tests)}")

    def test(node: Target) -> bool | None:
        answer = tests[0](node) if tests else True
        return None if answer is None else not answer

    return test


_LEAVES: Mapping[str, Callable[[Sequence[str]], Test]] = {
    "properties": _properties,
    "hostlist": _hostlist,
    "ranks": _ranks,
}
_OF_NODES = frozenset({"hostlist", "ranks"})
_CONDITIONALS: Mapping[str, Callable[[Sequence[Test]], Test]] = {
    "and": _all,
    "or": _any,
    "not": _not,
}


# --- many nodes and many constraints -------------------------------------------------------


class ConstraintBits:
    """Which of the constraints of a plan a node matches, as the bits of a number: its kind.

    The bits above those say how long it lives. Nodes of one kind are alike to every job of the
    plan, so it is enough to count them.

    Args:
        constraints: The constraints.
        ends: How long nodes live; by default for ever.
    """

    def __init__(self, constraints: Collection[Constraint] = (), ends: Ends = ENDLESS) -> None:
        distinct = dict.fromkeys(c for c in constraints if c is not ANYTHING)
        self._bits = {constraint: 1 << number for number, constraint in enumerate(distinct)}
        self.ends = ends
        self._types: Mapping[str, float] = {}

    def for_types(self, types: Mapping[str, float]) -> ConstraintBits:
        """Return the same kinds, where node types of these names end then."""
        other = copy.copy(self)
        other._types = types
        return other

    def required_bits(self, constraint: Constraint, until: float = 0.0) -> int:
        """Return the bits that a node's kind must have to match; 0 where any node does.

        Args:
            constraint: What it has to match.
            until: How long it has to live, in seconds since the epoch.

        Raises:
            KeyError: if this is not one of the constraints.
        """
        match = 0 if constraint is ANYTHING else self._bits[constraint]
        return match | self.ends.required_bits(until) << len(self._bits)

    def know(self, constraints: Iterable[Constraint]) -> bool:
        """Whether nodes are told apart by all of these constraints."""
        return all(c is ANYTHING or c in self._bits for c in constraints)

    def of(self, properties: Collection[str], hostname: str = "", rank: int | None = None) -> int:
        """Return the kind of a node: the constraints that it is sure to match."""
        return self._kind(properties, hostname, rank, self.ends.of_host(hostname))

    def of_type(self, node_type: NodeType, hostname: str = "", rank: int | None = None) -> int:
        """Return the kind of a node of a type that is still to come."""
        end = self._types.get(node_type.name, math.inf)
        return self._kind(node_type.properties, hostname, rank, end)

    def possible(self, node_type: NodeType) -> int:
        """Return what the kind of a node of a type may be at most, whichever host it is on."""
        lives = self.ends.kind(self._types.get(node_type.name, math.inf)) << len(self._bits)
        properties = node_type.properties
        may = (bit for constraint, bit in self._bits.items() if constraint.may_match(properties))
        return lives + sum(may)

    @property
    def names_nodes(self) -> bool:
        """Whether some constraint asks for hostnames or ranks."""
        return any(constraint.names_nodes for constraint in self._bits)

    def _kind(
        self, properties: Collection[str], hostname: str, rank: int | None, end: float
    ) -> int:
        kind = self.ends.kind(end) << len(self._bits)
        if self._bits:
            node = Target(frozenset(properties), hostname, rank)
            sure = (bit for constraint, bit in self._bits.items() if constraint.test(node) is True)
            kind += sum(sure)
        return kind


ALL_ALIKE = ConstraintBits()
"""Where no job has constraints, and nodes live for ever, all of them are of one kind."""
