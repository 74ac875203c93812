"""Jobs whose jobspecs are kept as text are like any others."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from tests.support import spec

from fluxburst.flux.compact_job import CompactJob
from fluxburst.model.job import Job

RECORD = {"id": 7, "state": 8, "priority": 16, "name": "hostname"}
SPEC = spec(2, 4, burstable="gke", duration=60.0)
PLAIN = {**RECORD, "spec": SPEC}


@pytest.fixture
def job() -> CompactJob:
    return CompactJob(RECORD, json.dumps(SPEC))


READINGS: dict[str, Callable[[Job], Any]] = {
    "the spec": lambda job: job["spec"],
    "get": lambda job: (job.get("spec"), job.get("nothing"), job.get("name"), job.get("no", 1)),
    "in": lambda job: ("spec" in job, "name" in job, "info" in job),
    "len": len,
    "list": list,
    "reversed": lambda job: list(reversed(job)),
    "keys": lambda job: list(job.keys()),
    "values": lambda job: list(job.values()),
    "items": lambda job: list(job.items()),
    "dict": dict,
    "Job": Job,
    "unpacking": lambda job: {**job},
    "copy": lambda job: job.copy(),
    "or": lambda job: job | {"more": 1},
    "ror": lambda job: {"more": 1} | job,
    "json": lambda job: json.loads(json.dumps(job)),
    "sorted json": lambda job: json.dumps(job, sort_keys=True),
    "repr": repr,
    "copied": copy.copy,
    "deeply copied": copy.deepcopy,
    "pickled": lambda job: pickle.loads(pickle.dumps(job)),
    "the guide's copy": lambda job: job["info"],
    "what is counted": lambda job: (job.nodes, job.cores, job.tasks, job.duration, job.burstable),
    "the command": lambda job: job.command,
    "merged": lambda job: {"a": 1, **job},
}


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
def test_it_reads_like_any_job(job: CompactJob, read: Callable[[Job], Any]) -> None:
    assert read(job) == read(Job(PLAIN))


def test_it_equals_any_dict_of_the_same_items(job: CompactJob) -> None:
    other = CompactJob(RECORD, json.dumps(SPEC))
    for same in (PLAIN, Job(PLAIN), other):
        assert [job == same, same == job, job != same, same != job] == [True, True, False, False]
    for different in (RECORD, Job(RECORD), CompactJob(RECORD, json.dumps(spec(3)))):
        assert [job == different, different == job] == [False, False]
        assert [job != different, different != job] == [True, True]


def _set(job: Job) -> None:
    job["spec"] = {"version": 2}


def _delete(job: Job) -> None:
    del job["spec"]


def _merge(job: Job) -> None:
    job |= {"spec": {}, "name": "other"}


CHANGES: dict[str, Callable[[Job], Any]] = {
    "set": _set,
    "del": _delete,
    "merge": _merge,
    "pop": lambda job: job.pop("spec"),
    "pop another": lambda job: job.pop("name"),
    "pop nothing": lambda job: job.pop("nothing", 1),
    "popitem": lambda job: job.popitem(),
    "update": lambda job: job.update({"spec": {}}, name="other"),
    "update another": lambda job: job.update(name="other"),
    "setdefault": lambda job: job.setdefault("spec", {}),
    "setdefault of another": lambda job: job.setdefault("nothing", 1),
    "clear": lambda job: job.clear(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_changes_like_any_job(job: CompactJob, change: Callable[[Job], Any]) -> None:
    plain = Job(copy.deepcopy(PLAIN))
    assert change(job) == change(plain)
    assert dict(job) == dict(plain)
    assert list(job) == list(plain)
    assert ("spec" in job) == ("spec" in plain)


def test_jobs_read_by_turns_keep_their_own_jobspecs(job: CompactJob) -> None:
    other = CompactJob({"id": 8}, json.dumps(spec(5)))
    assert [job.nodes, other.nodes] == [2, 5]
    assert [job["spec"], other["spec"], job["spec"]] == [SPEC, spec(5), SPEC]


def test_what_is_not_there_is_a_key_error(job: CompactJob) -> None:
    with pytest.raises(KeyError):
        job["nothing"]


def test_one_with_other_items_is_the_same_job_with_these(job: CompactJob) -> None:
    plain = Job(PLAIN)
    changes: list[dict[str, Any]] = [{"name": "other"}, {"queue": "burst"}, {"spec": spec(5)}]
    for items in changes:
        assert job.but(**items) == plain.but(**items) == {**PLAIN, **items}
    assert job == PLAIN
    assert isinstance(job.but(name="other"), CompactJob)
