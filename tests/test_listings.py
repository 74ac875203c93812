"""A provider is asked once a pass what exists, and once to terminate, however many bursts go."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
from tests.support import Joining, client_on, spec

from fluxburst import Burst, FluxBurst, NodeType
from fluxburst.config.policy import Lifetimes, Policy
from fluxburst.errors import BurstError, BurstErrors
from fluxburst.formats.units import Duration
from fluxburst.simulation.embedded import EmbeddedInstance

QUICK = Policy(lifetimes=Lifetimes(idle_timeout=Duration(10.0)))


class Counting(Joining):
    """A plugin that counts how often its provider is asked for a list."""

    def __init__(self, instance: EmbeddedInstance) -> None:
        super().__init__("cloud", instance, NodeType("node", cores=4))
        self.listings = 0
        self.refuses = ""

    def list_bursts(self) -> Collection[str]:
        self.listings += 1
        return super().list_bursts()

    def adopt(self) -> Sequence[Burst] | None:
        return [self.there[name] for name in self.list_bursts()]

    def delete(self, burst: Burst) -> None:
        if burst.name == self.refuses:
            raise BurstError("access denied")
        super().delete(burst)

    def counted(self) -> int:
        """Return how often it was asked since this was last called."""
        listings, self.listings = self.listings, 0
        return listings


@pytest.fixture
def site() -> tuple[EmbeddedInstance, Counting, FluxBurst]:
    """Return an instance with two bursts, whose jobs have just ended."""
    instance = EmbeddedInstance()
    cloud = Counting(instance)
    client = client_on(instance, cloud, policy=QUICK)
    for _ in range(2):
        instance.submit(spec(1, 4, burstable=True, duration=30.0))
        client.run_burst()
        instance.advance(0.0)
        client.reconcile()
    instance.advance(31.0)
    client.reconcile()
    assert len(cloud.there) == 2
    cloud.counted()
    return instance, cloud, client


Site = tuple[EmbeddedInstance, Counting, FluxBurst]


def test_a_pass_lists_once_also_if_it_terminates_bursts(site: Site) -> None:
    instance, cloud, client = site
    client.reconcile()
    assert cloud.counted() == 1
    instance.advance(11.0)
    passes = 0
    while cloud.there:
        client.reconcile()
        passes += 1
    assert passes <= 2
    assert cloud.counted() == passes


@pytest.mark.parametrize("some", [False, True])
def test_unburst_lists_once_and_its_proof_once_more(site: Site, some: bool) -> None:
    _, cloud, client = site
    gone = client.run_unburst(cloud.created[:1] if some else None)
    assert gone == cloud.created[: 1 if some else 2]
    assert cloud.counted() == 1
    assert client.remaining(gone) == []
    assert cloud.counted() == 1


def test_a_burst_that_cannot_be_deleted_keeps_no_other_from_it(site: Site) -> None:
    _, cloud, client = site
    cloud.refuses = min(cloud.created)
    with pytest.raises(BurstErrors, match="access denied"):
        client.run_unburst()
    assert list(cloud.there) == [cloud.refuses]


def test_what_was_deleted_and_is_listed_later_is_terminated_again(site: Site) -> None:
    _, cloud, client = site
    there = dict(cloud.there)
    client.run_unburst()
    cloud.there.update(there)  # its provider had only said so
    assert {item.burst for item in client.remaining()} == set(there)
    client.reconcile()
    client.reconcile()
    assert cloud.there == {}
