"""Bursts onto real brokers: what node groups of more than one machine type show, and leases."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.eks.sites import Site, eks_site
from tests.elastic_instance import ElasticInstance, elastic_instance, provision, wait_until
from tests.kubernetes.apiserver import Server
from tests.kubernetes.flux_operator import FluxOperator
from tests.support import flux_available

from fluxburst import Burst, BurstState
from fluxburst.cli.progress import follow

pytestmark = [
    pytest.mark.flux,
    pytest.mark.kubernetes,
    pytest.mark.soak,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]

SPACE = "growing-eks"
TYPES = ("--machine-type=c5.4xlarge=3", "--machine-type=c7a.16xlarge=2", "--clusters=1")


@pytest.fixture
def aws(eks_server: Server) -> Iterator[Site]:
    """AWS with a cluster, in which pods are brokers."""
    with eks_site(eks_server, shutil.which("flux") or "") as running:
        yield running


@pytest.fixture
def pods(aws: Site) -> FluxOperator:
    """The operator whose pods are brokers."""
    return aws.operator


@pytest.fixture
def grown(aws: Site, pods: FluxOperator, tmp_path: Path) -> Iterator[ElasticInstance]:
    """An instance with room for three small nodes and two large ones, all of them down."""
    options = ["--address=127.0.0.1", "--lead-cores=2", f"--namespace={SPACE}", *TYPES]
    parameters = {**aws.parameters, "live_prices": False}
    with elastic_instance(tmp_path / "elastic", "eks", options, parameters) as instance:
        yield instance
        instance.clear()
        assert left_over(instance, aws) == []


def left_over(instance: ElasticInstance, aws: Site) -> list[str]:
    """Return what is left of bursts: node groups, objects, processes, drained ranks."""
    drained = instance.drained()
    return aws.left() + ([f"drained: {drained}"] if drained else [])


def test_jobs_of_different_sizes_get_the_machines_that_suit_them_and_all_goes_again(
    grown: ElasticInstance, aws: Site, pods: FluxOperator
) -> None:
    client = grown.client()
    small = grown.submit("-N2", "-c8", "-n2", "hostname")
    large = grown.submit("-N1", "-n1", "-c64", "hostname")
    bursts = {burst.node_type: burst for burst in provision(client)}
    assert {b.state for b in bursts.values()} == {BurstState.READY}, (bursts, pods.logs())
    assert bursts["c5.4xlarge"].hostnames == ("burst-c5-4xlarge-0-0", "burst-c5-4xlarge-0-1")
    assert bursts["c7a.16xlarge"].hostnames == ("burst-c7a-16xlarge-0-0",)
    assert {aws.group(b.name).instance_types[0] for b in bursts.values()} == set(bursts)
    client.wait_for_jobs([small, large])
    for job in (small, large):
        assert grown.flux("jobs", "-no", "{status}", str(job)) == "COMPLETED"
    assert sorted(client.run_unburst()) == sorted(b.name for b in bursts.values())
    assert (left_over(grown, aws), grown.nodes("down")) == ([], 5)


def test_a_job_goes_to_another_machine_type_where_the_first_is_not_to_be_had(
    grown: ElasticInstance, aws: Site, pods: FluxOperator
) -> None:
    aws.full = {("", "c5.4xlarge")}
    client = grown.client()
    job = grown.submit("-N1", "-n1", "-c4", "hostname")
    (burst,) = [b for b in provision(client) if b.state is BurstState.READY]
    assert burst.node_type == "c7a.16xlarge"
    client.wait_for_jobs([job])
    assert grown.flux("jobs", "-no", "{status}", str(job)) == "COMPLETED"


def test_a_lease_that_ends_leaves_its_nodes_to_the_next_pass(
    grown: ElasticInstance, aws: Site, pods: FluxOperator
) -> None:
    client = grown.client()
    plugin = client.plugins["eks"]
    made = plugin.create(Burst("eks-x", "eks", "c5.4xlarge", 1, lease_until=time.time() + 600))
    wait_until(lambda: grown.nodes("up") == 2, "its node is up")
    plugin.renew(replace(made, lease_until=time.time() + 2))
    grown.release()
    wait_until(lambda: not pods.brokers and grown.nodes("down") == 5, "its broker has ended", 60)
    assert aws.left_at_aws() == ["node group eks-x"]
    client = grown.client()
    follow(client, 60, quiet=True)
    client.run_burst()
    client.run_unburst()
    assert left_over(grown, aws) == []
    assert made.hostnames == ("burst-c5-4xlarge-0-0",)
