"""What the README says of parameters, options and permissions is true, and its commands work."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import click
import pytest
from fake_compute import compute_engine, free_port
from growing_compute import outside
from support import flux_available

from fluxburst_compute_engine import BurstParameters
from fluxburst_compute_engine.cli import init
from fluxburst_compute_engine.diagnosis import NEEDED, NEEDED_FOR

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def first_cells(after: str) -> str:
    """Return the first cells of the first table after a text."""
    table = re.search(r"^\|.*?\n\n", TEXT.partition(after)[2], re.MULTILINE | re.DOTALL)
    assert table is not None
    return " ".join(line.split("|")[1] for line in table[0].splitlines()[2:] if line)


def test_each_parameter_is_in_the_table_and_no_other() -> None:
    named = re.findall(r"`(\w+)`", first_cells("## Parameters"))
    assert sorted(named) == sorted(field.name for field in dataclasses.fields(BurstParameters))


def test_each_parameter_has_help() -> None:
    assert all(field.metadata.get("help") for field in dataclasses.fields(BurstParameters))


def test_each_option_of_init_is_in_the_table_and_no_other() -> None:
    named = re.findall(r"`(--[\w-]+)`", first_cells("## Declared hosts"))
    own = [p for p in init.params if isinstance(p, click.Option) and not p.hidden]
    assert sorted(named) == sorted(option.opts[0] for option in own)


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
    blocks = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (commands,) = [block for block in blocks if "compute-engine init" in block]
    here = f"--address 127.0.0.1 --port {free_port()}"
    commands = commands.replace("--address lead.example.org", here)
    with compute_engine(joins=True) as site:
        variables = {
            f"FLUXBURST_COMPUTE_ENGINE_{name.upper()}": str(value)
            for name, value in site.parameters.items()
        }
        done = subprocess.run(
            ["sh", "-ec", commands],
            env={**outside(site), **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout + done.stderr + site.logs()
        left = site.left()
    assert left == []
    assert "3 × c2-standard-8: 4 cores, 0.417616 an hour" in done.stdout
    assert re.search(r"compute-engine-[0-9a-f]{12} +compute_engine +c2-standard-8 +2", done.stdout)
    assert re.search(r"^Gone: compute-engine-", done.stdout, re.MULTILINE)
    assert re.search(r"down .* 3 +12 +0 burst-c2-standard-8-\[0-2\]$", done.stdout, re.MULTILINE)
