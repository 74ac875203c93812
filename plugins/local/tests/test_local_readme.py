"""What the README says of parameters, options and Python is true."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import click

from fluxburst_local import BurstParameters
from fluxburst_local.cli import init
from fluxburst_local.launchers import __all__ as launchers

TEXT = (Path(__file__).parents[1] / "README.md").read_text()


def rows(after: str) -> list[str]:
    """Return the first cells of the first table after a text."""
    table = re.search(r"^\|.*?\n\n", TEXT.partition(after)[2], re.MULTILINE | re.DOTALL)
    assert table is not None
    return [line.split("|")[1] for line in table[0].splitlines()[2:] if line]


def test_each_parameter_is_in_the_table_and_no_other() -> None:
    named = re.findall(r"`(\w+)`", " ".join(rows("## Parameters")))
    assert sorted(named) == sorted(field.name for field in dataclasses.fields(BurstParameters))


def test_each_parameter_has_help() -> None:
    assert all(field.metadata.get("help") for field in dataclasses.fields(BurstParameters))


def test_each_option_of_init_is_in_the_table_and_no_other() -> None:
    named = re.findall(r"`(--[\w-]+)`", " ".join(rows("The directory has to be seen")))
    own = [p for p in init.params if isinstance(p, click.Option) and not p.hidden]
    assert sorted(named) == sorted(option.opts[0] for option in own)


def test_each_launcher_is_in_the_table() -> None:
    named = re.findall(r"`(\w+)`", " ".join(rows("## Launchers")))
    classes = {name.removesuffix("Launcher").lower() for name in launchers if "Launcher" in name}
    assert set(named) == classes - {""}


def test_the_python_of_the_readme_names_what_there_is() -> None:
    block = re.search(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert block is not None
    imports, _, rest = block[1].partition("elastic = ")
    namespace: dict[str, object] = {}
    exec(imports, namespace)
    made = rest.splitlines()[0].replace("find_flux()", "'flux'")
    elastic = eval(made, namespace)
    assert elastic.hosts == ("lead", "node1", "node2")
