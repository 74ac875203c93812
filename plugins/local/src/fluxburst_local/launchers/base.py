"""The interface of a launcher: it starts, finds and ends the brokers of a burst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from fluxburst.errors import BurstError


@dataclass(frozen=True)
class Launched:
    """A launcher's view of one burst, from observation alone.

    Attributes:
        name: The burst's name.
        hosts: Hostnames of the brokers it started.
        lost: The hosts among them whose broker is gone.
        since: When it got its machines, in seconds since the epoch; None while it waits.
        waiting: Why it waits, if known.
        refused: Why it will never start, if so.
    """

    name: str
    hosts: tuple[str, ...]
    lost: frozenset[str] = frozenset()
    since: float | None = None
    waiting: str = ""
    refused: BurstError | None = None


class Launcher(Protocol):
    """Starts brokers. Every method may raise :class:`fluxburst.errors.BurstError`.

    Attributes:
        queues: Whether a launch may wait for its machines.
    """

    queues: ClassVar[bool]

    def check(self) -> None:
        """Check its requirements, before its first use."""
        ...

    def launch(self, name: str, hosts: Sequence[str], lease: float | None = None) -> None:
        """Start brokers for these hosts, under a burst's name; running ones are left alone.

        If possible, they end automatically after ``lease`` seconds; None for never.
        """
        ...

    @property
    def max_lifetime(self) -> float:
        """Maximum life of brokers after their start, in seconds; inf for no limit."""
        ...

    @property
    def not_renewable(self) -> str:
        """Why the life of running brokers cannot be extended; empty if it can."""
        ...

    def renew(self, name: str, until: float) -> float:
        """Extend the life of a burst's brokers to this time, in seconds since the epoch.

        Returns the time of their end, if that is sooner.

        Raises:
            BurstError: if it is refused.
        """
        ...

    def launched(self) -> Sequence[Launched]:
        """Return the bursts of this instance with any remains."""
        ...

    def end(self, name: str) -> None:
        """End all remains of a burst, and return once they are gone."""
        ...
