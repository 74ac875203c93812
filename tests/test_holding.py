"""A job that is held and runs elsewhere does not start here, whatever the scheduler was doing."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from tests.site_flux import needs_fluxion, running_fluxion

from fluxburst.errors import InstanceError
from fluxburst.flux import holding
from fluxburst.flux.holding import started_meanwhile
from fluxburst.flux.live import LiveInstance
from fluxburst.formats.fluid import format_f58
from fluxburst.model.job import URGENCY_HOLD, JobState

MANY_NODES = "[fake-resources]\nnnodes = 2000\ncores-per-node = 4\n"
FIRST, SECOND, THIRD = 2**40, 2**40 + 1, 2**40 + 2


class Answers:
    """What a broker answers to a client: Fluxion's queues as they are one after the other."""

    def __init__(self, *stats: Any, with_resources: Iterable[int] = ()) -> None:
        self.stats = list(stats)
        self.with_resources = set(with_resources)
        self.topics: list[str] = []

    def ask(self, topic: str, payload: Any, *, nodeid: int = -1) -> Any:
        self.topics.append(topic)
        return {}

    def ask_each(self, requests: Iterable[tuple[str, Any, int]]) -> Iterator[Any]:
        for topic, payload, _ in requests:
            self.topics.append(topic)
            if topic == "sched-fluxion-qmanager.stats-get":
                yield self.stats.pop(0) if len(self.stats) > 1 else self.stats[0]
            elif payload["id"] in self.with_resources:
                yield {"id": payload["id"], "R": "{}"}
            else:
                yield FileNotFoundError(errno.ENOENT, "No such file or directory")


def queues(
    *, pending: Iterable[int] = (), running: Iterable[int] = (), name: str = "pending"
) -> Any:
    """Return what Fluxion answers to ``stats-get`` (0.54.0), as far as it is read."""
    waiting: dict[str, list[str]] = {"pending": [], "pending_provisional": [], "blocked": []}
    waiting[name] = [format_f58(job).replace("ƒ", "f") for job in pending]
    started = [format_f58(job).replace("ƒ", "f") for job in running]
    scheduled = {"running": started, "rejected": [], "canceled": []}
    queue = {"policy": "fcfs", "pending_queues": waiting, "scheduled_queues": scheduled}
    return {"queues": {"default": queue, "other": queue}}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.mark.parametrize("name", ["pending", "pending_provisional", "blocked"])
def test_a_job_that_fluxion_is_matching_is_not_believed_to_be_held(name: str) -> None:
    matching = queues(pending=[FIRST, SECOND, THIRD], name=name)
    one_left = queues(pending=[SECOND], running=[FIRST], name=name)
    broker: Any = Answers(matching, one_left, queues(running=[FIRST, SECOND, 7]))
    assert started_meanwhile(broker, [FIRST, SECOND, THIRD]) == {FIRST, SECOND}
    assert broker.topics.count("sched-fluxion-qmanager.stats-get") == 3


def test_jobs_of_others_are_not_waited_for() -> None:
    broker: Any = Answers(queues(pending=[SECOND]))
    assert started_meanwhile(broker, [FIRST]) == set()


def test_a_job_that_has_resources_starts_by_any_scheduler() -> None:
    for first in (OSError(errno.ENOSYS, "Function not implemented"), queues()):
        broker: Any = Answers(first, with_resources=[SECOND])
        assert started_meanwhile(broker, [FIRST, SECOND]) == {SECOND}


def test_where_fluxion_does_not_let_go_nothing_is_run_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holding, "PATIENCE_SECONDS", 0.0)
    broker: Any = Answers(queues(pending=[FIRST]))
    with pytest.raises(InstanceError, match="Fluxion has not released it"):
        started_meanwhile(broker, [FIRST])


@pytest.mark.fluxion
@needs_fluxion
def test_a_job_of_many_nodes_is_held_or_runs_and_never_both() -> None:
    came: Counter[str] = Counter()
    with running_fluxion({"nodes.toml": MANY_NODES, "fluxion.toml": ""}) as flux:
        import flux as bindings

        instance = LiveInstance(bindings.Flux(flux.uri))
        for _ in range(8):
            duration = "--setattr=system.exec.test.run_duration=0.01s"
            job = int(flux("job", "id", flux("submit", "-N1500", duration, "true")))
            if instance.set_urgencies({job: URGENCY_HOLD}):
                instance.wait_for_jobs([job], JobState.INACTIVE)
                came[flux("jobs", "-no", "{result}", str(job))] += 1
                continue
            later = int(flux("job", "id", flux("submit", "-N1500", duration, "true")))
            instance.wait_for_jobs([later], JobState.INACTIVE)
            came[flux("jobs", "-no", "{state}", str(job))] += 1
            instance.cancel_jobs([job], "testing")
    assert came.keys() <= {"COMPLETED", "SCHED"}
    assert came.total() == 8
