"""Checks of the parameters that need no requests to AWS."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

from fluxburst.config.validators import check_endpoint, check_interval, run_checks
from fluxburst.errors import RequestError
from fluxburst_eks.parameters import BurstParameters

NEEDED_IN_ENVIRONMENT = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

_CLUSTER = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}", re.ASCII)
"""ClusterName in the Amazon EKS API Reference."""

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+){1,3}-[0-9]+", re.ASCII)
"""Such as us-east-1, us-gov-west-1 and eusc-de-east-1."""

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+", re.ASCII)
_SUBNET = re.compile(r"subnet-[0-9a-f]+", re.ASCII)
_GROUP = re.compile(r"sg-[0-9a-z]+", re.ASCII)


def check_parameters(params: BurstParameters) -> Iterator[tuple[str, str]]:
    """Yield the field and the problem, for all problems."""
    checks: dict[str, Callable[[BurstParameters], None]] = {
        "creds_from_environ": _creds_from_environ,
        "region": lambda params: check_region(params.region),
        "cluster_name": lambda params: check_cluster_name(params.cluster_name),
        "node_role_arn": _node_role_arn,
        "cluster_role_arn": _cluster_role_arn,
        "subnets": _subnets,
        "security_groups": _security_groups,
        "disk_size": _disk_size,
        "provider_poll_interval": lambda params: check_interval(params.provider_poll_interval),
        "endpoint_url": lambda params: check_endpoint(params.endpoint_url, url=True),
    }
    return run_checks(checks, params)


def check_environment() -> None:
    """Check that the environment has credentials.

    Raises:
        RequestError: if it does not.
    """
    missing = [name for name in NEEDED_IN_ENVIRONMENT if not os.environ.get(name)]
    if missing:
        raise RequestError(f"is set, but {' and '.join(missing)} not in the environment")


def _creds_from_environ(params: BurstParameters) -> None:
    if not params.creds_from_environ:
        return
    check_environment()
    if params.profile is not None:
        raise RequestError("is set, and so is profile: set only one of them")


def check_region(region: str | None) -> None:
    """Check the form of a region's name, if set.

    Raises:
        RequestError: if it is invalid.
    """
    if region is not None and not _REGION.fullmatch(region):
        raise RequestError(f"{region!r} is not a region of AWS, such as us-east-1")


def check_cluster_name(name: str) -> None:
    """Check the name of an EKS cluster.

    Raises:
        RequestError: if it is invalid.
    """
    if not _CLUSTER.fullmatch(name):
        raise RequestError(f"{name!r} is not a valid name for an EKS cluster")


def _node_role_arn(params: BurstParameters) -> None:
    if params.node_role_arn is None:
        if params.node_pool is None:
            raise RequestError("is needed to create node groups; or name one with node_pool")
        return
    _role(params.node_role_arn)


def _cluster_role_arn(params: BurstParameters) -> None:
    if params.cluster_role_arn is not None:
        _role(params.cluster_role_arn)
    elif params.create_cluster:
        raise RequestError("is needed to create a cluster")


def _role(arn: str) -> None:
    if not _ROLE.fullmatch(arn):
        raise RequestError(
            f"{arn!r} is not the ARN of a role, such as arn:aws:iam::123456789012:role/nodes"
        )


def _subnets(params: BurstParameters) -> None:
    strange = [one for one in params.subnets if not _SUBNET.fullmatch(one)]
    if strange:
        raise RequestError(f"{strange[0]!r} is not the id of a subnet, such as subnet-0123abcd")
    if params.create_cluster and len(params.subnets) < 2:
        raise RequestError("creating a cluster needs at least two, in two zones")


def _security_groups(params: BurstParameters) -> None:
    strange = [one for one in params.security_groups if not _GROUP.fullmatch(one)]
    if strange:
        raise RequestError(f"{strange[0]!r} is not the id of a security group, such as sg-0123abcd")


def _disk_size(params: BurstParameters) -> None:
    if params.disk_size is not None and params.disk_size < 1:
        raise RequestError("must be positive")
