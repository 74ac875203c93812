"""Clouds that keep their own books, and an instance on which what must not happen is noticed.

What is judged is judged by these books, and not by what fluxburst says of itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fluxburst import Burst, NodeType
from fluxburst.model.job import Mark
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst_mock.cloud import Cloud, Machines
from fluxburst_mock.failures import SimulatedCrash
from fluxburst_mock.plugin import BurstParameters, MockBurst

HOUR, DAY = 3600.0, 86400.0


@dataclass
class Stay:
    """The machines of one burst, as the cloud has them on its bill.

    Attributes:
        plugin: Whose cloud it is.
        name: The burst's name.
        nodes: How many there are.
        price: What one costs an hour.
        since: Since when they are there.
        until: Until when they were; None while they are there.
        asked: Whether they were asked for; if not, they are orphans.
        user: The user of all the jobs that they are for; None where these are not of one.
        queue: The queue of all the jobs that they are for; empty where these are not in one.
        by_itself: The cloud ended them, and was not asked to.
        answered_late: Nobody waited for the answer that they were gone.
    """

    plugin: str
    name: str
    nodes: int
    price: float
    since: float
    until: float | None = None
    asked: bool = True
    user: int | None = None
    queue: str = ""
    by_itself: bool = False
    answered_late: bool = False

    def cost(self, until: float, since: float = 0.0) -> float:
        """Return what it costs from a time to another, where it is there then."""
        end = until if self.until is None else min(until, self.until)
        return self.price * self.hours(end, since)

    def hours(self, until: float, since: float = 0.0) -> float:
        """Return how many hours its nodes take from a time to another."""
        return self.nodes * max(0.0, until - max(since, self.since)) / HOUR


class WatchedInstance(EmbeddedInstance):
    """An instance that notices a job which is given twice, and in which the client can die.

    Attributes:
        skew: By how many seconds the client's clock is wrong.
        twice: What was given to one burst while it was given to another.
        dies_in: The method in which the client dies next, and whether before it took effect.
        refuses_moves: It moves no job to another queue now.
        refused: The jobs that it did not move.
    """

    def __init__(self) -> None:
        super().__init__(queues={"day": (), "night": ()})
        self.skew = 0.0
        self.twice: list[str] = []
        self._marked: dict[int, Mark] = {}
        self.dies_in: tuple[str, bool] | None = None
        self.refuses_moves = False
        self.refused: set[int] = set()

    def now(self) -> float:
        return super().now() + self.skew

    def true_now(self) -> float:
        return super().now()

    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        for jobid, mark in marks.items():
            old = self._marked.pop(jobid, None)  # what the client wrote, whatever its user did
            if mark and old and old.burst and mark.burst != old.burst:
                self.twice.append(f"job {jobid} was given to {old} and to {mark}")
            if mark is not None:
                self._marked[jobid] = mark
        with self._dying("set_marks"):
            return super().set_marks(marks)

    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        with self._dying("move_jobs"):
            if not self.refuses_moves:
                return super().move_jobs(jobids, queue)
            self.refused.update(jobids)
            return dict.fromkeys(jobids, "not now")

    def drain(self, ranks: Collection[int], reason: str) -> None:
        with self._dying("drain"):
            super().drain(ranks, reason)

    def undrain(self, ranks: Collection[int]) -> None:
        with self._dying("undrain"):
            super().undrain(ranks)

    def cancel_jobs(self, jobids: Collection[int], note: str) -> None:
        with self._dying("cancel_jobs"):
            super().cancel_jobs(jobids, note)

    def _dying(self, method: str) -> _Dying:
        return _Dying(self, method)


class _Dying:
    """Lets the client die before, or after, what it does."""

    def __init__(self, instance: WatchedInstance, method: str) -> None:
        self._instance, self._method = instance, method

    def __enter__(self) -> None:
        self._die(before=True)

    def __exit__(self, *_: object) -> None:
        self._die(before=False)

    def _die(self, *, before: bool) -> None:
        if self._instance.dies_in == (self._method, before):
            self._instance.dies_in = None
            raise SimulatedCrash(self._method)


class Books(Cloud):
    """A cloud that writes down what it has, and had.

    Attributes:
        stays: All that ever were there.
        owners: For whom bursts were asked: (user, queue), by name.
        deleting: Whether it is being asked to delete something.
        unwatched: Whether nobody waits for its answers.
        others: What there is that is none of ours: the plugin lists it even so.
    """

    def __init__(self, plugin: str, clock: Callable[[], float]) -> None:
        super().__init__()
        self.plugin = plugin
        self._clock = clock
        self.stays: list[Stay] = []
        self.owners: dict[str, tuple[int | None, str]] = {}
        self.deleting = False
        self.unwatched = False
        self.others: set[str] = set()

    def make(self, name: str, machines: Machines) -> None:
        super().make(name, machines)
        self.note(name, machines, asked=True)

    def note(self, name: str, machines: Machines, *, asked: bool) -> None:
        """Write machines down, and have them there."""
        self.machines[name] = machines
        user, queue = self.owners.get(name, (None, ""))
        price, nodes = machines.node_type.price, len(machines.hostnames)
        stay = Stay(self.plugin, name, nodes, price, self._clock(), None, asked, user, queue)
        self.stays.append(stay)

    def take(self, name: str, now: float) -> Sequence[str]:
        for stay in self.stays:
            if stay.name == name and stay.until is None:
                stay.until = self._clock()
                stay.by_itself = not self.deleting
                stay.answered_late = self.unwatched
        return super().take(name, now)

    def there(self) -> Iterator[Stay]:
        """Yield what is there now."""
        return (stay for stay in self.stays if stay.until is None)


class Provider(MockBurst):
    """A plugin for one of these clouds.

    Args:
        dataclass: What it supplies.
        books: Its cloud.
        gate: It answers only while this is set.
        adopts: Whether it tells how the bursts are that it lists.
        queue: The queue of its nodes; empty for none.
    """

    def __init__(
        self,
        dataclass: BurstParameters,
        books: Books,
        gate: threading.Event,
        *,
        adopts: bool,
        queue: str = "",
    ) -> None:
        super().__init__(dataclass)
        self._queue = queue
        self._books = books
        self._gate = gate
        self._adopts = adopts

    @property
    def queue(self) -> str:
        return self._queue

    @property
    def cloud(self) -> Books:
        return self._books

    def create(self, burst: Burst) -> Burst:
        self._gate.wait()
        self._books.owners[burst.name] = self._owner(burst)
        return super().create(burst)

    def delete(self, burst: Burst) -> None:
        self._gate.wait()
        self._books.others.discard(burst.name)
        self._books.deleting = True
        try:
            super().delete(burst)
        finally:
            self._books.deleting = False

    def renew(self, burst: Burst) -> Burst:
        self._gate.wait()
        return super().renew(burst)

    def list_bursts(self) -> Collection[str]:
        self._gate.wait()
        return [*super().list_bursts(), *self._books.others]

    def adopt(self) -> Any:
        if not self._adopts:
            return None
        theirs = [Burst(name, self.name, "b", 1) for name in self._books.others]
        return [*super().adopt(), *theirs]

    def _owner(self, burst: Burst) -> tuple[int | None, str]:
        instance: Any = self.instance
        jobs = [instance.job(jobid) for jobid in burst.jobs]
        users, queues = {job.user for job in jobs}, {job.queue for job in jobs}
        user = users.pop() if len(users) == 1 else None
        return user, queues.pop() if len(queues) == 1 else ""


def orphan(name: str, node_type: NodeType, nodes: int, now: float) -> Machines:
    """Return machines that nobody asked for."""
    hostnames = tuple(f"{name}-{number}" for number in range(nodes))
    return Machines(node_type, hostnames, now, now)
