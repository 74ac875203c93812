"""The doctor says where nodes do not live as long as jobs may run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from tests.support import Elsewhere, job, spec

from fluxburst import Duration, Job, NodeType
from fluxburst.config.policy import Lifetimes
from fluxburst.errors import FluxUnavailableError
from fluxburst.flux import live_queues
from fluxburst.flux.rpc import Requests
from fluxburst.model.queues import Queue
from fluxburst.planning.lifespans import Lifespans
from fluxburst.reports.doctor.lifetimes import LifetimeFindings, knows_leases

HOUR = 3600.0
NODE = NodeType("node", cores=8)


class Fixed(Elsewhere):
    not_renewable = "it does not extend them"


def work(jobid: int, seconds: float, cores: int = 8) -> Job:
    return job(jobid, spec(1, cores, burstable=1, duration=seconds))


def found(
    plugin: Elsewhere,
    jobs: Sequence[Job] = (),
    queues: Sequence[Queue] = (),
    *,
    served: bool = True,
    **lifetimes: float,
) -> list[tuple[str, str]]:
    policy = Lifetimes(**{name: Duration(value) for name, value in lifetimes.items()})  # type: ignore[arg-type]
    by_name = {queue.name: queue for queue in queues}
    plugins = {plugin.name: plugin}
    findings = list(
        LifetimeFindings(Lifespans(policy), plugins, jobs, by_name, served=served).all()
    )
    assert all(one.advice for one in findings if one.level != "ok")
    return [(one.level, one.what) for one in findings]


def test_where_all_is_well_that_is_said() -> None:
    assert found(Elsewhere("cloud", NODE), [work(1, 4 * HOUR), work(2, 0.0)]) == [
        ("ok", "nodes live as long as the waiting jobs may run")
    ]


def test_leases_that_cannot_be_renewed_are_named() -> None:
    first, *_ = found(Fixed("cloud", NODE))
    assert first == (
        "ok",
        "leases of cloud cannot be renewed (it does not extend them): their jobs set the length",
    )


def test_jobs_that_outlive_every_node_are_a_warning() -> None:
    jobs = [work(1, 2 * HOUR), work(2, 4 * HOUR), work(3, HOUR / 2)]
    ((level, what),) = found(Elsewhere("cloud", NODE), jobs, max_lifetime=HOUR)
    assert level == "warning"
    assert what == (
        "job ƒ2 and 1 more may burst but may run longer than any node lives for jobs: 4h at most, "
        "and 40m"
    )


def test_jobs_without_a_limit_are_a_warning_where_nodes_end() -> None:
    (_, (level, what)) = found(Fixed("cloud", NODE), [work(1, 0.0)])
    assert (level, what) == (
        "warning",
        "job ƒ2 may burst but has no time limit: no node lives forever",
    )
    assert len(found(Fixed("cloud", NODE), [work(1, 0.0)], assumed_duration=HOUR)) == 2


def test_jobs_that_no_node_type_has_room_for_are_not_a_matter_of_lifetimes() -> None:
    assert len(found(Fixed("cloud", NODE), [work(1, 0.0, cores=9)])) == 2


def test_a_type_whose_life_is_all_startup_and_teardown_is_an_error() -> None:
    short = NodeType("short", cores=8, max_lifetime=Duration(HOUR / 4))
    ((level, what),) = found(Elsewhere("cloud", short))
    assert level == "error"
    assert "no job with a time limit ever fits on 'short' nodes of cloud" in what
    assert "they live 15m at most, with 10m for startup and 10m for teardown" in what


def test_queues_that_let_jobs_run_longer_than_any_node_lives_are_a_warning() -> None:
    queues = [
        Queue("a", duration=HOUR, longest=2 * HOUR),
        Queue("b", duration=HOUR, longest=3 * HOUR),
        Queue("c", duration=0.0, longest=0.0),
        Queue("d"),
    ]
    said = found(Elsewhere("cloud", NODE), queues=queues, max_lifetime=2 * HOUR + HOUR / 3)
    assert said == [
        (
            "warning",
            "jobs of queue 'b' may ask for up to 3h, and no node lives longer for jobs than 2h",
        ),
        (
            "warning",
            "jobs of queue 'c' without a time limit run without end, and never burst: no node "
            "lives forever",
        ),
    ]


def test_jobs_longer_than_a_lease_that_nobody_renews_are_a_warning() -> None:
    jobs = [work(1, 2 * HOUR)]
    ((level, what),) = found(Elsewhere("cloud", NODE), jobs, served=False)
    assert level == "warning"
    assert "may run longer than a lease of 1h, which only a service renews" in what
    assert found(Elsewhere("cloud", NODE), jobs, served=True)[0][0] == "ok"


def limits_told(config: Any) -> dict[str, tuple[float | None, float | None]]:
    """Return the durations of queues as they are read from what a live Flux answers."""

    class Answers:
        def ask_each(self, asked: Sequence[tuple[str, Any, int]]) -> list[Any]:
            answers = {
                "job-manager.queue-list": {"queues": ["batch", "debug"]},
                "config.get": config,
                "job-manager.queue-status": {"enable": True, "start": True},
            }
            return [answers[topic] for topic, *_ in asked]

    queues = live_queues.ask(cast(Requests, Answers()))
    return {name: (queue.duration, queue.longest) for name, queue in queues.items()}


def test_durations_of_queues_are_those_of_their_policy_or_else_of_the_instances() -> None:
    """As flux-config-policy(5) has it; a duration is text, or a number of seconds."""
    defaults = {"defaults": {"system": {"duration": 60}}}
    everywhere = {"limits": {"duration": "2h"}, "jobspec": defaults}
    debug = {"policy": {"limits": {"duration": "30m"}}}
    config = {"policy": everywhere, "queues": {"batch": {}, "debug": debug}}
    assert limits_told(config) == {"batch": (60.0, 7200.0), "debug": (60.0, 1800.0)}
    assert limits_told({}) == {"batch": (0.0, 0.0), "debug": (0.0, 0.0)}
    assert limits_told({"policy": {"limits": {"duration": "inf"}}})["batch"] == (0.0, 0.0)


def test_durations_that_cannot_be_read_are_not_known() -> None:
    assert limits_told(OSError("refused"))["batch"] == (None, None)
    assert limits_told({"policy": {"limits": {"duration": "soon"}}})["batch"] == (0.0, None)


def test_a_plugin_that_has_to_ask_an_instance_that_is_away_says_nothing_of_its_leases() -> None:
    class Asking(Elsewhere):
        @property
        def not_renewable(self) -> str:
            raise FluxUnavailableError("no Flux answers")

    assert not knows_leases(Asking("asking", NODE))
    assert knows_leases(Fixed("fixed", NODE))
