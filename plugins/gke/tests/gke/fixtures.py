"""Fixtures: a project of Google's with a cluster in it, which has a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.gke.sites import Site, gke_site
from tests.kubernetes.apiserver import Server


@pytest.fixture
def gke(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A project with a cluster, whose pods run and have no brokers."""
    with gke_site(server, tmp_path / "gke") as site:
        for name, value in site.environment.items():
            monkeypatch.setenv(name, value)
        yield site
