"""Jobs start on the nodes that are brought up for them, as the scheduler of a live Flux does it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.elastic_instance import provision, wait_until
from tests.local.growing import Growing, growing
from tests.support import Told, flux_available

from fluxburst import FluxBurst
from fluxburst.config.policy import Lifetimes, Policy, Timeouts
from fluxburst.formats.units import Duration
from fluxburst.model.burst import BurstState
from fluxburst.model.plan import Outcome
from fluxburst.reports import timeline
from fluxburst.service.metrics import Metrics

pytestmark = [
    pytest.mark.flux,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]

IMPATIENT = Policy(
    timeouts=Timeouts(start=Duration(2.0)), lifetimes=Lifetimes(idle_timeout=Duration(1.0))
)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growing]:
    directory = tmp_path_factory.mktemp("starting") / "elastic"
    with growing(directory, "--burst-nodes=4", "--cores=2", "--lead-cores=1") as made:
        yield made


@pytest.fixture
def grown(instance: Growing) -> Iterator[Growing]:
    """An instance with room for four burst nodes, all of them down."""
    yield instance
    instance.clear()


def hosts_of(grown: Growing, job: int) -> str:
    """Wait until a job has started; return the hosts that it runs, or ran, on."""

    def hosts() -> str:
        return grown.flux("jobs", "-a", "-no", "{nodelist}", str(job))

    wait_until(hosts, "the job has started")
    return hosts()


@pytest.mark.parametrize("excluded", ["-host:burst0", "-rank:1"])
def test_a_host_that_a_job_excludes_is_not_the_one_that_is_brought_up(
    grown: Growing, excluded: str
) -> None:
    job = grown.submit(f"--requires={excluded}", "-n2", "true")
    (burst,) = provision(grown.client())
    assert burst.hostnames == ("burst1",)
    assert hosts_of(grown, job) == "burst1"


def test_jobs_that_the_scheduler_spreads_have_nodes_enough(grown: Growing) -> None:
    """Packed tightly they would fit on two nodes, and the second would wait for the first."""
    grown.submit("-n2", "sleep", "600")
    spread = grown.submit("-N3", "-n3", "true")
    provision(grown.client())
    assert hosts_of(grown, spread)


def test_an_exclusive_slot_is_brought_up_a_node(grown: Growing) -> None:
    spec = json.loads(grown.flux("submit", "--dry-run", "--setattr=burstable", "-n3", "true"))
    spec["resources"][0]["exclusive"] = True
    job = int(grown.flux("job", "id", grown.flux("job", "submit", stdin=json.dumps(spec))))
    provision(grown.client())
    assert hosts_of(grown, job).count("burst") == 1
    assert grown.nodes("up") == 3


@contextmanager
def drained(grown: Growing, host: str) -> Iterator[None]:
    grown.flux("resource", "drain", host, "broken fan")
    try:
        yield
    finally:
        grown.flux("resource", "undrain", host)


def passes(client: FluxBurst) -> bool:
    """Look at everything once; whether that was done."""
    client.instance.wait(0.2)
    client.run_pass(everything=True, patience=30.0)
    return True


def test_a_job_that_another_holds_up_is_released_and_its_nodes_go(
    grown: Growing, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Order is strict, and the job ahead wants a node that somebody has drained."""
    with drained(grown, "burst3"), caplog.at_level(logging.WARNING):
        ahead = grown.flux("submit", "--urgency=0", "--requires=host:burst3", "true")
        job = grown.submit("-n2", "true")
        client = grown.client(IMPATIENT)
        told, metrics = Told(), Metrics()
        client.hooks.register(told, "told")
        client.hooks.register(metrics, "metrics")
        planned = client.plan()
        grown.flux("job", "urgency", ahead, "20")  # known before, it is a reason in the plan
        client.apply(planned)
        (burst,) = (entry.burst.name for entry in client.ledger.live())
        wait_until(lambda: passes(client) and told.events, "the job is released")
        wait_until(lambda: passes(client) and not client.ledger.live(), "the idle burst goes")
        assert told.events == [([job], "local", burst)]
        why = "it did not start within 2s although nodes that it fits on are free"
        assert [p.reason[: len(why)] for p in client.ledger.assignments(job)] == [why]
        (entry,) = client.ledger.entries()  # it was not tried again
        assert (entry.burst.name, entry.burst.state) == (burst, BurstState.ENDED)
        (decided,) = (d for d in client.plan().decisions if d.id == job)
        assert decided.outcome is Outcome.UNMATCHED
        assert "it is retried after" in decided.reasons[0]
        events = timeline.of_job(client.ledger, job, client.instance.now()).events
        assert why in next(event.why for event in events if event.kind == "taken back")
        assert f"did not start on burst {burst} within 2s" in caplog.text
        metrics.write_textfile(tmp_path / "now.prom")
        counted = 'fluxburst_jobs_not_started_total{plugin="local"} 1.0'
        assert counted in (tmp_path / "now.prom").read_text()
        assert grown.flux("jobs", "-no", "{state}{user}", str(job)) == "SCHED"
