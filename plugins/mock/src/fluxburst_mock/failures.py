"""Kinds of cloud failures, and when they happen."""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass


class FailureKind(enum.Enum):
    """A kind of failure."""

    NO_CAPACITY = "no_capacity"
    """Creation is refused: no such machines are available."""

    QUOTA = "quota"
    """Creation is refused: a quota would be exceeded."""

    PARTIAL = "partial"
    """Creation stops after half of the machines."""

    SLOW = "slow"
    """The machines take ten times as long to join."""

    NEVER_JOINS = "never_joins"
    """The machines run and cost money, but their brokers never join."""

    DELETE_FAILS = "delete_fails"
    """Deletion fails, and the machines stay."""

    UNLISTED = "unlisted"
    """The burst is missing from the list, although it exists."""

    LIST_FAILS = "list_fails"
    """Listing fails."""

    CRASH = "crash"
    """The process dies after creating the machines, before telling anyone."""


@dataclass(frozen=True)
class Failure:
    """One failure to inject.

    Attributes:
        kind: The kind of failure.
        times: How often at most; 0 for always.
        probability: The probability each time.
    """

    kind: FailureKind
    times: int = 1
    probability: float = 1.0


@dataclass
class _Left:
    """How often a failure may still happen."""

    failure: Failure
    times: float


class SimulatedCrash(KeyboardInterrupt):
    """Simulates the death of the process: no error handler may catch it."""


class Injector:
    """Decides whether to fail. Equal seeds give equal decisions."""

    def __init__(self, failures: Sequence[Failure], seed: int) -> None:
        self._left: list[_Left] = []
        for failure in failures:
            self.add(failure)
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret

    def add(self, failure: Failure) -> None:
        """Add a failure."""
        self._left.append(_Left(failure, failure.times or math.inf))

    def clear(self) -> None:
        """Remove all failures."""
        self._left.clear()

    def strikes(self, kind: FailureKind) -> bool:
        """Whether to fail in this way now; counts the failure."""
        for left in self._left:
            if left.failure.kind is not kind or not left.times:
                continue
            if self._random.random() < left.failure.probability:
                left.times -= 1
                return True
        return False
