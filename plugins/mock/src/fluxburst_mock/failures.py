"""The ways in which a cloud fails, and when."""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass


class FailureKind(enum.Enum):
    """A way to fail."""

    NO_CAPACITY = "no_capacity"
    """Creation is refused: there are no such machines now."""

    QUOTA = "quota"
    """Creation is refused: a quota would be exceeded."""

    PARTIAL = "partial"
    """Creation stops after half of the machines."""

    SLOW = "slow"
    """The machines take ten times as long to join."""

    NEVER_JOINS = "never_joins"
    """The machines run, and cost, but their brokers never join."""

    DELETE_FAILS = "delete_fails"
    """Deletion fails, and the machines stay."""

    UNLISTED = "unlisted"
    """The burst is not in the list, although it is there."""

    LIST_FAILS = "list_fails"
    """The list cannot be had."""

    CRASH = "crash"
    """The process dies after the machines were made and before anyone was told."""


@dataclass(frozen=True)
class Failure:
    """One failure to inject.

    Attributes:
        kind: How to fail.
        times: How many times at most; 0 for always.
        probability: How likely each time is.
    """

    kind: FailureKind
    times: int = 1
    probability: float = 1.0


@dataclass
class _Left:
    """How many times a failure may still strike."""

    failure: Failure
    times: float


class SimulatedCrash(KeyboardInterrupt):
    """Stands for the death of the process: no handler of errors may catch it."""


class Injector:
    """Decides whether to fail now. The same seed gives the same decisions."""

    def __init__(self, failures: Sequence[Failure], seed: int) -> None:
        self._left: list[_Left] = []
        for failure in failures:
            self.add(failure)
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret

    def add(self, failure: Failure) -> None:
        """Fail in one more way from now on."""
        self._left.append(_Left(failure, failure.times or math.inf))

    def clear(self) -> None:
        """Fail no more."""
        self._left.clear()

    def strikes(self, kind: FailureKind) -> bool:
        """Whether to fail in this way, this time; counts it if so."""
        for left in self._left:
            if left.failure.kind is not kind or not left.times:
                continue
            if self._random.random() < left.failure.probability:
                left.times -= 1
                return True
        return False
