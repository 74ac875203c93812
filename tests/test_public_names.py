"""What packages may import, where it was before, and that nothing of it goes missing unseen."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fluxburst
from fluxburst import moved

ROOT = Path(__file__).parent.parent
MIGRATION = (ROOT / "docs" / "migration.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
PUBLIC_MODULES = set(re.findall(r"^   (fluxburst[\w.]*)$", REFERENCE, re.MULTILINE))
PUBLIC = {
    "fluxburst": fluxburst.__all__,
    "fluxburst.config": ["Config", "find", "load", "usual_places"],
    "fluxburst.testing": ["EmbeddedInstance", "Recording", "load_recording"],
}


def imports(file: Path) -> Iterator[str]:
    """Yield the modules of fluxburst that a file imports, or takes names from."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("fluxburst."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fluxburst":
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in MODULES else str(node.module)


MODULES = {found.name for found in pkgutil.walk_packages(fluxburst.__path__, "fluxburst.")}
SOURCES = sorted(
    [*ROOT.glob("plugins/*/src/**/*.py"), *ROOT.glob("docs/example_plugin/**/*.py")],
)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.name)
def test_plugins_import_only_modules_of_the_reference(file: Path) -> None:
    private = sorted(set(imports(file)) - PUBLIC_MODULES)
    assert private == []


@pytest.mark.parametrize(("module", "names"), PUBLIC.items())
def test_the_public_names_of_a_package_are_these(module: str, names: list[str]) -> None:
    found = importlib.import_module(module)
    assert sorted(found.__all__) == sorted(names)
    assert all(hasattr(found, name) for name in names)


@pytest.mark.parametrize(("old", "new"), moved.MOVED.items())
def test_an_old_path_still_has_the_names_and_says_where_they_are(old: str, new: str) -> None:
    script = (
        "import importlib, warnings\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n"
        f"    old = importlib.import_module({old!r})\n"
        f"new = importlib.import_module({new!r})\n"
        f"assert [str(one.message) for one in said] == ['{old} moved to {new}'], said\n"
        "names = [name for name in vars(new) if not name.startswith('__')]\n"
        "assert names and all(getattr(old, name) is getattr(new, name) for name in names)\n"
        f"assert new.__spec__.name == {new!r}\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(("old", "new"), moved.MOVED.items())
def test_an_old_path_is_in_the_page_on_migration(old: str, new: str) -> None:
    assert f"| `{old}` | `{new}` |" in MIGRATION


def test_a_module_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("fluxburst.never_was")
