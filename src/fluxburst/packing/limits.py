"""How many more nodes the limits allow: counted before any request, never exceeded.

A live burst counts with its total cost until its lease ends; an ended one, with
its actual cost. Days are in UTC.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fluxburst.config.policy import Limit, Limits
from fluxburst.ledger.entries import DAY, HOUR, Entry
from fluxburst.model.burst import Burst
from fluxburst.model.node import NodeType

if TYPE_CHECKING:
    from fluxburst.ledger import Ledger

ROUNDING = 1e-9
"""Tolerance for sums of floating-point numbers."""


class Owner(NamedTuple):
    """The owner of a burst.

    Attributes:
        plugin: Its plugin.
        user: The numeric id of its user; None for no single one.
        queue: Its queue; empty for none.
        lease: Initial length of its lease, in seconds; None for the configured one.
    """

    plugin: str
    user: int | None = None
    queue: str = ""
    lease: float | None = None


class Sum(NamedTuple):
    """Total usage of one owner's ended bursts."""

    owner: Owner
    node_hours: float
    cost: float


class Scope(NamedTuple):
    """The scope of a limit: ``kind`` is instance, plugin, user or queue."""

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else "the instance"


@dataclass(frozen=True)
class Spent:
    """Usage at one time.

    Attributes:
        now: That time, in seconds since the epoch.
        live: The bursts that exist or may exist.
        ended: Total usage of ended bursts.
        recent: Bursts that ended today, or later.
    """

    now: float
    live: Sequence[Entry] = ()
    ended: Sequence[Sum] = ()
    recent: Sequence[Entry] = ()


def spent_of(ledger: Ledger, now: float) -> Spent:
    """Return the usage at a time, from a ledger.

    Raises:
        LedgerError: if it is unreadable.
    """
    ended = [Sum(Owner(p, u, q), hours, cost) for p, u, q, hours, cost in ledger.ended_sums()]
    recent = [entry for entry in ledger.entries(start_of_day(now)) if not entry.live]
    return Spent(now, ledger.live(), ended, recent)


def start_of_day(now: float) -> float:
    """Return the start of a time's day (UTC)."""
    return now - now % DAY


@dataclass
class BudgetLine:
    """One limit of one scope, and what is left of it.

    Attributes:
        scope: Its scope.
        what: Which limit, one of :data:`~fluxburst.config.policy.LIMITED`.
        limit: Its value.
        left: What is left of it; negative if exceeded.
        share: The part of the configured lease, in hours, that counts for it.
    """

    scope: Scope
    what: str
    limit: float
    left: float
    share: float = 0.0

    def weight(self, price: float, share: float | None = None) -> float:
        """Return one node's usage; ``share`` is for its own lease, if that differs."""
        if self.what == "nodes":
            return 1.0
        if self.what == "bursts":
            return 0.0
        if self.what == "cost_per_hour":
            return price
        hours = self.share if share is None else share
        return hours * (1.0 if self.what == "node_hours" else price)

    def nodes_left(self, price: float, *, opens: bool, share: float | None = None) -> float:
        """Return how many nodes of a price it allows; ``opens``: they form a new burst."""
        if self.what == "bursts":
            return math.inf if not opens or self.left >= 1 else 0
        weight = self.weight(price, share)
        return math.floor(max(0.0, self.left) / weight + ROUNDING) if weight else math.inf

    def spend(self, price: float, nodes: int, *, opens: bool, share: float | None = None) -> None:
        """Deduct nodes from what is left."""
        spent = float(opens) if self.what == "bursts" else self.weight(price, share) * nodes
        self.left -= spent

    def __str__(self) -> str:
        used = self.limit - self.left
        return (
            f"the limit {self.what} of {self.scope} is {self.limit:g}, of which {used:.4g} is used"
        )


class Budget:
    """What may still be opened, for all owners together.

    Args:
        limits: The limits.
        spent: The usage.
        lease: Length of a new burst's lease, in seconds.
    """

    def __init__(self, limits: Limits, spent: Spent, lease: float) -> None:
        self._limits = limits
        self._spent = spent
        self._lease = lease
        self._unlimited = not limits.is_set
        self._lines: dict[Scope, list[BudgetLine]] = {}
        self._opened: set[tuple[Owner, str]] = set()

    def copy(self) -> Budget:
        """Return an independent copy."""
        other = copy.copy(self)
        other._lines = {
            scope: [copy.copy(line) for line in lines] for scope, lines in self._lines.items()
        }
        other._opened = set(self._opened)
        return other

    def restore(self, other: Budget) -> None:
        """Take over the contents of another budget, which must not be used afterwards."""
        self._lines, self._opened = other._lines, other._opened

    def nodes_left(self, owner: Owner, node_type: NodeType) -> float:
        """Return how many more nodes of a type an owner may open."""
        if self._unlimited:
            return math.inf
        opens = (owner, node_type.name) not in self._opened
        lease, price = self._lease_of(owner, node_type), node_type.price
        over = self._over(owner)
        left = [
            line.nodes_left(price, opens=opens, share=self._share(line.what, lease))
            for line in over
        ]
        return min(left, default=math.inf)

    def spend(self, owner: Owner, node_type: NodeType, nodes: int) -> None:
        """Count nodes opened by an owner."""
        opens = (owner, node_type.name) not in self._opened
        lease = self._lease_of(owner, node_type)
        for line in self._over(owner):
            share = self._share(line.what, lease)
            line.spend(node_type.price, nodes, opens=opens, share=share)
        self._opened.add((owner, node_type.name))

    def why_not(self, owner: Owner, node_type: NodeType, nodes: int) -> str:
        """Return which limit this many more nodes would exceed, or empty for none."""
        if self._unlimited:
            return ""
        opens = (owner, node_type.name) not in self._opened
        lease = self._lease_of(owner, node_type)
        for line in self._over(owner):
            share = self._share(line.what, lease)
            if line.nodes_left(node_type.price, opens=opens, share=share) < nodes:
                return str(line)
        return ""

    def why_not_longer(self, owner: Owner, burst: Burst, start: float, end: float) -> str:
        """Return which limit a burst would exceed if it lived from start to end, or empty for none.

        Its nodes themselves are already counted.
        """
        hours = burst.nodes * (end - start) / HOUR
        for line in self._over(owner):
            needed = {
                "node_hours": hours,
                "cost": hours * burst.price,
                "cost_per_day": min(hours, burst.nodes * DAY / HOUR) * burst.price,
            }
            if needed.get(line.what, 0.0) > max(0.0, line.left) + ROUNDING:
                return str(line)
        return ""

    def lines(self) -> Iterator[BudgetLine]:
        """Yield what is left for the instance, and for everything with its own limit."""
        names = [Scope("instance")]
        names += [Scope("plugin", name) for name in self._limits.plugins]
        names += [Scope("user", name) for name in self._limits.users if name != "*"]
        names += [Scope("queue", name) for name in self._limits.queues if name != "*"]
        for scope in names:
            yield from self._of(scope, self._limit_of(scope))

    def _limit_of(self, scope: Scope) -> Limit:
        tables: dict[str, Mapping[str, Limit]] = {
            "plugin": self._limits.plugins,
            "user": self._limits.users,
            "queue": self._limits.queues,
        }
        return self._limits if scope.kind == "instance" else tables[scope.kind][scope.name]

    def _over(self, owner: Owner) -> Iterator[BudgetLine]:
        """Yield all limits that apply to an owner."""
        yield from self._of(Scope("instance"), self._limits)
        yield from self._of(Scope("plugin", owner.plugin), self._limits.plugins.get(owner.plugin))
        if owner.user is not None:
            name = self._limits.name_of_user(owner.user)
            yield from self._of(Scope("user", name), self._limits.of_user(owner.user))
        if owner.queue:
            yield from self._of(Scope("queue", owner.queue), self._limits.of_queue(owner.queue))

    def _of(self, scope: Scope, limit: Limit | None) -> list[BudgetLine]:
        if limit is None:
            return []
        if scope not in self._lines:
            self._lines[scope] = [
                BudgetLine(
                    scope,
                    what,
                    value,
                    value - self._used(scope, what),
                    self._share(what, self._lease),
                )
                for what, value in limit.values()
            ]
        return self._lines[scope]

    def _lease_of(self, owner: Owner, node_type: NodeType) -> float:
        """Return the initial length of the lease of an owner's burst, in seconds."""
        lease = self._lease if owner.lease is None else owner.lease
        return lease if node_type.max_lifetime is None else min(lease, node_type.max_lifetime)

    def _share(self, what: str, lease: float) -> float:
        """Return how many hours of a lease count: for a daily limit, those of one day."""
        hours = lease / HOUR
        return min(hours, DAY / HOUR) if what == "cost_per_day" else hours

    def _used(self, scope: Scope, what: str) -> float:
        spent = self._spent
        live = [entry for entry in spent.live if self._within(scope, owner_of(entry))]
        if what == "nodes":
            return float(sum(entry.burst.nodes for entry in live))
        if what == "bursts":
            return float(len(live))
        if what == "cost_per_hour":
            return sum(entry.burst.nodes * entry.burst.price for entry in live)
        if what == "cost_per_day":
            recent = [e for e in spent.recent if self._within(scope, owner_of(e))]
            until = max([spent.now + self._lease, *(e.reserved_to(spent.now) for e in live)])
            return _most_in_a_day([*live, *recent], spent.now, until)
        ended = [total for total in spent.ended if self._within(scope, total.owner)]
        if what == "cost":
            return sum(t.cost for t in ended) + sum(e.projected(spent.now) for e in live)
        hours = [e.node_hours(e.reserved_from(spent.now), e.reserved_to(spent.now)) for e in live]
        return sum(total.node_hours for total in ended) + sum(hours)

    def _within(self, scope: Scope, owner: Owner) -> bool:
        if scope.kind == "plugin":
            return owner.plugin == scope.name
        if scope.kind == "user":
            return owner.user is not None and self._limits.name_of_user(owner.user) == scope.name
        if scope.kind == "queue":
            return owner.queue == scope.name
        return True


def _most_in_a_day(entries: Sequence[Entry], now: float, until: float) -> float:
    """Return the cost of the most expensive day, from now until then."""
    day = start_of_day(now)
    most = 0.0
    while day <= until:
        most = max(most, sum(cost_between(entry, day, day + DAY, now) for entry in entries))
        day += DAY
    return most


def cost_between(entry: Entry, start: float, end: float, now: float) -> float:
    """Return a burst's cost between two times, including its reservation."""
    start, end = max(start, entry.reserved_from(now)), min(end, entry.reserved_to(now))
    return entry.burst.price * entry.node_hours(start, end)


def owner_of(entry: Entry) -> Owner:
    """Return the owner that a burst is charged to."""
    return Owner(entry.burst.plugin, entry.user, entry.queue)
