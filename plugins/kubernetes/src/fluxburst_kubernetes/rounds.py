"""What a cluster and its provider list in one round of observations.

All bursts of a round share it, and it is forgotten with the round. Nothing is gone only because it
is not in here: what is missing is looked up again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fluxburst_kubernetes import labels
from fluxburst_kubernetes.errors import NotFoundError
from fluxburst_kubernetes.node_pools import Pool
from fluxburst_kubernetes.states import Found


@dataclass(frozen=True)
class Snapshot:
    """The objects of an instance's bursts; each kind was listed once.

    Attributes:
        found: The objects of each burst that has a MiniCluster.
        with_job: The names of the bursts that have a Kubernetes Job.
        with_secret: The labels of the bursts whose Flux job is in a secret; None if unknown.
    """

    found: Sequence[Found] = ()
    with_job: frozenset[str] = frozenset()
    with_secret: frozenset[str] | None = None

    def find(self, burst: str) -> Found | None:
        """Return the objects of a burst; None if it has no MiniCluster."""
        label = labels.label_value(burst)
        return next((one for one in self.found if burst_label(one.minicluster) == label), None)


@dataclass
class Round:
    """One round of observations.

    Attributes:
        pools: The node pools seen so far, by name.
        snapshot: The objects in the cluster; None until they are listed.
    """

    pools: dict[str, Pool] = field(default_factory=dict)
    snapshot: Snapshot | None = None


class _Here(threading.local):
    """The current thread's round: a thread that is stuck in one keeps it to itself."""

    round: Round | None = None


class Rounds:
    """Rounds of observations; outside of one, nothing is remembered.

    Args:
        look: Lists the objects in the cluster.
    """

    def __init__(self, look: Callable[[], Snapshot]) -> None:
        self._look = look
        self._here = _Here()

    @contextlib.contextmanager
    def begin(self) -> Iterator[None]:
        """Begin a round, and end it."""
        self._here.round = Round()
        try:
            yield
        finally:
            self._here.round = None

    @property
    def pools(self) -> dict[str, Pool] | None:
        """The node pools seen in this round, by name, to be added to; None outside of one."""
        return None if self._here.round is None else self._here.round.pools

    def snapshot(self) -> Snapshot:
        """Return what is in the cluster: listed once in a round, or else now."""
        current = self._here.round
        if current is None:
            return self._look()
        if current.snapshot is None:
            current.snapshot = self._look()
        return current.snapshot

    def find(self, burst: str) -> Found | None:
        """Return the objects of a burst as this round lists them; None if it does not.

        None does not tell that a burst is gone: callers look for it again.
        """
        if self._here.round is None:
            return None
        with contextlib.suppress(NotFoundError):  # no Flux Operator, and so no MiniCluster
            return self.snapshot().find(burst)
        return None

    def may_have_secret(self, burst: str) -> bool:
        """Whether the secret with a burst's job may still exist."""
        seen = None if self._here.round is None else self._here.round.snapshot
        if seen is None or seen.with_secret is None:
            return True
        return labels.label_value(burst) in seen.with_secret


def burst_label(one: Mapping[str, Any]) -> str:
    """Return the label of the burst that an object belongs to; empty if it has none."""
    return str((one["metadata"].get("labels") or {}).get(labels.BURST, ""))
