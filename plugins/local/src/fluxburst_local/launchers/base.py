"""What a launcher is: it starts the brokers of a burst somewhere, finds them again, ends them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from fluxburst.errors import BurstError


@dataclass(frozen=True)
class Launched:
    """What a launcher knows of one burst, from nothing but what is out there.

    Attributes:
        name: The burst's name.
        hosts: The hostnames that its brokers were started for.
        lost: Those of them whose broker is no more.
        since: When it got its machines, in seconds since the epoch; None while it waits for them.
        waiting: Why it waits, where that is known.
        refused: Why it will wait for ever, if it is so.
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
        queues: Whether what is launched may wait for its machines at first.
    """

    queues: ClassVar[bool]

    def check(self) -> None:
        """Check that what it needs is there, before anything is asked of it."""
        ...

    def launch(self, name: str, hosts: Sequence[str], lease: float | None = None) -> None:
        """Start brokers for these hosts, under a burst's name; those that run stay as they are.

        Where that can be had, they end by themselves after ``lease`` seconds; None for never.
        """
        ...

    @property
    def max_lifetime(self) -> float:
        """How long brokers live at most once they are started, in seconds; inf for no limit."""
        ...

    @property
    def not_renewable(self) -> str:
        """Why the brokers' time cannot be made longer once they run; empty where it can."""
        ...

    def renew(self, name: str, until: float) -> float:
        """Let a burst's brokers live until then, in seconds since the epoch, if they had a lease.

        Returns until when they will live, if that is sooner.

        Raises:
            BurstError: if that is not granted.
        """
        ...

    def launched(self) -> Sequence[Launched]:
        """Return the bursts of this instance that something is left of."""
        ...

    def end(self, name: str) -> None:
        """End what is left of a burst, and return once nothing is."""
        ...
