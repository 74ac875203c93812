"""While the ledger cannot be written, what costs money is ended, and nothing new begins."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.full_disks import fill, make_read_only, small_disk, unwritable_ledger
from tests.support import Joining, client_on, spec

from fluxburst import BurstState, FluxBurst, hookimpl
from fluxburst.config.file import Config
from fluxburst.config.policy import Lifetimes, Policy, Watching
from fluxburst.errors import BurstErrors, LedgerError
from fluxburst.formats.units import Duration
from fluxburst.ledger import Breaker, Ledger
from fluxburst.ledger.location import FILE, why_unwritable
from fluxburst.model.burst import Burst
from fluxburst.reports import status
from fluxburst.reports.doctor import Doctor
from fluxburst.service.loop import Report, Service
from fluxburst.simulation.embedded import EmbeddedInstance

MINUTE, HOUR = 60.0, 3600.0
POLICY = Policy(
    Lifetimes(lease=Duration(HOUR), idle_timeout=Duration(5 * MINUTE)),
    watch=Watching(poll=Duration(0.01)),
)


class Site:
    """An instance with one burst on it, its cloud, and the clients that come and go."""

    def __init__(self, directory: Path, seconds: float = 1000 * HOUR) -> None:
        self.directory = directory
        self.instance = EmbeddedInstance()
        self.cloud: dict[str, Burst] = {}
        self.submit(seconds)
        with self.client() as client:
            client.run_burst()
            client.run_burst()
        (self.burst,) = self.cloud

    def submit(self, seconds: float = 1000 * HOUR) -> int:
        return self.instance.submit(spec(1, 8, burstable=1, duration=seconds))

    def client(self) -> FluxBurst:
        plugin = Joining("cloud", self.instance, there=self.cloud)
        return client_on(self.instance, plugin, policy=POLICY, state_dir=self.directory)

    def recorded(self) -> tuple[BurstState, float | None]:
        """Return the burst's state, and when it ended, as the file has it."""
        with closing(Ledger(self.directory / FILE, "", read_only=True)) as ledger:
            entry = ledger.entry(self.burst)
        assert entry is not None
        return entry.burst.state, entry.ended


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small") as directory:
        yield directory


def unburst_unrecorded(client: FluxBurst, site: Site, mend: str = "once it is writable,") -> None:
    """Have all taken down, which cannot be recorded, and says so."""
    with pytest.raises(BurstErrors) as caught:
        client.run_unburst()
    assert site.cloud == {}
    assert [burst.name for burst in caught.value.bursts] == [site.burst]
    (error,) = caught.value.errors
    assert isinstance(error, LedgerError)
    assert f"gone, but not recorded as gone: {site.burst}: {mend} run" in str(error)
    assert "run 'fluxburst unburst --all' again" in str(error)
    assert site.recorded()[0] is BurstState.READY


# --- by hand -----------------------------------------------------------------------------------


def test_unburst_ends_what_costs_and_says_what_it_could_not_record(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.client() as client:
        client.hold()
        unwritable_ledger(client)
        unburst_unrecorded(client, site)
    with site.client() as client:
        assert client.run_unburst() == [site.burst]
    assert site.recorded()[0] is BurstState.ENDED


def test_once_there_is_room_what_was_ended_is_recorded_with_when(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.client() as client:
        client.hold()
        mend = unwritable_ledger(client)
        unburst_unrecorded(client, site)
        then = client.now()
        site.instance.advance(MINUTE)
        mend()
        client.hold()
        assert site.recorded() == (BurstState.ENDED, then)


def test_unburst_works_on_a_disk_that_is_full_from_the_start(small: Path) -> None:
    site = Site(small)
    filler = fill(small)
    with site.client() as client:
        unburst_unrecorded(client, site, "free space, then")
    filler.unlink()
    with site.client() as client:
        assert client.run_unburst() == [site.burst]
    assert site.recorded()[0] is BurstState.ENDED


def test_unburst_works_on_a_disk_that_became_read_only(small: Path) -> None:
    site = Site(small)
    make_read_only(small)
    with site.client() as client:
        unburst_unrecorded(client, site)


def test_unburst_of_nothing_does_not_say_what_is_not_recorded(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.client() as client:
        client.run_unburst()
    with site.client() as client:
        client.hold()
        unwritable_ledger(client)
        client.ledger.set_breaker(Breaker("cloud", "node", 1))  # anything
        with pytest.raises(BurstErrors) as caught:
            client.run_unburst()
    assert "does its directory exist, and is it writable?" in str(caught.value)
    assert "gone" not in str(caught.value)


def test_what_is_never_recorded_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(tmp_path)
    with site.client() as client:
        client.hold()
        unwritable_ledger(client)
        with pytest.raises(BurstErrors):
            client.run_unburst()
    assert "later events are not recorded" in caplog.text


def test_on_the_command_line_it_is_said_in_lines_and_the_status_is_1(small: Path) -> None:
    def fluxburst(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fluxburst", *arguments, "--mock", "--plugin=mock"]
        return subprocess.run(
            [*command, "--state-dir", str(small)], capture_output=True, text=True, check=False
        )

    pytest.importorskip("fluxburst_mock")
    assert fluxburst("run").returncode == 0
    fill(small)
    done = fluxburst("unburst", "--all")
    assert done.returncode == 1
    assert "Terminated: mock-" in done.stdout
    assert "gone, but not recorded as gone: mock-" in done.stderr
    assert all(": ledger " in f": {line}" for line in done.stderr.splitlines()), done.stderr
    told = json.loads(fluxburst("status", "--json").stdout)
    assert "No space left on device" in told["unwritable"]


# --- the service -------------------------------------------------------------------------------


class Told:
    """Notes the failures that observers are told of."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, Exception]] = []

    @hookimpl
    def fluxburst_phase_failed(self, phase: str, error: Exception) -> None:
        self.failures.append((phase, error))


def watch(client: FluxBurst, passes: int) -> list[Report]:
    reports: list[Report] = []
    service = Service(client, tell=reports.append)
    service.run(passes)
    return reports


def pass_time(site: Site, client: FluxBurst, seconds: float, step: float = MINUTE) -> list[Report]:
    """Run a pass of the service each so many seconds."""
    reports = []
    for _ in range(int(seconds / step)):
        site.instance.advance(step)
        reports += watch(client, 1)
    return reports


def test_the_service_ends_what_is_idle_and_begins_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, 10 * MINUTE)
    with site.client() as client:
        watch(client, 2)
        mend = unwritable_ledger(client)
        pass_time(site, client, 20 * MINUTE)
        assert site.cloud == {}
        waiting = site.submit()
        reports = pass_time(site, client, 5 * MINUTE)
        assert {type(report.error) for report in reports} == {LedgerError}
        assert site.cloud == {}
        assert site.recorded()[0] is BurstState.READY
        mend()
        watch(client, 2)
        assert [burst.jobs for burst in site.cloud.values()] == [(waiting,)]
    state, ended = site.recorded()
    assert state is BurstState.ENDED
    assert ended is not None
    assert site.instance.now() - ended > 5 * MINUTE, "it is recorded with when it ended"


def test_no_lease_is_made_longer_and_what_is_over_is_ended(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.client() as client:
        watch(client, 2)
        (entry,) = client.ledger.live()
        unwritable_ledger(client)
        pass_time(site, client, 2 * HOUR)
        assert site.cloud == {}
        gone = client.ledger.entry(site.burst)
        assert gone is not None
        assert gone.burst.lease_until == entry.burst.lease_until
        assert gone.ended is not None
        assert gone.ended <= (gone.burst.lease_until or 0.0)


def test_a_lease_is_made_longer_again_once_there_is_room(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.client() as client:
        watch(client, 2)
        (before,) = client.ledger.live()
        mend = unwritable_ledger(client)
        pass_time(site, client, 40 * MINUTE)
        (during,) = client.ledger.live()
        assert during.burst.lease_until == before.burst.lease_until
        mend()
        pass_time(site, client, 5 * MINUTE)
        (after,) = client.ledger.live()
        assert (after.burst.lease_until or 0.0) > (before.burst.lease_until or 0.0)
        assert list(site.cloud) == [site.burst]


def test_a_service_that_is_started_on_a_full_disk_ends_what_is_due(small: Path) -> None:
    site = Site(small, 10 * MINUTE)
    filler = fill(small)
    with site.client() as client:
        with pytest.raises(LedgerError):
            client.hold()
        client.hold(without_ledger=True)
        pass_time(site, client, 20 * MINUTE)
        assert site.cloud == {}
        assert site.recorded()[0] is BurstState.READY
        filler.unlink()
        watch(client, 1)
        assert site.recorded()[0] is BurstState.ENDED


def test_what_crashed_on_a_full_disk_is_put_right_by_the_next(tmp_path: Path) -> None:
    site = Site(tmp_path, 10 * MINUTE)
    with site.client() as client:
        watch(client, 2)
        unwritable_ledger(client)
        pass_time(site, client, 20 * MINUTE)
        assert site.cloud == {}
    with site.client() as client:
        watch(client, 3)
        assert client.ledger.live() == []


# --- who is told -------------------------------------------------------------------------------


def test_status_metrics_and_observers_tell_that_the_ledger_cannot_be_written(
    tmp_path: Path,
) -> None:
    pytest.importorskip("prometheus_client")
    from fluxburst.service.metrics import Metrics

    site, told, metrics = Site(tmp_path, 10 * MINUTE), Told(), Metrics()

    def writable(client: FluxBurst) -> float | None:
        metrics.feed(status.of_service(client))
        return metrics.registry.get_sample_value("fluxburst_ledger_writable")

    with site.client() as client:
        client.hooks.register(told, "told")
        watch(client, 2)
        assert writable(client) == 1
        mend = unwritable_ledger(client)
        pass_time(site, client, 20 * MINUTE)
        assert "cannot be written" in status.of_client(client).unwritable
        assert writable(client) == 0
        ((phase, error),) = told.failures
        assert (phase, type(error)) == ("record", LedgerError)
        mend()
        watch(client, 1)
        assert (status.of_client(client).unwritable, writable(client)) == ("", 1)


def findings(directory: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for checked in Doctor(Config, EmbeddedInstance(), state_dir=directory).examine():
        found.setdefault(checked.check, []).append(checked.finding)
    return found


def test_others_see_it_too(small: Path) -> None:
    site = Site(small)
    assert why_unwritable(small) == ""
    filler = fill(small)
    assert why_unwritable(small) == f"{small} cannot be written: No space left on device"
    (finding,) = findings(small)["state directory"]
    assert (finding.level, finding.what) == ("error", why_unwritable(small))
    with site.client() as client:
        assert status.of_client(client).unwritable == why_unwritable(small)
    filler.unlink()
    make_read_only(small)
    assert why_unwritable(small) == f"{small} cannot be written: Read-only file system"
    (finding,) = findings(small)["state directory"]
    assert finding.level == "error"
