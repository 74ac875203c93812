"""What AWS answers, as an error with a type: each from the code that says so, over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.eks.sites import NODE_ROLE, REGION, ec2_refusal, query_refusal, refusal
from tests.kubernetes.servers import Reply, Script, serving

from fluxburst.errors import (
    AuthError,
    BurstError,
    CapacityError,
    ConfigError,
    QuotaError,
    UnreachableError,
)
from fluxburst_eks import clusters, nodegroups, zones
from fluxburst_eks.aws import Aws
from fluxburst_eks.errors import AwsFailure, InUseError, NotFoundError
from fluxburst_eks.nodegroups import GroupPlan


def aws_at(url: str, patience: float = 1.5) -> Aws:
    return Aws(REGION, None, url, timeout=5, patience=patience, poll=0.01)


@contextmanager
def asking(*replies: Reply | None, patience: float = 1.5) -> Iterator[tuple[Aws, Script]]:
    """Ask somebody who answers in this way."""
    script = Script(replies)
    with serving(script) as url:
        aws = aws_at(url, patience)
        try:
            yield aws, script
        finally:
            aws.close()


PLAN = GroupPlan(NODE_ROLE, "c5.4xlarge", 2, spot=False, subnets=["subnet-1"], labels={}, tags={})


@pytest.mark.parametrize(
    ("status", "code", "message", "error", "said"),
    [
        (400, "ResourceLimitExceededException", "too many node groups", QuotaError, "too many"),
        (402, "ServiceQuotaExceededException", "over quota", QuotaError, "over quota"),
        (400, "InsufficientFreeAddresses", "subnet is full", CapacityError, "is full"),
        (400, "UnsupportedAvailabilityZoneException", "us-east-1e", CapacityError, "1e"),
        (403, "AccessDeniedException", "not authorized to perform: eks:CreateNodegroup on resource",
         AuthError, r"allow eks:CreateNodegroup: fluxburst's iam-policy\.json"),
        (403, "AccessDenied", "no", AuthError, r"iam-policy\.json"),
        (403, "UnrecognizedClientException", "The security token included is invalid", AuthError,
         "does not accept these credentials"),
        (403, "ExpiredTokenException", "The security token included is expired", AuthError,
         "log in again"),
        (403, "InvalidSignatureException", "signature expired", AuthError, "credentials"),
        (404, "ResourceNotFoundException", "No cluster found", NotFoundError, "No cluster"),
        (400, "InvalidParameterException", "bad role", AwsFailure, "bad role"),
        (400, "InvalidRequestException", "Cluster is not active", AwsFailure, "not active"),
        (500, "ServerException", "oops", AwsFailure, "oops"),
    ],
)  # fmt: skip
def test_each_code_of_eks_is_an_error_of_its_kind(
    status: int, code: str, message: str, error: type[BurstError], said: str
) -> None:
    with asking(refusal(status, code, message)) as (aws, script):
        with pytest.raises(error, match=said) as caught:
            nodegroups.create(aws, "c", "eks-1", PLAN)
        assert type(caught.value) is error
        assert "create the node group eks-1" in str(caught.value)
        assert code in str(caught.value)
        assert len(script.asked) == 1


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("InsufficientInstanceCapacity", CapacityError),
        ("VcpuLimitExceeded", QuotaError),
        ("InstanceLimitExceeded", QuotaError),
        ("MaxSpotInstanceCountExceeded", QuotaError),
        ("UnauthorizedOperation", AuthError),
        ("AuthFailure", AuthError),
        ("ExpiredToken", AuthError),
        ("InvalidSubnetID.NotFound", NotFoundError),
        ("InvalidParameterValue", AwsFailure),
    ],
)
def test_each_code_of_ec2_is_an_error_of_its_kind(code: str, error: type[BurstError]) -> None:
    with asking(ec2_refusal(400, code)) as (aws, _):
        with pytest.raises(error) as caught:
            zones.subnets_by_zone(aws, ["subnet-1"])
        assert type(caught.value) is error


def test_the_credentials_that_sts_refuses_are_an_error_of_their_kind() -> None:
    with (
        asking(query_refusal(403, "InvalidClientTokenId", "invalid")) as (aws, _),
        pytest.raises(AuthError, match="invalid"),
    ):
        aws.ask("tell who this is", aws.sts.get_caller_identity)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, "ThrottlingException"),
        (429, "TooManyRequestsException"),
        (400, "RequestLimitExceeded"),
        (503, "ServiceUnavailableException"),
    ],
)
def test_aws_is_asked_again_when_it_says(status: int, code: str) -> None:
    busy = refusal(status, code, "slow down", Retry_After="0")
    good = (200, b'{"nodegroups": ["a"]}', {"Content-Type": "application/json"})
    with asking(busy, busy, good, patience=60.0) as (aws, script):
        assert nodegroups.names(aws, "c") == ["a"]
        assert len(script.asked) == 3


def test_aws_own_advice_is_in_milliseconds_and_comes_first() -> None:
    busy = refusal(429, "ThrottlingException", "slow", x_amz_retry_after="1", Retry_After="3600")
    good = (200, b'{"nodegroups": []}', {"Content-Type": "application/json"})
    with asking(busy, good) as (aws, script):
        assert nodegroups.names(aws, "c") == []
        assert len(script.asked) == 2


def test_aws_is_not_asked_for_ever() -> None:
    busy = refusal(429, "ThrottlingException", "slow", Retry_After="3600")
    with asking(busy) as (aws, script):
        with pytest.raises(AwsFailure, match="too busy to list the node groups"):
            nodegroups.names(aws, "c")
        assert len(script.asked) == 1
    with asking(refusal(429, "ThrottlingException", "slow"), patience=2.9) as (aws, script):
        with pytest.raises(AwsFailure, match="too busy"):  # after pauses of 1 s, and not of 2 s
            nodegroups.names(aws, "c")
        assert len(script.asked) == 2


def test_what_is_there_already_is_taken_for_made() -> None:
    there: Reply = (200, b'{"nodegroup": {"nodegroupName": "x", "status": "ACTIVE"}}', {})
    in_use = refusal(409, "ResourceInUseException", "NodeGroup already exists")
    with asking(in_use, there) as (aws, script):
        nodegroups.create(aws, "c", "x", PLAN)
        assert len(script.asked) == 2
    with (
        asking(in_use, refusal(404, "ResourceNotFoundException")) as (aws, _),
        pytest.raises(InUseError),
    ):
        nodegroups.create(aws, "c", "x", PLAN)


def test_what_is_not_there_is_gone_to_delete() -> None:
    with asking(refusal(404, "ResourceNotFoundException")) as (aws, _):
        nodegroups.delete(aws, "c", "x", 1)
        clusters.delete(aws, "c", 1)


def group(status: str, *issues: tuple[str, str]) -> Reply:
    """Return a node group as EKS describes it."""
    health = {"issues": [{"code": code, "message": message} for code, message in issues]}
    found = {"nodegroupName": "x", "status": status, "health": health}
    return 200, json.dumps({"nodegroup": found}).encode(), {}


LAUNCH = "Could not launch On-Demand Instances. "


@pytest.mark.parametrize(
    ("status", "code", "message", "error"),
    [
        ("CREATING", "AsgInstanceLaunchFailures",
         f"{LAUNCH}InsufficientInstanceCapacity - We currently do not have sufficient capacity",
         CapacityError),
        ("CREATING", "AsgInstanceLaunchFailures",
         f"{LAUNCH}UnfulfillableCapacity - Unable to fulfill capacity", CapacityError),
        ("CREATING", "AsgInstanceLaunchFailures",
         f"{LAUNCH}VcpuLimitExceeded - You have requested more vCPU capacity than your current vCPU"
         " limit of 32 allows", QuotaError),
        ("CREATING", "AsgInstanceLaunchFailures",
         "Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count"
         " exceeded", QuotaError),
        ("CREATE_FAILED", "AsgInstanceLaunchFailures",
         "You've reached your quota for maximum Fleet Requests for this account", QuotaError),
        ("CREATE_FAILED", "InsufficientFreeAddresses", "no free IP addresses", CapacityError),
        ("CREATE_FAILED", "InstanceLimitExceeded", "limit", QuotaError),
        ("CREATE_FAILED", "Ec2SubnetInvalidConfiguration", "no public addresses", BurstError),
        ("CREATE_FAILED", "NodeCreationFailure", "Instances failed to join", BurstError),
        ("CREATE_FAILED", "AccessDenied", "node role", AuthError),
        ("DEGRADED", "AutoScalingGroupNotFound", "deleted by hand", BurstError),
    ],
)  # fmt: skip
def test_each_issue_of_a_node_group_is_an_error_of_its_kind(
    status: str, code: str, message: str, error: type[BurstError]
) -> None:
    with asking(group(status, (code, message))) as (aws, script):
        with pytest.raises(error, match=code) as caught:
            nodegroups.wait_active(aws, "c", "x", 5)
        assert type(caught.value) is error
        assert len(script.asked) == 1


def test_issues_that_say_nothing_of_capacity_are_waited_out() -> None:
    throttled = group("CREATING", ("AutoScalingGroupRateLimitExceeded", "later"))
    with asking(throttled, group("ACTIVE")) as (aws, script):
        assert nodegroups.wait_active(aws, "c", "x", 5).status == "ACTIVE"
        assert len(script.asked) == 2


def test_a_node_group_that_takes_too_long_is_an_error_that_says_for_what_was_waited() -> None:
    with asking(group("CREATING")) as (aws, _), pytest.raises(BurstError, match="x to be active"):
        nodegroups.wait_active(aws, "c", "x", 0.05)


def test_a_node_group_that_is_still_changing_is_deleted_once_it_can_be() -> None:
    replies: tuple[Reply, ...] = (
        group("CREATING"),
        refusal(409, "ResourceInUseException"),
        group("ACTIVE"),
        (200, b"{}", {}),
        group("DELETING"),
        refusal(404, "ResourceNotFoundException"),
    )
    with asking(*replies) as (aws, script):
        nodegroups.delete(aws, "c", "x", 5)
        assert [one.split()[0] for one in script.asked] == [
            "GET", "DELETE", "GET", "DELETE", "GET", "GET",
        ]  # fmt: skip


@pytest.mark.parametrize("reply", [None, (502, b"<html>", {"Content-Type": "text/html"})])
def test_what_is_no_aws_is_a_burst_error(reply: Reply | None) -> None:
    with asking(reply) as (aws, _), pytest.raises(BurstError):
        nodegroups.names(aws, "c")


def test_aws_that_cannot_be_reached_is_said() -> None:
    aws = aws_at("http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="cannot reach AWS to list the node groups"):
        nodegroups.names(aws, "c")
    aws.close()


def test_the_lack_of_credentials_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    aws = aws_at("http://127.0.0.1:9")
    with pytest.raises(AuthError, match="there are no AWS credentials"):
        nodegroups.names(aws, "c")
    with pytest.raises(AuthError, match="there are no AWS credentials"):
        aws.token("c")
    aws.close()


def test_a_region_or_profile_that_is_not_there_is_a_mistake_in_the_config(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    aws = Aws(None, None, None, timeout=1, patience=1, poll=1)
    with pytest.raises(ConfigError, match="region"):
        nodegroups.names(aws, "c")
    with pytest.raises(ConfigError, match="nowhere"):
        Aws(None, "nowhere", None, timeout=1, patience=1, poll=1)


def test_neither_key_nor_token_is_in_an_error() -> None:
    for reply in (refusal(403, "AccessDenied"), refusal(500, "ServerException"), None):
        with asking(reply) as (aws, _), pytest.raises(BurstError) as caught:
            nodegroups.names(aws, "c")
        chain: Any = f"{caught.value!r} {caught.value.__cause__!r} {caught.value}"
        assert "a-secret-key-of-tests" not in chain
        assert "Signature=" not in chain
    assert "k8s-aws" not in repr(aws_at("http://127.0.0.1:9").token("c"))


def test_a_node_group_tells_when_it_was_made() -> None:
    body = b'{"nodegroup": {"nodegroupName": "x", "status": "ACTIVE", "createdAt": 1763856000.5}}'
    with asking((200, body, {})) as (aws, _):
        found = nodegroups.describe(aws, "c", "x")
    assert found is not None
    assert found.since == datetime.fromtimestamp(1763856000.5).timestamp()


MISSING = "ResourceNotFoundException"
CLUSTER: Reply = (200, b'{"cluster": {"name": "c", "status": "ACTIVE"}}', {})
PAGES: list[Reply] = [
    (404, b"<html>404 Not Found nginx</html>", {"Content-Type": "text/html"}),
    (404, b'{"message": "no Route matched"}', {"Content-Type": "application/json"}),
]
"""How proxies and load balancers say that they have nothing."""


def test_a_node_group_is_gone_where_aws_says_so_of_itself_or_has_no_such_cluster() -> None:
    with asking(refusal(404, MISSING, "No node group found for name: x.")) as (aws, script):
        assert nodegroups.describe(aws, "c", "x") is None
        assert len(script.asked) == 1
    cluster = refusal(404, MISSING, "No cluster found for name: c.")
    with asking(cluster) as (aws, script):
        assert nodegroups.describe(aws, "c", "x") is None
        assert len(script.asked) == 2
    with asking(cluster, CLUSTER) as (aws, _), pytest.raises(NotFoundError, match="No cluster"):
        nodegroups.describe(aws, "c", "x")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_a_proxy_does_not_say_that_something_is_gone(page: Reply) -> None:
    with asking(page) as (aws, _):
        for ask in (
            lambda: nodegroups.describe(aws, "c", "x"),
            lambda: clusters.describe(aws, "c"),
            lambda: nodegroups.names(aws, "c"),
        ):
            with pytest.raises(BurstError) as caught:
                ask()
            assert not isinstance(caught.value, NotFoundError)
