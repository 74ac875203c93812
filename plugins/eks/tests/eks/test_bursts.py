"""Bursts onto EKS: node groups that moto keeps, in a cluster whose API server is real."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.eks.instances import burst, plugin_of, write_eks_site
from tests.eks.sites import CLUSTER_ROLE, NODE_ROLE, Site, refusal
from tests.eks.token_reviews import TokenReviews
from tests.elastic_instance import command_line, outside
from tests.kubernetes.apiserver import Server, wait_until
from tests.kubernetes.flux_operator import FluxOperator
from tests.kubernetes.test_clusters import cluster_of, objects
from tests.support import client_on, job

from fluxburst import Burst, BurstState
from fluxburst.config.parameters import build
from fluxburst.errors import AuthError, BurstError, CapacityError, ParameterError, QuotaError
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording
from fluxburst_eks import BurstParameters, EksBurst
from fluxburst_eks.tags import record_of, tags_of
from fluxburst_kubernetes.node_pools import PoolState, Record

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_eks_site(tmp_path / "elastic")


@pytest.fixture
def plugin(site: Site, directory: Path, space: str) -> Iterator[EksBurst]:
    made = plugin_of(site, directory, namespace=space)
    yield made
    made.aws.close()


# --- coming and going ----------------------------------------------------------------------------


def test_a_burst_is_a_node_group_of_its_own_and_a_minicluster_on_it(
    eks_server: Server, site: Site, eks_operator: FluxOperator, plugin: EksBurst, space: str
) -> None:
    until = time.time() + 600
    wanted = burst(jobs=(7, 8), price=0.68, lease_until=until)
    made = plugin.create(wanted)
    assert made.hostnames == ("burst-c5-4xlarge-0-0", "burst-c5-4xlarge-0-1")
    group = site.group(made.name)
    assert group.scaling_config == {"minSize": 2, "maxSize": 2, "desiredSize": 2}
    assert (group.instance_types, group.capacity_type) == (["c5.4xlarge"], "ON_DEMAND")
    assert (group.ami_type, group.node_role) == ("AL2023_x86_64_STANDARD", NODE_ROLE)
    assert group.subnets == site.subnets[:1]
    record = record_of(group.tags)
    assert record is not None
    assert (record.burst, record.node_type, record.price) == (made.name, "c5.4xlarge", 0.68)
    assert (record.hostnames, record.lease_until) == (made.hostnames, round(until))
    spec = cluster_of(eks_server, space, "burst-c5-4xlarge-0")["spec"]
    assert spec["pod"]["nodeSelector"] == {"eks.amazonaws.com/nodegroup": made.name}
    (found,) = plugin.adopt()
    assert (found.name, found.jobs, found.node_type) == (made.name, (7, 8), "c5.4xlarge")
    assert plugin.list_bursts() == [made.name]
    plugin.delete(found)
    assert (site.left(), objects(eks_server, space), plugin.list_bursts()) == ([], [], [])
    plugin.delete(found)


def test_a_second_creation_finds_what_the_first_made(
    site: Site, eks_operator: FluxOperator, plugin: EksBurst
) -> None:
    first = plugin.create(burst())
    assert plugin.create(burst()).hostnames == first.hostnames
    assert site.asked.count("CreateNodegroup") == 1
    assert len(site.groups()) == 1


def test_machines_with_gpus_or_of_the_spot_market_are_asked_for_as_such(
    site: Site, eks_operator: FluxOperator, directory: Path, space: str
) -> None:
    ways = {"provisioning": "spot, then on-demand", "disk_size": "100GiB", "namespace": space}
    plugin = plugin_of(site, directory, **ways)
    plugin.create(burst("eks-1", 1, "g5.xlarge-spot"))
    group = site.group("eks-1")
    assert (group.capacity_type, group.ami_type) == ("SPOT", "AL2023_x86_64_NVIDIA")
    assert (group.instance_types, group.disk_size) == (["g5.xlarge"], 100)


def test_nothing_of_others_is_listed_changed_or_deleted(
    site: Site, eks_operator: FluxOperator, plugin: EksBurst, directory: Path, space: str
) -> None:
    site.add_group("theirs", 3)
    other = plugin_of(site, write_eks_site(directory.parent / "b", key="two"), namespace=space)
    other.create(burst("eks-other"))
    assert plugin.list_bursts() == []
    plugin.delete(burst("eks-other"))
    plugin.delete(burst("theirs"))
    assert site.groups() == ["theirs", "eks-other"]


# --- capacity ------------------------------------------------------------------------------------


def zone_of(site: Site, name: str = "eks-ab12cd34ef56") -> list[str]:
    return [site.zones[subnet] for subnet in site.group(name).subnets]


def test_zones_are_tried_in_turn_and_one_without_capacity_is_left_alone_for_a_while(
    site: Site, eks_operator: FluxOperator, plugin: EksBurst
) -> None:
    site.full = {("us-east-1a", "c5.4xlarge")}
    plugin.create(burst())
    assert zone_of(site) == ["us-east-1b"]
    assert site.asked.count("CreateNodegroup") == 2
    plugin.create(burst("eks-2"))
    assert zone_of(site, "eks-2") == ["us-east-1b"]
    assert site.asked.count("CreateNodegroup") == 3
    plugin.create(burst("eks-3", 1, "g5.xlarge"))
    assert zone_of(site, "eks-3") == ["us-east-1a"]


def test_no_capacity_in_any_zone_leaves_nothing_and_is_not_asked_for_again_at_once(
    eks_server: Server, site: Site, plugin: EksBurst, space: str
) -> None:
    site.full = {("", "")}
    with pytest.raises(CapacityError, match=r"us-east-1a: .*us-east-1b: .*InsufficientInstance"):
        plugin.create(burst())
    assert (site.left_at_aws(), site.asked.count("CreateNodegroup")) == ([], 2)
    with pytest.raises(CapacityError, match="all zones lacked it recently"):
        plugin.create(burst())
    assert site.asked.count("CreateNodegroup") == 2
    plugin.delete(burst())
    assert objects(eks_server, space) == []


def test_a_quota_is_the_same_in_all_zones(site: Site, plugin: EksBurst) -> None:
    site.full = {("", "")}
    site.issue = ("AsgInstanceLaunchFailures", "Could not launch. VcpuLimitExceeded - You have")
    with pytest.raises(QuotaError, match="VcpuLimitExceeded"):
        plugin.create(burst())
    assert site.asked.count("CreateNodegroup") == 1
    plugin.delete(burst())
    assert site.left() == []


def test_nodes_of_a_burst_may_be_spread_over_zones(
    site: Site, eks_operator: FluxOperator, directory: Path, space: str
) -> None:
    plugin = plugin_of(site, directory, namespace=space, spread_zones=True)
    plugin.create(burst())
    assert zone_of(site) == ["us-east-1a", "us-east-1b"]


def test_a_machine_type_that_no_zone_offers_is_said(site: Site, directory: Path) -> None:
    subnet = next(s for s, zone in site.zones.items() if zone == "us-east-1e")
    plugin = plugin_of(site, directory, subnets=[subnet])
    with pytest.raises(CapacityError, match=r"none of the zones us-east-1e offers .* c5\.4xlarge"):
        plugin.create(burst())


# --- what was interrupted ------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True], ids=["comes", "finds-no-room"])
def test_a_node_group_that_is_still_coming_is_gone_on_with(
    site: Site, eks_operator: FluxOperator, plugin: EksBurst, full: bool
) -> None:
    site.full = {("us-east-1a", "")} if full else set()
    site.add_group(burst().name, 2)
    group = site.group(burst().name)
    group.tags = tags_of(Record(plugin.tag, burst().name, "c5.4xlarge", 0.68))
    group.subnets, group.status, group.polls_left = site.subnets[:1], "CREATING", 3
    made = plugin.create(burst())
    assert site.group(made.name).status == "ACTIVE"
    assert zone_of(site) == ["us-east-1b" if full else "us-east-1a"]
    assert site.asked.count("CreateNodegroup") == int(full)


def half_made(site: Site, plugin: EksBurst, status: str) -> None:
    """Have a node group be there that another process was interrupted with."""
    site.add_group("eks-left", 2)
    group = site.group("eks-left")
    group.tags = tags_of(Record(plugin.tag, "eks-left", "c5.4xlarge", 0.68))
    group.status, group.polls_left = status, 99


def test_a_node_group_without_a_minicluster_is_gone_on_with_or_deleted(
    site: Site, eks_operator: FluxOperator, plugin: EksBurst
) -> None:
    half_made(site, plugin, "ACTIVE")
    (found,) = plugin.adopt()
    assert (found.name, found.state, found.nodes) == ("eks-left", BurstState.STARTING, 2)
    assert plugin.refresh(found).hostnames == ("burst-c5-4xlarge-0-0", "burst-c5-4xlarge-0-1")
    plugin.delete(found)
    assert site.left() == []


def test_a_node_group_that_finds_no_room_is_broken_before_eks_gives_up(
    site: Site, plugin: EksBurst
) -> None:
    half_made(site, plugin, "CREATING")
    site.group("eks-left").health = {
        "issues": [dict(zip(("code", "message"), site.issue, strict=True))]
    }
    (found,) = plugin.adopt()
    assert found.state is BurstState.FAILED
    assert "InsufficientInstanceCapacity" in found.error
    site.group("eks-left").status = "CREATE_FAILED"
    plugin.delete(found)
    assert site.left() == []


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("CREATE_FAILED", PoolState.BROKEN),
        ("DELETING", PoolState.GOING),
        ("DEGRADED", PoolState.RUNNING),
        ("SOMETHING_NEW", PoolState.BROKEN),
    ],
)
def test_each_state_of_a_node_group_is_known(
    site: Site, plugin: EksBurst, status: str, state: PoolState
) -> None:
    site.add_group("x")
    site.group("x").status, site.group("x").polls_left = status, 9
    pool = plugin.pools.get("x")
    assert pool is not None
    assert pool.state is state


def test_a_burst_whose_node_group_was_deleted_has_failed(
    site: Site, eks_operator: FluxOperator, plugin: EksBurst
) -> None:
    made = plugin.create(burst())
    site._eks.delete_nodegroup("flux-bursted-cluster", made.name)
    assert "node pool no longer exists" in plugin.refresh(made).error
    plugin.delete(made)
    assert plugin.list_bursts() == []


def test_a_lease_is_on_the_node_group_and_moves_with_it(
    site: Site, eks_operator: FluxOperator, plugin: EksBurst
) -> None:
    made = plugin.create(burst(lease_until=time.time() + 60))
    until = time.time() + 3600
    plugin.renew(replace(made, lease_until=until))
    record = record_of(site.group(made.name).tags)
    assert record is not None
    assert record.lease_until == round(until)


# --- an existing node group ----------------------------------------------------------------------


def test_an_existing_node_group_is_grown_and_given_back_as_it_was(
    site: Site, eks_operator: FluxOperator, directory: Path, space: str
) -> None:
    site.add_group("shared", 3)
    before = dict(site.group("shared").scaling_config)
    options: dict[str, Any] = {"node_pool": "shared", "node_role_arn": None, "namespace": space}
    plugin = plugin_of(site, directory, **options)
    one = plugin.create(burst("eks-1", 2))
    two = plugin.create(burst("eks-2", 1))
    assert site.group("shared").scaling_config == {"minSize": 0, "maxSize": 6, "desiredSize": 6}
    plugin.delete(one)
    assert site.group("shared").scaling_config["desiredSize"] == 6
    plugin.delete(two)
    assert site.group("shared").scaling_config == before
    assert (site.left(), site.groups()) == ([], ["shared"])
    assert "CreateNodegroup" not in site.asked
    assert "DeleteNodegroup" not in site.asked


# --- the cluster ---------------------------------------------------------------------------------


def test_a_cluster_that_is_asked_for_is_made_and_deleted_with_its_last_burst(
    site: Site, eks_operator: FluxOperator, directory: Path, space: str
) -> None:
    site._eks.clusters.clear()
    options: dict[str, Any] = {"create_cluster": True, "keep_cluster": False, "namespace": space}
    options |= {"cluster_role_arn": CLUSTER_ROLE, "subnets": site.subnets}
    plugin = plugin_of(site, directory, **options)
    assert plugin.list_bursts() == []
    assert [kind.name for kind in plugin.node_types()] == ["c5.4xlarge", "g5.xlarge"]
    made = plugin.create(burst())
    assert site.left_at_aws() == ["cluster flux-bursted-cluster", f"node group {made.name}"]
    plugin.delete(made)
    assert (site.left(), plugin.list_bursts()) == ([], [])
    assert not site._eks.clusters


def test_a_cluster_that_is_there_is_never_deleted(
    site: Site, eks_operator: FluxOperator, directory: Path, space: str
) -> None:
    plugin = plugin_of(site, directory, keep_cluster=False, namespace=space)
    plugin.delete(plugin.create(burst()))
    assert list(site._eks.clusters) == ["flux-bursted-cluster"]
    assert "DeleteCluster" not in site.asked


def test_a_cluster_that_is_not_there_is_said_and_not_made_unasked(
    site: Site, directory: Path
) -> None:
    with pytest.raises(ParameterError, match="there is no cluster 'elsewhere'"):
        plugin_of(site, directory, cluster_name="elsewhere")
    assert "CreateCluster" not in site.asked


# --- the token -----------------------------------------------------------------------------------


def test_the_api_server_lets_in_who_signed_for_this_cluster_and_nobody_else(
    site: Site, plugin: EksBurst, reviews: TokenReviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plugin.list_bursts() == []
    token = plugin.aws.token("flux-bursted-cluster")
    assert reviews.check(token.text) == "AKIAFLUXBURST0000000"
    assert 10 * 60 < token.until - time.time() < 15 * 60
    with pytest.raises(ValueError, match="for another cluster"):
        reviews.check(plugin.aws.token("another").text)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(AuthError, match="does not accept these credentials"):
        plugin_of(site, plugin.directory).list_bursts()


def test_a_token_is_used_again_as_long_as_it_is_good_for_minutes(plugin: EksBurst) -> None:
    first, second = plugin.pools.cluster.access(), plugin.pools.cluster.access()
    assert first is not None
    assert second is not None
    assert first.token == second.token
    assert first.token not in repr(first)


# --- records -------------------------------------------------------------------------------------


def test_a_tag_has_only_what_tags_may_have_and_says_all_of_it() -> None:
    hosts = tuple(f"burst-c5-4xlarge-0-{n}" for n in (0, 1, 2, 5))
    record = Record("0" * 16, "eks-1", "c5.4xlarge-spot", 0.25, hosts, 100, 200, 3)
    tags = tags_of(record)
    allowed = set(" +-=._:/@")
    for key, value in tags.items():
        assert len(key) <= 128
        assert len(value) <= 256
        assert all(c.isalnum() or c in allowed for c in key + value)
    assert record_of(tags) == record
    assert record_of({"fluxburst.io/managed-by": "somebody"}) is None


def test_what_aws_refuses_while_a_burst_comes_up_is_an_error_of_its_kind(
    site: Site, plugin: EksBurst
) -> None:
    site.refuse("CreateNodegroup", refusal(400, "ResourceLimitExceededException", "30 groups"))
    with pytest.raises(QuotaError, match="30 groups"):
        plugin.create(burst())
    plugin.delete(burst())
    assert site.left() == []


def test_pods_that_run_are_seen(site: Site, eks_operator: FluxOperator, plugin: EksBurst) -> None:
    made = plugin.create(burst())
    wait_until(lambda: plugin.refresh(made).since is not None, "its Job has started")
    assert plugin.refresh(made).state is BurstState.STARTING


# --- isolated bursts -----------------------------------------------------------------------------


def test_an_isolated_burst_is_a_node_group_and_an_instance_on_it_without_declared_hosts(
    eks_server: Server, site: Site, space: str
) -> None:
    written = {**site.parameters, "namespace": space, "isolated_burst": True, "live_prices": False}
    plugin = EksBurst(build("eks", BurstParameters, config=written))
    client_on(EmbeddedInstance(Recording((job(7),), ())), plugin)
    plugin.validate()
    assert len(plugin.node_types()) > 25
    wanted = Burst("eks-ab12", "eks", "c7a.16xlarge", 2, (7,), isolated=True)
    made = plugin.create(wanted)
    assert (made.hostnames, made.state) == ((), BurstState.STARTING)
    assert site.group("eks-ab12").instance_types == ["c7a.16xlarge"]
    wait_until(lambda: plugin.refresh(made).state is BurstState.READY, "its pods run")
    login = "aws eks update-kubeconfig --region us-east-1 --name flux-bursted-cluster && kubectl"
    assert plugin.refresh(made).output.startswith(login)
    (found,) = plugin.adopt()
    assert (found.isolated, found.jobs) == (True, (7,))
    missing = refusal(404, "ResourceNotFoundException", "No cluster found for name: c.")
    for operation in ("DescribeNodegroup", "DescribeCluster"):  # one answer, while its job runs
        site.refuse(operation, missing)
        with pytest.raises(BurstError, match=r"its cluster is not available|No cluster found"):
            plugin.refresh(found)
    assert plugin.refresh(found).state is BurstState.READY
    plugin.delete(made)
    assert (site.left(), plugin.list_bursts()) == ([], [])
    plugin.aws.close()


# --- what nobody takes down any more -------------------------------------------------------------


def swept(site: Site, *options: str) -> str:
    environment = {**outside(), "AWS_ENDPOINT_URL": site.url}
    done = command_line(
        "eks", "sweep", "--cluster-name=flux-bursted-cluster", *options, environment=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_node_groups_whose_lease_has_ended_are_found_and_deleted_from_anywhere(
    site: Site, plugin: EksBurst
) -> None:
    now = time.time()
    for name, until in (("ended", now - 7200), ("lately", now - 60), ("runs", now + 60)):
        site.add_group(name, 2)
        record = Record(plugin.tag, name, "c5.4xlarge", 0.68, lease_until=until)
        site.group(name).tags = tags_of(record)
    site.add_group("grown", 3)
    site.group("grown").tags = tags_of(replace(record, lease_until=1.0, former_size=1))
    site.add_group("theirs", 3)
    assert swept(site).startswith("Ended: ended, 2 of c5.4xlarge at 0.68 an hour each, of instance")
    assert len(swept(site).splitlines()) == 1
    assert len(swept(site, "--grace=10s").splitlines()) == 2
    assert "DeleteNodegroup" not in site.asked
    assert swept(site, "--delete").startswith("Deleted: ended, ")
    assert site.groups() == ["lately", "runs", "grown", "theirs"]
