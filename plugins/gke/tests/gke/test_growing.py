"""Bursts onto real brokers: what node pools of more than one machine type show."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from tests.elastic_instance import ElasticInstance, elastic_instance, provision
from tests.gke.sites import Site, gke_site
from tests.kubernetes.apiserver import Server
from tests.support import flux_available

from fluxburst import BurstState
from fluxburst.provider.elastic import this_host

pytestmark = [
    pytest.mark.flux,
    pytest.mark.kubernetes,
    pytest.mark.soak,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]

SPACE = "gke-bursting"
TYPES = ["--machine-type=c2-standard-8=3", "--machine-type=n2-standard-16=2"]


@pytest.fixture(scope="module")
def project(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A project with a cluster, in which pods are brokers."""
    directory = tmp_path_factory.mktemp("gke") / "site"
    with (
        gke_site(server, directory, shutil.which("flux") or "") as site,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in site.environment.items():
            patch.setenv(name, value)
        yield site


@pytest.fixture(scope="module")
def instance(project: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElasticInstance]:
    directory = tmp_path_factory.mktemp("gke") / "elastic"
    options = ["--address=127.0.0.1", "--lead-cores=2", "--clusters=2", f"--namespace={SPACE}"]
    parameters = {**project.parameters, "poll_interval": 0.1}
    with elastic_instance(directory, "gke", [*options, *TYPES], parameters) as made:
        yield made


@pytest.fixture
def grown(instance: ElasticInstance, project: Site) -> Iterator[ElasticInstance]:
    """An instance with room for bursts of two machine types, all of them down."""
    yield instance
    project.none_of.clear()
    instance.clear()
    assert (project.left(), instance.drained()) == ([], "")


def test_the_cheapest_machine_type_that_fits_joins_runs_the_job_and_goes(
    grown: ElasticInstance, project: Site
) -> None:
    client = grown.client()
    small = grown.submit("-N2", "--exclusive", "hostname")
    (burst,) = provision(client)
    assert (burst.state, burst.node_type) == (BurstState.READY, "c2-standard-8"), (
        burst,
        project.operator.logs(),
    )
    client.wait_for_jobs([small])
    nodes = grown.flux("jobs", "-no", "{nodelist}", str(small))
    assert nodes == f"{this_host()},{burst.hostnames[0]}"
    large = grown.submit("-n1", "-c8", "nproc")
    (other,) = [one for one in provision(client) if one.name != burst.name]
    assert (other.state, other.node_type) == (BurstState.READY, "n2-standard-16")
    client.wait_for_jobs([large])
    assert grown.flux("jobs", "-no", "{status}", str(large)) == "COMPLETED"
    assert sorted(client.run_unburst()) == sorted([burst.name, other.name])
    assert project.left() == []


def test_spot_that_there_is_none_of_fails_over_to_machines_on_demand(
    grown: ElasticInstance, project: Site
) -> None:
    project.none_of.add("spot")
    client = grown.client(provisioning="spot, then on-demand")
    job = grown.submit("-N2", "--exclusive", "hostname")
    bursts = provision(client)
    assert [one.node_type for one in bursts if one.state is BurstState.READY] == ["c2-standard-8"]
    assert any(one.node_type.endswith("-spot") for one in bursts)
    client.wait_for_jobs([job])
    client.run_unburst()
    assert project.left() == []
