"""A world that outlives the process that acts on it: an instance, and clouds, in a server.

The process that acts may be killed at any point: before everything that it asks of the world or
does to it, and before everything that it writes to its ledger. What is after one is before the
next.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from tests.killer import Killer

from fluxburst import Burst, BurstParameters, BurstPlugin, NodeType
from fluxburst.flux.protocol import Changes, Run
from fluxburst.model.housekeeping import Housekeeping
from fluxburst.model.identity import Users, only_this_user
from fluxburst.model.job import ACTIVE, Job, JobState, Mark
from fluxburst.model.node import Node
from fluxburst.model.queues import Queue
from fluxburst.model.scheduler import Scheduler
from fluxburst.simulation.embedded import EMBEDDED, EmbeddedInstance


class World:
    """What is out there. It lives in the server; every call is one at a time.

    Args:
        instance: The instance.
        clouds: The clouds' side of each plugin.
    """

    def __init__(self, instance: EmbeddedInstance, clouds: Mapping[str, BurstPlugin]) -> None:
        self.instance = instance
        self.clouds = clouds
        self.step = 0
        self.begun: set[int] = set()
        self.submitted: list[int] = []
        self.marked: dict[int, Mark] = {}
        self.broken: list[str] = []
        self._lock = threading.RLock()

    def call(self, whose: str, name: str, *arguments: Any) -> Any:
        """Call a method of the instance, of a cloud, or of the world itself."""
        target = {"instance": self.instance, "world": self}.get(whose) or self.clouds[whose]
        with self._lock:
            if name == "set_marks":
                self._note_marks(*arguments)
            found = getattr(target, name)
            return found(*arguments) if callable(found) else found

    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        """Move jobs to another queue."""
        return self.instance.move_jobs(jobids, queue)

    def _note_marks(self, marks: Mapping[int, Mark | None]) -> None:
        """Note a job that is given to one burst while it is given to another."""
        for jobid, mark in marks.items():
            old = self.marked.pop(jobid, None)  # what the client wrote, whatever users did
            if mark and old and old.burst and mark.burst != old.burst:
                self.broken.append(f"job {jobid} was given to {old} and to {mark}")
            if mark is not None:
                self.marked[jobid] = mark


class Server(BaseManager):
    """Serves a world on a Unix socket."""


class RemoteInstance:
    """The instance of a world, for a client in another process."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self._call("instance", "close")  # what was told was told to somebody who is gone

    @property
    def name(self) -> str:
        return "remote"

    @property
    def lock_file(self) -> Path | None:
        return None

    def now(self) -> float:
        return float(self._call("instance", "now"))

    def monotonic(self) -> float:
        return float(self._call("instance", "monotonic"))

    def pending_jobs(self) -> Sequence[Job]:
        return list(self._call("instance", "pending_jobs"))

    def pending_changes(self) -> Changes:
        changes: Changes = self._call("instance", "pending_changes")
        return changes

    def job_ids(self, states: JobState = ACTIVE) -> list[int]:
        return list(self._call("instance", "job_ids", states))

    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._call("instance", "nodes"))

    def check_owner(self, *, to_act: bool = False) -> None:
        """Whoever made it owns it."""

    def exception_of(self, jobid: int) -> str:
        return str(self._call("instance", "exception_of", jobid))

    def users(self) -> Users:
        return only_this_user()

    def scheduler(self) -> Scheduler:
        return EMBEDDED

    def queues(self) -> Mapping[str, Queue]:
        return dict(self._call("instance", "queues"))

    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        return list(self._call("instance", "set_marks", dict(marks)))

    def attribute(self, name: str) -> str:
        return ""

    def jobs_on(self, ranks: Collection[int]) -> list[int]:
        return list(self._call("instance", "jobs_on", list(ranks)))

    def housekeeping(self) -> Sequence[Housekeeping]:
        return list(self._call("instance", "housekeeping"))

    def runs(self, jobids: Collection[int]) -> Sequence[Run]:
        return list(self._call("instance", "runs", list(jobids)))

    def cancel_jobs(self, jobids: Collection[int], note: str) -> None:
        self._call("instance", "cancel_jobs", list(jobids), note)

    def end_jobs(self, notes: Mapping[int, str]) -> None:
        self._call("instance", "end_jobs", dict(notes))

    def set_urgencies(self, urgencies: Mapping[int, int]) -> Collection[int]:
        return list(self._call("instance", "set_urgencies", dict(urgencies)))

    def jobspec(self, jobid: int) -> Mapping[str, Any]:
        return dict(self._call("instance", "jobspec", jobid))

    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        return dict(self._call("world", "move_jobs", list(jobids), queue))

    def drain(self, ranks: Collection[int], reason: str) -> None:
        self._call("instance", "drain", list(ranks), reason)

    def undrain(self, ranks: Collection[int]) -> None:
        self._call("instance", "undrain", list(ranks))

    def disconnect(self, ranks: Collection[int]) -> None:
        self._call("instance", "disconnect", list(ranks))

    def wait_for_jobs(self, jobids: Collection[int], states: JobState) -> None:
        self._call("instance", "wait_for_jobs", list(jobids), states)

    def wait(self, seconds: float) -> None:
        self._call("instance", "wait", seconds)

    def wake(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """The world goes on."""


class RemotePlugin(BurstPlugin):
    """A plugin whose cloud is in the world; one that adopts tells more than the names."""

    def __init__(
        self,
        name: str,
        call: Callable[..., Any],
        *,
        adopts: bool = False,
        isolated: bool = False,
        queue: str = "",
    ) -> None:
        super().__init__(BurstParameters())
        self._isolated = isolated
        self._queue = queue
        self.name = name
        self._call = call
        self._adopts = adopts

    @property
    def queue(self) -> str:
        return self._queue

    @property
    def isolated(self) -> bool:
        return self._isolated

    def refresh(self, burst: Burst) -> Burst:
        if not self._isolated:
            return burst
        now: Burst = self._call(self.name, "refresh", burst)
        return now

    def node_types(self) -> Sequence[NodeType]:
        return list(self._call(self.name, "node_types"))

    def create(self, burst: Burst) -> Burst:
        created: Burst = self._call(self.name, "create", burst)
        return created

    def delete(self, burst: Burst) -> None:
        self._call(self.name, "delete", burst)

    def list_bursts(self) -> Collection[str]:
        return list(self._call(self.name, "list_bursts"))

    def adopt(self) -> Sequence[Burst] | None:
        return list(self._call(self.name, "adopt")) if self._adopts else None

    def renew(self, burst: Burst) -> Burst:
        renewed: Burst = self._call(self.name, "renew", burst)
        return renewed


def serve(world: World, address: str) -> Server:
    """Serve a world from a process of its own; ``shutdown()`` ends it."""
    Server.register("world", callable=lambda: world, exposed=["call"])
    server = Server(address=address, authkey=b"world", ctx=multiprocessing.get_context("fork"))
    server.start()
    return server


def connect(address: str, killer: Killer) -> Callable[..., Any]:
    """Return what calls the world, with a point before each call."""
    Server.register("world", exposed=["call"])
    local = threading.local()

    def call(*arguments: Any) -> Any:
        if not hasattr(local, "world"):
            server = Server(address=address, authkey=b"world")
            server.connect()
            local.world = server.world()  # type: ignore[attr-defined]
        killer()
        return local.world.call(*arguments)

    return call
