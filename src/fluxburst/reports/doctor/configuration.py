"""The configuration and the installed packages."""

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
        yield wrong(str(error), "correct it; the other checks run without it")
        return
    if installation.config.source:
        yield ok(f"read from {installation.config.source}")
    else:
        yield ok("no configuration file; defaults apply")
    if not (installation.named or installation.config.plugins):
        advice = "use --plugin NAME, or add a table [plugins.NAME] to the config"
        yield warning("no burst plugin is named: nothing can be provisioned", advice)


def check_client(installation: Installation) -> Iterator[Finding]:
    """Make the client; without the configuration if that prevents it."""
    try:
        installation.make_client()
    except ConfigError as error:
        yield wrong(str(error), "correct it; the other checks run without the config")
        installation.config = Config()
        installation.make_client()


def check_packages(installation: Installation) -> Iterator[Finding]:
    """Check that installed packages can take part."""
    packages = installation.client.hooks.packages
    for package in packages:
        if package.problem and not package.blocked:
            advice = "repair or uninstall it, or block it (block = [...] in the config)"
            yield wrong(f"{package.distribution} {package.problem}", advice)
    taking_part = [p.distribution for p in packages if not p.problem]
    yield ok(f"packages taking part: {', '.join(taking_part) or 'none'}")
