"""Fixtures: a project of Compute Engine, and an elastic instance's directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compute_engine.fake_compute import Site, compute_engine
from tests.compute_engine.sites import write_elastic


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A project whose machines run, and start no brokers."""
    with compute_engine() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture(scope="module")
def machines() -> Iterator[Site]:
    """A project whose machines run their startup scripts."""
    with compute_engine(joins=True) as running:
        before = dict(os.environ)
        os.environ.update(running.environment)
        yield running
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def elastic(tmp_path: Path) -> Path:
    """An elastic instance's directory."""
    return write_elastic(tmp_path / "elastic")
