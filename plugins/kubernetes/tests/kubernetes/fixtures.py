"""Fixtures: a real API server, and an operator for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from tests.kubernetes.apiserver import Server, api_server, assets
from tests.kubernetes.flux_operator import FluxOperator, flux_operator

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real API server that knows MiniClusters."""
    folder = assets()
    if folder is None:
        pytest.skip("no kube-apiserver (KUBEBUILDER_ASSETS)")
    with api_server(folder, tmp_path_factory.mktemp("kubernetes")) as running:
        running.define_miniclusters()
        yield running


@pytest.fixture
def operator(server: Server) -> Iterator[FluxOperator]:
    """An operator whose pods run, and have no brokers."""
    with flux_operator(server.api) as running:
        yield running


@pytest.fixture
def namespace() -> str:
    """A namespace that is not there yet, for one test."""
    return f"test-{next(_numbers)}"
