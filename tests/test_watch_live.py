"""The command ``watch`` on a live Flux: signals, whom it tells what, and the broker's restart."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.live import Flux, running_flux
from tests.support import flux_available

pytestmark = [
    pytest.mark.flux,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]

PATIENCE_SECONDS = 20.0

PACKAGE = """
from dataclasses import replace
from fluxburst import BurstParameters, BurstPlugin, BurstState, NodeType, PluginType, hookimpl

class Paper(BurstPlugin):
    def node_types(self):
        return [NodeType("node", cores=64, price=1.0)]

    def create(self, burst):
        return replace(burst, state=BurstState.READY)

    def delete(self, burst):
        pass

@hookimpl
def fluxburst_register_plugins():
    return [PluginType("paper", BurstParameters, Paper)]
"""
"""A plugin whose nodes exist on paper only."""


def wait_until(happened: Callable[[], Any], what: str) -> Any:
    """Wait for something; return it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (result := happened()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)
    return result


class Manager:
    """A service manager: what it has been told, in order."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(PATIENCE_SECONDS)
        self.path = path
        self.told: list[str] = []

    def until(self, state: str) -> str:
        """Wait to be told of a state; return what exactly."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert time.monotonic() < end, f"never told {state}, but {self.told[-5:]}"
            self.told.append(self._socket.recv(4096).decode())
            if self.told[-1].startswith(state):
                return self.told[-1]

    def close(self) -> None:
        self._socket.close()


class Site:
    """A configuration and a state directory, and the program to run with them."""

    def __init__(self, directory: Path, manager: Manager) -> None:
        self.manager = manager
        self.state = directory / "state"
        self.log = directory / "watch.log"
        self._config = directory / "fluxburst.toml"
        self._packages = directory / "site"
        self.configure("")

    def configure(self, text: str) -> None:
        self._config.write_text(f"{text}\n[plugins.paper]\n")

    def command(self, *arguments: str) -> list[str]:
        options = ["--config", str(self._config), "--state-dir", str(self.state)]
        return [sys.executable, "-m", "fluxburst", *options, *arguments]

    def environment(self, flux: Flux) -> dict[str, str]:
        path = os.pathsep.join([str(self._packages), os.environ.get("PYTHONPATH", "")])
        notify = {"NOTIFY_SOCKET": str(self.manager.path), "WATCHDOG_USEC": "400000"}
        return {**flux.environment, "PYTHONPATH": path, **notify}

    @contextlib.contextmanager
    def watching(self, flux: Flux, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the service; it is ready."""
        with self.log.open("ab") as log:
            service = subprocess.Popen(
                self.command("watch", *arguments), env=self.environment(flux), stderr=log
            )
            try:
                self.manager.until("READY=1")
                yield service
            finally:
                service.kill()
                service.wait()

    def stop(self, service: subprocess.Popen[bytes], by: signal.Signals = signal.SIGTERM) -> int:
        service.send_signal(by)
        return service.wait(PATIENCE_SECONDS)

    def run(self, flux: Flux, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(flux),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    def bursts(self, flux: Flux) -> list[dict[str, Any]]:
        shown = self.run(flux, "ledger", "--all", "--format", "json")
        assert shown.returncode == 0, shown.stderr
        bursts: list[dict[str, Any]] = json.loads(shown.stdout)
        return bursts

    def logged(self, text: str) -> bool:
        return text in self.log.read_text()

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: self.logged(text), f"{text!r} in the log")


def occupy(flux: Flux) -> None:
    """Have no room on the instance's own node, and nothing that starts on it."""
    flux("resource", "drain", "0")


@pytest.fixture(scope="module")
def shared() -> Iterator[Flux]:
    with running_flux() as running:
        occupy(running)
        yield running


@pytest.fixture
def flux(shared: Flux) -> Iterator[Flux]:
    yield shared
    shared("cancel", "--all")
    shared("queue", "idle")


@pytest.fixture
def site(tmp_path: Path, make_package: Callable[..., str]) -> Iterator[Site]:
    make_package("fluxburst_paper", PACKAGE)
    manager = Manager(tmp_path / "notify")
    yield Site(tmp_path, manager)
    manager.close()


def submit(flux: Flux) -> str:
    return flux("submit", "--setattr=burstable", "true")


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_the_service_tells_its_manager_how_it_is_and_leaves_at_a_signal(
    flux: Flux, site: Site, by: signal.Signals
) -> None:
    with site.watching(flux, "-v") as service:
        site.manager.until("WATCHDOG=1")
        submit(flux)
        site.manager.until("STATUS=1 burst with 1 node")
        site.manager.until("WATCHDOG=1")
        assert site.stop(service, by) == 0
        site.manager.until("STOPPING=1")
    (burst,) = site.bursts(flux)
    assert burst["state"] == "ready", "without --drain bursts stay"


def test_with_drain_everything_is_taken_down_first(flux: Flux, site: Site) -> None:
    with site.watching(flux, "-v", "--drain") as service:
        submit(flux)
        site.manager.until("STATUS=1 burst")
        assert site.stop(service) == 0
    (burst,) = site.bursts(flux)
    assert burst["state"] == "ended"
    assert site.run(flux, "unburst", "--all", "--verify").returncode == 0


def test_a_second_service_is_told_who_holds_the_instance(flux: Flux, site: Site) -> None:
    with site.watching(flux) as service:
        other = site.run(flux, "watch")
        assert other.returncode == 2
        assert f"process {service.pid}" in other.stderr


def test_the_configuration_is_read_again_at_sighup(flux: Flux, site: Site) -> None:
    site.configure("limits.nodes = 0")
    with site.watching(flux, "-v") as service:
        submit(flux)
        site.manager.until("STATUS=0 bursts")
        site.configure("limits.nodse = 1")
        service.send_signal(signal.SIGHUP)
        assert re.search(r"MONOTONIC_USEC=\d+", site.manager.until("RELOADING=1"))
        site.manager.until("READY=1")
        site.wait_for_log("keeping the former one")
        assert site.logged("did you mean 'nodes'")
        site.configure("limits.nodes = 1")
        service.send_signal(signal.SIGHUP)
        site.manager.until("RELOADING=1")
        site.manager.until("READY=1")
        site.manager.until("STATUS=1 burst with 1 node")
        assert site.stop(service) == 0


class Posted(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted."""

    bodies: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Listen for events; yield the URL, and what has been posted there."""
    bodies: list[dict[str, Any]] = []
    handler = type("Handler", (Posted,), {"bodies": bodies})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", bodies
        finally:
            server.shutdown()
            thread.join()


def test_whoever_is_named_is_told_of_bursts_by_command_and_by_url(
    flux: Flux, site: Site, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    command = [sys.executable, "-c", "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"]
    with listening() as (url, posted):
        site.configure(
            f"[[notify]]\nevents = ['burst_ready']\ncommand = {json.dumps([*command, str(told)])}\n"
            f"[[notify]]\nevents = ['burst_ready']\nurl = '{url}'\n"
        )
        with site.watching(flux, "-v", "--log-format", "json") as service:
            submit(flux)
            wait_until(lambda: posted, "an event was posted")
            wait_until(lambda: told.exists() and told.read_text(), "the command was run")
            assert site.stop(service) == 0
    (burst,) = site.bursts(flux)
    assert burst["name"] in json.dumps(posted[0])
    assert burst["name"] in told.read_text()
    lines = [json.loads(line) for line in site.log.read_text().splitlines()]
    assert {line.get("burst") for line in lines} >= {burst["name"]}
    assert burst["jobs"] in [line.get("jobs") for line in lines]


def test_metrics_can_be_scraped_and_are_in_the_textfile(
    flux: Flux, site: Site, tmp_path: Path
) -> None:
    pytest.importorskip("prometheus_client")
    textfile = tmp_path / "fluxburst.prom"
    site.configure(f"[metrics]\nport = 0\ntextfile = '{textfile}'\n")
    with site.watching(flux, "-v") as service:
        submit(flux)
        site.manager.until("STATUS=1 burst")
        site.manager.until("WATCHDOG=1")
        found = re.search(r"serving metrics on port (\d+)", site.log.read_text())
        assert found is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/metrics", timeout=10) as page:
            scraped = page.read().decode()
        assert site.stop(service) == 0
    for shown in (scraped, textfile.read_text()):
        assert re.search(r'^fluxburst_bursts\{.*plugin="paper".*\} 1\.0$', shown, re.MULTILINE)


def test_the_service_survives_the_brokers_restart_and_the_instance_is_the_same(
    site: Site, tmp_path: Path
) -> None:
    keep = tmp_path / "kept"
    keep.mkdir()
    site.configure("watch.poll = '1s'")
    with contextlib.ExitStack() as until_the_end:
        with running_flux(keep=keep) as first:
            occupy(first)
            service = until_the_end.enter_context(site.watching(first, "-v"))
            submit(first)
            site.manager.until("STATUS=1 burst")
            before = site.bursts(first)
            first("queue", "stop", "--all")
        with running_flux(keep=keep) as again:
            # A ledger of another instance would be refused.
            assert [burst["name"] for burst in site.bursts(again)] == [before[0]["name"]]
            occupy(again)
            again("queue", "start", "--all")
            submit(again)
            site.manager.until("STATUS=2 bursts")
            assert site.stop(service) == 0
            assert [burst["jobs"] for burst in site.bursts(again)][:1] == [before[0]["jobs"]]
            again("cancel", "--all")
