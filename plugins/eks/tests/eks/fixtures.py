"""Fixtures: credentials, an API server that checks tokens as EKS does, and AWS with it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from tests.eks.sites import CLUSTER, ENVIRONMENT, KEY, SECRET, Site, eks_site
from tests.eks.token_reviews import TokenReviews, reviewing
from tests.kubernetes.apiserver import Server, api_server, assets
from tests.kubernetes.flux_operator import FluxOperator

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the credentials of the tests, and no others, in the environment."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def reviews() -> TokenReviews:
    """What the API server asks about tokens."""
    administrator = ("arn:aws:iam::123456789012:user/fluxburst", ["system:masters"])
    return TokenReviews(CLUSTER, {KEY: SECRET}, {KEY: administrator})


@pytest.fixture(scope="session")
def eks_server(tmp_path_factory: pytest.TempPathFactory, reviews: TokenReviews) -> Iterator[Server]:
    """A real API server that knows MiniClusters, and its users by tokens of EKS."""
    folder = assets()
    if folder is None:
        pytest.skip("no kube-apiserver (KUBEBUILDER_ASSETS)")
    directory = tmp_path_factory.mktemp("eks")
    with (
        reviewing(reviews, directory) as options,
        api_server(folder, tmp_path_factory.mktemp("kubernetes"), options) as running,
    ):
        running.define_miniclusters()
        yield running


@pytest.fixture
def site(eks_server: Server) -> Iterator[Site]:
    """AWS with one cluster, whose API server is real."""
    with eks_site(eks_server) as running:
        yield running


@pytest.fixture
def eks_operator(site: Site) -> FluxOperator:
    """The operator of its cluster, whose pods run and have no brokers."""
    return site.operator


@pytest.fixture
def space() -> str:
    """A namespace that is not there yet, for one test."""
    return f"eks-{next(_numbers)}"
