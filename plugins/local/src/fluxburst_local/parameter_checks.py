"""Checks of the local plugin's parameters before they are used."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from fluxburst.config.validators import check_log_level, check_price
from fluxburst.errors import FormatError, RequestError
from fluxburst.formats.hostlist import format_hostlist, parse_hostlist
from fluxburst.provider.elastic import Elastic, check_certificate, find_flux, load
from fluxburst_local.parameters import ON_THIS_HOST, BurstParameters
from fluxburst_local.slurm_limits import parse_time

RUN_DIR_BYTES = 24
"""Flux limits run directories to 96 bytes, and the names in this one have up to 70."""


class Checked(Protocol):
    """The parameters, and the elastic instance they name."""

    params: BurstParameters

    @property
    def directory(self) -> Path:
        """The elastic instance's directory."""
        ...

    @property
    def elastic(self) -> Elastic:
        """The elastic instance's description."""
        ...


def _check_directory(plugin: Checked) -> None:
    if plugin.params.config_dir is not None:
        check_certificate(plugin.directory / "curve.cert")
        load(plugin.directory)


def _check_flux_root(plugin: Checked) -> None:
    if plugin.params.flux_root is not None:
        find_flux(plugin.params.flux_root)


def _check_hostnames(plugin: Checked) -> None:
    params = plugin.params
    if params.hostnames is None:
        return
    hosts = parse_hostlist(params.hostnames)
    if not hosts:
        raise FormatError(params.hostnames, "a hostlist (RFC 29) of at least one host")
    if params.config_dir is None:
        return
    unknown = [host for host in hosts if host not in plugin.elastic.burst_hosts]
    if unknown:
        declared = format_hostlist(plugin.elastic.burst_hosts)
        raise RequestError(
            f"{format_hostlist(unknown)} is not declared as a burst node in "
            f"{plugin.directory / 'config' / 'system.toml'} [declared: {declared}]"
        )


def _check_run_dir(plugin: Checked) -> None:
    run_dir = plugin.params.run_dir
    if not run_dir.is_absolute():
        raise RequestError(f"must be an absolute path, got {str(run_dir)!r}")
    if plugin.params.launcher in ON_THIS_HOST and not os.access(run_dir, os.W_OK):
        raise RequestError(f"{run_dir} is not a writable directory")
    if len(os.fsencode(run_dir)) > RUN_DIR_BYTES:
        raise RequestError(
            f"must be at most {RUN_DIR_BYTES} bytes long, for the sockets in it (unix(7))"
        )


def _check_max_nodes(plugin: Checked) -> None:
    if plugin.params.max_nodes is not None and plugin.params.max_nodes < 0:
        raise RequestError(f"must be 0 or more, got {plugin.params.max_nodes}")


def _check_time(plugin: Checked) -> None:
    parse_time(plugin.params.time)


CHECKS: Mapping[str, Callable[[Checked], None]] = {
    "config_dir": _check_directory,
    "flux_root": _check_flux_root,
    "hostnames": _check_hostnames,
    "log_level": lambda plugin: check_log_level(plugin.params.log_level),
    "run_dir": _check_run_dir,
    "price": lambda plugin: check_price(plugin.params.price),
    "max_nodes": _check_max_nodes,
    "time": _check_time,
}
"""For each checked parameter: a function that raises RequestError if it is invalid."""
