"""Jobspecs of a live Flux's jobs: those of pending jobs are cached, and fetched in bulk.

On a first pass over a long queue they come from the job manager's journal, which reports all
active jobs in one stream; otherwise each is looked up.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from fluxburst.flux import job_journal
from fluxburst.flux.rpc import Requests

LOOKUP_CURRENT = 2
"""``FLUX_JOB_LOOKUP_CURRENT``: the jobspec with later updates applied."""

JOURNAL_FROM = 100
"""The minimum number of unknown jobspecs for reading the journal."""

JOURNAL_FACTOR = 2
"""The maximum number of active jobs in the journal per jobspec wanted.

One lookup costs the broker about as much as three jobs of the journal.
"""


class JobspecCache:
    """The jobspecs of an instance's pending jobs; not safe for use by several threads."""

    def __init__(self) -> None:
        self._specs: dict[int, Any] = {}

    def of(
        self, requests: Requests, records: Sequence[Mapping[str, Any]]
    ) -> Mapping[int, dict[str, Any]]:
        """Return the jobspecs of all pending jobs, by id; those of other jobs are forgotten.

        A job that has ended meanwhile may have none.

        Args:
            requests: Fetches unknown jobspecs.
            records: The pending jobs' records from job-list.

        Raises:
            OSError: if the instance does not answer.
        """
        self._forget_moved(records)
        self._fetch(requests, [record["id"] for record in records])
        return {
            record["id"]: _as_listed(self._specs[record["id"]], record)
            for record in records
            if record["id"] in self._specs
        }

    def _forget_moved(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Forget the jobspecs of jobs that changed queue: the queue's constraints are in them."""
        for record in records:
            spec = self._specs.get(record["id"])
            if spec is not None and record.get("queue") != _queue_of(spec):
                del self._specs[record["id"]]

    def _fetch(self, requests: Requests, pending: Collection[int]) -> None:
        """Fetch the jobspecs of pending jobs, and forget all others."""
        self._specs = {jobid: self._specs[jobid] for jobid in pending if jobid in self._specs}
        wanted = [jobid for jobid in pending if jobid not in self._specs]
        if len(wanted) >= JOURNAL_FROM:
            states = requests.ask("job-list.job-stats", {})["job_states"]
            if states["total"] - states["inactive"] <= JOURNAL_FACTOR * len(wanted):
                self._specs.update(_specs_of_journal(requests, set(wanted)))
                wanted = [jobid for jobid in wanted if jobid not in self._specs]
        self._specs.update(_fetched(requests, wanted))


def _fetched(requests: Requests, wanted: Collection[int]) -> Iterator[tuple[int, Any]]:
    payloads = [{"id": i, "keys": ["jobspec"], "flags": LOOKUP_CURRENT} for i in wanted]
    answers = requests.ask_all("job-info.lookup", payloads)
    for jobid, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, FileNotFoundError):
            continue
        if isinstance(answer, OSError):
            raise answer
        yield jobid, json.loads(answer["jobspec"])


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
    """Return a cached jobspec with later changes by ``flux update``."""
    system = spec.get("attributes", {}).get("system", {})
    for key in ("duration", "queue"):
        if key in record and record[key] != system.get(key):
            system[key] = record[key]
    return spec


def _queue_of(spec: Mapping[str, Any]) -> Any:
    return spec.get("attributes", {}).get("system", {}).get("queue")


def as_submitted(requests: Requests, jobid: int) -> dict[str, Any] | None:
    """Return the current jobspec of a job, with its environment; None if it is unknown.

    Raises:
        OSError: if the instance does not answer.
    """
    signed = {"id": jobid, "keys": ["J"], "flags": 0}
    for _, spec in _fetched(requests, [jobid]):
        submitted = _payload(requests.ask("job-info.lookup", signed)["J"])
        return _with_environment_of(submitted, spec)
    return None


def _payload(signed: str) -> dict[str, Any]:
    """Return the signed part: HEADER.PAYLOAD.SIGNATURE, in base64 (RFC 15)."""
    payload = json.loads(base64.b64decode(signed.split(".")[1]))
    assert isinstance(payload, dict)
    return payload


def _with_environment_of(submitted: Mapping[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    environment = submitted["attributes"].get("system", {}).get("environment")
    if environment is not None:
        spec["attributes"].setdefault("system", {})["environment"] = environment
    return spec
