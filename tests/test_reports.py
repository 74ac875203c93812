"""The commands that say what there is and why, on a ledger on disk."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import named, spec

from fluxburst import Burst, BurstState, Decision, FluxBurst, Outcome
from fluxburst.cli import main
from fluxburst.cli.app import Settings
from fluxburst.ledger import Assignment, Breaker, Ledger, Usage
from fluxburst.ledger.entries import HOUR
from fluxburst.ledger.lock import InstanceLock, holder_of
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import BUNDLED, load

Run = Callable[..., tuple[int, str, str]]
MakePackage = Callable[..., str]

CLOUD = """
from dataclasses import dataclass, replace
from fluxburst import BurstParameters, BurstPlugin, BurstState, NodeType, PluginType, hookimpl
LISTED = []
FAILS = []
FINDINGS = []

class Cloud(BurstPlugin):
    arms_leases = True

    def node_types(self):
        return [NodeType("node", cores=4, price=1.0, max_nodes=200)]

    def create(self, burst):
        return replace(burst, state=BurstState.READY)

    def delete(self, burst):
        pass

    def list_bursts(self):
        for error in FAILS:
            raise error
        return LISTED

    def diagnose(self):
        for finding in FINDINGS:
            if isinstance(finding, Exception):
                raise finding
            yield finding

@hookimpl
def fluxburst_register_plugins():
    return [PluginType("cloud", BurstParameters, Cloud)]
"""

NOW = EmbeddedInstance(load(BUNDLED)).now()
FIRST, NINTH = (named("cloud", number, "embedded") for number in (1, 9))
JOB = load(BUNDLED).jobs[0].id
MOCK = (f"--mock={BUNDLED}", "--plugin=cloud")


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], make_package: MakePackage, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run the command line where the package fluxburst-cloud is installed, and no Flux is."""
    make_package("fluxburst_cloud", CLOUD)
    monkeypatch.setenv("FLUX_URI", "local:///nowhere")
    monkeypatch.setitem(sys.modules, "flux", None)

    def run_it(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        captured = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return exited.value.code, captured.out, captured.err

    return run_it


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state directory whose ledger has one burst that ended, one that lives, and more."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    ledger = Ledger(directory / "ledger.sqlite", "embedded")
    old = Burst("old", "cloud", "node", 2, (JOB,), price=3.0, since=NOW - 4 * HOUR)
    entry = ledger.request(old, NOW - 4 * HOUR, 1000, "batch")
    ledger.decide([Decision(JOB, Outcome.ASSIGNED, "cloud", ("it fits",))], NOW - 4 * HOUR)
    ledger.assign([Assignment(JOB, "cloud", "old", NOW - 4 * HOUR)])
    ledger.record(replace(old, state=BurstState.READY), NOW - 3 * HOUR)
    ledger.use([Usage(entry.id, JOB, 1000, 2.0, NOW - 3 * HOUR, NOW - 2 * HOUR)])
    ledger.release([JOB], NOW - 2 * HOUR, "it was preempted")
    ledger.record(replace(old, state=BurstState.ENDED), NOW - 2 * HOUR, "it was idle")
    gone = Burst("gone-1", "gone", "node", 1, price=1.0, since=NOW - HOUR, lease_until=NOW + HOUR)
    ledger.request(gone, NOW - HOUR, None, "")
    ledger.record(replace(gone, state=BurstState.READY, joined=1), NOW - HOUR / 2)
    ledger.set_breaker(Breaker("cloud", "node", 3, NOW + 60, "no such zone"))
    ledger.close()
    return directory


def json_of(result: tuple[int, str, str]) -> Any:
    status, out, err = result
    assert (status, err) == (0, "")
    return json.loads(out)


# --- ledger --------------------------------------------------------------------------------


def test_ledger_shows_live_bursts_without_an_instance(run: Run, state: Path) -> None:
    (burst,) = json_of(run("ledger", "--state-dir", str(state), "--json"))
    assert (burst["name"], burst["state"], burst["plugin"]) == ("gone-1", "ready", "gone")
    everything = json_of(run("ledger", "--state-dir", str(state), "--all", "--format=json"))
    assert [burst["name"] for burst in everything] == ["old", "gone-1"]
    assert everything[0]["cost"] == 12.0
    status, out, _ = run("ledger", "--all", "--state-dir", str(state))
    assert status == 0
    assert "it was idle" in out


def test_the_state_directory_may_come_from_the_environment(
    run: Run, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUXBURST_STATE_DIR", str(state))
    assert len(json_of(run("ledger", "--json"))) == 1


def test_ledger_is_written_as_csv(run: Run, state: Path) -> None:
    _, out, _ = run("ledger", "--all", "--format=csv", "--state-dir", str(state))
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["name"], row["nodes"], row["jobs"]) for row in rows] == [
        ("old", "2", str(JOB)),
        ("gone-1", "1", ""),
    ]


def test_the_story_of_a_burst_has_its_steps_its_jobs_and_its_use(run: Run, state: Path) -> None:
    told = json_of(run("ledger", "--burst", "old", "--state-dir", str(state), "--json"))
    assert [(event["kind"], event["what"]) for event in told["events"] if not event["job"]] == [
        ("burst", "requested"),
        ("burst", "ready"),
        ("burst", "ended"),
    ]
    kinds = {event["kind"] for event in told["events"] if event["job"] == JOB}
    assert kinds == {"given", "started", "ended", "taken back"}
    assert told["usage"]["idle_share"] == 0.5
    assert "it was preempted" in run("ledger", "--burst", "old", "--state-dir", str(state))[1]


def test_all_of_the_ledger_is_exported_as_json_lines(run: Run, state: Path, tmp_path: Path) -> None:
    status, out, _ = run("ledger", "--export", "-", "--state-dir", str(state))
    assert status == 0
    records = [json.loads(line) for line in out.splitlines()]
    kinds = [record["record"] for record in records]
    assert kinds == [
        "ledger", *["burst"] * 2, *["transition"] * 5, "placement", "usage", "decision", "breaker",
    ]  # fmt: skip
    assert records[0]["instance"] == "embedded"
    file = tmp_path / "ledger.jsonl"
    assert run("ledger", "--export", str(file), "--state-dir", str(state))[0] == 0
    assert len(file.read_text().splitlines()) == len(records)


def test_an_empty_ledger_says_so(run: Run, tmp_path: Path) -> None:
    for command in (["ledger"], ["cost"]):
        status, out, _ = run(*command, "--mock")
        assert (status, "a ledger in memory, which starts empty" in out) == (0, True)
        assert "There are no bursts in" in run(*command, "--state-dir", str(tmp_path))[1]
    assert json_of(run("ledger", "--mock", "--json")) == []
    assert json_of(run("cost", "--mock", "--json"))["lines"] == []


def test_wrong_requests_about_the_ledger_are_named(run: Run, state: Path) -> None:
    at = ("--state-dir", str(state))
    expected = [
        (("ledger", "--burst", "odl", *at), "no burst 'odl'; did you mean 'old'?"),
        (("ledger", "--burst", "old", "--all", *at), "one of --all, --burst and --export"),
        (("ledger", "--state-dir", "/nowhere"), "/nowhere is not a directory"),
        (("ledger",), "--state-dir"),
        (("ledger", "--export", "/nowhere/file", *at), "cannot write /nowhere/file"),
        (("cost", "--since", "soon", *at), "'soon' is not a date"),
        (("why", "job", *at), "not a job id"),
    ]
    for arguments, text in expected:
        status, out, err = run(*arguments)
        assert (status, out) == (2, ""), arguments
        assert text in err, arguments


def test_a_file_that_is_no_ledger_is_said_and_left_as_it_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("hello, this is not a database at all" * 30)
    status, _, err = run("ledger", "--state-dir", str(tmp_path))
    assert status == 1
    assert "it is left unchanged" in err


# --- cost ----------------------------------------------------------------------------------


def test_cost_is_shown_by_each_grouping_with_one_total(run: Run, state: Path) -> None:
    at = ("--state-dir", str(state), *MOCK, "--json")
    found = {by: json_of(run("cost", "--by", by, *at)) for by in ("burst", "plugin", "user", "job")}
    assert {c["total"]["cost"] for c in found.values()} == {13.0}
    assert [(c["key"], c["cost"]) for c in found["burst"]["lines"]] == [
        ("gone-1", 1.0),
        ("old", 12.0),
    ]
    assert [(c["key"], c["cost"]) for c in found["job"]["lines"]] == [(JOB, 6.0), (None, 7.0)]
    assert json_of(run("cost", "--since", "90m", *at))["total"]["cost"] == 1.0
    status, out, _ = run("cost", "--by", "job", "--state-dir", str(state), *MOCK)
    assert (status, "(idle)" in out, "13.00" in out) == (0, True, True)


# --- status --------------------------------------------------------------------------------


def limited(path: Path) -> str:
    path.write_text("[limits]\ncost = 100\n[limits.plugins.cloud]\nnodes = 10\n[plugins.cloud]\n")
    return f"--config={path}"


def test_status_shows_everything_at_once(run: Run, state: Path, tmp_path: Path) -> None:
    config = limited(tmp_path / "c.toml")
    now = json_of(run("status", MOCK[0], config, "--state-dir", str(state), "--json"))
    assert [burst["name"] for burst in now["bursts"]] == ["gone-1"]
    assert now["nodes"] == {"asked": 1, "joined": 1}
    assert now["jobs"] == {"pending": 300, "selected": 99, "given": 0, "unmatched": 95}
    limits = {(x["scope"], x["name"], x["what"]): (x["used"], x["left"]) for x in now["limits"]}
    assert limits == {("instance", "", "cost"): (14, 86), ("plugin", "cloud", "nodes"): (0, 10)}
    assert [(b["node_type"], b["open"], b["error"]) for b in now["breakers"]] == [
        ("node", True, "no such zone")
    ]
    assert now["spending"]["total"] == 13.0
    assert now["spending"]["per_hour"] == now["spending"]["reserved"] == 1.0
    assert now["missing"] == {"gone": ["gone-1"]}
    assert (now["holder"], now["unreachable"]) == (None, None)
    out = run("status", MOCK[0], config, "--state-dir", str(state))[1]
    assert "install the package that offers gone" in out
    assert "no such zone" in out


def test_status_shows_the_ledger_alone_where_the_instance_cannot_be_reached(
    run: Run, state: Path
) -> None:
    now = json_of(run("status", "--plugin=cloud", "--state-dir", str(state), "--json"))
    assert "no Flux" in now["unreachable"]
    assert (now["instance"], now["jobs"]) == ("embedded", None)
    status, out, _ = run("status", "--state-dir", str(state))
    assert (status, "showing the ledger alone" in out) == (0, True)
    assert run("status")[0] == 2


def test_the_nodes_of_a_burst_that_was_ready_at_once_have_joined_also_as_it_ends(
    run: Run, tmp_path: Path
) -> None:
    at = (*MOCK, "--state-dir", str(tmp_path))
    assert run("run", "--nodes", "2", *at)[0] == 0
    with closing(Ledger(tmp_path / "ledger.sqlite", "embedded")) as ledger:
        burst = ledger.live()[0].burst
        ledger.record(replace(burst, state=BurstState.DRAINING), NOW)
    assert json_of(run("status", *at, "--json"))["nodes"] == {"asked": 2, "joined": 2}


def test_unburst_that_is_interrupted_says_what_stays_what_it_costs_and_what_ends_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = (*MOCK, "--state-dir", str(tmp_path))
    assert run("run", "--nodes", "2", *at)[0] == 0

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FluxBurst, "run_unburst", interrupted)
    status, _, err = run("unburst", "--all", *at)
    assert status == 128 + signal.SIGINT
    assert (
        f"1 burst with 2 nodes remains and costs 2.00 an hour: {FIRST}; to terminate them: " in err
    )
    assert "fluxburst --plugin cloud" in err
    assert "it ends automatically with its lease, by " in err


def test_status_says_of_when_it_is_where_no_service_runs(run: Run, state: Path) -> None:
    out = run("status", *MOCK, "--state-dir", str(state))[1]
    assert "bursts as last recorded, at 2026-" in out
    assert "Z, 30m ago" in out
    lock = InstanceLock([state / "lock"])
    lock.acquire()
    try:
        assert "last recorded" not in run("status", *MOCK, "--state-dir", str(state))[1]
    finally:
        lock.release()


def test_why_says_of_when_an_isolated_bursts_state_is_where_no_service_runs(
    run: Run, state: Path
) -> None:
    ledger = Ledger(state / "ledger.sqlite", "embedded")
    apart = Burst("apart", "cloud", "node", 1, (JOB,), isolated=True)
    ledger.request(apart, NOW - 2 * HOUR, 1000, "")
    ledger.assign([Assignment(JOB, "cloud", "apart", NOW - 2 * HOUR)])
    ledger.record(replace(apart, state=BurstState.READY), NOW - HOUR)
    ledger.close()
    at = ("--state-dir", str(state), *MOCK)
    said = " ".join(run("why", str(JOB), *at)[1].split())
    assert "There: burst apart was ready when last recorded, at 2026-" in said
    assert "1h ago; no service runs" in said
    lock = InstanceLock([state / "lock"])
    lock.acquire()
    try:
        said = " ".join(run("why", str(JOB), *at)[1].split())
        assert "There: it runs in burst apart, which is ready" in said
    finally:
        lock.release()


def test_status_says_who_holds_the_instance_and_takes_nothing_from_them(
    run: Run, state: Path
) -> None:
    lock = InstanceLock([state / "lock"])
    lock.acquire()
    try:
        now = json_of(run("status", "--state-dir", str(state), "--json"))
        assert f"process {os.getpid()}" in now["holder"]
    finally:
        lock.release()
    assert holder_of([state / "lock"]) == ""
    lock.acquire()
    lock.release()


def test_status_of_a_plugin_that_cannot_be_loaded_shows_the_rest(run: Run, state: Path) -> None:
    arguments = ("status", MOCK[0], "--plugin=clod", "--state-dir", str(state), "--json")
    now = json_of(run(*arguments))
    assert "did you mean 'cloud'" in now["problems"][0]
    assert now["bursts"]


def test_status_is_watched_until_it_is_interrupted(state: Path) -> None:
    arguments = ["status", "--watch", "--mock", "--json", "--state-dir", str(state)]
    with subprocess.Popen(
        [sys.executable, "-m", "fluxburst", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        first, second = (json.loads(watching.stdout.readline()) for _ in range(2))
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=30)
    assert [first["bursts"][0]["name"], second["bursts"][0]["name"]] == ["gone-1", "gone-1"]
    assert (watching.returncode, err.strip()) == (130, "fluxburst: interrupted")


# --- why -----------------------------------------------------------------------------------


def test_why_tells_all_of_a_job_in_order_of_time(run: Run, state: Path) -> None:
    at = ("--state-dir", str(state), *MOCK)
    told = json_of(run("why", str(JOB), "--json", *at))
    times = [event["at"] for event in told["events"]]
    assert times == sorted(times)
    assert {event["kind"] for event in told["events"]} == {
        "decided", "given", "taken back", "burst", "started", "ended",
    }  # fmt: skip
    assert told["cost"] == 6.0
    assert [burst["name"] for burst in told["bursts"]] == ["old"]
    assert told["present"]["reasons"]
    status, out, _ = run("why", hex(JOB), *at)
    assert (status, "it was preempted" in out, "Now: " in out) == (0, True, True)


def test_why_tells_what_is_recorded_where_the_instance_cannot_be_asked(
    run: Run, state: Path
) -> None:
    status, out, err = run("why", str(JOB), "--state-dir", str(state))
    assert (status, "it was preempted" in out, "no Flux" in err) == (0, True, True)
    assert "pending" not in out


def test_why_of_a_job_that_the_instance_has_ended_says_by_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = EmbeddedInstance()
    ended, lives = (instance.submit(spec(1, 4, burstable=True)) for _ in range(2))
    instance.end_jobs({ended: 'alloc denied due to type="unsatisfiable"'})
    monkeypatch.setattr(Settings, "instance", lambda _: instance)
    with pytest.raises(SystemExit, match="0"):
        main(["why", str(ended), f"--state-dir={tmp_path}"])
    said = " ".join(capsys.readouterr().out.split())
    assert said.endswith(
        'not pending now. Flux ended it: burst: alloc denied due to type="unsatisfiable"'
    )
    with pytest.raises(SystemExit, match="0"):
        main(["why", str(lives), f"--state-dir={tmp_path}", "--json"])
    assert json.loads(capsys.readouterr().out)["exception"] == ""


def test_why_of_a_job_that_nothing_is_known_of_is_said(run: Run, state: Path) -> None:
    status, out, err = run("why", "ƒ7", "--state-dir", str(state), *MOCK)
    assert (status, out) == (1, "")
    assert "unknown job ƒ7" in err


# --- unburst --verify ----------------------------------------------------------------------


def cloud() -> Any:
    return sys.modules["fluxburst_cloud"]


def test_unburst_proves_that_nothing_is_left(run: Run, tmp_path: Path) -> None:
    at = (*MOCK, "--state-dir", str(tmp_path))
    assert run("run", "--nodes", "2", *at)[0] == 0
    done = json_of(run("unburst", "--all", "--verify", "--json", *at))
    assert done == {"gone": [FIRST], "errors": [], "remaining": [], "strangers": {}}
    assert "Nothing is left." in run("unburst", "--all", "--verify", *at)[1]
    assert json_of(run("unburst", "--all", "--json", *at))["remaining"] is None


def test_unburst_names_what_is_left(run: Run, tmp_path: Path) -> None:
    at = (*MOCK, "--state-dir", str(tmp_path))
    assert run("run", "--nodes", "2", *at)[0] == 0
    cloud().LISTED.append(NINTH)
    status, _, err = run("unburst", "--all", "--verify", *at)
    assert status == 1
    assert f"plugin cloud: burst {NINTH} may exist: its plugin lists it" in err
    assert run("unburst", "--all", *at)[0] == 0


def test_unburst_of_one_burst_looks_for_that_one_only(run: Run, tmp_path: Path) -> None:
    at = (*MOCK, "--state-dir", str(tmp_path))
    assert run("run", "--nodes", "2", *at)[0] == 0
    cloud().LISTED.append(NINTH)
    assert run("unburst", FIRST, "--verify", *at)[0] == 0


def test_a_plugin_that_cannot_be_asked_is_no_proof(run: Run, tmp_path: Path) -> None:
    at = (*MOCK, "--state-dir", str(tmp_path))
    assert run("run", "--nodes", "2", *at)[0] == 0
    cloud().FAILS.append(OSError("no route"))
    status, _, err = run("unburst", "--all", "--verify", *at)
    assert status == 1
    assert "plugin cloud: any burst may exist: it cannot be asked" in err


def test_bursts_of_a_plugin_that_is_not_loaded_are_left_and_named(run: Run, state: Path) -> None:
    status, _, err = run("unburst", "--all", "--verify", *MOCK, "--state-dir", str(state))
    assert status == 1
    assert "plugin gone: burst gone-1 may exist" in err
    assert "install the package that offers gone" in err


# --- logging -------------------------------------------------------------------------------


def test_log_lines_are_json_if_that_is_asked_for(run: Run) -> None:
    _, _, err = run("run", "-v", "--nodes=1", "--log-format", "json", *MOCK)
    lines = [json.loads(line) for line in err.splitlines()]
    assert FIRST in {line.get("burst") for line in lines}
    assert "fluxburst: INFO:" in run("run", "-v", "--nodes=1", *MOCK)[2]
