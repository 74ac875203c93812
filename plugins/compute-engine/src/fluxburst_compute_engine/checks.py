"""Checks of the parameters that need no requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from fluxburst.config.validators import (
    check_endpoint,
    check_interval,
    check_log_level,
    check_port,
    check_readable,
    check_request_timeout,
    run_checks,
)
from fluxburst.errors import RequestError
from fluxburst.provider.elastic import check_address, check_certificate, load
from fluxburst_compute_engine.parameters import BurstParameters
from fluxburst_google.catalogue import machine_types
from fluxburst_google.credentials import check_project

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
"""Valid names of Compute Engine's resources (RFC 1035)."""

_IMAGE = re.compile(r"(\S+/)?projects/[^/\s]+/global/images/(family/)?[a-z][-a-z0-9]*", re.ASCII)
_REGION = re.compile(r"[a-z]+-[a-z]+[0-9]+", re.ASCII)
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)


def check_parameters(params: BurstParameters) -> Iterator[tuple[str, str]]:
    """Yield the field and the problem, for all problems."""
    checks: dict[str, Callable[[BurstParameters], None]] = {
        "project": lambda params: check_project(params.project),
        "image": _image,
        "image_project": lambda params: check_project(params.image_project),
        "region": _region,
        "zone": _zone,
        "zones": _zones,
        "machine_types": _machine_types,
        "machine_type": _machine_type,
        "network": _network,
        "compute_family": lambda params: _named(params.compute_family, "family of images"),
        "network_tags": _network_tags,
        "min_count": _min_count,
        "disk_size": _disk_size,
        "config_dir": _config_dir,
        "curve_cert": _curve_cert,
        "munge_key": lambda params: check_readable(params.munge_key),
        "flux_user": _flux_user,
        "log_level": lambda params: check_log_level(params.log_level),
        "lead_host": lambda params: check_address(params.lead_host),
        "lead_port": lambda params: check_port(params.lead_port),
        "poll_interval": lambda params: check_interval(params.poll_interval),
        "request_timeout": lambda params: check_request_timeout(params.request_timeout),
        "endpoint": lambda params: check_endpoint(params.endpoint or None, url=False),
        "resource_manager_endpoint": _resource_manager_endpoint,
    }
    return run_checks(checks, params)


def check_name(text: str, what: str) -> None:
    """Check the name of a resource of Compute Engine.

    Raises:
        RequestError: if it is invalid.
    """
    _named(text, what)


def _named(text: str, what: str) -> None:
    if not _NAME.fullmatch(text):
        raise RequestError(
            f"{text!r} is not a name for a {what}: at most 63 lowercase letters, digits and '-', "
            "beginning with a letter"
        )


def _region(params: BurstParameters) -> None:
    if not _REGION.fullmatch(params.region):
        raise RequestError(f"{params.region!r} is not a region of Google Cloud, such as us-east1")


def _network(params: BurstParameters) -> None:
    *_, name = params.network.rsplit("/", 1)  # which may be a path
    _named(name, "network")


def _zone(params: BurstParameters) -> None:
    if params.zone is None:
        return
    _named(params.zone, "zone")
    if params.zones:
        raise RequestError("set either zone or zones, not both")
    _in_region(params.zone, params.region)


def _zones(params: BurstParameters) -> None:
    for zone in params.zones:
        _named(zone, "zone")
        _in_region(zone, params.region)


def _in_region(zone: str, region: str) -> None:
    if not zone.startswith(f"{region}-"):
        raise RequestError(f"{zone} is not in the region {region}")


def _machine_types(params: BurstParameters) -> None:
    machine_types().with_overrides(params.machine_types)


def _machine_type(params: BurstParameters) -> None:
    if params.machine_type is None:
        return
    try:
        known = machine_types().with_overrides(params.machine_types)
    except RequestError:
        return  # the check of machine types reports it
    known[params.machine_type]


def _network_tags(params: BurstParameters) -> None:
    for tag in params.network_tags:
        _named(tag, "network tag")


def _min_count(params: BurstParameters) -> None:
    if params.min_count is not None and params.min_count < 1:
        raise RequestError(f"must be at least 1, got {params.min_count}")


def _disk_size(params: BurstParameters) -> None:
    if params.disk_size is not None and params.disk_size < 10:
        raise RequestError(f"must be at least 10, got {params.disk_size}")


def _config_dir(params: BurstParameters) -> None:
    if params.config_dir is not None:
        load(params.config_dir)


def _curve_cert(params: BurstParameters) -> None:
    if params.curve_cert is not None:
        check_certificate(params.curve_cert)
    elif params.config_dir is not None and not params.isolated_burst:
        check_certificate(params.config_dir / "curve.cert")


def _flux_user(params: BurstParameters) -> None:
    if params.flux_user is not None and not _USER.fullmatch(params.flux_user):
        raise RequestError(f"{params.flux_user!r} is not a valid user name")


def _resource_manager_endpoint(params: BurstParameters) -> None:
    check_endpoint(params.resource_manager_endpoint, url=True)


def _image(params: BurstParameters) -> None:
    if params.image is None or _NAME.fullmatch(params.image) or _IMAGE.fullmatch(params.image):
        return
    raise RequestError(
        f"{params.image!r} is neither a name for an image nor a path such as "
        "projects/a-project/global/images/an-image"
    )
