"""Checks of the parameters that need no requests to Google."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

from fluxburst.config.validators import check_endpoint, check_interval, run_checks
from fluxburst.errors import RequestError
from fluxburst_gke.parameters import BurstParameters
from fluxburst_google.credentials import check_project

_CLUSTER = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", re.ASCII)
_LOCATION = re.compile(r"[a-z]+-[a-z]+[0-9]+(-[a-z0-9]+)?", re.ASCII)


def check_parameters(params: BurstParameters) -> Iterator[tuple[str, str]]:
    """Yield the field and the problem, for all problems of this plugin's own parameters."""
    checks: dict[str, Callable[[BurstParameters], None]] = {
        "project": lambda params: check_project(params.project),
        "cluster_name": _cluster_name,
        "location": _location,
        "zones": _zones,
        "max_run_duration": _max_run_duration,
        "provider_poll_interval": lambda params: check_interval(params.provider_poll_interval),
        "endpoint": lambda params: check_endpoint(params.endpoint, url=False),
        "compute_endpoint": lambda params: check_endpoint(params.compute_endpoint, url=False),
        "resource_manager_endpoint": lambda params: check_endpoint(
            params.resource_manager_endpoint, url=True
        ),
    }
    return run_checks(checks, params)


def _cluster_name(params: BurstParameters) -> None:
    if not _CLUSTER.fullmatch(params.cluster_name):
        raise RequestError(f"{params.cluster_name!r} is not a valid name for a cluster")


def region_of(params: BurstParameters) -> str:
    """Return the cluster's region."""
    return "-".join(params.location.split("-")[:2])


def _location(params: BurstParameters) -> None:
    if not _LOCATION.fullmatch(params.location):
        raise RequestError(f"{params.location!r} is neither a zone nor a region of Google Cloud")


def _zones(params: BurstParameters) -> None:
    region = region_of(params)
    for zone in params.zones:
        if not _LOCATION.fullmatch(zone) or not zone.startswith(f"{region}-"):
            raise RequestError(f"{zone!r} is not a zone of {region}, the cluster's region")


def _max_run_duration(params: BurstParameters) -> None:
    if params.max_run_duration is not None and not 60 <= params.max_run_duration < math.inf:
        raise RequestError("must be at least a minute")
