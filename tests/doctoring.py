"""Having the doctor examine a plugin, for tests."""

from __future__ import annotations

from typing import Any

from fluxburst.config.file import Config
from fluxburst.plugin.base import Finding
from fluxburst.reports.doctor import Doctor
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording


def found_by_doctor(plugin: str, parameters: dict[str, Any]) -> list[Finding]:
    """Return what the doctor finds of a plugin with these parameters, without a Flux."""
    config = Config(plugins={plugin: parameters})
    found = Doctor(lambda: config, EmbeddedInstance(Recording(()))).examine()
    return [one.finding for one in found if one.check == f"plugin {plugin}"]


def wrong_in(found: list[Finding]) -> list[str]:
    """Return what is wrong, with what to do about it."""
    return [f"{one.what} -> {one.advice}" for one in found if one.level == "error"]
