"""How things stand: bursts, nodes, jobs, limits, breakers and spending, at one time."""

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
    """Nodes of the bursts that there are: how many were asked for, and how many have joined."""

    asked: int
    joined: int


@dataclass(frozen=True)
class Jobs:
    """How many jobs are pending; and of these, how many are candidates for bursting (selected),
    were given to a plugin, and are candidates that no plugin takes (unmatched).
    """

    pending: int
    selected: int
    given: int
    unmatched: int


@dataclass(frozen=True)
class LimitUse:
    """One limit.

    Attributes:
        scope: What it is for.
        what: Which limit, one of :data:`~fluxburst.config.policy.LIMITED`.
        limit: Its value.
        used: What is taken of it, reserved included.
        left: What is left; negative where it is passed.
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
        per_hour: What the bursts that there are cost an hour.
        today: What was spent since the day (UTC) began.
        total: What was spent so far.
        reserved: What may still be spent on the bursts that there are, until their leases end.
    """

    per_hour: float
    today: float
    total: float
    reserved: float


@dataclass(frozen=True)
class Status:
    """How things stand.

    Attributes:
        at: When this was, in seconds since the epoch.
        instance: The name of the instance; empty where it is not known yet.
        unreachable: Why the instance could not be asked; empty where it was.
        holder: Who holds the instance; empty for nobody.
        bursts: The bursts of which something may be there.
        nodes: Their nodes.
        jobs: The numbers of jobs; None where the instance could not be asked.
        limits: Each limit that is set, and what is taken of it.
        breakers: The node types that failed lately.
        spending: What is spent.
        missing: For each plugin that has bursts and is not installed, their names.
        problems: What else is wrong, for a person.
        recorded: When anything was last recorded, in seconds since the epoch; None where nothing
            was. While nobody holds the instance, its bursts are as they were then.
        unwritable: Why the ledger cannot be written; empty while it can. Nothing is brought up
            then.
        unarmed: The names of the bursts whose nodes do not end by themselves with their lease, as
            far as their plugins are loaded.
        not_startable: The ids of the jobs that more nodes would not let start, by why.
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
        """Whether nothing is asked of a breaker's node type now."""
        return breaker.retry_at is not None and self.at < breaker.retry_at

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON, in the schema that the user guide documents."""
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
    """Return how things stand with a client. Nothing is asked of providers.

    Args:
        client: The client.
        plan: What was planned last; by default a plan is made.
        problems: What else is wrong, for a person.

    Raises:
        InstanceError: if the instance cannot be asked.
        LedgerError: if the ledger cannot be read.
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
    """Return how things stand with a client that runs passes, from what these have seen.

    Raises:
        LedgerError: if the ledger cannot be read.
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
    """Return how things stand by a ledger alone.

    Args:
        ledger: The ledger.
        policy: The limits that hold.
        now: The time, in seconds since the epoch.
        installed: The names of the burst plugins that are installed.
        instance: The name of the instance; by default as the ledger has it.
        unreachable: Why the instance could not be asked.
        jobs: The numbers of jobs, where they are known.
        holder: Who holds the instance.
        problems: What else is wrong, for a person.
        unwritable: Why the ledger cannot be written.
        plugins: The plugins that are loaded, by name.
        up: Whether each node of the instance is up, by hostname, where it could be asked.
        not_startable: The jobs that more nodes would not let start, by why.

    Raises:
        LedgerError: if it cannot be read.
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
    """Return the numbers of jobs that a plan decided on."""
    outcomes = Counter(decision.outcome for decision in plan.decisions)
    given = outcomes[Outcome.ALREADY_ASSIGNED]
    return Jobs(len(plan.decisions), len(plan.jobs), given, outcomes[Outcome.UNMATCHED])


def _as_seen(entry: Entry, up: Mapping[str, bool]) -> Entry:
    """Return an entry with how many of its nodes have joined, as the instance's nodes show it.

    Where the instance knows none of them, all have of a burst that is ready; of others, those that
    had when that was last looked at.
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
