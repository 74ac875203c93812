"""Checks of the parameters that need no requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from fluxburst.config.validators import (
    check_interval,
    check_log_level,
    check_port,
    check_price,
    check_readable,
    check_request_timeout,
    run_checks,
)
from fluxburst.errors import RequestError
from fluxburst.formats.units import counted
from fluxburst.provider.elastic import check_address, check_certificate, load
from fluxburst_kubernetes.parameters import BurstParameters, MiniClusterParameters
from fluxburst_kubernetes.slots import declared_slots, slot_names

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._:/@+-]*", re.ASCII | re.IGNORECASE)
_SECRET = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?", re.ASCII)


def check_parameters(params: MiniClusterParameters) -> Iterator[tuple[str, str]]:
    """Yield the field and the problem, for all problems of shared parameters."""
    checks: dict[str, Callable[[MiniClusterParameters], None]] = {
        "name": _name,
        "namespace": _namespace,
        "image": lambda params: _image(params.image),
        "flux_view_image": lambda params: _image(params.flux_view_image or params.image),
        "config_dir": _config_dir,
        "cpu_limit": _cpu_limit,
        "log_level": lambda params: check_log_level(params.log_level),
        "flux_user": _flux_user,
        "lead_host": lambda params: check_address(params.lead_host),
        "lead_port": lambda params: check_port(params.lead_port),
        "lead_size": _lead_size,
        "curve_cert": _curve_cert,
        "curve_cert_secret_name": _curve_cert_secret_name,
        "munge_secret_name": _munge_secret_name,
        "munge_key": lambda params: check_readable(params.munge_key),
        "broker_toml": lambda params: check_readable(params.broker_toml),
        "flux_operator_yaml": _flux_operator_yaml,
        "poll_interval": lambda params: check_interval(params.poll_interval),
        "request_timeout": lambda params: check_request_timeout(params.request_timeout),
    }
    return run_checks(checks, params)


def check_cluster_parameters(params: BurstParameters) -> Iterator[tuple[str, str]]:
    """Yield the same for the Kubernetes plugin's own parameters."""
    checks: dict[str, Callable[[BurstParameters], None]] = {
        "isolated_burst": _isolated_burst,
        "node_types": _node_types,
        "price": lambda params: check_price(params.price),
        "kubeconfig": lambda params: check_readable(params.kubeconfig),
    }
    return run_checks(checks, params)


def _name(params: MiniClusterParameters) -> None:
    slot_names(params.name)


def _namespace(params: MiniClusterParameters) -> None:
    if not _LABEL.fullmatch(params.namespace):
        raise RequestError(f"{params.namespace!r} is not a valid name for a namespace (RFC 1123)")


def _image(image: str) -> None:
    if not _IMAGE.fullmatch(image):
        raise RequestError(f"{image!r} is not a reference of a container image")


def _config_dir(params: MiniClusterParameters) -> None:
    if params.config_dir is None or params.isolated_burst:
        return
    elastic = load(params.config_dir)
    try:
        names = slot_names(params.name)
    except RequestError:
        return  # the check of the name reports it
    if not declared_slots(names, elastic.burst_hosts):
        raise RequestError(
            f"{params.config_dir} declares no hosts of the MiniClusters {params.name!r}: "
            f"{names[0]}-0 and so on; declare them with fluxburst kubernetes init"
        )


def _node_types(params: BurstParameters) -> None:
    names = [kind.name for kind in params.node_types]
    if len(set(names)) < len(names):
        raise RequestError("has a duplicate name")
    if params.config_dir is None or params.isolated_burst:
        return
    elastic = load(params.config_dir)
    for kind in params.node_types:
        if (kind.cores, kind.gpus) != (elastic.cores, elastic.gpus):
            raise RequestError(
                f"{kind.name} has {counted(kind.cores, 'core')} and "
                f"{counted(kind.gpus, 'GPU')}, but the burst nodes are declared with "
                f"{elastic.cores} and {elastic.gpus}"
            )


def _cpu_limit(params: MiniClusterParameters) -> None:
    if params.cpu_limit is not None and params.cpu_limit < 1:
        raise RequestError(f"must be at least 1, got {params.cpu_limit}")


def _isolated_burst(params: BurstParameters) -> None:
    if params.isolated_burst and not params.node_types and params.cpu_limit is None:
        raise RequestError(
            "needs node_types or cpu_limit: no declared hosts determine a pod's size",
        )


def _flux_user(params: MiniClusterParameters) -> None:
    if params.flux_user is not None and not re.fullmatch(r"[0-9]{1,10}", params.flux_user, re.A):
        raise RequestError(
            f"must be a user id, got {params.flux_user!r}: neither Kubernetes nor MiniClusters of "
            "v1alpha2 know user names; leave it out for the image's user"
        )


def _lead_size(params: MiniClusterParameters) -> None:
    if params.lead_size is None or params.config_dir is None:
        return
    leads = load(params.config_dir).lead_hosts
    if params.lead_size != len(leads):
        raise RequestError(f"is {params.lead_size}, but {len(leads)} lead hosts are declared")


def _curve_cert(params: MiniClusterParameters) -> None:
    if params.curve_cert is not None:
        check_certificate(params.curve_cert)
    elif params.config_dir is not None:
        check_certificate(params.config_dir / "curve.cert")


def _curve_cert_secret_name(params: MiniClusterParameters) -> None:
    if params.curve_cert_secret_name is not None:
        _secret_name(params.curve_cert_secret_name)


def _munge_secret_name(params: MiniClusterParameters) -> None:
    _secret_name(params.munge_secret_name)


def _secret_name(name: str) -> None:
    if not _SECRET.fullmatch(name):
        raise RequestError(f"{name!r} is not a valid name for a secret (RFC 1123)")


def _flux_operator_yaml(params: MiniClusterParameters) -> None:
    source = params.flux_operator_yaml
    if source is not None and source.startswith("http://"):
        raise RequestError("must be a file or an https URL: it gets permissions in the cluster")
    if source is not None and not source.startswith("https://"):
        check_readable(Path(source))
