"""The command ``watch``, as a process."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fluxburst import BurstState, FluxBurst
from fluxburst.config.file import Config
from fluxburst.config.policy import Policy, Watching
from fluxburst.errors import LedgerError
from fluxburst.formats.units import Duration
from fluxburst.ledger import Ledger
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import BUNDLED, load

pytestmark = pytest.mark.skipif(
    not any(e.name == "mock" for e in importlib.metadata.entry_points(group="fluxburst")),
    reason="fluxburst-mock is not installed",
)


class Told:
    """What a service manager is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(30)

    def until(self, wanted: str) -> list[str]:
        """Return what it is told until something wanted, the status lines left out."""
        told: list[str] = []
        while wanted not in told:
            message = self._socket.recv(4096).decode().partition("\n")[0]
            if not message.startswith(("STATUS=", "WATCHDOG=")):
                told.append(message)
        return told

    def statuses(self, count: int) -> list[str]:
        """Return the next lines of the status."""
        found: list[str] = []
        while len(found) < count:
            message = self._socket.recv(4096).decode()
            if message.startswith("STATUS="):
                found.append(message)
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Told]:
    told = Told(tmp_path / "notify")
    yield told
    told.close()


@contextmanager
def watching(
    config: Path, manager: Told | None, *arguments: str
) -> Iterator[subprocess.Popen[str]]:
    notify = {} if manager is None else {"NOTIFY_SOCKET": str(manager.path)}
    command = [sys.executable, "-m", "fluxburst", "watch", "--mock", "--config", str(config)]
    process = subprocess.Popen(
        [*command, *arguments],
        env={**os.environ, **notify},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def stopped(process: subprocess.Popen[str]) -> str:
    """End the service as systemd does; return what it logged."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return err


def test_who_ends_the_service_is_told_what_stays_what_it_costs_and_what_ends_it(
    tmp_path: Path,
) -> None:
    config = tmp_path / "fluxburst.toml"
    config.write_text("[plugins.mock]\n")
    for number in (signal.SIGTERM, signal.SIGINT):
        state = tmp_path / number.name
        with watching(config, None, "--state-dir", str(state)) as service:
            until_bursts_stay(state)
            service.send_signal(number)
            _, err = service.communicate(timeout=30)
        assert service.returncode == 0, err
        first, second = [line for line in err.splitlines() if "remain" in line or "lease" in line]
        said = re.search(
            r"(\d+) bursts? with (\d+) nodes? remains? and costs? (\d+\.\d\d) an hour: (.*); "
            r"to terminate them: (.*)$",
            first,
        )
        assert said is not None, first
        with closing(Ledger(state / "ledger.sqlite", "", read_only=True)) as ledger:
            bursts = [entry.burst for entry in ledger.live()]
        assert [int(said[1]), int(said[2])] == [len(bursts), sum(b.nodes for b in bursts)]
        assert float(said[3]) == pytest.approx(sum(b.nodes * b.price for b in bursts))
        assert said[4] == ", ".join(burst.name for burst in bursts)
        of_all = r"\d+ of them end automatically with their leases, by 20"
        assert re.search(f"{of_all}|it ends automatically with its lease, by 20", second)
        words = shlex.split(said[5])
        assert words[0] == "fluxburst"
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, check=False
        )
        assert (done.returncode, "Terminated: mock-" in done.stdout) == (0, True), done.stderr


def test_where_nothing_stays_nothing_is_said(tmp_path: Path) -> None:
    config = tmp_path / "fluxburst.toml"
    config.write_text("[plugins.mock]\n[lifetimes]\ngrace = 0\ncancel_jobs = true\n")
    with watching(config, None, "--drain", f"--state-dir={tmp_path / 'state'}") as service:
        until_bursts_stay(tmp_path / "state")
        assert stopped(service) == ""


def until_bursts_stay(state: Path) -> None:
    for _ in range(300):
        with (
            contextlib.suppress(LedgerError),
            closing(Ledger(state / "ledger.sqlite", "", read_only=True)) as ledger,
        ):
            if any(entry.burst.state is BurstState.READY for entry in ledger.live()):
                return
        time.sleep(0.1)
    raise AssertionError("no burst came up")


@pytest.mark.parametrize("ignored", [False, True], ids=["plain", "nohup"])
def test_a_service_on_a_terminal_ends_with_it_unless_by_nohup(
    ignored: bool, tmp_path: Path
) -> None:
    config = tmp_path / "fluxburst.toml"
    config.write_text("[plugins.mock]\n")
    command = [sys.executable, "-m", "fluxburst", "watch", "-v", "--mock", f"--config={config}"]
    child, terminal = pty.fork()
    if not child:
        os.environ.pop("NOTIFY_SOCKET", None)
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(sys.executable, command)
    told = ""
    try:
        while "burst mock-" not in told:
            told += os.read(terminal, 4096).decode()
        os.kill(child, signal.SIGHUP)
        wanted = "configuration reloaded" if ignored else "to terminate them:"
        while wanted not in told:
            told += os.read(terminal, 4096).decode()
        if ignored:
            os.kill(child, signal.SIGTERM)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        with contextlib.suppress(OSError):
            while os.read(terminal, 4096):
                pass
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_metrics_that_cannot_be_written_do_not_stop_the_service(
    tmp_path: Path, manager: Told
) -> None:
    config = tmp_path / "fluxburst.toml"
    config.write_text('[plugins.mock]\n[metrics]\ntextfile = "/nowhere/fluxburst.prom"\n')
    with watching(config, manager) as service:
        manager.until("READY=1")
        manager.statuses(3)
        logged = stopped(service)
    once = "metrics are not up to date: cannot write /nowhere/fluxburst.prom"
    assert logged.count(once) == 1, logged


def test_every_gauge_of_the_table_is_in_the_textfile(tmp_path: Path, manager: Told) -> None:
    from fluxburst.service import metrics

    pytest.importorskip("prometheus_client")
    file, config = tmp_path / "fluxburst.prom", tmp_path / "fluxburst.toml"
    config.write_text(f'[plugins.mock]\n[metrics]\ntextfile = "{file}"\n')
    with watching(config, manager) as service:
        manager.statuses(3)
        stopped(service)
    assert metrics.__doc__ is not None
    rows = [line.split() for line in metrics.__doc__.splitlines() if line.startswith("``flux")]
    gauges = [row[0].strip("`") for row in rows if row[1] == "gauge"]
    written = file.read_text()
    assert len(gauges) == 14
    for gauge in gauges:
        assert f"# TYPE {gauge} gauge" in written, gauge


@pytest.mark.parametrize(
    "run",
    [
        lambda client: client.run_pass(everything=True, patience=math.inf),
        lambda client: client.run_burst(),
    ],
    ids=["run_pass", "run_burst"],
)
def test_decisions_are_forgotten_once_they_are_older_than_the_history(
    run: Callable[[FluxBurst], object],
) -> None:
    history = Policy(watch=Watching(history=Duration(60.0)))
    instance = EmbeddedInstance(load(BUNDLED))
    with FluxBurst(instance, config=Config(policy=history)) as client:
        client.load("mock")
        run(client)
        noted = client.now()
        assert {at for at, _ in client.ledger.decisions()} == {noted}
        instance.advance(61)
        run(client)
        assert noted not in {at for at, _ in client.ledger.decisions()}


def test_a_reload_is_over_when_the_configuration_has_been_read(
    tmp_path: Path, manager: Told
) -> None:
    config = tmp_path / "fluxburst.toml"
    config.write_text("[plugins.mock]\n")
    with watching(config, manager, "--verbose") as service:
        manager.until("READY=1")
        config.write_text("[plugins.mock]\n[limits]\nnodse = 3\n")
        service.send_signal(signal.SIGHUP)
        assert manager.until("READY=1") == ["RELOADING=1", "READY=1"]
        config.write_text("[plugins.mock]\n[limits]\nnodes = 3\n")
        service.send_signal(signal.SIGHUP)
        assert manager.until("READY=1") == ["RELOADING=1", "READY=1"]
        logged = stopped(service)
    assert "cannot use the new configuration, keeping the former one" in logged
    assert "configuration reloaded" in logged
    assert manager.until("STOPPING=1") == ["STOPPING=1"]


def test_on_a_recorded_queue_the_service_lets_time_pass_slowly_enough_to_be_looked_at() -> None:
    instance = EmbeddedInstance(load(BUNDLED), pace=0.001)
    virtual, real = instance.now(), time.monotonic()
    instance.wait(30)
    assert time.monotonic() - real >= (instance.now() - virtual) * 0.001 > 0
