"""Jobs start on the nodes that are brought up for them, as the scheduler of a live Flux does it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from elastic_instance import bring_up, wait_until
from growing import Growing, growing
from support import flux_available

pytestmark = [
    pytest.mark.flux,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]


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
    (burst,) = bring_up(grown.client())
    assert burst.hostnames == ("burst1",)
    assert hosts_of(grown, job) == "burst1"


def test_jobs_that_the_scheduler_spreads_have_nodes_enough(grown: Growing) -> None:
    """Packed tightly they would fit on two nodes, and the second would wait for the first."""
    grown.submit("-n2", "sleep", "600")
    spread = grown.submit("-N3", "-n3", "true")
    bring_up(grown.client())
    assert hosts_of(grown, spread)


def test_an_exclusive_slot_is_brought_up_a_node(grown: Growing) -> None:
    spec = json.loads(grown.flux("submit", "--dry-run", "--setattr=burstable", "-n3", "true"))
    spec["resources"][0]["exclusive"] = True
    job = int(grown.flux("job", "id", grown.flux("job", "submit", stdin=json.dumps(spec))))
    bring_up(grown.client())
    assert hosts_of(grown, job).count("burst") == 1
    assert grown.nodes("up") == 3
