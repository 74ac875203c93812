"""Parameters of the plugins for clouds: former names work, and are in the page on migration."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fluxburst.config.aliases import aliases_of
from fluxburst.config.parameters import build

MIGRATION = (Path(__file__).parent.parent / "docs" / "migration.md").read_text()
PLUGINS = ("compute_engine", "eks", "gke", "kubernetes")
KINDS: dict[str, type] = {
    name: pytest.importorskip(f"fluxburst_{name}").BurstParameters for name in PLUGINS
}
RENAMED = [
    (plugin, alias, field.name)
    for plugin, kind in KINDS.items()
    for field in dataclasses.fields(kind)
    for alias in aliases_of(field)
]
TEXTS = {"compact_placement": "true", "disk_size": "50", "provider_poll_interval": "3"}


@pytest.mark.parametrize(("plugin", "alias", "name"), RENAMED)
def test_a_former_name_sets_the_parameter(plugin: str, alias: str, name: str) -> None:
    kind, text = KINDS[plugin], TEXTS.get(name, "7")
    variable = f"FLUXBURST_{plugin.upper()}_"
    wanted: Any = build(plugin, kind, environ={f"{variable}{name.upper()}": text})
    assert wanted != kind()
    assert build(plugin, kind, environ={f"{variable}{alias.upper()}": text}) == wanted
    value = getattr(wanted, name)
    assert build(plugin, kind, config={alias: value}, environ={}) == wanted
    assert kind(**{alias: value}) == wanted


@pytest.mark.parametrize(("plugin", "alias", "name"), RENAMED)
def test_a_former_name_is_in_the_page_on_migration(plugin: str, alias: str, name: str) -> None:
    assert f"| `{plugin}` | `{alias}` | `{name}` |" in MIGRATION


def test_a_former_name_is_no_parameter_of_another_plugin() -> None:
    names = {field.name for kind in KINDS.values() for field in dataclasses.fields(kind)}
    assert names.isdisjoint(alias for _, alias, _ in RENAMED)
