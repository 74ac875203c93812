"""Queues that are stopped or disabled: nothing is brought up for what would not start there."""

from __future__ import annotations

import pytest
from tests.support import Joining, client_on, spec

from fluxburst import FluxBurst, NodeType
from fluxburst.cli.output import not_startable_lines
from fluxburst.formats.fluid import format_f58
from fluxburst.model.plan import Decision, Outcome
from fluxburst.reports import status
from fluxburst.simulation.embedded import EmbeddedInstance

OWN = {"not": [{"properties": ["slow"]}]}


class InQueue(Joining):
    """A plugin whose nodes are those of a queue."""

    @property
    def queue(self) -> str:
        return "burst"

    def __init__(self, instance: EmbeddedInstance) -> None:
        super().__init__("cloud", instance, NodeType("a", cores=4, properties=("b",)))


def an_instance() -> EmbeddedInstance:
    instance = EmbeddedInstance(queues={"batch": [], "burst": ["b"]})
    instance.add_nodes(["lead"], NodeType("lead", cores=1))
    return instance


def decision(client: FluxBurst) -> Decision:
    (decided,) = client.plan().decisions
    return decided


def passes(client: FluxBurst, count: int = 1) -> None:
    for _ in range(count):
        client.run_pass(everything=False, patience=10.0)


def test_a_job_in_a_stopped_queue_is_not_startable_and_gets_nodes_once_that_is_started() -> None:
    instance = EmbeddedInstance()
    instance.set_queue("", started=False, why_stopped="maintenance")
    instance.submit(spec(1, 4, burstable=True))
    cloud = Joining("cloud", instance)
    client = client_on(instance, cloud)
    decided = decision(client)
    assert (decided.outcome, decided.reasons) == (
        Outcome.NOT_STARTABLE,
        ("its queue is stopped (maintenance)",),
    )
    passes(client, 3)
    assert cloud.created == []
    instance.set_queue("", started=True, why_stopped="")
    passes(client)  # nothing else happened, which would have had the job looked at
    assert len(cloud.created) == 1


def test_status_names_the_jobs_of_a_stopped_queue_and_what_starts_it() -> None:
    instance = an_instance()
    first, _ = [instance.submit(spec(1, 4, burstable=True, queue="batch")) for _ in range(2)]
    instance.set_queue("batch", started=False)
    now = status.of_client(client_on(instance, Joining("cloud", instance)))
    why = "its queue 'batch' is stopped"
    assert [(told["why"], len(told["jobs"])) for told in now.to_dict()["not_startable"]] == [
        (why, 2)
    ]
    (line,) = not_startable_lines(now.not_startable)
    told = f"{format_f58(first)}, …: {why}; flux queue start --all"
    assert line == f"not startable: 2 ({told})"


def test_reasons_of_which_each_job_has_its_own_do_not_fill_the_screen() -> None:
    lines = list(not_startable_lines({f"waits on {n}": (n,) for n in range(1, 100)}))
    assert len(lines) == 6
    assert lines[-1] == "not startable: 94 for other reasons"


def test_nothing_is_brought_up_for_a_job_in_a_disabled_queue() -> None:
    instance = an_instance()
    instance.submit(spec(1, 4, burstable=True, queue="batch"))
    instance.set_queue("batch", enabled=False, why_disabled="closed")
    decided = decision(client_on(instance, Joining("cloud", instance)))
    assert decided.outcome is Outcome.NOT_STARTABLE
    assert decided.reasons[0].startswith("its queue 'batch' is disabled (closed); it starts on")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"started": False, "why_stopped": "no"}, "cloud: its queue 'burst' is stopped (no)"),
        ({"enabled": False}, "cloud: its queue 'burst' is disabled"),
    ],
)
def test_a_plugin_whose_queue_is_closed_takes_no_jobs(change: dict[str, str], reason: str) -> None:
    instance = an_instance()
    instance.submit(spec(1, 4, burstable=True, queue="batch"))
    client = client_on(instance, InQueue(instance))
    assert decision(client).outcome is Outcome.ASSIGNED
    instance.set_queue("burst", **change)
    decided = decision(client)
    assert (decided.outcome, decided.reasons) == (Outcome.UNMATCHED, (reason,))


def test_a_plugin_whose_queue_there_is_not_takes_no_jobs() -> None:
    instance = EmbeddedInstance(queues={"batch": []})
    instance.submit(spec(1, 4, burstable=True, queue="batch"))
    decided = decision(client_on(instance, InQueue(instance)))
    assert decided.reasons == ("cloud: there is no queue 'burst'",)


def test_a_job_that_flux_would_not_move_is_declined_and_nothing_is_written_on_it() -> None:
    instance = an_instance()
    jobid = instance.submit(spec(1, 4, burstable=True, queue="batch", constraints=OWN))
    cloud = InQueue(instance)
    client = client_on(instance, cloud)
    assert "its own constraints" in decision(client).reasons[0]
    passes(client, 3)
    assert (cloud.created, client.ledger.assignments()) == ([], [])
    assert "annotations" not in instance.job(jobid)
    # In that queue already, it need not be moved.
    there = instance.submit(spec(1, 4, burstable=True, queue="burst", constraints=OWN))
    decided = next(d for d in client.plan().decisions if d.id == there)
    assert decided.outcome is Outcome.ASSIGNED
