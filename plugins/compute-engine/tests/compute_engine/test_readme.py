"""What the README says of parameters, options and permissions is true, and its commands work."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from tests.compute_engine.fake_compute import compute_engine
from tests.readmes import options_named, options_of, parameters_named, run_commands
from tests.support import flux_available

from fluxburst_compute_engine import BurstParameters
from fluxburst_compute_engine.cli import init
from fluxburst_compute_engine.diagnosis import NEEDED, NEEDED_FOR

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def test_each_parameter_is_in_the_table_and_no_other() -> None:
    fields = dataclasses.fields(BurstParameters)
    assert parameters_named(TEXT) == sorted(field.name for field in fields)


def test_each_parameter_has_help() -> None:
    assert all(field.metadata.get("help") for field in dataclasses.fields(BurstParameters))


def test_each_option_of_init_is_in_the_table_and_no_other() -> None:
    assert options_named(TEXT, "## Declared hosts") == options_of(init)


def test_role_yaml_gives_what_doctor_asks_for_and_no_more() -> None:
    lines = (ROOT / "src" / "fluxburst_compute_engine" / "role.yaml").read_text().splitlines()
    given = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    assert sorted(given) == sorted(NEEDED)
    more: dict[str, list[str]] = {}
    field = ""
    for line in lines[lines.index(f"- {given[-1]}") + 1 :]:
        if line.startswith("# - "):
            more[field].append(line.removeprefix("# - "))
        else:
            field = line.removeprefix("# ")
            more[field] = []
    assert {name: tuple(some) for name, some in more.items()} == NEEDED_FOR


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_the_commands_of_the_readme_work_as_they_stand_and_leave_nothing(tmp_path: Path) -> None:
    with compute_engine(joins=True) as site:
        variables = {
            f"FLUXBURST_COMPUTE_ENGINE_{name.upper()}": str(value)
            for name, value in site.parameters.items()
        }
        done = run_commands(TEXT, tmp_path, {**site.environment, **variables})
        assert done.returncode == 0, done.stdout + done.stderr + site.logs()
        left = site.left()
    assert left == []
    assert "3 × c2-standard-8: 4 cores, 0.417616 an hour" in done.stdout
    name = "compute-engine-[0-9a-f]{8}-[0-9a-f]{8}"
    assert re.search(rf"{name} +compute_engine +c2-standard-8 +2", done.stdout)
    assert re.search(r"^Terminated: compute-engine-", done.stdout, re.MULTILINE)
    assert re.search(r"down .* 3 +12 +0 burst-c2-standard-8-\[0-2\]$", done.stdout, re.MULTILINE)
