"""The configuration, and the packages that take part."""

from __future__ import annotations

from collections.abc import Iterator

from fluxburst.config.file import Config
from fluxburst.errors import ConfigError
from fluxburst.plugin.base import Finding
from fluxburst.reports.doctor.findings import ok, warning, wrong
from fluxburst.reports.doctor.installation import Installation


def check_config(installation: Installation) -> Iterator[Finding]:
    """Read the configuration."""
    try:
        installation.config = installation.find_config()
    except ConfigError as error:
        yield wrong(str(error), "correct it; what follows is checked without it")
        return
    if installation.config.source:
        yield ok(f"{installation.config.source} is read")
    else:
        yield ok("there is no configuration file, which is as if it were empty")
    if not (installation.named or installation.config.plugins):
        advice = "name one with --plugin NAME, or give it a table [plugins.NAME] in the config"
        yield warning("no burst plugin is named: nothing can be brought up", advice)


def check_client(installation: Installation) -> Iterator[Finding]:
    """Make the client; where the configuration keeps it from being made, without that."""
    try:
        installation.make_client()
    except ConfigError as error:
        yield wrong(str(error), "correct it; what follows is checked without the config")
        installation.config = Config()
        installation.make_client()


def check_packages(installation: Installation) -> Iterator[Finding]:
    """Check that installed packages can take part."""
    packages = installation.client.hooks.packages
    for package in packages:
        if package.problem and not package.blocked:
            advice = "mend or uninstall it, or block it (block = [...] in the config)"
            yield wrong(f"{package.distribution} {package.problem}", advice)
    taking_part = [p.distribution for p in packages if not p.problem]
    yield ok(f"packages that take part: {', '.join(taking_part) or 'none'}")
