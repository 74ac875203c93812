"""Instances live as long as the jobs that they are made for may run, or are not made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.compute_engine.fake_compute import Site
from tests.compute_engine.sites import SMALL
from tests.support import spec

from fluxburst import Duration, FluxBurst, Outcome
from fluxburst.config.file import Config
from fluxburst.config.policy import Lifetimes, Limits, Policy
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

HOUR, DAY = 3600.0, 86400.0
MARGINS = 20 * 60
"""What startup and teardown take of a lease."""

Asked = Callable[..., FluxBurst]


@pytest.fixture
def asked(site: Site, elastic: Path) -> Iterator[Asked]:
    """Return what makes a client, at the provider's time, for jobs of so many seconds."""
    clients: list[FluxBurst] = []

    def make(*limits: float, money: Limits | None = None, **lifetimes: float) -> FluxBurst:
        instance = EmbeddedInstance(Recording(()))
        instance.advance(time.time() - instance.now())
        for limit in limits:
            instance.submit(spec(1, 4, exclusive=True, burstable=1, duration=limit))
        values = {name: Duration(value) for name, value in lifetimes.items()}
        policy = Policy(Lifetimes(**values), limits=money or Limits())  # type: ignore[arg-type]
        table = {**site.parameters, "config_dir": str(elastic)}
        config = Config(plugins={"compute_engine": table}, policy=policy)
        clients.append(FluxBurst(instance, config=config))
        clients[-1].load("compute_engine")
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def run_durations(site: Site) -> list[int]:
    durations = (m.instance.scheduling.max_run_duration.seconds for m in site.machines.values())
    return sorted(durations)


def test_instances_may_run_as_long_as_their_longest_job_and_the_margins(
    site: Site, asked: Asked
) -> None:
    client = asked(4 * HOUR, HOUR)
    assert client.run_burst() == []
    assert run_durations(site) == [pytest.approx(4 * HOUR + MARGINS, abs=20)] * 2
    assert client.run_unburst()


def test_a_short_job_gets_the_lease_of_the_configuration(site: Site, asked: Asked) -> None:
    client = asked(60.0)
    client.run_burst()
    assert run_durations(site) == [pytest.approx(HOUR, abs=20)]
    client.run_unburst()


@pytest.mark.parametrize(
    ("limit", "lifetimes", "why"),
    [
        (4 * HOUR, {"max_lifetime": HOUR}, "it may run 4h, and a burst of compute_engine lives 1h"),
        (121 * DAY, {}, "it may run 121d, and a burst of compute_engine lives 120d"),
        (0.0, {}, "it has no time limit, and a burst of compute_engine lives 120d"),
    ],
)
def test_a_job_that_instances_cannot_outlive_is_declined_with_both_numbers(
    site: Site, asked: Asked, limit: float, lifetimes: dict[str, float], why: str
) -> None:
    client = asked(limit, **lifetimes)
    (decision,) = client.plan().decisions
    assert decision.outcome is Outcome.UNMATCHED
    (reason,) = decision.reasons
    assert reason.startswith(f"compute_engine: {why} at most (max_run_duration cannot be extended)")
    client.run_burst()
    assert site.left() == []


def test_money_is_set_aside_for_as_long_as_instances_may_run(site: Site, asked: Asked) -> None:
    """One of them costs 0.417616 an hour, and may run for 4 hours and 20 minutes: 1.81."""
    client = asked(4 * HOUR, 4 * HOUR, money=Limits(cost=2.0))
    assert len(client.run_burst()) == 1
    assert len(site.machines) == 1
    (entry,) = client.ledger.live()
    assert entry.burst.node_type == SMALL
    assert entry.projected(client.now()) == pytest.approx(1.81, abs=0.01)
    client.run_unburst()
