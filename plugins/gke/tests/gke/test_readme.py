"""What the README says of parameters, options and permissions is true, and its commands work."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from tests.gke.sites import gke_site
from tests.kubernetes.apiserver import Server
from tests.readmes import options_named, options_of, parameters_named, run_commands
from tests.support import flux_available

from fluxburst_gke import BurstParameters
from fluxburst_gke.cli import gke as group
from fluxburst_kubernetes.parameters import MiniClusterParameters

TEXT = (Path(__file__).parents[2] / "README.md").read_text()


def test_each_parameter_is_in_the_table_and_no_other() -> None:
    shared = {field.name for field in dataclasses.fields(MiniClusterParameters)}
    own = {field.name for field in dataclasses.fields(BurstParameters)} - shared
    assert parameters_named(TEXT) == sorted(own)


def test_each_option_of_init_is_in_the_table_and_no_other() -> None:
    assert options_named(TEXT, "## Options of init") == options_of(group.commands["init"])


@pytest.mark.flux
@pytest.mark.kubernetes
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_the_commands_of_the_readme_work_as_they_stand_and_leave_nothing(
    server: Server, tmp_path: Path
) -> None:
    with gke_site(server, tmp_path / "site", shutil.which("flux") or "") as site:
        elsewhere = ("endpoint", "compute_endpoint", "provider_poll_interval", "live_prices")
        played = {f"FLUXBURST_GKE_{n.upper()}": str(site.parameters[n]) for n in elsewhere}
        done = run_commands(TEXT, tmp_path, {**site.environment, **played})
        assert done.returncode == 0, f"{done.stderr}\n{site.operator.logs()}"
        assert site.left() == []
    assert "1 job selected, 1 assigned, 0 not." in done.stdout
    assert " ready " in done.stdout
    assert "c2-standard-8" in done.stdout
