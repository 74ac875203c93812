"""The metrics: what would stop a service from starting or from showing them."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterator

from fluxburst.plugin.base import Finding
from fluxburst.reports.doctor.findings import ok, wrong
from fluxburst.reports.doctor.installation import Installation


def check_metrics(installation: Installation) -> Iterator[Finding]:
    """Check what would stop a service from starting or from showing metrics."""
    metering = installation.client.policy.metrics
    if metering.port is None and metering.textfile is None:
        yield ok("off")
        return
    try:
        importlib.import_module("prometheus_client")
    except ImportError:
        yield wrong("metrics need prometheus-client", "pip install prometheus-client")
        return
    if metering.port is not None:
        try:
            socket.getaddrinfo(metering.address, metering.port)
        except (OSError, UnicodeError):
            text = f"metrics.address {metering.address!r} is not an address of this host"
            yield wrong(text, "use an IP address, such as 127.0.0.1")
    directory = None if metering.textfile is None else metering.textfile.parent
    if directory is not None and not os.access(directory, os.W_OK):
        text = f"metrics.textfile: {directory} does not exist, or is not writable"
        yield wrong(text, "create it, or correct the path")
    yield ok("prometheus-client is installed")
