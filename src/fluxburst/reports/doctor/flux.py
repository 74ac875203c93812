"""The Flux instance: whether it answers, and how its scheduler places jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fluxburst.errors import FluxburstError, NotOwnerError
from fluxburst.flux.binding import binding_version
from fluxburst.plugin.base import Finding
from fluxburst.provider import drains
from fluxburst.provider.fluxion import findings as scheduler_findings
from fluxburst.reports.doctor.findings import ok, wrong
from fluxburst.reports.doctor.installation import Installation
from fluxburst.simulation.embedded import EmbeddedInstance

_BINDING = "pip install ply flux-python==VERSION, with that of the running Flux ('flux --version')"


def check_flux(installation: Installation) -> Iterator[Finding]:
    """Check that the instance answers and belongs to the user."""
    if isinstance(installation.instance, EmbeddedInstance):
        yield ok("an embedded instance, without Flux")
        return
    binding = binding_version()
    if binding:
        yield ok(f"the Python binding is for Flux {binding}")
    else:
        yield wrong("Flux's Python binding is not installed", _BINDING)
    try:
        version = installation.instance.attribute("version")
        name = installation.instance.name
    except FluxburstError as error:
        yield wrong(str(error), "run this on the service's host, inside the Flux instance")
        return
    installation.reached = True
    yield ok(f"the instance {name} answers; Flux {version}")
    try:
        installation.instance.check_owner()
    except NotOwnerError as error:
        installation.guest = True
        yield wrong(str(error), "run fluxburst as the instance's owner")


def check_scheduler(installation: Installation) -> Iterable[Finding]:
    """Check that the scheduler can use the nodes that plugins add."""
    client = installation.client
    plugins = client.plugins.values()
    joining = not plugins or any(not plugin.isolated for plugin in plugins)
    return scheduler_findings(client.instance.scheduler(), joining) if installation.reached else ()


def check_drained(installation: Installation) -> Iterator[Finding]:
    """Check the nodes drained by fluxburst."""
    hosts = {host for entry in installation.ledger.live() for host in entry.burst.hostnames}
    yield from drains.findings(installation.instance.nodes(), hosts)
