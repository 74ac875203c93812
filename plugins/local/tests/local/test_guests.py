"""In an instance of several users: guests' jobs run on burst nodes, and guests are told so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.local.multi_user import GUEST, Site, multi_user_site
from tests.site_flux import needs_guests

pytestmark = [pytest.mark.guests, needs_guests]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with multi_user_site(root_is_owner=True, private=False) as made:
        yield made


@pytest.fixture(scope="module")
def closed_site() -> Iterator[Site]:
    """An instance in which root is a guest like others, and guests see their own jobs alone."""
    with multi_user_site(root_is_owner=False, private=True) as made:
        yield made


def test_a_guests_job_runs_as_the_guest_on_burst_nodes(site: Site) -> None:
    script = "id -un; flux getattr hostname"
    job = site.guest.flux("submit", "-N3", "-n3", "--setattr=burstable", "sh", "-c", script)
    done = site.burst("run")
    assert "1 job selected, 1 assigned, 0 not." in done.stdout, done.stderr
    output = site.guest.flux("job", "attach", job).splitlines()
    assert output.count(GUEST) == 3
    assert {"burst0", "burst1"} < set(output)
    assert site.owner.flux("resource", "drain", "-no", "{ranks}") == ""
    assert site.guest.flux("jobs", "-ano", "{user.fluxburst.plugin}", job) == "local"
    gone = site.burst("unburst", "--all", "--verify")
    assert "Nothing is left." in gone.stdout, gone.stderr


@pytest.mark.parametrize("command", ["plan", "status", "why", "jobs", "run", "ledger", "doctor"])
def test_a_guest_is_told_what_he_may_not_and_what_he_can_do(site: Site, command: str) -> None:
    job = [site.guest.flux("submit", "true")] if command == "why" else []
    done = site.guest.fluxburst("--plugin=local", command, *job)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode
    assert "the rights of the instance's owner" in said
    assert "Flag your jobs (flux submit --setattr=burstable)" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("command", ["plan", "status", "jobs", "ledger", "record"])
def test_root_is_judged_by_flux_in_all_commands(
    site: Site, closed_site: Site, command: str
) -> None:
    for where, allowed in ((site, True), (closed_site, False)):
        file = [str(where.root.home / "queue.json")] if command == "record" else []
        config = str(where.directory / "fluxburst.toml")
        done = where.root.fluxburst("--config", config, command, *file)
        assert (done.returncode == 0) == allowed, done.stdout + done.stderr
        assert ("unless allow-root-owner = true" in done.stderr) != allowed


@pytest.mark.parametrize("command", ["run", "unburst"])
def test_root_is_not_the_owner_where_something_is_started_or_ended(
    site: Site, command: str
) -> None:
    config = str(site.directory / "fluxburst.toml")
    every = ["--all"] if command == "unburst" else []
    done = site.root.fluxburst("--config", config, command, *every)
    assert done.returncode, done.stdout
    said = " ".join(done.stderr.split())
    assert f"use: sudo -u {site.owner.name} fluxburst" in said
    assert site.owner.flux("resource", "drain", "-no", "{ranks}") == ""


def test_no_nodes_are_brought_up_for_a_guests_job_without_an_imp() -> None:
    with multi_user_site(root_is_owner=False, private=False, imp=False) as site:
        site.guest.flux("submit", "-N3", "--setattr=burstable", "id")
        done = site.burst("run")
        assert "1 job selected, 0 given, 1 not." in done.stdout, done.stderr
        planned = site.burst("plan", "--json").stdout
        assert "the instance cannot run jobs of guests on any node: [exec] imp is not" in planned
        doctor = " ".join(site.burst("doctor").stdout.split())
        assert "but [exec] imp is not set: the instance cannot run their jobs" in doctor
        own = site.owner.flux("submit", "-N3", "-n3", "--urgency=20", "--setattr=burstable", "true")
        assert "2 jobs selected, 1 given, 1 not." in site.burst("run").stdout
        site.owner.flux("job", "attach", own)


def test_an_isolated_burst_is_not_for_a_guests_job(site: Site, tmp_path: Path) -> None:
    job = site.guest.flux("submit", "-N3", "--setattr=burstable", "id")
    isolated = site.owner.home / "isolated.toml"
    isolated.write_text(
        f'[plugins.local]\nconfig_dir = "{site.directory}"\nisolated_burst = true\n'
    )
    done = site.owner.fluxburst("--config", str(isolated), "plan", "--json")
    assert "run_as = 'owner' allows that" in done.stdout, done.stderr
    site.guest.flux("cancel", job)
