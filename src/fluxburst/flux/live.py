"""A live Flux instance, through flux-python.

Requests of one kind are sent for all jobs before waiting for the first answer, and jobspecs
are cached by job id. Changes come from the job manager's journal, as they happen. flux-python is
imported when a live instance is first used, never before.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fluxburst.errors import InstanceError
from fluxburst.flux import access, live_housekeeping, live_queues
from fluxburst.flux.connections import Connections, answered
from fluxburst.flux.event_watch import EventWatch
from fluxburst.flux.holding import started_meanwhile
from fluxburst.flux.live_jobspecs import JobspecCache, as_submitted
from fluxburst.flux.live_scheduler import read_scheduler
from fluxburst.flux.protocol import NODE_FAILURE, Changes, Run
from fluxburst.flux.resources import nodes_from_status
from fluxburst.flux.rpc import ANY_NODE, Requests
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.hostlist import format_idset, parse_hostlist
from fluxburst.model.housekeeping import Housekeeping
from fluxburst.model.identity import Users
from fluxburst.model.job import (
    ACTIVE,
    PENDING,
    RUNNING,
    URGENCY_HOLD,
    Job,
    JobState,
    Mark,
    exception_text,
    queue_order,
)
from fluxburst.model.node import Node
from fluxburst.model.queues import Queue
from fluxburst.model.scheduler import Scheduler


class LiveInstance:
    """A live Flux instance.

    Each thread has its own connection, and events come over another one. A connection that failed
    is not used again: the next request opens a new one to the same URI, so the instance may go
    away and come back.

    Args:
        handle: A ``flux.Flux`` of the calling thread; by default the instance in ``FLUX_URI`` on
            first use.
    """

    def __init__(self, handle: Any = None) -> None:
        self._connections = Connections(handle)
        self._asking = self._connections.asking
        self._events = EventWatch(self._connections)
        self._specs = JobspecCache()
        self._specs_lock = threading.Lock()

    @property
    def handle(self) -> Any:
        """The ``flux.Flux`` of this thread.

        Raises:
            FluxUnavailableError: if there is no Flux, or it does not answer.
            FluxVersionError: if it is too old or does not match its binding.
            InstanceError: if it answered before but does not now.
        """
        return self._connections.handle

    @property
    def name(self) -> str:
        """The lead broker's host, and the directory of its state or else its run directory.

        An instance whose state outlasts a restart (flux-broker-attributes(7)) keeps its identity.
        """
        host = self._attribute("hostname", nodeid=0)
        state = self._attribute("statedir", nodeid=0)
        return f"{host}:{state or self._attribute('rundir', nodeid=0)}"

    @property
    def lock_file(self) -> Path | None:
        """``fluxburst.lock`` in the lead broker's run directory, if it is on this host."""
        if self._attribute("rank") != "0":
            return None
        # The broker may be on another host that also has a directory of that name.
        socket = Path(self._attribute("local-uri").partition("://")[2])
        directory = Path(self._attribute("rundir"))
        here = socket.is_socket() and directory.is_dir() and os.access(directory, os.W_OK)
        return directory / "fluxburst.lock" if here else None

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return the time of a monotonic clock, in seconds."""
        return time.monotonic()

    def pending_jobs(self) -> Sequence[Job]:
        """Return the pending jobs of all users with their jobspecs, in queue order.

        One streaming request lists them; unknown jobspecs are fetched together.
        """
        with self._specs_lock, self._asking("its pending jobs") as requests:
            access.check_owner(requests)
            records = _list(requests, PENDING, ["all"])
            specs = self._specs.of(requests, records)
            jobs = [Job(r, spec=specs[r["id"]]) for r in records if r["id"] in specs]
        return sorted(jobs, key=queue_order)

    def pending_changes(self) -> Changes:
        """Return the changes among the pending jobs, from the job manager's journal.

        The answer includes everything up to this call. The first time, and after the instance
        came back, it is the journal's history of the active jobs. Jobspecs are redacted, as in
        the journal: they lack the environment.
        """
        return self._events.changes()

    def runs(self, jobids: Collection[int]) -> Sequence[Run]:
        """Return the nodes of the jobs that have started (RFC 43: ``t_run``, ``ncores`` …).

        An inactive job has released them; jobs purged by Flux are unknown.
        """
        attributes = ["userid", "t_run", "t_inactive", "nodelist", "ncores", "exception_note"]
        payloads = [{"id": jobid, "attrs": attributes} for jobid in jobids]
        runs = []
        with self._asking("what its jobs had") as requests:
            for answer in requests.ask_all("job-list.list-id", payloads):
                if isinstance(answer, OSError):
                    if not isinstance(answer, FileNotFoundError):
                        raise answer
                elif "t_run" in answer["job"]:
                    runs.append(_run(answer["job"]))
        return runs

    def exception_of(self, jobid: int) -> str:
        """Return the type and the note of the exception that ended a job; empty for none."""
        attributes = ["state", "exception_occurred", "exception_type", "exception_note"]
        with self._asking("what ended a job") as requests:
            try:
                answer = requests.ask("job-list.list-id", {"id": jobid, "attrs": attributes})
            except FileNotFoundError:
                return ""
        return exception_text(answer["job"])

    def job_ids(self, states: JobState = ACTIVE) -> list[int]:
        """Return the ids of the jobs of all users in one of the states."""
        with self._asking("its jobs") as requests:
            return [record["id"] for record in _list(requests, states, ["state"])]

    def nodes(self) -> tuple[Node, ...]:
        """Return every node, by rank, as ``resource.status`` and ``sched-status`` report them."""
        with self._asking("its nodes") as requests:
            topics = ("resource.status", "resource.sched-status")
            answers: list[Any] = list(requests.ask_each((topic, {}, 0) for topic in topics))
        for answer in answers:
            if isinstance(answer, OSError):
                raise answered("for its nodes", answer) from answer
        return nodes_from_status(*answers)

    def check_owner(self, *, to_act: bool = False) -> None:
        """Check that the instance treats this process as its owner, or that it is the owner's.

        Raises:
            NotOwnerError: if not; the message has advice.
        """
        self._connections.check_owner(to_act=to_act)

    def users(self) -> Users:
        """Return the users whose jobs it accepts and runs, from its configuration."""
        with self._asking("whose jobs it runs") as requests:
            return access.read_users(requests)

    def scheduler(self) -> Scheduler:
        """Return the rules of the module that provides the service ``sched`` (RFC 27)."""
        with self._asking("for its scheduler") as requests:
            return read_scheduler(requests)

    def queues(self) -> Mapping[str, Queue]:
        """Return every queue by name, in the job manager's current state."""
        with self._asking("for its queues") as requests:
            return live_queues.ask(requests)

    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        """Put memos on jobs, or remove them; return the ids of jobs that are not active.

        The memos are events in the jobs' eventlogs (RFC 21) and outlast every process.
        """
        payloads = [
            {"id": jobid, "volatile": False, "memo": {"fluxburst": mark and mark.to_memo()}}
            for jobid, mark in marks.items()
        ]
        inactive: list[int] = []
        with self._asking("to put memos on jobs") as requests:
            answers = requests.ask_all("job-manager.memo", payloads)
            for jobid, answer in zip(marks, answers, strict=True):
                if isinstance(answer, FileNotFoundError):
                    inactive.append(jobid)
                elif isinstance(answer, OSError):
                    raise answer
        return inactive

    def attribute(self, name: str) -> str:
        """Return a broker attribute (flux-broker-attributes(7)), empty if not set."""
        return self._attribute(name)

    def jobs_on(self, ranks: Collection[int]) -> list[int]:
        """Return the ids of the jobs that occupy these nodes: running or cleaning up."""
        if not ranks:
            return []
        matching = {"ranks": [format_idset(ranks)]}
        with self._asking("which jobs are on its nodes") as requests:
            return [record["id"] for record in _list(requests, RUNNING, ["state"], matching)]

    def housekeeping(self) -> Sequence[Housekeeping]:
        """Return the housekeeping that runs on nodes after jobs have ended."""
        with self._asking("for its housekeeping") as requests:
            return live_housekeeping.ask(requests)

    def cancel_jobs(self, jobids: Collection[int], note: str) -> None:
        """Raise a fatal exception of type ``cancel`` (RFC 21) on jobs that have not ended."""
        payloads = [
            {"id": jobid, "severity": 0, "type": "cancel", "note": note} for jobid in jobids
        ]
        self._raise(payloads, "to cancel jobs")

    def _raise(self, payloads: Sequence[Mapping[str, Any]], what: str) -> None:
        with self._asking(what) as requests:
            for answer in requests.ask_all("job-manager.raise", payloads):
                if isinstance(answer, OSError) and not isinstance(answer, FileNotFoundError):
                    raise answer

    def end_jobs(self, notes: Mapping[int, str]) -> None:
        """Raise a fatal exception of type ``burst`` (RFC 21) on jobs that have not ended."""
        payloads = [
            {"id": jobid, "severity": 0, "type": "burst", "note": note}
            for jobid, note in notes.items()
        ]
        self._raise(payloads, "to end jobs")

    def set_urgencies(self, urgencies: Mapping[int, int]) -> Collection[int]:
        """Set the urgency of pending jobs; return the jobs for which that failed.

        These include jobs that the scheduler gave resources while they were being held.
        """
        refused = self._set_urgencies(urgencies)
        held = [i for i, u in urgencies.items() if u == URGENCY_HOLD and i not in refused]
        with self._asking("whether jobs have resources") as requests:
            return refused | started_meanwhile(requests, held)

    def _set_urgencies(self, urgencies: Mapping[int, int]) -> set[int]:
        payloads = [{"id": i, "urgency": urgency} for i, urgency in urgencies.items()]
        refused = set()
        with self._asking("to set the urgency of jobs") as requests:
            answers = requests.ask_all("job-manager.urgency", payloads)
            for jobid, answer in zip(urgencies, answers, strict=True):
                if isinstance(answer, OSError):
                    if answer.errno != errno.EINVAL:
                        raise answer
                    refused.add(jobid)
        return refused

    def jobspec(self, jobid: int) -> Mapping[str, Any]:
        """Return the current jobspec of a job, with its environment.

        Flux keeps the environment only in the signed submission, ``J`` (RFC 15).

        Raises:
            InstanceError: if the job is unknown.
        """
        with self._asking("for a jobspec") as requests:
            spec = as_submitted(requests, jobid)
        if spec is None:
            raise InstanceError(f"the Flux instance knows no job {format_f58(jobid)}")
        return spec

    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        """Update the queue of pending jobs; return those Flux refused to move, with its reason."""
        payloads = [
            {"id": jobid, "updates": {"attributes.system.queue": queue}} for jobid in jobids
        ]
        with self._asking("to move jobs to another queue") as requests:
            answers = list(requests.ask_all("job-manager.update", payloads))
        return {
            jobid: answer.strerror or str(answer)
            for jobid, answer in zip(jobids, answers, strict=True)
            if isinstance(answer, OSError)
        }

    def drain(self, ranks: Collection[int], reason: str) -> None:
        """Drain nodes; nodes already drained keep their reason."""
        if ranks:
            payload = {"targets": format_idset(ranks), "reason": reason, "mode": "update"}
            with self._asking("to drain nodes") as requests:
                requests.ask("resource.drain", payload, nodeid=0)

    def undrain(self, ranks: Collection[int]) -> None:
        """Undrain nodes, up or down; others are left alone."""
        drained = {node.rank for node in self.nodes() if node.drained}
        with self._asking("to undrain nodes") as requests:
            if drained.intersection(ranks):
                payload = {"targets": format_idset(drained.intersection(ranks))}
                requests.ask("resource.undrain", payload, nodeid=0)

    def disconnect(self, ranks: Collection[int]) -> None:
        """Have rank 0, the parent of all burst nodes, disconnect them."""
        with self._asking("to disconnect nodes") as requests:
            for rank in ranks:
                try:
                    requests.ask("overlay.disconnect-subtree", {"rank": rank}, nodeid=0)
                except OSError as error:
                    # It is offline, or its connection is gone but the instance has not noticed yet.
                    if error.errno not in (errno.EINVAL, errno.EHOSTUNREACH):
                        raise

    def wait_for_jobs(self, jobids: Collection[int], states: JobState) -> None:
        """Return once each job has reached one of the states or has ended; unknown ids count."""
        payloads = [{"id": jobid, "attrs": [], "state": int(states)} for jobid in jobids]
        with self._asking("about the ends of jobs") as requests:
            for answer in requests.ask_all("job-list.list-id", payloads, patience=None):
                if isinstance(answer, OSError) and not isinstance(answer, FileNotFoundError):
                    raise answer

    def wait(self, seconds: float) -> None:
        """Let time pass: up to ``seconds``, less if something happens, or on :meth:`wake`.

        On the main thread, a signal with a handler also ends it.
        The instance's disappearance and return end it, too; neither raises.
        """
        self._events.wait(seconds)

    def wake(self) -> None:
        """End the :meth:`wait` under way, or the next; from any thread or signal handler."""
        self._events.wake()

    def close(self) -> None:
        """Close every connection; later requests open new ones.

        A handle passed in belongs to its caller, and stays open.
        """
        self._events.close()
        self._connections.close()

    def _attribute(self, name: str, *, nodeid: int = ANY_NODE) -> str:
        with self._asking(f"for its attribute {name!r}") as requests:
            try:
                answer = requests.ask("attr.get", {"name": name}, nodeid=nodeid)
            except FileNotFoundError:
                return ""
        return str(answer["value"])


def _list(
    requests: Requests,
    states: JobState,
    attributes: list[str],
    matching: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return job-list's records of all jobs in these states (RFC 43)."""
    payload = {
        "max_entries": 0,
        "attrs": attributes,
        "since": 0.0,
        "constraint": {"and": [{"states": [int(states)]}, *([matching] if matching else [])]},
    }
    answers = requests.stream("job-list.list", payload)
    return [record for answer in answers for record in answer["jobs"]]


def _run(record: Mapping[str, Any]) -> Run:
    note = str(record.get("exception_note") or "")
    return Run(
        job=record["id"],
        user=record["userid"],
        started=record["t_run"],
        ended=record.get("t_inactive"),
        hostnames=parse_hostlist(record.get("nodelist", "")),
        cores=record.get("ncores", 0),
        node_failure=note if note.startswith(NODE_FAILURE) else "",
    )
