"""No module of the core or of a plugin, and no function in it, is too long to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "fluxburst"

MODULE_LINES = 450
FUNCTION_LINES = 45
"""As many as a screen shows. Docstrings do not count: what callers read is not in the way."""

MODULES = {path.relative_to(SOURCES).as_posix(): path for path in SOURCES.rglob("*.py")} | {
    path.relative_to(ROOT).as_posix(): path for path in ROOT.glob("plugins/*/src/**/*.py")
}


def functions_of(source: str) -> Iterator[tuple[str, int]]:
    """Yield each function's name, and how many lines it has without its docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = _lines(node)
            if ast.get_docstring(node) is not None:
                lines -= _lines(node.body[0])
            yield node.name, lines


def _lines(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_and_each_of_its_functions_can_be_read_at_once(module: str) -> None:
    source = MODULES[module].read_text()
    assert len(source.splitlines()) <= MODULE_LINES
    assert {name: n for name, n in functions_of(source) if n > FUNCTION_LINES} == {}


def test_lines_of_a_function_are_counted_without_its_docstring() -> None:
    inner = "    def two():\n        return 2\n"
    source = f'def one():\n    """Do it.\n\n    So.\n    """\n{inner}    return two\n'
    assert dict(functions_of(source)) == {"one": 4, "two": 2}
