"""The website of the documentation: ``sphinx-build -c docs . DIRECTORY``, or ``nox -s docs``.

Its pages are the Markdown files of the repository where they are, so that their links lead to the
same places on the website and in a checkout.
"""

from __future__ import annotations

import importlib
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import fluxburst

NAVIGATION = {
    "Using fluxburst": [
        "docs/user-guide",
        "docs/parameters",
        "docs/migration",
        "docs/glossary",
    ],
    "Running it": [
        "docs/administration",
    ],
    "Plugins": [
        "docs/plugins",
        "plugins/local/README",
        "plugins/kubernetes/README",
        "plugins/gke/README",
        "plugins/eks/README",
        "plugins/compute-engine/README",
        "plugins/google/README",
        "plugins/mock/README",
    ],
    "Writing plugins": [
        "docs/hooks",
        "docs/reference",
    ],
    "Working on fluxburst": [
        "ARCHITECTURE",
        "CONTRIBUTING",
        "docs/decisions/README",
        "CHANGELOG",
        "SECURITY",
    ],
}
"""The pages in the order in which a reader meets them."""

REFERENCE = Path(__file__).with_name("reference.md").read_text()
MODULES: list[str] = re.findall(r"^   (fluxburst[\w.]*)$", REFERENCE, re.MULTILINE)
"""The modules that have a page in the reference."""

RECORDS = "docs/decisions/README"
"""The page that lists the decision records, which are below it."""

project = "fluxburst"
author = "the maintainers of fluxburst"
release = metadata.version("fluxburst")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
root_doc = "README"
include_patterns = ["*.md", "docs/**", "plugins/*/README.md"]
exclude_patterns = [".*", "build", "dist", "docs/templates"]
templates_path = [str(Path(__file__).with_name("templates"))]

html_theme = "furo"
html_title = f"fluxburst {release}"
html_copy_source = False

myst_heading_anchors = 6

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
napoleon_use_ivar = True


def add_navigation(_app: Any, docname: str, source: list[str]) -> None:
    """Tell Sphinx the order of the pages, which is in no page: on GitHub it would be in the way."""
    if docname == root_doc:
        for caption, pages in NAVIGATION.items():
            source[0] += toctree(pages, f":caption: {caption}")
    elif docname == RECORDS:
        source[0] += toctree(["0*"], ":glob:")


def toctree(pages: list[str], option: str) -> str:
    """Return the directive that orders pages, and shows nothing in the page that it is in."""
    return "\n".join(["", "", "```{toctree}", ":hidden:", option, "", *pages, "```", ""])


def copy_first_page(app: Any, error: Exception | None) -> None:
    """Give web servers the first page under the name that they look for."""
    first = Path(app.outdir) / f"{root_doc}.html"
    if error is None and first.exists():
        shutil.copyfile(first, first.with_name("index.html"))


def keep_first_lines(
    _app: Any, what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Keep napoleon from reading ``Why it is so: some text`` as an attribute with its type."""
    if what in ("attribute", "data", "property") and lines:
        lines[0] = f": {lines[0]}"


def document_once(
    app: Any, what: str, name: str, member: Any, _skip: bool, _options: Any
) -> bool | None:
    """Leave out of a module's page what the page of another module documents."""
    page = app.env.docname.removeprefix("docs/reference/")
    return True if what == "module" and owner_of(name, member) not in ("", page) else None


def owner_of(name: str, member: Any) -> str:
    """Return the module whose page documents a name; empty for any that has it.

    It is the module that defines it, or the first that exports it, if that module is internal.
    """
    defined = str(getattr(member, "__module__", ""))
    if defined in MODULES:
        return defined
    for module in MODULES:
        found = importlib.import_module(module)
        if name in getattr(found, "__all__", ()) and getattr(found, name) is member:
            return module
    return ""


def link_public_name(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Link what ``fluxburst`` exports to where that is documented, wherever it is defined."""
    name = node.get("reftarget", "").rpartition(".")[2]
    if node.get("refdomain") != "py" or name not in fluxburst.__all__:
        return None
    target = f"fluxburst.{name}"
    domain = env.domains["py"]
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, contnode)


def setup(app: Any) -> None:
    """Have Sphinx call what is defined here."""
    app.connect("autodoc-process-docstring", keep_first_lines, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", document_once)
    app.connect("missing-reference", link_public_name)
    app.connect("source-read", add_navigation)
    app.connect("build-finished", copy_first_page)
