"""What the README says of parameters, options and Python is true."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.elastic_instance import free_port, outside
from tests.local.growing import brokers_of
from tests.readmes import blocks, first_cells, options_named, options_of, parameters_named
from tests.site_flux import flux_with_fluxion, needs_fluxion, path_with

from fluxburst_local import BurstParameters
from fluxburst_local.cli import init
from fluxburst_local.launchers import __all__ as launchers

TEXT = (Path(__file__).parents[2] / "README.md").read_text()


def test_each_parameter_is_in_the_table_and_no_other() -> None:
    fields = dataclasses.fields(BurstParameters)
    assert parameters_named(TEXT) == sorted(field.name for field in fields)


def test_each_parameter_has_help() -> None:
    assert all(field.metadata.get("help") for field in dataclasses.fields(BurstParameters))


def test_each_option_of_init_is_in_the_table_and_no_other() -> None:
    assert options_named(TEXT, "Every node must see the directory") == options_of(init)


def test_each_launcher_is_in_the_table() -> None:
    named = re.findall(r"`(\w+)`", first_cells(TEXT, "## Launchers"))
    classes = {name.removesuffix("Launcher").lower() for name in launchers if "Launcher" in name}
    assert set(named) == classes - {""}


def test_the_python_of_the_readme_names_what_there_is() -> None:
    imports, _, rest = blocks(TEXT, "python")[0].partition("elastic = ")
    namespace: dict[str, object] = {}
    exec(imports, namespace)
    made = rest.splitlines()[0].replace("find_flux()", "'flux'")
    elastic = eval(made, namespace)
    assert elastic.hosts == ("lead", "node1", "node2")


@pytest.mark.fluxion
@needs_fluxion
def test_the_first_burst_as_pasted_is_one_under_fluxion_too(tmp_path: Path) -> None:
    pasted = blocks(TEXT, "sh")[1]
    assert "fluxburst local init ./elastic --burst-nodes 3\n" in pasted
    script = pasted.replace("--burst-nodes 3\n", f"--burst-nodes 3 --port {free_port()}\n")
    there = f"{Path(sys.executable).parent}{os.pathsep}{path_with(flux_with_fluxion())}"
    done = subprocess.run(
        ["sh", "-ec", script],
        env={**outside(), "PATH": there},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "under its queue-policy 'conservative' jobs wait for burst nodes." in done.stdout
    assert "1 job selected, 1 assigned, 0 not." in done.stdout
    assert " ready " in done.stdout
    assert re.search(r"^ +down burst +3 ", done.stdout, re.M)
    assert list(brokers_of(tmp_path / "elastic")) == []
