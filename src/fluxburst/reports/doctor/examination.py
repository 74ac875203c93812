"""All checks, in order.

Checks are independent: a failing one becomes a finding, and the others still run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fluxburst.config.file import Config
from fluxburst.flux.protocol import Instance
from fluxburst.plugin.base import Finding
from fluxburst.provider.probe import at_a_glance
from fluxburst.reports.doctor.bursts import check_breakers, check_bursts
from fluxburst.reports.doctor.configuration import check_client, check_config, check_packages
from fluxburst.reports.doctor.findings import made
from fluxburst.reports.doctor.flux import check_drained, check_flux, check_scheduler
from fluxburst.reports.doctor.installation import Installation
from fluxburst.reports.doctor.ledger import (
    check_clock,
    check_holder,
    check_ledger,
    check_state_directory,
)
from fluxburst.reports.doctor.lifetimes import check_lifetimes
from fluxburst.reports.doctor.limits import check_limits
from fluxburst.reports.doctor.metrics import check_metrics
from fluxburst.reports.doctor.plugins import check_plugin
from fluxburst.reports.doctor.users import check_users

Check = Callable[[Installation], Iterable[Finding]]


@dataclass(frozen=True)
class Checked:
    """A finding, with its check."""

    check: str
    finding: Finding


class Doctor:
    """Examines one installation.

    Args:
        find_config: Finds and reads the configuration.
        instance: The instance; it may be unreachable.
        plugins: Names of the plugins to load; by default those of the configuration.
        block: Names of packages to ignore.
        state_dir: Directory of the ledger; by default the usual place.
    """

    def __init__(
        self,
        find_config: Callable[[], Config],
        instance: Instance,
        plugins: Sequence[str] = (),
        block: Sequence[str] = (),
        state_dir: Path | None = None,
    ) -> None:
        self._installation = Installation(find_config, instance, plugins, block, state_dir)

    def examine(self) -> list[Checked]:
        """Run all checks and return their findings, in order."""
        installation = self._installation
        found: list[Checked] = []
        try:
            with at_a_glance() as installation.silent:
                for name, check in _checks(installation):
                    found += [Checked(name, finding) for finding in made(check, installation)]
        finally:
            installation.close()
        return found


def _checks(installation: Installation) -> Iterator[tuple[str, Check]]:
    yield "config", check_config
    yield "client", check_client
    yield "flux", check_flux
    if not installation.has_client or installation.guest:
        return  # a guest can be told nothing else
    yield "packages", check_packages
    yield "state directory", check_state_directory
    yield "ledger", check_ledger
    yield "instance", check_holder
    yield "clock", check_clock
    for name in installation.plugin_names():
        yield f"plugin {name}", functools.partial(check_plugin, name=name)
    yield "scheduler", check_scheduler
    yield "users", check_users
    yield "lifetimes", check_lifetimes
    yield "limits", check_limits
    yield "metrics", check_metrics
    yield "bursts", check_bursts
    yield "drained nodes", check_drained
    yield "breakers", check_breakers
