from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.compute_engine.fake_compute import Site, compute_engine
from tests.compute_engine.sites import SMALL
from tests.elastic_instance import ElasticInstance, elastic_instance
from tests.scenario import LiveWorld, check_table, run, tidied
from tests.support import flux_available

pytestmark = [
    pytest.mark.flux,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]


class ComputeEngineWorld(LiveWorld):
    """Machines of a project of Compute Engine that run their startup script."""

    isolates = True

    def __init__(self, instance: ElasticInstance, site: Site) -> None:
        self._site = site
        super().__init__(instance)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "full":
            self._site.full = {"*"} if value else set()
        if name == "joins":
            self._site.joins = value
        super().__setattr__(name, value)

    def provider_left(self) -> list[str]:
        return [*self._site.left(), *self._site.brokers()]

    def pass_lease(self) -> None:
        self._site.pass_time(60)  # no machine may run for less than 30 seconds


def test_the_scenario_of_all_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [f"--machine-type={SMALL}=6", "--lead-cores=2", "--address=127.0.0.1"]
    with compute_engine(joins=True) as site:
        for name, value in site.environment.items():
            monkeypatch.setenv(name, value)
        parameters = {**site.parameters, "output_dir": str(tmp_path / "output")}
        with (
            elastic_instance(
                tmp_path / "elastic", "compute_engine", options, parameters, site.environment
            ) as instance,
            tidied(ComputeEngineWorld(instance, site)) as world,
        ):
            check_table("compute_engine", run(world))
