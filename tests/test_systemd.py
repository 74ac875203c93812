from __future__ import annotations

import configparser
import logging
import os
import re
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxburst.cli.app import cli
from fluxburst.formats.units import parse_duration
from fluxburst.service import systemd

UNIT = Path(__file__).parent.parent / "docs" / "fluxburst.service"


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """Listen where the service manager would."""
    address = f"@fluxburst-{uuid.uuid4()}"
    if request.param == "path":
        address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0", 1))
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield listening


def test_each_state_is_told_in_the_protocols_words(manager: socket.socket) -> None:
    systemd.ready()
    systemd.status("2 bursts, 3 nodes")
    systemd.watchdog()
    systemd.stopping()
    told = [manager.recv(4096).decode() for _ in range(4)]
    assert told == ["READY=1", "STATUS=2 bursts, 3 nodes", "WATCHDOG=1", "STOPPING=1"]


def test_rereading_is_told_with_the_time_of_the_monotonic_clock(manager: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    systemd.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    match = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", manager.recv(4096).decode())
    assert match is not None
    assert before <= int(match[1]) <= after


def test_a_status_can_not_smuggle_in_other_states(manager: socket.socket) -> None:
    systemd.status("failed:\nMAINPID=1\r\n")
    assert manager.recv(4096) == b"STATUS=failed: MAINPID=1"


def test_without_a_service_manager_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.ready()
    systemd.watchdog()
    assert caplog.records == []


@pytest.mark.parametrize("address", ["/nowhere/notify", "@nobody-listens-here", "vsock:2:1234"])
def test_a_service_manager_that_is_gone_is_logged_and_stops_nobody(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.ready()
    assert "READY" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING


def test_a_service_manager_that_does_not_read_stops_nobody(
    manager: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10_000):  # the kernel's queue is shorter than this (net.unix.max_dgram_qlen)
        systemd.watchdog()
        if caplog.records:
            break
    assert "WATCHDOG" in caplog.text


@pytest.mark.parametrize(
    ("limit", "whose", "interval"),
    [
        ("30000000", "ours", 15.0),
        ("500000", None, 0.25),
        ("30000000", "1", None),
        (None, "ours", None),
        ("0", "ours", None),
        ("soon", "ours", None),
        ("-1", "ours", None),
    ],
)
def test_the_watchdogs_interval_is_half_of_the_limit_that_is_set_for_this_process(
    limit: str | None, whose: str | None, interval: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = str(os.getpid()) if whose == "ours" else whose
    for name, value in {"WATCHDOG_USEC": limit, "WATCHDOG_PID": pid}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval() == interval


# --- the unit ------------------------------------------------------------------------------


@pytest.fixture
def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=True, delimiters=["="], interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser


def test_the_unit_says_what_the_program_relies_on(unit: configparser.RawConfigParser) -> None:
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["ExecReload"].endswith("kill -HUP $MAINPID"), "SIGHUP rereads the configuration"
    assert service["KillSignal"] == "SIGTERM", "SIGTERM finishes the step and leaves"
    assert service["KillMode"] == "process", "bursts of this host's processes outlive the service"
    assert service["Restart"] == "on-failure"
    assert service["User"] == "flux", "the owner of the system instance"
    assert service["Environment"] == f"FLUXBURST_STATE_DIR=%S/{service['StateDirectory']}"
    for key in ("WatchdogSec", "TimeoutStopSec", "TimeoutStartSec", "RestartSec"):
        assert parse_duration(service[key]) > 0


def test_the_units_command_is_one_of_the_program(unit: configparser.RawConfigParser) -> None:
    program, name, *arguments = unit["Service"]["ExecStart"].split()
    assert (program, name) == ("/usr/bin/env", cli.name)
    assert arguments == ["watch", "--verbose"]


def test_the_unit_does_not_start_flux_when_flux_is_shut_down(
    unit: configparser.RawConfigParser,
) -> None:
    assert "flux.service" in unit["Unit"]["After"].split()
    pulls = {"Requires", "Requisite", "Wants", "BindsTo", "PartOf"} & unit["Unit"].keys()
    assert not any("flux.service" in unit["Unit"][key].split() for key in pulls)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_has_nothing_to_say_against_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    # What it says of other units of the machine is not ours.
    assert [line for line in done.stderr.splitlines() if UNIT.name in line] == []
