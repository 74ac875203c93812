"""Constraints of jobs (RFC 31): the nodes a job may run on.

Operators without values, which the RFC leaves open, are as in flux-core: no ``properties`` match
every node, while an empty ``hostlist``, or no ``ranks``, match none. An object with several
operators, which the RFC does not mention, requires all of them.

A future node may have no hostname and no rank yet. A constraint on these is then neither true nor
false, and stays so under ``not``, as in Kleene's logic.
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
    """The ends of nodes, as a few bits: a plan uses them to find nodes that live long enough.

    However many jobs and nodes there are, a few levels represent all ends: a node counts as ending
    at the highest level that it reaches, a job needs the lowest level that is late enough. So a
    node may be underestimated, but never overestimated. For new nodes the levels are
    exact.

    All times are in seconds since the epoch; inf is never.

    Args:
        hosts: Ends of nodes, by hostname; others never end.
        coming: Ends of future nodes without a hostname.
        new: Ends of nodes that may be provisioned: each is a level.
        wanted: Until when jobs need nodes: unneeded levels are left out.
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
        """Return the end of a node."""
        return self._hosts.get(hostname, math.inf)

    def kind(self, end: float) -> int:
        """Return the bits of a node with this end: one for each level that it reaches."""
        return (1 << bisect_right(self._levels, end)) - 1

    def required_bits(self, until: float) -> int:
        """Return the bit that a node needs to live until then; 0 if all do."""
        if until <= self._soonest:
            return 0
        return 1 << bisect_left(self._levels, until)

    def judge(self, wanted: Iterable[float], ends: Collection[float]) -> bool:
        """Whether the levels correctly distinguish which of these nodes live long enough."""
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
    """Return the levels: for each need, the first end late enough; and never."""
    if not known:
        return ()
    found = {known[place] for until in wanted if (place := bisect_left(known, until)) < len(known)}
    levels = sorted(found)
    step = -(-len(levels) // (MOST_LEVELS - 1)) if levels else 1
    return sorted({*levels[step - 1 :: step], *new, math.inf})


ENDLESS = Ends()
"""No node ends."""


_ILLEGAL = frozenset("!&'\"`|()")
"""Characters forbidden in properties (RFC 20); ``^`` is allowed here, where it negates."""

_DEPTH = 64
"""The maximum nesting of operators."""


class Target(NamedTuple):
    """The facts about a node that constraints check (an execution target in the RFCs).

    ``hostname`` is empty, and ``rank`` None, if not known yet.
    """

    properties: frozenset[str]
    hostname: str = ""
    rank: int | None = None


Test = Callable[[Target], bool | None]
"""Whether a node matches; None if that depends on unknown facts."""


@dataclass(frozen=True, eq=False, slots=True)
class Constraint:
    """A parsed constraint, for checks on many nodes.

    Equal texts usually give the same object, which makes comparison fast.
    ``names_nodes`` is whether it refers to hostnames or ranks.
    """

    text: str
    test: Test
    names_nodes: bool = False

    def matches(
        self, *, properties: Collection[str], hostname: str = "", rank: int | None = None
    ) -> bool:
        """Whether a node certainly matches; see :func:`matches`."""
        return self.test(Target(frozenset(properties), hostname, rank)) is True

    def may_match(self, properties: Collection[str]) -> bool:
        """Whether a node with these properties could match with some hostname and rank."""
        return self.test(Target(frozenset(properties))) is not False


def _anything(_: Target) -> bool:
    return True


ANYTHING = Constraint("{}", _anything)
"""The constraint of a job without one."""


def matches(
    constraint: Mapping[str, Any] | None,
    *,
    properties: Collection[str],
    hostname: str = "",
    rank: int | None = None,
) -> bool:
    """Whether a node certainly matches a constraint (RFC 31).

    Args:
        constraint: The constraint object. None, or one without operators, matches every node;
            several operators must all match.
        properties: The node's properties (RFC 20).
        hostname: Its hostname; empty if not known yet.
        rank: Its rank; None if not known yet.

    Raises:
        JobspecError: if the constraint violates the RFC.
    """
    return compiled(constraint).matches(properties=properties, hostname=hostname, rank=rank)


def compiled(constraint: object, job: int | None = None) -> Constraint:
    """Parse a constraint, with a cache.

    Args:
        constraint: The constraint object, or None for none.
        job: Its job, for the error.

    Raises:
        JobspecError: if it violates RFC 31.
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
    """Whether a valid constraint refers to hostnames or ranks."""
    return any(
        any(_names_nodes(value) for value in values) if name in _CONDITIONALS else name in _OF_NODES
        for name, values in constraint.items()
    )


def _test_of(constraint: object, depth: int) -> Test:
    """Return the test for a constraint object: all its operators must match."""
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
    """Return the test for ``hostlist``; an empty list matches no node, whatever its name."""
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
    """Return the test for ``or``; without values it matches everything (RFC 31)."""

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
    """Return the test for ``not``, which takes one value; without it matches nothing (RFC 31)."""
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
    """The constraints of a plan that a node matches, as the bits of a number.

    Higher bits show how long it lives. Nodes with equal bits are equal for every job of the
    plan, so counting them is enough.

    Args:
        constraints: The constraints.
        ends: The ends of nodes; by default none ends.
    """

    def __init__(self, constraints: Collection[Constraint] = (), ends: Ends = ENDLESS) -> None:
        distinct = dict.fromkeys(c for c in constraints if c is not ANYTHING)
        self._bits = {constraint: 1 << number for number, constraint in enumerate(distinct)}
        self.ends = ends
        self._types: Mapping[str, float] = {}

    def for_types(self, types: Mapping[str, float]) -> ConstraintBits:
        """Return the same, with node types of these names ending then."""
        other = copy.copy(self)
        other._types = types
        return other

    def required_bits(self, constraint: Constraint, until: float = 0.0) -> int:
        """Return the bits that a node must have to match; 0 if any node does.

        Args:
            constraint: The constraint.
            until: The required end, in seconds since the epoch.

        Raises:
            KeyError: if it is not one of the constraints.
        """
        match = 0 if constraint is ANYTHING else self._bits[constraint]
        return match | self.ends.required_bits(until) << len(self._bits)

    def know(self, constraints: Iterable[Constraint]) -> bool:
        """Whether all of these constraints have bits."""
        return all(c is ANYTHING or c in self._bits for c in constraints)

    def of(self, properties: Collection[str], hostname: str = "", rank: int | None = None) -> int:
        """Return the bits of a node: the constraints that it certainly matches."""
        return self._kind(properties, hostname, rank, self.ends.of_host(hostname))

    def of_type(self, node_type: NodeType, hostname: str = "", rank: int | None = None) -> int:
        """Return the bits of a future node of a type."""
        end = self._types.get(node_type.name, math.inf)
        return self._kind(node_type.properties, hostname, rank, end)

    def possible(self, node_type: NodeType) -> int:
        """Return the maximum bits of a node of a type, over all hosts."""
        lives = self.ends.kind(self._types.get(node_type.name, math.inf)) << len(self._bits)
        properties = node_type.properties
        may = (bit for constraint, bit in self._bits.items() if constraint.may_match(properties))
        return lives + sum(may)

    @property
    def names_nodes(self) -> bool:
        """Whether some constraint refers to hostnames or ranks."""
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
"""Without constraints and ends, all nodes have the same bits."""
