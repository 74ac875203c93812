"""Ready-made selectors: callables from a job to whether it is a candidate for bursting.

Each can also be named in the config file::

    selector = "burstable"
    selector = { waited = "30m" }
    selector = { all = ["burstable", { not = { user = ["root"] } }, { queue = ["batch"] }] }
"""

from __future__ import annotations

import pwd
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fluxburst.errors import FormatError, RequestError, did_you_mean
from fluxburst.formats.units import parse_duration
from fluxburst.model.constraints import compiled
from fluxburst.model.job import Job
from fluxburst.model.node import Node
from fluxburst.packing.fitting import fits_now

Selector = Callable[[Job], bool]


class Surroundings(Protocol):
    """What some selectors read besides the job; clients and instances both provide it."""

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        ...

    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes of the instance; while a plan is made, as they were at its start."""
        ...


def is_burstable(job: Job) -> bool:
    """Select jobs flagged burstable: ``flux submit --setattr=burstable`` (or ``=PLUGIN``)."""
    return bool(job.burstable)


@dataclass(frozen=True)
class AsksMoreThanFree:
    """Select jobs that do not fit on the free matching nodes of the instance now."""

    around: Surroundings

    def __call__(self, job: Job) -> bool:
        """Answer for one job."""
        constraint = compiled(job.constraint, job.id)
        return not fits_now(job.chunks, self.around.nodes(), constraint)


@dataclass(frozen=True)
class WaitedLongerThan:
    """Select jobs that were submitted more than ``seconds`` ago."""

    seconds: float
    around: Surroundings

    def __call__(self, job: Job) -> bool:
        """Answer for one job."""
        return self.around.now() - float(job.get("t_submit", 0.0)) > self.seconds


@dataclass(frozen=True)
class FromUsers:
    """Select jobs of the given users: names or numeric ids."""

    users: Sequence[str | int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "users", frozenset(_user_id(user) for user in self.users))

    def __call__(self, job: Job) -> bool:
        """Answer for one job."""
        return job.user in self.users


@dataclass(frozen=True)
class InQueues:
    """Select jobs of the given queues."""

    queues: Sequence[str]

    def __call__(self, job: Job) -> bool:
        """Answer for one job."""
        return job.queue in self.queues


@dataclass(frozen=True)
class InBanks:
    """Select jobs of the given accounting banks."""

    banks: Sequence[str]

    def __call__(self, job: Job) -> bool:
        """Answer for one job."""
        return job.bank in self.banks


@dataclass(frozen=True)
class AllOf:
    """Select jobs that every one of the selectors selects."""

    selectors: Sequence[Selector]

    def __call__(self, job: Job) -> bool:
        """Answer for one job."""
        return all(selector(job) for selector in self.selectors)


@dataclass(frozen=True)
class AnyOf:
    """Select jobs that at least one of the selectors selects."""

    selectors: Sequence[Selector]

    def __call__(self, job: Job) -> bool:
        """Answer for one job."""
        return any(selector(job) for selector in self.selectors)


@dataclass(frozen=True)
class Not:
    """Select jobs that the selector rejects."""

    selector: Selector

    def __call__(self, job: Job) -> bool:
        """Answer for one job."""
        return not self.selector(job)


def _user_id(user: str | int) -> int:
    if isinstance(user, int) or (user.isascii() and user.isdigit()):
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):
        raise RequestError(f"selector 'user': there is no user {user!r} here") from None


def _names(value: Any, name: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, str) for v in values):
        raise RequestError(f"selector {name!r}: expected a name or a list of names, got {value!r}")
    return values


def _users(value: Any, name: str) -> list[str | int]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, str) or type(v) is int for v in values):
        raise RequestError(f"selector {name!r}: expected a name or a list of names, got {value!r}")
    return values


def _many(value: Any, name: str, around: Surroundings) -> list[Selector]:
    if not isinstance(value, list) or not value:
        raise RequestError(f"selector {name!r}: expected a list of selectors, got {value!r}")
    return [from_config(item, around) for item in value]


def _waited(value: Any, name: str, around: Surroundings) -> Selector:
    try:
        return WaitedLongerThan(parse_duration(str(value)), around)
    except FormatError as error:
        raise RequestError(f"selector {name!r}: {error}") from error


_BARE: Mapping[str, Callable[[Surroundings], Selector]] = {
    "burstable": lambda around: is_burstable,
    "more_than_free": AsksMoreThanFree,
}
_WITH_VALUE: Mapping[str, Callable[[Any, str, Surroundings], Selector]] = {
    "waited": _waited,
    "user": lambda value, name, around: FromUsers(_users(value, name)),
    "queue": lambda value, name, around: InQueues(_names(value, name)),
    "bank": lambda value, name, around: InBanks(_names(value, name)),
    "all": lambda value, name, around: AllOf(_many(value, name, around)),
    "any": lambda value, name, around: AnyOf(_many(value, name, around)),
    "not": lambda value, name, around: Not(from_config(value, around)),
}


def from_config(value: Any, around: Surroundings) -> Selector:
    """Build the selector described in a config file.

    Args:
        value: A name, or a table with one name and its argument; see this module's docstring.
        around: Source of free nodes and the time.

    Raises:
        RequestError: if the selector is unknown, or its argument is invalid.
    """
    if isinstance(value, str):
        if value in _BARE:
            return _BARE[value](around)
        raise RequestError(f"selector {value!r} is not known{did_you_mean(value, _BARE)}")
    if not isinstance(value, Mapping) or len(value) != 1:
        raise RequestError(f"a selector is a name or a table with one name, got {value!r}")
    name, argument = next(iter(value.items()))
    if name not in _WITH_VALUE:
        raise RequestError(f"selector {name!r} is not known{did_you_mean(str(name), _WITH_VALUE)}")
    return _WITH_VALUE[name](argument, name, around)
