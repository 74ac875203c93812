"""A live Flux instance, through flux-python.

Requests of one kind are sent for all jobs before the first answer is waited for, and jobspecs
are kept by job id. On a first pass over a long queue they come from the job manager's journal,
which tells all of them in one stream, unless it has a longer history to tell than that is worth.
flux-python is imported when a live instance is first used, never before.
"""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import json
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fluxburst.errors import FluxUnavailableError, FluxVersionError, InstanceError
from fluxburst.handles.rpc import Requests
from fluxburst.jobs import ACTIVE, PENDING, RUNNING, Job, JobState, Mark, queue_order
from fluxburst.nodes import Node
from fluxburst.rset import nodes_from_status
from fluxburst.sets import format_idset

OLDEST = (0, 88, 0)
"""The oldest Flux that is supported."""

LOOKUP_CURRENT = 2
"""``FLUX_JOB_LOOKUP_CURRENT``: the jobspec with later updates applied."""

END_OF_HISTORY = -1
"""The job id of the journal's answer between what was and what happens now."""

JOURNAL_FROM = 100
"""From so many unknown jobspecs on, the journal is thought of."""

JOURNAL_FACTOR = 2
"""The journal is read where it tells of at most this many jobs for each jobspec wanted.

One lookup costs the broker about three times what one job of the journal does.
"""

POLL_SECONDS = 2.0


def _import_flux() -> Any:
    try:
        for module in ("flux.constants", "flux.job", "flux.job.list"):
            importlib.import_module(module)
        return importlib.import_module("flux")
    except ImportError as error:
        raise FluxUnavailableError(
            f"no Flux: its Python bindings cannot be imported ({error}); install fluxburst[flux] "
            "where libflux-core is found, or use an embedded instance (--mock)"
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

    Args:
        handle: A ``flux.Flux``; by default one is opened, on first use, to the instance that
            ``FLUX_URI`` names. A handle belongs to the thread that opened it.
    """

    def __init__(self, handle: Any = None) -> None:
        self._given = handle
        self._opened: Any = None
        self._specs: dict[int, Any] = {}

    @property
    def handle(self) -> Any:
        """The ``flux.Flux`` it talks through.

        Raises:
            FluxUnavailableError: if there is no Flux, or none that answers.
            FluxVersionError: if it is too old or does not match its binding.
        """
        if self._opened is None:
            flux = _import_flux()
            try:
                handle = self._given if self._given is not None else flux.Flux()
                broker = str(handle.attr_get("version"))
            except OSError as error:
                raise FluxUnavailableError(
                    f"no Flux answers ({error.strerror or error}); run this inside a Flux "
                    "instance, or set FLUX_URI, or use an embedded instance (--mock)"
                ) from error
            check_versions(broker, binding_version())
            self._opened = handle
        return self._opened

    @property
    def name(self) -> str:
        """The lead broker's host and run directory: the same after a restart of its service."""
        with _asking("its name"):
            handle = self.handle
            return f"{handle.attr_get('hostname')}:{handle.attr_get('rundir')}"

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return time.time()

    def pending_jobs(self) -> Sequence[Job]:
        """Return the pending jobs of all users with their jobspecs, in queue order.

        One streaming request lists them; the jobspecs of those not seen before are fetched
        together.
        """
        with _asking("its pending jobs"):
            records = self._list(PENDING, ["all"])
            self._forget_moved(records)
            self._fetch_specs([record["id"] for record in records])
        # A job that ended meanwhile may have no jobspec any more; it is no longer pending, either.
        jobs = [
            Job(record, spec=_as_listed(self._specs[record["id"]], record))
            for record in records
            if record["id"] in self._specs
        ]
        return sorted(jobs, key=queue_order)

    def job_ids(self) -> list[int]:
        """Return the ids of all active jobs of all users."""
        with _asking("its jobs"):
            return [record["id"] for record in self._list(ACTIVE, ["state"])]

    def nodes(self) -> tuple[Node, ...]:
        """Return every node, by rank, as ``resource.status`` and ``sched-status`` report them."""
        with _asking("its nodes"):
            status = self._requests.ask("resource.status", {}, nodeid=0)
            sched = self._requests.ask("resource.sched-status", {}, nodeid=0)
            return nodes_from_status(status, sched)

    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        """Put memos on jobs, or take them off; return the ids of jobs that are not active.

        The memos are events of the jobs' eventlogs (RFC 21) and outlast every process.
        """
        payloads = [
            {"id": jobid, "volatile": False, "memo": {"fluxburst": mark and mark.to_memo()}}
            for jobid, mark in marks.items()
        ]
        inactive: list[int] = []
        with _asking("to put memos on jobs"):
            answers = self._requests.ask_all("job-manager.memo", payloads)
            for jobid, answer in zip(marks, answers, strict=True):
                if isinstance(answer, FileNotFoundError):
                    inactive.append(jobid)
                elif isinstance(answer, OSError):
                    raise answer
        return inactive

    def attribute(self, name: str) -> str:
        """Return a broker attribute (flux-broker-attributes(7)), empty where it is not set."""
        with _asking(f"for its attribute {name!r}"):
            try:
                return str(self.handle.attr_get(name))
            except FileNotFoundError:
                return ""

    def jobs_on(self, ranks: Collection[int]) -> list[int]:
        """Return the ids of the jobs that have something of these nodes: running or cleaning up."""
        if not ranks:
            return []
        matching = {"ranks": [format_idset(ranks)]}
        with _asking("which jobs are on its nodes"):
            return [record["id"] for record in self._list(RUNNING, ["state"], matching)]

    def cancel_jobs(self, jobids: Collection[int], note: str) -> None:
        """Raise a fatal exception of type ``cancel`` (RFC 21) on jobs that have not ended."""
        payloads = [
            {"id": jobid, "severity": 0, "type": "cancel", "note": note} for jobid in jobids
        ]
        with _asking("to cancel jobs"):
            for answer in self._requests.ask_all("job-manager.raise", payloads):
                if isinstance(answer, OSError) and not isinstance(answer, FileNotFoundError):
                    raise answer

    def move_jobs(self, jobids: Collection[int], queue: str) -> Mapping[int, str]:
        """Update the queue of pending jobs; return those that Flux refused, with its reason."""
        payloads = [
            {"id": jobid, "updates": {"attributes.system.queue": queue}} for jobid in jobids
        ]
        with _asking("to move jobs to another queue"):
            answers = list(self._requests.ask_all("job-manager.update", payloads))
        return {
            jobid: answer.strerror or str(answer)
            for jobid, answer in zip(jobids, answers, strict=True)
            if isinstance(answer, OSError)
        }

    def drain(self, ranks: Collection[int], reason: str) -> None:
        """Drain nodes; those that are drained already keep their reason."""
        if ranks:
            payload = {"targets": format_idset(ranks), "reason": reason, "mode": "update"}
            with _asking("to drain nodes"):
                self._requests.ask("resource.drain", payload, nodeid=0)

    def undrain(self, ranks: Collection[int]) -> None:
        """Undrain nodes, up or down; those that are not drained stay as they are."""
        drained = {node.rank for node in self.nodes() if node.drained}
        with _asking("to undrain nodes"):
            if drained.intersection(ranks):
                payload = {"targets": format_idset(drained.intersection(ranks))}
                self._requests.ask("resource.undrain", payload, nodeid=0)

    def disconnect(self, ranks: Collection[int]) -> None:
        """Have rank 0, the parent of all burst nodes, disconnect them."""
        with _asking("to disconnect nodes"):
            for rank in ranks:
                try:
                    self._requests.ask("overlay.disconnect-subtree", {"rank": rank}, nodeid=0)
                except OSError as error:
                    if error.errno != errno.EINVAL:  # which means that it is offline
                        raise

    def wait_for_jobs(self, jobids: Collection[int], states: JobState) -> None:
        """Return once each job has reached one of the states, or has ended; unknown ids have."""
        payloads = [{"id": jobid, "attrs": [], "state": int(states)} for jobid in jobids]
        with _asking("about the ends of jobs"):
            for answer in self._requests.ask_all("job-list.list-id", payloads, patience=None):
                if isinstance(answer, OSError) and not isinstance(answer, FileNotFoundError):
                    raise answer

    def wait(self, seconds: float) -> None:
        """Let time pass: ``seconds``, but no more than a poll interval."""
        time.sleep(min(seconds, POLL_SECONDS))

    @property
    def _requests(self) -> Requests:
        return Requests(self.handle)

    def _list(
        self, states: JobState, attributes: list[str], matching: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return job-list's records of all jobs in these states (RFC 43)."""
        payload = {
            "max_entries": 0,
            "attrs": attributes,
            "since": 0.0,
            "constraint": {"and": [{"states": [int(states)]}, *([matching] if matching else [])]},
        }
        answers = self._requests.stream("job-list.list", payload)
        return [record for answer in answers for record in answer["jobs"]]

    def _forget_moved(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Forget the jobspecs of jobs in another queue: its constraints are in the jobspec, too."""
        for record in records:
            spec = self._specs.get(record["id"])
            if spec is not None and record.get("queue") != _queue_of(spec):
                del self._specs[record["id"]]

    def _fetch_specs(self, pending: Collection[int]) -> None:
        """Make the jobspecs of pending jobs known, and forget all others."""
        self._specs = {jobid: self._specs[jobid] for jobid in pending if jobid in self._specs}
        wanted = [jobid for jobid in pending if jobid not in self._specs]
        if len(wanted) >= JOURNAL_FROM:
            stats = self._requests.ask("job-list.job-stats", {})
            if stats["job_states"]["total"] <= JOURNAL_FACTOR * len(wanted):
                self._specs.update(self._specs_of_journal(set(wanted)))
                wanted = [jobid for jobid in wanted if jobid not in self._specs]
        self._specs.update(self._looked_up(wanted))

    def _looked_up(self, wanted: Collection[int]) -> Iterator[tuple[int, Any]]:
        payloads = [{"id": i, "keys": ["jobspec"], "flags": LOOKUP_CURRENT} for i in wanted]
        answers = self._requests.ask_all("job-info.lookup", payloads)
        for jobid, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, FileNotFoundError):
                continue
            if isinstance(answer, OSError):
                raise answer
            yield jobid, json.loads(answer["jobspec"])

    def _specs_of_journal(self, wanted: Collection[int]) -> Iterator[tuple[int, Any]]:
        topic = "job-manager.events-journal"
        for answer in self._requests.stream(topic, {"full": True}, cancel=f"{topic}-cancel"):
            if answer["id"] == END_OF_HISTORY:
                return
            if answer["id"] in wanted and "jobspec" in answer:
                yield answer["id"], _updated(answer["jobspec"], answer["events"])


def _updated(spec: dict[str, Any], events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a jobspec with the updates of the job's ``jobspec-update`` events (RFC 21)."""
    for event in events:
        if event["name"] == "jobspec-update":
            for path, value in event["context"].items():
                *parents, last = path.split(".")
                target = spec
                for parent in parents:
                    target = target.setdefault(parent, {})
                target[last] = value
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


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn what flux-python raises into one clear error."""
    try:
        yield
    except OSError as error:
        raise InstanceError(
            f"the Flux instance was asked {what} and answered: {error.strerror or error}"
        ) from error
