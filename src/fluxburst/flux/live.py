"""A live Flux instance, through flux-python.

Requests of one kind are sent for all jobs before the first answer is waited for, and jobspecs
are kept by job id. On a first pass over a long queue they come from the job manager's journal,
which tells of all active jobs in one stream. Changes come from that journal, too, as they happen.
flux-python is imported when a live instance is first used, never before.
"""

from __future__ import annotations

import base64
import errno
import importlib
import importlib.metadata
import json
import math
import os
import re
import select
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from fluxburst.errors import FluxUnavailableError, FluxVersionError, InstanceError
from fluxburst.flux import access, job_journal, live_housekeeping, live_queues
from fluxburst.flux.event_stream import Feed
from fluxburst.flux.holding import started_meanwhile
from fluxburst.flux.live_scheduler import read_scheduler
from fluxburst.flux.protocol import NODE_FAILURE, Changes, Run
from fluxburst.flux.resources import nodes_from_status
from fluxburst.flux.rpc import ANY_NODE, Channel, Requests
from fluxburst.flux.wakeup import Bell
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
    queue_order,
)
from fluxburst.model.node import Node
from fluxburst.model.queues import Queue
from fluxburst.model.scheduler import Scheduler

OLDEST = (0, 88, 0)
"""The oldest Flux that is supported."""

LOOKUP_CURRENT = 2
"""``FLUX_JOB_LOOKUP_CURRENT``: the jobspec with later updates applied."""

JOURNAL_FROM = 100
"""From so many unknown jobspecs on, the journal is thought of."""

JOURNAL_FACTOR = 2
"""The journal is read where it tells of at most this many active jobs for each jobspec wanted.

One lookup costs the broker about three times what one job of the journal does.
"""

RETRY_SECONDS = 1.0
"""How often a wait looks whether an instance that went away is back."""


def _import_flux() -> Any:
    try:
        for module in ("flux.constants", "flux.job", "flux.job.list"):
            importlib.import_module(module)
        return importlib.import_module("flux")
    except ImportError as error:
        raise FluxUnavailableError(
            f"no Flux: its Python bindings cannot be imported ({error}); install flux-python of "
            "the same version, and ply, where libflux-core is found (for a Flux in a prefix of its "
            "own: LD_LIBRARY_PATH=PREFIX/lib, or PYTHONPATH=PREFIX/lib/flux/python3.X for the "
            "binding that it was built with), or use an embedded instance (--mock)"
        ) from error


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(int(number) for number in match.groups()) if match else ()


def check_versions(broker: str, binding: str) -> None:
    """Check that the running Flux is new enough and matches its Python binding.

    Raises:
        FluxVersionError: naming both versions.
    """
    if _numbers(broker) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise FluxVersionError(
            f"the running Flux is too old: {oldest} is the oldest that is supported",
            broker=broker,
            binding=binding,
        )
    if _numbers(broker)[:2] != _numbers(binding)[:2]:
        raise FluxVersionError(
            "the Python binding does not match the running Flux; install "
            f"flux-python=={'.'.join(map(str, _numbers(broker)))}",
            broker=broker,
            binding=binding,
        )


class LiveInstance:
    """A live Flux instance.

    Each thread has a connection of its own, and what happens in the instance comes over another
    one. A connection on which something went wrong is not used again: what is asked next opens a
    new one to the same URI, so the instance may go away and come back.

    Args:
        handle: A ``flux.Flux`` of the thread that passes it; by default the instance is the one
            that ``FLUX_URI`` names when it is first used.
    """

    def __init__(self, handle: Any = None) -> None:
        self._given, self._given_to = handle, threading.get_ident()
        self._given_failed = False
        self._uri = None if handle is None else _local_uri(handle)
        self._reached = False
        self._of_thread = threading.local()
        self._specs: dict[int, Any] = {}
        self._specs_lock = threading.Lock()
        self._feed: Feed | None = None
        self._feed_lock = threading.RLock()
        self._away = False
        self._retry_at = -math.inf
        self._bell = Bell()

    @property
    def handle(self) -> Any:
        """The ``flux.Flux`` that this thread talks through.

        Raises:
            FluxUnavailableError: if there is no Flux, or none that answers.
            FluxVersionError: if it is too old or does not match its binding.
            InstanceError: if it answered earlier and does not now.
        """
        return self._connection("for its version")[0]

    @property
    def name(self) -> str:
        """The lead broker's host, and the directory of its state or else its run directory.

        Where an instance has state that outlasts a restart (flux-broker-attributes(7)), it is the
        same instance afterwards.
        """
        host = self._attribute("hostname", nodeid=0)
        state = self._attribute("statedir", nodeid=0)
        return f"{host}:{state or self._attribute('rundir', nodeid=0)}"

    @property
    def lock_file(self) -> Path | None:
        """``fluxburst.lock`` in the lead broker's run directory, where that is on this host."""
        if self._attribute("rank") != "0":
            return None
        # The broker may be reached from another host, with a directory of that name there, too.
        socket = Path(self._attribute("local-uri").partition("://")[2])
        directory = Path(self._attribute("rundir"))
        here = socket.is_socket() and directory.is_dir() and os.access(directory, os.W_OK)
        return directory / "fluxburst.lock" if here else None

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return the time of a clock that only goes forward and that nobody sets, in seconds."""
        return time.monotonic()

    def pending_jobs(self) -> Sequence[Job]:
        """Return the pending jobs of all users with their jobspecs, in queue order.

        One streaming request lists them; the jobspecs of those not seen before are fetched
        together.
        """
        with self._specs_lock, self._asking("its pending jobs") as requests:
            access.check_owner(requests)
            records = _list(requests, PENDING, ["all"])
            self._forget_moved(records)
            self._fetch_specs(requests, [record["id"] for record in records])
            # One that ended meanwhile may have no jobspec any more; it is not pending, either.
            jobs = [
                Job(record, spec=_as_listed(self._specs[record["id"]], record))
                for record in records
                if record["id"] in self._specs
            ]
        return sorted(jobs, key=queue_order)

    def pending_changes(self) -> Changes:
        """Return what changed among the pending jobs, as the job manager's journal tells it.

        Everything that happened before it was asked is in the answer. The first time, and after
        the instance came back, that is the journal's history of the active jobs. Jobspecs are
        redacted, as the journal has them: they lack the environment.
        """
        with self._feed_lock:
            if self._feed is not None:
                # Where the streams broke, it may be back already.
                with suppress(InstanceError):
                    return self._changes()
            return self._changes()

    def _changes(self) -> Changes:
        with self._feeding("what changed in its queue") as feed:
            feed.catch_up()
            self._away = False
            return feed.changes()

    def runs(self, jobids: Collection[int]) -> Sequence[Run]:
        """Return what those of the jobs that have started had (RFC 43: ``t_run``, ``ncores`` …).

        They are done with it when they are inactive; jobs that Flux has purged are not known.
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
                raise _answered("for its nodes", answer) from answer
        return nodes_from_status(*answers)

    def check_owner(self, *, to_act: bool = False) -> None:
        """Check that the instance takes this process for its owner, or that it is the owner's.

        Raises:
            NotOwnerError: if that is not so, with what can be done.
        """
        with self._asking("who its owner is") as requests:
            access.check_owner(requests, to_act=to_act)

    def users(self) -> Users:
        """Return whose jobs its configuration has it take and run."""
        with self._asking("whose jobs it runs") as requests:
            return access.read_users(requests)

    def scheduler(self) -> Scheduler:
        """Return the rules of the module that provides the service ``sched`` (RFC 27)."""
        with self._asking("for its scheduler") as requests:
            return read_scheduler(requests)

    def queues(self) -> Mapping[str, Queue]:
        """Return every queue by name, as the job manager has it now."""
        with self._asking("for its queues") as requests:
            return live_queues.ask(requests)

    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        """Put memos on jobs, or take them off; return the ids of jobs that are not active.

        The memos are events of the jobs' eventlogs (RFC 21) and outlast every process.
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
        """Return a broker attribute (flux-broker-attributes(7)), empty where it is not set."""
        return self._attribute(name)

    def jobs_on(self, ranks: Collection[int]) -> list[int]:
        """Return the ids of the jobs that have something of these nodes: running or cleaning up."""
        if not ranks:
            return []
        matching = {"ranks": [format_idset(ranks)]}
        with self._asking("which jobs are on its nodes") as requests:
            return [record["id"] for record in _list(requests, RUNNING, ["state"], matching)]

    def housekeeping(self) -> Sequence[Housekeeping]:
        """Return what runs on nodes after jobs have ended there."""
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
        """Set the urgency of pending jobs; return those that could not be set.

        The scheduler may have given resources to a job that is being held: it is one of them.
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
        """Return the jobspec of a job as it is now, with its environment.

        Flux keeps that only in what was submitted, ``J``, which is signed (RFC 15).

        Raises:
            InstanceError: if there is no such job.
        """
        signed = {"id": jobid, "keys": ["J"], "flags": 0}
        with self._asking("for a jobspec") as requests:
            for _, spec in _looked_up(requests, [jobid]):
                submitted = _payload(requests.ask("job-info.lookup", signed)["J"])
                return _with_environment_of(submitted, spec)
        raise InstanceError(f"the Flux instance knows no job {format_f58(jobid)}")

    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        """Update the queue of pending jobs; return those that Flux refused, with its reason."""
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
        """Drain nodes; those that are drained already keep their reason."""
        if ranks:
            payload = {"targets": format_idset(ranks), "reason": reason, "mode": "update"}
            with self._asking("to drain nodes") as requests:
                requests.ask("resource.drain", payload, nodeid=0)

    def undrain(self, ranks: Collection[int]) -> None:
        """Undrain nodes, up or down; those that are not drained stay as they are."""
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
                    # It is offline, or its connection is gone, which the instance is yet to notice.
                    if error.errno not in (errno.EINVAL, errno.EHOSTUNREACH):
                        raise

    def wait_for_jobs(self, jobids: Collection[int], states: JobState) -> None:
        """Return once each job has reached one of the states, or has ended; unknown ids have."""
        payloads = [{"id": jobid, "attrs": [], "state": int(states)} for jobid in jobids]
        with self._asking("about the ends of jobs") as requests:
            for answer in requests.ask_all("job-list.list-id", payloads, patience=None):
                if isinstance(answer, OSError) and not isinstance(answer, FileNotFoundError):
                    raise answer

    def wait(self, seconds: float) -> None:
        """Let time pass: at most ``seconds``, less if something happened, or on :meth:`wake`.

        A signal with a handler ends it, too, where this is the main thread.
        Going away and coming back are things that happen, too; this does not raise for them.
        """
        until = time.monotonic() + seconds
        with self._bell.rung_by_signals():
            while not self._bell.answer():
                feed, news = self._look(until)
                left = until - time.monotonic()
                if news or left <= 0:
                    return
                heard = select.poll()
                heard.register(self._bell.fileno(), select.POLLIN)
                if feed is not None:
                    heard.register(feed, select.POLLIN)
                else:
                    left = min(left, max(0.0, self._retry_at - time.monotonic()))
                heard.poll(math.ceil(left * 1000))

    def wake(self) -> None:
        """End the :meth:`wait` under way, or the next; from any thread or signal handler."""
        self._bell.ring()

    def close(self) -> None:
        """Let go of every connection; what is asked after that opens new ones.

        The handle that was passed in belongs to who passed it, and stays open.
        """
        with self._feed_lock:
            self._feed = None
        self._of_thread = threading.local()

    # --- connections -----------------------------------------------------------------------

    def _connection(self, what: str) -> tuple[Any, Channel]:
        """Return this thread's handle and channel."""
        connection: tuple[Any, Channel] | None = getattr(self._of_thread, "connection", None)
        if connection is not None and connection[1].is_closed():
            connection, self._given_failed = None, True
        if connection is None:
            handle = self._handle_of_thread(what)
            connection = self._of_thread.connection = (handle, Channel(handle))
        return connection

    def _handle_of_thread(self, what: str) -> Any:
        given = self._given if self._given_to == threading.get_ident() else None
        if given is None:
            return self._open(what)
        if self._given_failed:
            try:
                return self._open(what)
            except (InstanceError, FluxUnavailableError):
                pass  # it is of an instance that cannot be reached from here under its local URI
        return self._checked(given, what)

    def _open(self, what: str) -> Any:
        """Open another handle to the instance."""
        flux = _import_flux()
        uri = os.environ.get("FLUX_URI", "") if self._uri is None else self._uri
        try:
            handle = flux.Flux(uri) if uri else flux.Flux()
        except OSError as error:
            raise self._unavailable(error, what) from error
        self._checked(handle, what)
        self._uri = uri
        return handle

    def _checked(self, handle: Any, what: str) -> Any:
        try:
            check_versions(str(handle.attr_get("version")), binding_version())
        except OSError as error:
            raise self._unavailable(error, what) from error
        self._reached = True
        return handle

    def _unavailable(self, error: OSError, what: str) -> Exception:
        refused = access.refused(error)
        if refused is not None:
            return refused
        problem = error.strerror or str(error)
        if self._reached:
            return InstanceError(f"the Flux instance was asked {what}, but is away: {problem}")
        return FluxUnavailableError(
            f"no Flux answers ({problem}); run this inside a Flux instance, or set FLUX_URI, or "
            "use an embedded instance (--mock)"
        )

    @contextmanager
    def _asking(self, what: str) -> Iterator[Requests]:
        """Lend this thread's connection; let go of it, and raise one clear error, if that fails.

        Answers may still be under way then, also where it was left by Ctrl-C.
        """
        connections = self._of_thread
        requests = Requests(self._connection(what)[1])
        try:
            yield requests
        except BaseException as error:
            connections.__dict__.pop("connection", None)
            self._given_failed = True
            if isinstance(error, OSError):
                raise _answered(what, error) from error
            raise

    @contextmanager
    def _feeding(self, what: str) -> Iterator[Feed]:
        """Lend the streams; let go of them, and raise one clear error, if that fails."""
        with self._feed_lock:
            try:
                if self._feed is None:
                    self.check_owner()
                    self._feed = Feed(self._open(what))
                yield self._feed
            except BaseException as error:
                self._feed = None
                self._away = True
                self._retry_at = time.monotonic() + RETRY_SECONDS
                if isinstance(error, OSError):
                    raise _answered(what, error) from error
                raise

    def _look(self, until: float) -> tuple[Feed | None, bool]:
        """Read what happened, and say whether something did; no streams while it is away."""
        with self._feed_lock:
            was_away = self._away
            if self._feed is None and time.monotonic() < self._retry_at:
                return None, False
            try:
                with self._feeding("what happens") as feed:
                    feed.drain(until)
            except (InstanceError, FluxUnavailableError):
                return None, not was_away
            if was_away and feed.caught_up:
                self._away = False
            return feed, feed.take_news() or (was_away and not self._away)

    def _attribute(self, name: str, *, nodeid: int = ANY_NODE) -> str:
        with self._asking(f"for its attribute {name!r}") as requests:
            try:
                answer = requests.ask("attr.get", {"name": name}, nodeid=nodeid)
            except FileNotFoundError:
                return ""
        return str(answer["value"])

    # --- jobspecs --------------------------------------------------------------------------

    def _forget_moved(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Forget the jobspecs of jobs in another queue: its constraints are in the jobspec, too."""
        for record in records:
            spec = self._specs.get(record["id"])
            if spec is not None and record.get("queue") != _queue_of(spec):
                del self._specs[record["id"]]

    def _fetch_specs(self, requests: Requests, pending: Collection[int]) -> None:
        """Make the jobspecs of pending jobs known, and forget all others."""
        self._specs = {jobid: self._specs[jobid] for jobid in pending if jobid in self._specs}
        wanted = [jobid for jobid in pending if jobid not in self._specs]
        if len(wanted) >= JOURNAL_FROM:
            states = requests.ask("job-list.job-stats", {})["job_states"]
            if states["total"] - states["inactive"] <= JOURNAL_FACTOR * len(wanted):
                self._specs.update(_specs_of_journal(requests, set(wanted)))
                wanted = [jobid for jobid in wanted if jobid not in self._specs]
        self._specs.update(_looked_up(requests, wanted))


def _local_uri(handle: Any) -> str:
    """Return the URI under which other threads find a handle's instance, empty for none."""
    try:
        return str(handle.attr_get("local-uri"))
    except OSError:
        return ""


def _answered(what: str, error: OSError) -> InstanceError:
    return InstanceError(
        f"the Flux instance was asked {what} and answered: {error.strerror or error}"
    )


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


def _looked_up(requests: Requests, wanted: Collection[int]) -> Iterator[tuple[int, Any]]:
    payloads = [{"id": i, "keys": ["jobspec"], "flags": LOOKUP_CURRENT} for i in wanted]
    answers = requests.ask_all("job-info.lookup", payloads)
    for jobid, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, FileNotFoundError):
            continue
        if isinstance(answer, OSError):
            raise answer
        yield jobid, json.loads(answer["jobspec"])


def _payload(signed: str) -> dict[str, Any]:
    """Return what was signed: HEADER.PAYLOAD.SIGNATURE, in base64 (RFC 15)."""
    payload = json.loads(base64.b64decode(signed.split(".")[1]))
    assert isinstance(payload, dict)
    return payload


def _with_environment_of(submitted: Mapping[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    environment = submitted["attributes"].get("system", {}).get("environment")
    if environment is not None:
        spec["attributes"].setdefault("system", {})["environment"] = environment
    return spec


def _specs_of_journal(requests: Requests, wanted: Collection[int]) -> Iterator[tuple[int, Any]]:
    topic = job_journal.TOPIC
    with closing(requests.stream(topic, {"full": False}, cancel=f"{topic}-cancel")) as answers:
        for answer in answers:
            if answer["id"] == job_journal.END_OF_HISTORY:
                return
            if answer["id"] in wanted and "jobspec" in answer:
                yield answer["id"], _updated(answer["jobspec"], answer["events"])


def _updated(spec: dict[str, Any], events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a jobspec with the updates of the job's ``jobspec-update`` events (RFC 21)."""
    for event in events:
        if event["name"] == "jobspec-update":
            job_journal.apply_updates(spec, event["context"])
    return spec


def _as_listed(spec: dict[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a jobspec fetched earlier with what ``flux update`` may have changed since."""
    system = spec.get("attributes", {}).get("system", {})
    for key in ("duration", "queue"):
        if key in record and record[key] != system.get(key):
            system[key] = record[key]
    return spec


def _queue_of(spec: Mapping[str, Any]) -> Any:
    return spec.get("attributes", {}).get("system", {}).get("queue")


def binding_version() -> str:
    """Return the version of Flux that its Python binding is for, empty where there is none."""
    try:
        return importlib.metadata.version("flux-python")
    except importlib.metadata.PackageNotFoundError:  # the bindings that Flux itself installed
        try:
            core = importlib.import_module("_flux._core")
        except ImportError:
            return ""
        version: bytes = core.ffi.string(core.lib.flux_core_version_string())
        return version.decode()
