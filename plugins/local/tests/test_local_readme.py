"""What the README says of parameters, options and Python is true."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from readmes import blocks, first_cells, options_named, options_of, parameters_named

from fluxburst_local import BurstParameters
from fluxburst_local.cli import init
from fluxburst_local.launchers import __all__ as launchers

TEXT = (Path(__file__).parents[1] / "README.md").read_text()


def test_each_parameter_is_in_the_table_and_no_other() -> None:
    fields = dataclasses.fields(BurstParameters)
    assert parameters_named(TEXT) == sorted(field.name for field in fields)


def test_each_parameter_has_help() -> None:
    assert all(field.metadata.get("help") for field in dataclasses.fields(BurstParameters))


def test_each_option_of_init_is_in_the_table_and_no_other() -> None:
    assert options_named(TEXT, "The directory has to be seen") == options_of(init)


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
