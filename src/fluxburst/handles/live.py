"""A live Flux instance, through flux-python.

Requests of one kind are sent for all jobs before the first answer is waited for, and jobspecs
are kept by job id, so that a pass costs what the requests themselves do. flux-python is imported
when a live instance is first used, never before.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fluxburst.errors import FluxUnavailableError, FluxVersionError, InstanceError
from fluxburst.jobs import ACTIVE, PENDING, Job, JobState, Mark, queue_order
from fluxburst.nodes import Node
from fluxburst.rset import nodes_from_status

OLDEST = (0, 88, 0)
"""The oldest Flux that is supported."""

LOOKUP_CURRENT = 2
"""``FLUX_JOB_LOOKUP_CURRENT``: the jobspec with later updates applied."""

POLL_SECONDS = 1.0


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
            check_versions(broker, _binding_version())
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

        One streaming request lists them; the jobspecs of those not seen before are asked for
        together.
        """
        with _asking("its pending jobs"):
            records = self._list(PENDING, ["all"])
            self._fetch_specs([record["id"] for record in records])
        # A job that ended meanwhile has no jobspec to be had, and is no longer pending.
        jobs = [
            Job({**record, "spec": self._specs[record["id"]]})
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
            status = self.handle.rpc("resource.status", {}, nodeid=0)
            sched = self.handle.rpc("resource.sched-status", {}, nodeid=0)
            return nodes_from_status(status.get(), sched.get())

    def set_marks(self, marks: Mapping[int, Mark | None]) -> Collection[int]:
        """Put memos on jobs, or take them off; return the ids of jobs that are not active.

        The memos are events of the jobs' eventlogs (RFC 21) and outlast every process.
        """
        inactive: list[int] = []
        with _asking("to put memos on jobs"):
            sent = [
                (
                    jobid,
                    self.handle.rpc(
                        "job-manager.memo",
                        {"id": jobid, "volatile": False, "memo": {"fluxburst": _memo(mark)}},
                    ),
                )
                for jobid, mark in marks.items()
            ]
            for jobid, future in sent:
                try:
                    future.get()
                except FileNotFoundError:
                    inactive.append(jobid)
        return inactive

    def wait_for_jobs(self, jobids: Collection[int], states: JobState) -> None:
        """Return once each job has reached one of the states, or has ended; unknown ids have."""
        with _asking("about the ends of jobs"):
            sent = [
                self.handle.rpc(
                    "job-list.list-id", {"id": jobid, "attrs": [], "state": int(states)}
                )
                for jobid in jobids
            ]
            for future in sent:
                try:
                    future.get()
                except FileNotFoundError:
                    continue

    def wait(self, seconds: float) -> None:
        """Let time pass: ``seconds``, but no more than a poll interval."""
        time.sleep(min(seconds, POLL_SECONDS))

    def _list(self, states: JobState, attributes: list[str]) -> list[dict[str, Any]]:
        handle = self.handle
        everyone = importlib.import_module("flux.constants").FLUX_USERID_UNKNOWN
        job_list = importlib.import_module("flux.job.list").job_list
        request = job_list(
            handle, max_entries=0, attrs=attributes, userid=everyone, states=int(states)
        )
        records: list[dict[str, Any]] = request.get_jobs()
        return records

    def _fetch_specs(self, pending: Collection[int]) -> None:
        self._specs = {jobid: self._specs[jobid] for jobid in pending if jobid in self._specs}
        sent = [
            (
                jobid,
                self.handle.rpc(
                    "job-info.lookup",
                    {"id": jobid, "keys": ["jobspec"], "flags": LOOKUP_CURRENT},
                ),
            )
            for jobid in pending
            if jobid not in self._specs
        ]
        for jobid, future in sent:
            try:
                self._specs[jobid] = json.loads(future.get()["jobspec"])
            except FileNotFoundError:
                continue


def _binding_version() -> str:
    try:
        return importlib.metadata.version("flux-python")
    except importlib.metadata.PackageNotFoundError:  # the bindings that Flux itself installed
        core = importlib.import_module("_flux._core")
        version: bytes = core.ffi.string(core.lib.flux_core_version_string())
        return version.decode()


def _memo(mark: Mark | None) -> dict[str, str] | None:
    return None if mark is None else {"plugin": mark.plugin, "burst": mark.burst}


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn what flux-python raises into one clear error."""
    try:
        yield
    except OSError as error:
        raise InstanceError(
            f"the Flux instance was asked {what} and answered: {error.strerror or error}"
        ) from error
