"""The website as ``nox -s docs`` has built it: BUILT_SITE names its directory."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

LOADED = {"img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src"}
"""What browsers load by themselves, and from where."""


class Page(HTMLParser):
    """One page: what it loads, what it links to, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if LOADED.get(tag, "") in values:
            self.loaded.append(values[LOADED[tag]])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if "id" in values:
            self.anchors.add(values["id"])


@pytest.fixture(scope="module")
def site() -> Path:
    return Path(os.environ["BUILT_SITE"]).resolve()


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {path: Page(path) for path in site.rglob("*.html")}
    assert site / "index.html" in found
    assert len(found) > 20
    return found


def is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc)


def test_pages_load_nothing_from_other_sites(pages: dict[Path, Page]) -> None:
    for page in pages.values():
        assert not [address for address in page.loaded if is_elsewhere(address)], page.path


def test_style_sheets_and_pictures_load_nothing_from_other_sites(site: Path) -> None:
    files = [path for kind in ("css", "svg") for path in site.rglob(f"*.{kind}")]
    assert files
    for file in files:
        text = file.read_text()
        loaded = re.findall(r"""url\(\s*["']?((?!data:)[^"')]+)|@import\s+["']([^"']+)""", text)
        assert not [one for pair in loaded for one in pair if is_elsewhere(one)], file


def test_links_within_the_site_lead_to_files_and_anchors_that_are_there(
    pages: dict[Path, Page],
) -> None:
    for page in pages.values():
        for address in (link for link in page.links if not urlsplit(link).scheme):
            parts = urlsplit(address)
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            assert target.is_file(), f"{page.path}: {address}"
            if target in pages:
                anchor = unquote(parts.fragment)
                assert anchor in pages[target].anchors, f"{page.path}: {address}"


def test_links_to_other_sites_are_well_formed(pages: dict[Path, Page]) -> None:
    outside = {link for page in pages.values() for link in page.links if urlsplit(link).scheme}
    assert outside
    for link in outside:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
        assert not re.search(r"\s", link), link
