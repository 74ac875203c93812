"""The current state: bursts, nodes, jobs, limits, breakers and spending, at one time."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fluxburst.config.policy import Policy
from fluxburst.ledger import Breaker, Entry, Ledger
from fluxburst.ledger.export import of_entry
from fluxburst.model.burst import Burst, BurstState
from fluxburst.model.plan import Outcome, Plan
from fluxburst.packing.limits import Budget, Scope, Spent, spent_of, start_of_day
from fluxburst.plugin.base import BurstPlugin
from fluxburst.provider import drains
from fluxburst.reports.leases import unarmed

if TYPE_CHECKING:
    from fluxburst.client import FluxBurst


@dataclass(frozen=True)
class Nodes:
    """Nodes of the existing bursts: how many were requested, and how many have joined."""

    asked: int
    joined: int


@dataclass(frozen=True)
class Jobs:
    """Numbers of jobs: pending; and of these, candidates for bursting (selected), those assigned
    to a plugin (given), and candidates that no plugin takes (unmatched).
    """

    pending: int
    selected: int
    given: int
    unmatched: int


@dataclass(frozen=True)
class LimitUse:
    """One limit.

    Attributes:
        scope: What it applies to.
        what: Which limit, one of :data:`~fluxburst.config.policy.LIMITED`.
        limit: Its value.
        used: The part used, including reservations.
        left: The rest; negative if exceeded.
    """

    scope: Scope
    what: str
    limit: float
    used: float
    left: float


@dataclass(frozen=True)
class Spending:
    """Money, in the currency of the plugins' prices.

    Attributes:
        per_hour: Current cost of all bursts per hour.
        today: Spending since the day (UTC) began.
        total: All spending so far.
        reserved: What existing bursts may still cost until their leases end.
    """

    per_hour: float
    today: float
    total: float
    reserved: float


@dataclass(frozen=True)
class Status:
    """The current state.

    Attributes:
        at: Its time, in seconds since the epoch.
        instance: Name of the instance; empty if not known yet.
        unreachable: Why the instance could not be asked; empty if it was.
        holder: The holder of the instance; empty if there is none.
        bursts: The bursts that exist or may exist.
        nodes: Their nodes.
        jobs: The numbers of jobs; None if the instance could not be asked.
        limits: Each configured limit, and its usage.
        breakers: The node types that failed recently.
        spending: The costs.
        missing: For each plugin with bursts that is not installed, their names.
        problems: Other problems, as text.
        recorded: Time of the last record, in seconds since the epoch; None if there is none. While
            nobody holds the instance, its bursts are shown as of that time.
        unwritable: Why the ledger cannot be written; empty while it can. While set, nothing is
            provisioned.
        unarmed: Names of the bursts whose nodes do not end automatically with their lease, as far
            as their plugins are loaded.
        not_startable: Ids of the jobs that more nodes would not help to start, by reason.
    """

    at: float
    instance: str
    unreachable: str
    holder: str
    bursts: tuple[Entry, ...]
    nodes: Nodes
    jobs: Jobs | None
    limits: tuple[LimitUse, ...]
    breakers: tuple[Breaker, ...]
    spending: Spending
    missing: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...] = ()
    recorded: float | None = None
    unwritable: str = ""
    unarmed: frozenset[str] = frozenset()
    not_startable: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def is_open(self, breaker: Breaker) -> bool:
        """Whether a breaker's node type is not requested now."""
        return breaker.retry_at is not None and self.at < breaker.retry_at

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, in the schema of the user guide."""
        return {
            "at": self.at,
            "instance": self.instance or None,
            "unreachable": self.unreachable or None,
            "holder": self.holder or None,
            "bursts": [of_entry(entry, self.at) for entry in self.bursts],
            "nodes": dataclasses.asdict(self.nodes),
            "jobs": None if self.jobs is None else dataclasses.asdict(self.jobs),
            "limits": [
                {**dataclasses.asdict(limit), "scope": limit.scope.kind, "name": limit.scope.name}
                for limit in self.limits
            ],
            "breakers": [
                {**dataclasses.asdict(breaker), "open": self.is_open(breaker)}
                for breaker in self.breakers
            ],
            "spending": dataclasses.asdict(self.spending),
            "missing": {plugin: list(names) for plugin, names in self.missing.items()},
            "problems": list(self.problems),
            "recorded": self.recorded,
            "unwritable": self.unwritable or None,
            "unarmed": sorted(self.unarmed),
            "not_startable": [
                {"why": why, "jobs": list(jobs)} for why, jobs in self.not_startable.items()
            ],
        }


def of_client(client: FluxBurst, plan: Plan | None = None, problems: Sequence[str] = ()) -> Status:
    """Return the current state of a client. Asks no provider.

    Args:
        client: The client.
        plan: The last plan; by default a new one is made.
        problems: Other problems, as text.

    Raises:
        InstanceError: if the instance cannot be reached.
        LedgerError: if the ledger is unreadable.
    """
    made = client.plan() if plan is None else plan
    hosts = {host for entry in client.ledger.live() for host in entry.burst.hostnames}
    nodes = client.nodes()
    drained = drains.lines(drains.drained_by_others(nodes, hosts))
    return of_ledger(
        client.ledger,
        client.policy,
        client.now(),
        installed=client.hooks.offers.keys() | client.plugins.keys(),
        instance=client.instance.name,
        jobs=count_jobs(made),
        holder=client.holder(),
        problems=[*problems, *(str(error) for error in made.errors), *drained],
        unwritable=client.why_unwritable(),
        plugins=client.plugins,
        up={node.hostname: node.up for node in nodes},
        not_startable=made.not_startable,
    )


def of_service(client: FluxBurst) -> Status:
    """Return the current state of a running service's client, as of its last pass.

    Raises:
        LedgerError: if the ledger is unreadable.
    """
    pending, given, unmatched = client.queue_counts()
    return of_ledger(
        client.ledger,
        client.policy,
        client.now(),
        installed=client.hooks.offers.keys() | client.plugins.keys(),
        jobs=Jobs(pending, given + unmatched, given, unmatched),
        unwritable=client.why_unwritable(),
    )


def of_ledger(
    ledger: Ledger,
    policy: Policy,
    now: float,
    *,
    installed: Collection[str],
    instance: str = "",
    unreachable: str = "",
    jobs: Jobs | None = None,
    holder: str = "",
    problems: Sequence[str] = (),
    unwritable: str = "",
    plugins: Mapping[str, BurstPlugin] | None = None,
    up: Mapping[str, bool] | None = None,
    not_startable: Mapping[str, tuple[int, ...]] | None = None,
) -> Status:
    """Return the current state according to a ledger alone.

    Args:
        ledger: The ledger.
        policy: The configured limits.
        now: Current time, in seconds since the epoch.
        installed: Names of the installed burst plugins.
        instance: Name of the instance; by default the one in the ledger.
        unreachable: Why the instance could not be asked.
        jobs: The numbers of jobs, if known.
        holder: The holder of the instance.
        problems: Other problems, as text.
        unwritable: Why the ledger cannot be written.
        plugins: The loaded plugins, by name.
        up: Whether each node of the instance is up, by hostname, if it could be asked.
        not_startable: The jobs that more nodes would not help to start, by reason.

    Raises:
        LedgerError: if it is unreadable.
    """
    with ledger.snapshot():
        spent = spent_of(ledger, now)
        breakers = tuple(ledger.breakers().values())
        recorded = ledger.last_recorded()
        instance = instance or ledger.instance
    bursts = tuple(_as_seen(entry, up or {}) for entry in spent.live)
    missing: dict[str, tuple[str, ...]] = {}
    for entry in bursts:
        plugin = entry.burst.plugin
        if plugin not in installed:
            missing[plugin] = (*missing.get(plugin, ()), entry.burst.name)
    return Status(
        at=now,
        instance=instance,
        unreachable=unreachable,
        holder=holder,
        bursts=bursts,
        nodes=_count_nodes([entry.burst for entry in bursts]),
        jobs=jobs,
        limits=_limits(policy, spent),
        breakers=breakers,
        spending=_spending(spent),
        missing=missing,
        problems=tuple(problems),
        recorded=recorded,
        unwritable=unwritable,
        unarmed=unarmed(bursts, plugins or {}),
        not_startable=not_startable or {},
    )


def count_jobs(plan: Plan) -> Jobs:
    """Return the numbers of jobs in a plan."""
    outcomes = Counter(decision.outcome for decision in plan.decisions)
    given = outcomes[Outcome.ALREADY_ASSIGNED]
    return Jobs(len(plan.decisions), len(plan.jobs), given, outcomes[Outcome.UNMATCHED])


def _as_seen(entry: Entry, up: Mapping[str, bool]) -> Entry:
    """Return an entry with the number of joined nodes, according to the instance's nodes.

    If the instance knows none of them, all nodes of a ready burst count; of other bursts, those
    that had joined when last observed.
    """
    burst = entry.burst
    known = [up[host] for host in burst.hostnames if host in up]
    if known and not burst.isolated:
        joined = sum(known)
    else:
        joined = burst.nodes if burst.state is BurstState.READY else burst.joined
    return replace(entry, burst=replace(burst, joined=joined))


def _count_nodes(bursts: Sequence[Burst]) -> Nodes:
    joining = [burst for burst in bursts if not burst.isolated]
    return Nodes(sum(b.nodes for b in joining), sum(b.joined for b in joining))


def _limits(policy: Policy, spent: Spent) -> tuple[LimitUse, ...]:
    lease = min(policy.lifetimes.lease, policy.lifetimes.max_lifetime)
    return tuple(
        LimitUse(c.scope, c.what, c.limit, c.limit - c.left, c.left)
        for c in Budget(policy.limits, spent, lease).lines()
    )


def _spending(spent: Spent) -> Spending:
    now, midnight = spent.now, start_of_day(spent.now)
    today = [
        entry.burst.price
        * entry.node_hours(max(midnight, entry.billed_from), min(now, entry.billed_to(now)))
        for entry in (*spent.live, *spent.recent)
    ]
    return Spending(
        per_hour=sum(entry.burst.nodes * entry.burst.price for entry in spent.live),
        today=sum(today),
        total=sum(part.cost for part in spent.ended) + sum(e.cost(now) for e in spent.live),
        reserved=sum(entry.projected(now) - entry.cost(now) for entry in spent.live),
    )
