from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.support import Elsewhere, client_with, job

from fluxburst import Burst, BurstState, FluxBurst
from fluxburst.config.conversion import CONVERSION_ERRORS, convert, reasons
from fluxburst.config.notification import EVENTS, Notification
from fluxburst.errors import (
    BurstErrors,
    CapacityError,
    InstanceError,
    LimitError,
    RequestError,
)
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.units import Duration
from fluxburst.service.notifier import Notifier
from fluxburst.service.webhook import read_headers

BURST = Burst("p-1", "p", "node", 2, jobs=(7,), state=BurstState.STARTING, price=1.5)
READY = replace(BURST, state=BurstState.READY, hostnames=("a", "b"))
SECRET = "hunter2"


@dataclass
class Target:
    """A server that keeps what is posted to it, and answers as it is told to."""

    url: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    go: threading.Event = field(default_factory=threading.Event)
    posted: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, _, event in self.posted]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.posted.append((handler.path, dict(handler.headers), json.loads(body)))
        self.go.wait(60)
        handler.send_response(self.status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.end_headers()


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    monkeypatch.setenv("no_proxy", "*")
    made = Target()
    made.go.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.answer(self)

        do_GET = do_POST  # noqa: N815 - http.server calls it so

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.go.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def client() -> FluxBurst:
    return client_with(Elsewhere("p"), jobs=(job(7),))


@contextmanager
def notifying(*told: Notification, **how: Any) -> Iterator[Notifier]:
    notifier = Notifier(told, **how)
    try:
        yield notifier
    finally:
        notifier.close()


def until(holds: Callable[[], bool]) -> None:
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come true")


def no_plugin_fails(notifier: Notifier, client: FluxBurst, text: str) -> None:
    notifier.fluxburst_phase_failed("plan", None, CapacityError(text), client)


# --- what is told --------------------------------------------------------------------------


def test_a_burst_cycle_is_told_in_order(target: Target, client: FluxBurst) -> None:
    with notifying(Notification(["all"], url=target.url)) as notifier:
        client.hooks.register(notifier, "fluxburst")
        client.run_burst()
        client.run_unburst()
    assert list(client.hooks.observer_errors) == []
    events = [event["event"] for event in target.events]
    assert events == [
        "job_scheduled",
        "burst_requested",
        "burst_ready",
        "burst_changed",
        "burst_ended",
    ]
    scheduled, _, ready, _, ended = target.events
    seven = {"id": 7, "f58": format_f58(7)}
    assert scheduled == {
        "event": "job_scheduled",
        "time": client.now(),
        "instance": client.instance.name,
        "plugin": "p",
        "jobs": [seven],
    }
    assert ready["previous"] == "requested"
    assert ready["burst"]["state"] == "ready"
    assert ready["burst"]["jobs"] == [seven]
    assert ended["previous"] == "ending"
    assert ended["burst"]["name"] == ready["burst"]["name"]


@pytest.mark.parametrize(
    ("burst", "previous", "event"),
    [
        (BURST, None, "burst_requested"),
        (READY, None, "burst_ready"),
        (READY, BURST, "burst_ready"),
        (replace(READY, joined=2), READY, "burst_changed"),
        (replace(READY, state=BurstState.DRAINING), READY, "burst_changed"),
        (replace(READY, state=BurstState.ENDED), READY, "burst_ended"),
        (replace(BURST, state=BurstState.FAILED, error="broke"), BURST, "burst_failed"),
    ],
)
def test_a_change_of_a_burst_is_one_event_named_after_what_it_came_to(
    burst: Burst, previous: Burst | None, event: str, target: Target, client: FluxBurst
) -> None:
    with notifying(Notification(["all"], url=target.url)) as notifier:
        notifier.fluxburst_burst_changed(burst, previous, client)
    (told,) = target.events
    assert told["event"] == event
    assert told["burst"]["hostnames"] == list(burst.hostnames)
    assert told["burst"]["error"] == burst.error


def test_only_those_are_told_who_want_to_be(target: Target, client: FluxBurst) -> None:
    hooks = [
        Notification(["burst_failed", "burst_ready"], url=f"{target.url}/one"),
        Notification(["burst_ready"], url=f"{target.url}/two"),
        Notification(["phase_failed"], url=f"{target.url}/three"),
    ]
    with notifying(*hooks) as notifier:
        notifier.fluxburst_burst_changed(BURST, None, client)
        notifier.fluxburst_burst_changed(READY, BURST, client)
    assert [path for path, _, _ in target.posted] == ["/hook/one", "/hook/two"]


def test_a_job_that_stays_unmatched_is_told_once(target: Target, client: FluxBurst) -> None:
    with notifying(Notification(["jobs_unmatched"], url=target.url)) as notifier:
        notifier.fluxburst_jobs_unmatched([job(1), job(2)], client)
        notifier.fluxburst_jobs_unmatched([job(2), job(1)], client)
        notifier.fluxburst_jobs_unmatched([job(2), job(2**60)], client)
        notifier.fluxburst_jobs_unmatched([job(1)], client)
    told = [[entry["id"] for entry in event["jobs"]] for event in target.events]
    assert told == [[1, 2], [2**60], [1]]


def test_jobs_that_did_not_start_are_told_with_where_and_why(
    target: Target, client: FluxBurst
) -> None:
    with notifying(Notification(["jobs_not_started"], url=target.url)) as notifier:
        notifier.fluxburst_jobs_not_started([job(7)], Elsewhere("p"), "p-1", "stuck", client)
        notifier.fluxburst_jobs_not_started([job(8)], Elsewhere("p"), "", "stuck", client)
    first, second = target.events
    assert [entry["id"] for entry in first["jobs"]] == [7]
    assert (first["plugin"], first["burst_name"], first["error"]) == ("p", "p-1", "stuck")
    assert second["burst_name"] is None


def test_a_failure_names_phase_plugin_and_text(target: Target, client: FluxBurst) -> None:
    plugin = Elsewhere("p", fails=CapacityError("none left"))
    client = client_with(plugin, jobs=(job(7),))
    with notifying(Notification(["phase_failed"], url=target.url)) as notifier:
        client.hooks.register(notifier, "fluxburst")
        with pytest.raises(BurstErrors):
            client.run_burst()
    (told,) = target.events
    assert (told["phase"], told["plugin"], told["count"]) == ("run", "p", 1)
    assert "none left" in told["error"]


def test_a_limit_that_is_reached_is_told(target: Target, client: FluxBurst) -> None:
    with notifying(Notification(["limit_reached"], url=target.url)) as notifier:
        notifier.fluxburst_phase_failed("renew", None, LimitError("cost_per_day"), client)
        notifier.fluxburst_phase_failed("run", None, CapacityError("none left"), client)
    (told,) = target.events
    assert (told["event"], told["phase"], told["error"]) == (
        "limit_reached",
        "renew",
        "cost_per_day",
    )


def test_the_same_failure_is_sent_once_and_its_count_at_the_end(
    target: Target, client: FluxBurst
) -> None:
    with notifying(Notification(["phase_failed"], url=target.url), window=3600) as notifier:
        for _ in range(5):
            no_plugin_fails(notifier, client, "same")
        no_plugin_fails(notifier, client, "other")
        notifier.fluxburst_phase_failed("run", None, CapacityError("same"), client)
    told = [(event["phase"], event["error"], event["count"]) for event in target.events]
    assert told == [
        ("plan", "same", 1),
        ("plan", "other", 1),
        ("run", "same", 1),
        ("plan", "same", 4),
    ]


def test_the_count_of_a_failure_is_sent_when_its_window_is_over(
    target: Target, client: FluxBurst
) -> None:
    with notifying(Notification(["phase_failed"], url=target.url), window=0.2) as notifier:
        for _ in range(4):
            no_plugin_fails(notifier, client, "same")
        until(lambda: sum(event["count"] for event in target.events) == 4)
        assert len(target.events) >= 2, "before it was closed"


def test_an_instance_that_is_gone_is_told_of_too(
    target: Target, client: FluxBurst, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: object) -> float:
        raise InstanceError("the broker is gone")

    with notifying(Notification(["phase_failed"], url=target.url)) as notifier:
        no_plugin_fails(notifier, client, "first")
        monkeypatch.setattr(type(client.instance), "now", gone)
        no_plugin_fails(notifier, client, "second")
    assert [event["instance"] for event in target.events] == [client.instance.name] * 2


# --- commands ------------------------------------------------------------------------------


def python(source: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", source, *arguments]


KEEP = """
import json, os, sys
with open(sys.argv[1], "w") as file:
    mine = {k: v for k, v in os.environ.items() if k.startswith("FLUXBURST_")}
    json.dump([json.load(sys.stdin), mine], file)
"""


def test_a_command_gets_the_event_on_its_input_and_in_its_environment(
    tmp_path: Path, client: FluxBurst
) -> None:
    kept = tmp_path / "kept"
    with notifying(Notification(["all"], command=python(KEEP, str(kept)))) as notifier:
        notifier.fluxburst_burst_changed(READY, BURST, client)
    event, environment = json.loads(kept.read_text())
    assert event["burst"]["hostnames"] == ["a", "b"]
    assert event["previous"] == "starting"
    assert environment == {
        "FLUXBURST_EVENT": "burst_ready",
        "FLUXBURST_EVENT_INSTANCE": client.instance.name,
        "FLUXBURST_EVENT_PLUGIN": "p",
        "FLUXBURST_EVENT_BURST": "p-1",
        "FLUXBURST_EVENT_STATE": "ready",
    }


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        (["/nowhere/to/be/found"], "cannot be run"),
        (python("import sys; sys.exit('no pager')"), "no pager"),
        (python("import time; time.sleep(600)"), "did not end"),
        (["a\0b"], "ValueError"),
    ],
)
def test_a_command_that_fails_is_logged_and_the_next_is_run(
    command: list[str],
    cause: str,
    tmp_path: Path,
    client: FluxBurst,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = tmp_path / "kept"
    broken = Notification(["all"], command=command, timeout=Duration(1))
    with notifying(broken, Notification(["all"], command=python(KEEP, str(kept)))) as notifier:
        notifier.fluxburst_burst_changed(READY, BURST, client)
    assert kept.exists()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "burst_ready" in record.getMessage()
    assert cause in record.getMessage()


# --- URLs ----------------------------------------------------------------------------------


def test_headers_come_from_a_file_that_is_read_for_each_event(
    target: Target, tmp_path: Path, client: FluxBurst
) -> None:
    tokens = tmp_path / "headers"
    tokens.touch(0o600)
    hook = Notification(["all"], url=target.url, headers_file=tokens)
    with notifying(hook) as notifier:
        tokens.write_text(f"# the token\n\nAuthorization: Bearer {SECRET}\nX-Team:hpc \n")
        notifier.fluxburst_burst_changed(READY, BURST, client)
        until(lambda: len(target.posted) == 1)
        tokens.write_text("Authorization: Bearer new\n")
        notifier.fluxburst_burst_changed(READY, BURST, client)
    (_, first, _), (_, second, _) = target.posted
    assert first["Content-Type"] == "application/json"
    assert (first["Authorization"], first["X-Team"]) == (f"Bearer {SECRET}", "hpc")
    assert second["Authorization"] == "Bearer new"
    assert "X-Team" not in second


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_of_headers_that_others_can_get_at_is_refused(
    mode: int, target: Target, tmp_path: Path, client: FluxBurst, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = tmp_path / "headers"
    tokens.write_text(f"Authorization: {SECRET}\n")
    tokens.chmod(mode)
    with notifying(Notification(["all"], url=target.url, headers_file=tokens)) as notifier:
        notifier.fluxburst_burst_changed(READY, BURST, client)
    assert target.posted == []
    assert f"mode {mode:04o}" in caplog.text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"Fine: yes\nAuthorization {SECRET}\n", "line 2"),
        (f"Author ization: {SECRET}\n", "line 1"),
        (f"Authorization: {SECRET}\x07\n", "line 1"),
        (f"Authorization: {SECRET}é\n", "ASCII"),
        (f": {SECRET}\n", "line 1"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_and_not_shown(
    content: str, problem: str, tmp_path: Path
) -> None:
    tokens = tmp_path / "headers"
    tokens.touch(0o600)
    tokens.write_text(content)
    with pytest.raises(RequestError, match=problem) as caught:
        read_headers(tokens)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_file_of_headers_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot read .*headers: No such file"):
        read_headers(tmp_path / "headers")


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


def test_a_server_that_fails_is_logged_without_what_is_secret_in_the_url(
    target: Target, client: FluxBurst, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    target.status = 500
    hooks = [
        Notification(["all"], url=f"{target.url}/{SECRET}?token={SECRET}"),
        Notification(["all"], url=f"http://127.0.0.1:{closed_port()}/{SECRET}"),
        Notification(["all"], url=target.url),
    ]
    with notifying(*hooks) as notifier:
        notifier.fluxburst_burst_changed(READY, BURST, client)
    assert len(target.posted) == 2
    assert "answered with status 500" in caplog.text
    assert "refused" in caplog.text
    assert "127.0.0.1" in caplog.text
    assert SECRET not in caplog.text


def test_what_is_not_http_is_logged(client: FluxBurst, caplog: pytest.LogCaptureFixture) -> None:
    def answer() -> None:
        with listening.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(f"{SECRET}\r\n\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        with notifying(Notification(["all"], url=url)) as notifier:
            notifier.fluxburst_burst_changed(READY, BURST, client)
        thread.join()
    assert "could not deliver event burst_ready" in caplog.text
    assert SECRET not in caplog.text


def test_a_redirection_is_a_failure_and_takes_no_header_elsewhere(
    target: Target, client: FluxBurst, caplog: pytest.LogCaptureFixture
) -> None:
    target.status, target.headers = 302, {"Location": f"{target.url}/elsewhere"}
    with notifying(Notification(["all"], url=target.url)) as notifier:
        notifier.fluxburst_burst_changed(READY, BURST, client)
    assert [path for path, _, _ in target.posted] == ["/hook"]
    assert "status 302" in caplog.text


def test_a_server_that_does_not_answer_is_given_up(
    target: Target, client: FluxBurst, caplog: pytest.LogCaptureFixture
) -> None:
    target.go.clear()
    hook = Notification(["all"], url=target.url, timeout=Duration(0.2))
    with notifying(hook) as notifier:
        notifier.fluxburst_burst_changed(READY, BURST, client)
    assert "timed out" in caplog.text


# --- a slow target -------------------------------------------------------------------------


def test_a_slow_target_holds_nobody_up_and_the_oldest_events_are_dropped(
    target: Target, client: FluxBurst, caplog: pytest.LogCaptureFixture
) -> None:
    target.go.clear()
    with notifying(Notification(["all"], url=target.url), limit=3) as notifier:
        no_plugin_fails(notifier, client, "0")
        until(lambda: len(target.posted) == 1)
        for number in range(1, 11):  # would not come to an end if it waited for the target
            no_plugin_fails(notifier, client, str(number))
        assert notifier.dropped == 7
        target.go.set()
    assert [event["error"] for event in target.events] == ["0", "8", "9", "10"]
    assert "events come faster" in caplog.text
    assert "dropped so far: 7 events" in caplog.text


def test_closing_gives_a_target_that_hangs_up(
    target: Target, client: FluxBurst, caplog: pytest.LogCaptureFixture
) -> None:
    target.go.clear()
    notifier = Notifier([Notification(["all"], url=target.url)])
    for number in range(3):
        no_plugin_fails(notifier, client, str(number))
    until(lambda: len(target.posted) == 1)
    notifier.close(timeout=0.1)
    assert "events lost, not sent in time: 3 events" in caplog.text
    target.go.set()
    notifier.close()
    assert len(target.posted) == 1


def test_what_nobody_wants_starts_no_thread(client: FluxBurst) -> None:
    before = threading.active_count()
    with notifying(Notification(["burst_failed"], command=["true"])) as notifier:
        notifier.fluxburst_burst_changed(READY, BURST, client)
        assert threading.active_count() == before


def test_closing_ends_the_thread_and_later_events_are_not_sent(
    target: Target, client: FluxBurst
) -> None:
    with notifying(Notification(["all"], url=target.url)) as notifier:
        no_plugin_fails(notifier, client, "before")
    assert not [thread for thread in threading.enumerate() if thread.name == "fluxburst-outbox"]
    no_plugin_fails(notifier, client, "after")
    notifier.close()
    assert [event["error"] for event in target.events] == ["before"]


# --- the configuration ---------------------------------------------------------------------


def test_a_table_of_the_configuration_becomes_a_notification() -> None:
    table = {
        "events": ["burst_failed"],
        "url": "https://example.org/hook",
        "timeout": "1m",
        "headers_file": "~/token",
    }
    assert convert(table, Notification, text=False) == Notification(
        ["burst_failed"],
        url="https://example.org/hook",
        timeout=Duration(60.0),
        headers_file=Path(os.environ["HOME"]) / "token",
    )


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"events": ["burst_reddy"], "command": ["x"]}, "did you mean 'burst_ready'?"),
        ({"events": [], "command": ["x"]}, "must not be empty"),
        ({"command": ["x"]}, "events"),
        ({"events": ["all"]}, "exactly one of command and url"),
        ({"events": ["all"], "command": ["x"], "url": "http://h/"}, "exactly one"),
        ({"events": ["all"], "command": "x y"}, "list of text"),
        ({"events": ["all"], "url": f"ftp://h/{SECRET}"}, "http"),
        ({"events": ["all"], "url": f"file:///{SECRET}"}, "http"),
        ({"events": ["all"], "url": f"http:///{SECRET}"}, "host"),
        ({"events": ["all"], "url": f"http://h:99999/{SECRET}"}, "http"),
        ({"events": ["all"], "url": f"http://h/{SECRET} x"}, "http"),
        ({"events": ["all"], "url": f"http://h/{SECRET}\nx"}, "http"),
        ({"events": ["all"], "url": f"http://[::1/{SECRET}"}, "http"),
        ({"events": ["all"], "url": f"http://me:{SECRET}@h/"}, "headers_file"),
        ({"events": ["all"], "url": "http://h/", "timeout": 0}, "a positive and finite timeout"),
        ({"events": ["all"], "url": "http://h/", "timeout": "inf"}, "positive and finite timeout"),
        ({"events": ["all"], "command": ["x"], "headers_file": "f"}, "requires url, not command"),
        ({"events": ["all"], "command": ["x"], "uri": "http://h/"}, "did you mean 'url'?"),
    ],
)
def test_a_table_that_can_not_be_used_is_refused_with_the_reason(
    table: dict[str, Any], problem: str
) -> None:
    with pytest.raises(CONVERSION_ERRORS) as caught:
        convert(table, Notification, text=False)
    said = "; ".join(reasons(caught.value))
    assert problem in said
    assert SECRET not in said


def test_a_url_that_is_refused_is_not_shown() -> None:
    with pytest.raises(RequestError) as caught:
        Notification(["all"], url=f"http://me:{SECRET}@host/{SECRET}?{SECRET}")
    assert "http://host" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("event", [*EVENTS, "all"])
def test_each_event_that_is_documented_can_be_chosen(event: str) -> None:
    assert Notification([event], command=["true"]).wants(EVENTS[0]) is (event in (EVENTS[0], "all"))
