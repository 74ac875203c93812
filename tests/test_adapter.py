"""Which plugins size their bursts themselves, and what fluxburst asks of these."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from fluxburst import Burst, BurstParameters, BurstPlugin, NodeType
from fluxburst.errors import RequestError
from fluxburst.model.burst import BurstRequest
from fluxburst.plugin.adapter import LegacyAdapter, provider_of


class Told(BurstPlugin):
    """A plugin that provisions what it is asked for."""

    def node_types(self) -> Sequence[NodeType]:
        return [NodeType("small", 4)]

    def list_bursts(self) -> Collection[str]:
        return []


class Own(BurstPlugin):
    """A plugin of flux-burst's kind, which names no burst."""

    def run(self, request_burst: bool = False, nodes: int | None = None, tasks: int | None = None):  # type: ignore[no-untyped-def]
        return None


class OwnWithTypes(Own):
    """One that has node types, so that fluxburst can plan with them."""

    def node_types(self) -> Sequence[NodeType]:
        return [NodeType("small", 4)]


class Broken(Own):
    """One that cannot tell."""

    def node_types(self) -> Sequence[NodeType]:
        raise OSError("no route to host")


def made(kind: type[BurstPlugin]) -> BurstPlugin:
    plugin = kind(BurstParameters())
    plugin.name = "it"
    return plugin


@pytest.mark.parametrize(
    ("kind", "adapted", "sizes"),
    [
        (Told, False, False),
        (Own, True, True),
        (OwnWithTypes, True, False),
        (Broken, True, False),
    ],
)
def test_a_plugin_that_implements_run_is_adapted_and_sizes_its_bursts_unless_it_has_types(
    kind: type[BurstPlugin], adapted: bool, sizes: bool
) -> None:
    provider = provider_of(made(kind))
    assert isinstance(provider, LegacyAdapter) is adapted
    assert provider.sizes_bursts is sizes


def test_jobs_of_a_plugin_that_sizes_its_bursts_wait_for_a_placeholder() -> None:
    own, told = provider_of(made(Own)), provider_of(made(Told))
    assert told.placeholder([1, 2]) is None
    placeholder = own.placeholder([1, 2])
    assert placeholder is not None
    assert (placeholder.plugin, placeholder.nodes, placeholder.jobs) == ("it", 0, (1, 2))
    assert own.is_placeholder(placeholder)
    assert not own.is_placeholder(Burst("it-1", "it", "small", 1))
    assert not told.is_placeholder(placeholder)


def test_only_bursts_that_fluxburst_sizes_are_sized_before_they_are_requested() -> None:
    assert provider_of(made(Own)).size(2, None) is None
    burst = provider_of(made(Told)).size(2, None)
    assert burst is not None
    assert (burst.node_type, burst.nodes) == ("small", 2)
    with pytest.raises(RequestError):
        provider_of(made(Told)).size(0, None)


def test_a_plugin_that_names_no_burst_has_requested_none() -> None:
    assert provider_of(made(Own)).run(BurstRequest()) == ()


def test_a_plugin_is_asked_what_exists_only_if_it_can_tell() -> None:
    assert provider_of(made(Told)).lists_bursts
    assert not provider_of(made(Own)).lists_bursts
    assert not provider_of(made(Told)).refreshes_bursts
    assert not provider_of(made(Told)).changes_constraints
