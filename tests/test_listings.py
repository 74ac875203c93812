"""A provider is asked once a pass what exists, and once to terminate, however many bursts go."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

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


class Sharing(Counting):
    """A plugin that lists once for all that is asked within one round."""

    def __init__(self, instance: EmbeddedInstance) -> None:
        super().__init__(instance)
        self.rounds = 0
        self.listed: Collection[str] | None = None
        self.observing_now = False

    @contextmanager
    def observing(self) -> Iterator[None]:
        self.rounds += 1
        self.observing_now = True
        try:
            yield
        finally:
            self.listed, self.observing_now = None, False

    def adopt(self) -> Sequence[Burst] | None:
        assert self.observing_now
        self.listed = self.list_bursts()
        return [self.there[name] for name in self.listed]

    def refresh(self, burst: Burst) -> Burst:
        assert self.observing_now
        if self.listed is None:
            self.listed = self.list_bursts()
        return super().refresh(burst)


def test_one_round_of_observations_is_one_context_for_all_bursts() -> None:
    instance = EmbeddedInstance()
    cloud = Sharing(instance)
    client = client_on(instance, cloud)
    for _ in range(2):
        client.run_burst(request_burst=True, nodes=1)
    cloud.counted()
    for look in (client.refresh_bursts, client.reconcile):
        rounds = cloud.rounds
        look()
        assert (cloud.rounds, cloud.counted()) == (rounds + 1, 1)


def test_a_round_that_fails_is_over_and_presumes_no_burst_gone() -> None:
    instance = EmbeddedInstance()
    cloud = Sharing(instance)
    client = client_on(instance, cloud)
    client.run_burst(request_burst=True, nodes=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cloud, "list_bursts", lambda: 1 / 0)
        with pytest.raises(BurstErrors, match="ZeroDivisionError"):
            client.reconcile()
        assert not cloud.observing_now
    assert [entry.burst.name for entry in client.ledger.live()] == cloud.created
    assert cloud.deleted == []


def test_a_request_on_demand_lists_once(site: tuple[EmbeddedInstance, Counting, FluxBurst]) -> None:
    _, cloud, client = site
    client.run_burst(request_burst=True, nodes=1)
    assert cloud.counted() == 1
    assert len(cloud.there) == 3
