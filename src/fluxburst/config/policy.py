"""The administrator's settings: lifetimes, timeouts, limits and more.

Each class is a table of the configuration file. Every message names the invalid keys.
"""

from __future__ import annotations

import dataclasses
import math
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, TypeVar

from fluxburst.config.conversion import CONVERSION_ERRORS, convert, reasons
from fluxburst.errors import ConfigError, FormatError
from fluxburst.formats.hostlist import parse_hostlist
from fluxburst.formats.units import Duration, format_duration

T = TypeVar("T")


def _check(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


def _check_durations(table: object, *, above_zero: bool = False) -> None:
    """Check that no duration of a table is negative, or not a number."""
    for item in dataclasses.fields(table):  # type: ignore[arg-type]
        value = getattr(table, item.name)
        if isinstance(value, float):
            least = "more than 0" if above_zero else "0 or more"
            _check(value > 0 if above_zero else value >= 0, f"{item.name} must be {least}")


@dataclass(frozen=True)
class Lifetimes:
    """How long bursts live: the table ``[lifetimes]``. All durations in seconds.

    Attributes:
        lease: How long nodes live after the last renewal, even if fluxburst never comes back.
        idle_timeout: How long a burst may have no running or waiting job before it ends.
        min_lifetime: Minimum life of a burst, idle or not.
        max_lifetime: Maximum life of a burst, even with running jobs.
        cool_down: After an idle burst ends, how long no other of its node type is provisioned.
        teardown: How long before the end of its lease a burst is drained. After half of that, the
            jobs that still run on it are cancelled.
        keep: Hostlist (RFC 29) of nodes that stay even if idle.
        startup: Assumed time from the request of nodes until jobs start on them.
        assumed_duration: Assumed run time of a job without a time limit: inf for unlimited, 0 for
            a job that fits anywhere.
        grace: How long ``unburst`` waits for the jobs on the bursts that it drains.
        cancel_jobs: Whether it cancels the jobs that still run then. Otherwise their bursts are
            kept, drained, until these jobs have ended or the lease does.
    """

    lease: Duration = Duration(3600.0)
    idle_timeout: Duration = Duration(300.0)
    min_lifetime: Duration = Duration(0.0)
    max_lifetime: Duration = Duration(math.inf)
    cool_down: Duration = Duration(0.0)
    teardown: Duration = Duration(600.0)
    keep: str = ""
    startup: Duration = Duration(600.0)
    assumed_duration: Duration = Duration(math.inf)
    grace: Duration = Duration(600.0)
    cancel_jobs: bool = False

    def __post_init__(self) -> None:
        _check_durations(self)
        try:
            parse_hostlist(self.keep)
        except FormatError as error:
            raise ValueError(f"keep: {error}") from error
        _check(self.lease > 0, "lease must be more than 0")
        _check(self.max_lifetime > 0, "max_lifetime must be more than 0")
        _check(
            self.teardown < self.lease,
            f"teardown ({format_duration(self.teardown)}) must be shorter than lease "
            f"({format_duration(self.lease)}), which includes it",
        )
        _check(
            self.min_lifetime <= self.max_lifetime,
            f"min_lifetime ({format_duration(self.min_lifetime)}) must not be longer than "
            f"max_lifetime ({format_duration(self.max_lifetime)})",
        )


@dataclass(frozen=True)
class Timeouts:
    """How long plugins may take: the table ``[timeouts]``. All durations in seconds.

    Attributes:
        create: For requesting a burst from the provider.
        join: From the start of provisioning until all nodes are up in the instance.
        delete: For deleting a burst, once it is drained.
        list: For listing existing bursts.
        output: How long to retry fetching the output of a job that ended in an isolated burst;
            its burst is kept meanwhile.
        start: For jobs to start on nodes that are ready and free; after that they are released.
        request: How long a burst may wait in its provider's queue; inf for unlimited.
    """

    create: Duration = Duration(600.0)
    join: Duration = Duration(900.0)
    delete: Duration = Duration(900.0)
    list: Duration = Duration(60.0)
    output: Duration = Duration(300.0)
    start: Duration = Duration(300.0)
    request: Duration = Duration(86400.0)

    def __post_init__(self) -> None:
        _check_durations(self, above_zero=True)


@dataclass(frozen=True)
class Breaking:
    """When a node type is no longer requested: the table ``[breakers]``.

    Attributes:
        failures: Number of failures in a row that opens a breaker.
        backoff: How many seconds it stays open at first; doubled with each further failure.
        max_backoff: The longest such time in seconds.
    """

    failures: int = 3
    backoff: Duration = Duration(60.0)
    max_backoff: Duration = Duration(3600.0)

    def __post_init__(self) -> None:
        _check_durations(self, above_zero=True)
        _check(self.failures >= 1, "failures must be 1 or more")
        _check(self.backoff <= self.max_backoff, "backoff must not be longer than max_backoff")


@dataclass(frozen=True)
class Deciding:
    """Decisions on jobs: the table ``[policy]``.

    Attributes:
        starts: How often a job is started in isolated bursts that are lost before it ends. Then
            it is released, and no longer offered to plugins whose bursts are isolated.
    """

    starts: int = 3

    def __post_init__(self) -> None:
        _check(self.starts >= 1, "starts must be 1 or more")


@dataclass(frozen=True)
class Watching:
    """How the service watches the instance: the table ``[watch]``. All durations in seconds.

    Attributes:
        poll: Interval of full passes, whatever happens.
        gather: How long events are gathered before a pass.
        depth: How many waiting jobs are reconsidered when capacity changes.
        history: How long decisions on jobs are kept in the ledger.
    """

    poll: Duration = Duration(30.0)
    gather: Duration = Duration(0.02)
    depth: int = 1000
    history: Duration = Duration(90 * 86400.0)

    def __post_init__(self) -> None:
        _check_durations(self)
        _check(self.poll > 0, "poll must be more than 0")
        _check(self.depth >= 1, "depth must be 1 or more")


@dataclass(frozen=True)
class Metering:
    """Where metrics are exposed: the table ``[metrics]``. Nowhere by default.

    Attributes:
        port: Port to serve them on; None for none, 0 for any free one.
        address: Address to serve them on.
        textfile: File to write them to after each pass, for node_exporter's textfile collector.
    """

    port: Optional[int] = None  # noqa: UP045
    address: str = "127.0.0.1"
    textfile: Optional[Path] = None  # noqa: UP045

    def __post_init__(self) -> None:
        _check(self.port is None or 0 <= self.port < 2**16, "port must be from 0 to 65535")


@dataclass(frozen=True)
class Limit:
    """Limits of one scope: the table ``[limits]``, or one below it. None is no limit.

    Attributes:
        nodes: Nodes at once.
        bursts: Bursts at once.
        node_hours: Hours of nodes in total.
        cost_per_hour: Cost of all current nodes per hour.
        cost_per_day: Spending in one day (UTC).
        cost: Total spending.
    """

    nodes: Optional[int] = None  # noqa: UP045 - cattrs on Python 3.10
    bursts: Optional[int] = None  # noqa: UP045
    node_hours: Optional[float] = None  # noqa: UP045
    cost_per_hour: Optional[float] = None  # noqa: UP045
    cost_per_day: Optional[float] = None  # noqa: UP045
    cost: Optional[float] = None  # noqa: UP045

    def __post_init__(self) -> None:
        for name, value in self.values():
            _check(0 <= value < math.inf, f"{name} must be a number of 0 or more")
        if self.cost is not None and self.cost_per_day is not None:
            _check(self.cost_per_day <= self.cost, "cost_per_day must not be more than cost")

    def values(self) -> Iterator[tuple[str, float]]:
        """Yield the names and values of the limits that are set."""
        for name in LIMITED:
            value = getattr(self, name)
            if value is not None:
                yield name, value


LIMITED = ("nodes", "bursts", "node_hours", "cost_per_hour", "cost_per_day", "cost")


@dataclass(frozen=True)
class Limits(Limit):
    """The table ``[limits]``: for the instance, and for plugins, users and queues by name.

    ``*`` applies to each user, or each queue, without its own table.
    """

    plugins: dict[str, Limit] = field(default_factory=dict)
    users: dict[str, Limit] = field(default_factory=dict)
    queues: dict[str, Limit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in ("plugins", "users", "queues"):
            for name, limit in getattr(self, kind).items():
                for what, value in limit.values():
                    most = getattr(self, what)
                    _check(
                        most is None or value <= most,
                        f"{kind}.{name}.{what} ({value:g}) is more than the instance's {what} "
                        f"({most})",
                    )
        named: dict[int | None, str] = {}
        for name in self.users:
            other = named.setdefault(_uid(name), name)
            _check(other == name, f"users.{other} and users.{name} are the same user")

    def _users(self) -> dict[int | None, Limit]:
        return {_uid(name): limit for name, limit in self.users.items()}

    def of_user(self, user: int) -> Limit | None:
        """Return the limit of a user, by numeric id; None for none."""
        users = self._users()
        return users.get(user, users.get(None))

    def name_of_user(self, user: int) -> str:
        """Return a user's name: as in the limits, or else the numeric id."""
        for name in self.users:
            if name != "*" and _uid(name) == user:
                return name
        return str(user)

    def of_queue(self, queue: str) -> Limit | None:
        """Return the limit of a queue; None for none."""
        return self.queues.get(queue, self.queues.get("*"))

    @property
    def by_owner(self) -> bool:
        """Whether a burst must be attributed to its jobs' users."""
        return bool(self.users or self.queues)

    @property
    def is_set(self) -> bool:
        """Whether any limit is set."""
        tables = [*self.plugins.values(), *self.users.values(), *self.queues.values()]
        return any(True for limit in (self, *tables) for _ in limit.values())


def _uid(name: str) -> int | None:
    """Return the numeric id of a user; None for ``*``."""
    if name == "*":
        return None
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ValueError(f"users.{name}: there is no user {name!r} on this machine") from None


@dataclass(frozen=True)
class Placing:
    """How nodes are counted for jobs: the table ``[placement]``.

    Attributes:
        share_nodes: Jobs share nodes if the scheduler allows it; False counts each job's nodes
            separately, for a site whose scheduler or prolog gives jobs whole nodes.
    """

    share_nodes: bool = True


@dataclass(frozen=True)
class Policy:
    """The complete policy."""

    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    timeouts: Timeouts = field(default_factory=Timeouts)
    breakers: Breaking = field(default_factory=Breaking)
    watch: Watching = field(default_factory=Watching)
    limits: Limits = field(default_factory=Limits)
    metrics: Metering = field(default_factory=Metering)
    policy: Deciding = field(default_factory=Deciding)
    placement: Placing = field(default_factory=Placing)

    def __post_init__(self) -> None:
        spending = [*self.limits.plugins.values(), *self.limits.users.values()]
        spending += [self.limits, *self.limits.queues.values()]
        if math.isinf(self.lifetimes.lease):
            for limit in spending:
                for name in ("node_hours", "cost_per_day", "cost"):
                    _check(
                        getattr(limit, name) is None,
                        f"limits.{name} needs a finite lease: lifetimes.lease is inf",
                    )


TABLES = tuple(item.name for item in dataclasses.fields(Policy))


def read(tables: Mapping[str, Any], source: str) -> Policy:
    """Build the policy from the tables of a configuration file.

    Raises:
        ConfigError: names every problem at once.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    kinds: dict[str, type] = {
        "lifetimes": Lifetimes,
        "timeouts": Timeouts,
        "breakers": Breaking,
        "watch": Watching,
        "limits": Limits,
        "metrics": Metering,
        "policy": Deciding,
        "placement": Placing,
    }
    for name, kind in kinds.items():
        if name in tables:
            try:
                values[name] = convert(tables[name], kind, text=False)
            except (*CONVERSION_ERRORS, FormatError) as error:
                problems += [f"[{name}]: {reason}" for reason in reasons(error)]
    if not problems:
        try:
            return Policy(**values)
        except ValueError as error:
            problems.append(str(error))
    raise ConfigError(source, "; ".join(problems))
