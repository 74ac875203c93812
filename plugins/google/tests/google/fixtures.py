"""Fixtures: Google's catalog of prices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.google.fake_catalog import Catalog, billing_catalog


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    """The catalog of prices: a quarter above those of the table."""
    with billing_catalog() as running:
        yield running
