from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.elastic_instance import ElasticInstance, elastic_instance
from tests.local.growing import brokers_of, rundirs_of
from tests.scenario import LiveWorld, check_table, run, tidied
from tests.site_flux import flux_with_fluxion, needs_fluxion, path_with
from tests.support import flux_available

SITES = [
    pytest.param(
        shutil.which("flux"),
        marks=[
            pytest.mark.flux,
            pytest.mark.skipif(not flux_available(), reason="no live Flux"),
        ],
        id="flux",
    ),
    pytest.param(flux_with_fluxion(), marks=[pytest.mark.fluxion, needs_fluxion], id="fluxion"),
]

NEVER_JOINS = """#!/bin/sh
case "$1" in broker) exec sleep 600 ;; *) exec {flux} "$@" ;; esac
"""
DECLARED = "1-6"


class LocalWorld(LiveWorld):
    """Brokers as processes of this machine."""

    isolates = True

    def __init__(self, instance: ElasticInstance, root: Path) -> None:
        super().__init__(instance)
        self._root = root
        (root / "bin").mkdir(parents=True)
        stub = root / "bin" / "flux"
        stub.write_text(NEVER_JOINS.format(flux=instance.flux.command))
        stub.chmod(0o755)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "full" and value is not self.full:  # a site's own nodes are drained, or not
            what = ["drain", DECLARED, "maintenance"] if value else ["undrain", DECLARED]
            self.instance.flux("resource", *what)
        super().__setattr__(name, value)

    def parameters(self) -> dict[str, Any]:
        stub = {} if self.joins else {"flux_root": str(self._root)}
        return {"output_dir": str(self._root / "output"), **stub}

    def provider_left(self) -> list[str]:
        directory = self.instance.directory
        isolated = [str(path) for path in directory.glob("isolated/*/*")]
        return [*dict(brokers_of(directory)), *map(str, rundirs_of(directory)), *isolated]

    def left(self) -> list[str]:
        return [] if self.full else super().left()


@pytest.mark.parametrize("flux", SITES)
def test_the_scenario_of_all_plugins(flux: str, tmp_path: Path) -> None:
    options = ["--burst-nodes=6", "--cores=2", "--lead-cores=2"]
    path = {"PATH": path_with(flux)}
    with (
        elastic_instance(tmp_path / "elastic", "local", options, environment=path) as instance,
        tidied(LocalWorld(instance, tmp_path / "stub")) as world,
    ):
        check_table("local", run(world))
