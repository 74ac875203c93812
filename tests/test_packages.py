"""Each distribution says what it needs: of those of this repository, what its source imports."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLUGINS = sorted(Path(__file__).parent.parent.glob("plugins/*/pyproject.toml"))


def imported(source: Path) -> Iterator[str]:
    """Yield the top-level packages that the modules of a directory import."""
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (name.name.partition(".")[0] for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def project(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(file.read_text())["project"]
    return found


@pytest.mark.parametrize("file", PLUGINS, ids=lambda file: file.parent.name)
def test_a_plugin_depends_on_the_plugins_that_it_imports(file: Path) -> None:
    needed = {re.split(r"[^\w-]", one)[0] for one in project(file)["dependencies"]}
    own = project(file)["name"]
    siblings = {project(other)["name"] for other in PLUGINS} - {own}
    used = {name.replace("_", "-") for name in imported(file.parent / "src")}
    assert used & siblings == needed & siblings
    assert "fluxburst" in needed


def test_there_are_plugins() -> None:
    assert len(PLUGINS) == 7
