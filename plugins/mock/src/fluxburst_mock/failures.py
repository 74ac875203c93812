"""The ways in which a cloud fails, and when."""

from __future__ import annotations

import enum
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


class SimulatedCrash(BaseException):
    """Stands for the death of the process: no handler of errors may catch it."""


class Injector:
    """Decides whether to fail now. The same seed gives the same decisions."""

    def __init__(self, failures: Sequence[Failure], seed: int) -> None:
        self._left = [[failure, failure.times] for failure in failures]
        self._random = random.Random(seed)

    def strikes(self, kind: FailureKind) -> bool:
        """Whether to fail in this way, this time; counts it if so."""
        for entry in self._left:
            failure, left = entry
            assert isinstance(failure, Failure)
            if failure.kind is not kind or (failure.times and left == 0):
                continue
            if self._random.random() < failure.probability:
                if failure.times:
                    entry[1] = left - 1
                return True
        return False
