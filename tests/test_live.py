"""What is only true of a live Flux, and of its absence."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.live import Flux, running_flux, tidy
from tests.support import Elsewhere, at_most, flux_available

from fluxburst import FluxBurst
from fluxburst.errors import FluxUnavailableError, FluxVersionError, InstanceError
from fluxburst.flux.binding import check_versions
from fluxburst.flux.live import LiveInstance
from fluxburst.model.job import Mark

needs_flux = pytest.mark.skipif(not flux_available(), reason="no live Flux")


@pytest.fixture(scope="module")
def shared() -> Iterator[Flux]:
    with running_flux() as running:
        yield running


@pytest.fixture
def flux(shared: Flux) -> Iterator[Flux]:
    """An instance on whose node no job starts."""
    shared("resource", "drain", "0")
    yield shared
    tidy(shared)


def handle_of(flux: Flux) -> Any:
    import flux as bindings

    return bindings.Flux(flux.uri)


def client_of(flux: Flux) -> FluxBurst:
    return FluxBurst(handle_of(flux))


def command_line(flux: Flux, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fluxburst", *arguments],
        env=flux.environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.flux
@needs_flux
def test_jobs_given_by_one_process_are_not_given_by_the_next(flux: Flux, tmp_path: Path) -> None:
    flux("submit", "--cc=1-5", "--setattr=burstable", "hostname")
    flux("submit", "--cc=1-5", "hostname")
    client = client_of(flux)
    cloud = Elsewhere("cloud")
    client.plugins["cloud"] = cloud
    client.set_selector(lambda job: bool(job.burstable))
    assert client.run_burst() == []
    assert len(cloud.jobs) == 5
    client.close()
    script = """
from tests.support import Elsewhere
from fluxburst import FluxBurst
client = FluxBurst()
client.plugins["cloud"] = cloud = Elsewhere("cloud")
print(len(client.run_burst()), len(cloud.jobs), len(cloud.created))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**flux.environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0", "0", "0"]


@pytest.mark.flux
@needs_flux
def test_marks_show_in_flux_jobs(flux: Flux) -> None:
    jobid = flux("submit", "hostname")
    client = client_of(flux)
    client.instance.set_marks({j.id: Mark("gke", "b1") for j in client.instance.pending_jobs()})
    shown = flux("jobs", "-no", "{annotations.user.fluxburst}", jobid)
    assert "gke" in shown
    assert "b1" in shown


@pytest.mark.flux
@needs_flux
def test_a_recording_of_a_live_instance_plans_like_the_instance(flux: Flux, tmp_path: Path) -> None:
    flux("submit", "--cc=1-3", "--setattr=burstable", "-n", "2", "hostname", "--token=s3cret")
    flux("submit", "--env=SECRET=s3cret", "-N1", "hostname")
    file = tmp_path / "queue.jsonl"
    done = command_line(flux, "record", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert "s3cret" not in file.read_text()
    assert command_line(flux, "record", str(file)).returncode == 2
    live = json.loads(command_line(flux, "jobs", "--json").stdout)
    recorded = json.loads(command_line(flux, "jobs", "--json", f"--mock={file}").stdout)
    assert live == recorded
    assert [job["cores"] for job in live] == [2, 2, 2]


@pytest.mark.flux
@needs_flux
def test_a_broker_that_goes_away_is_one_clear_error() -> None:
    with running_flux() as flux:
        flux("queue", "stop", "--all")
        flux("submit", "--setattr=burstable", "hostname")
        client = client_of(flux)
        client.plugins["cloud"] = cloud = Elsewhere("cloud")
        plan = client.plan()
    with pytest.raises(InstanceError, match="the Flux instance is away"):
        client.apply(plan)
    with pytest.raises(InstanceError, match="the Flux instance is away"):
        client.plan()
    assert (cloud.created, cloud.jobs) == ([], {})


@pytest.mark.flux
@needs_flux
def test_outside_of_an_instance_the_command_line_says_what_to_do(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "FLUX_URI"}
    done = subprocess.run(
        [sys.executable, "-m", "fluxburst", "jobs"],
        env={**environment, "FLUX_URI": f"local://{tmp_path}/nothing"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("fluxburst: no Flux answers")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("broker", ["0.87.0", "0.49.3-12-gabcdef", "unknown"])
def test_a_flux_that_is_too_old_is_refused_by_name(broker: str) -> None:
    with pytest.raises(FluxVersionError, match=r"too old: at least 0\.88\.0 is required") as caught:
        check_versions(broker, "0.88.0")
    assert broker in str(caught.value)


def test_a_binding_that_does_not_match_is_refused_with_both_versions() -> None:
    with pytest.raises(FluxVersionError) as caught:
        check_versions("0.90.1", "0.88.0")
    assert "running Flux: 0.90.1, Python binding: 0.88.0" in str(caught.value)
    assert "flux-python==0.90.1" in str(caught.value)


@pytest.mark.parametrize(("broker", "binding"), [("0.88.0", "0.88.0"), ("0.88.0-3-gab", "0.88.1")])
def test_versions_that_match_are_accepted(broker: str, binding: str) -> None:
    check_versions(broker, binding)


def test_no_binding_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flux", None)
    with pytest.raises(FluxUnavailableError, match=r"install flux-python of the same version"):
        FluxBurst().plan()


def test_nothing_of_flux_is_imported_before_a_live_instance_is_used() -> None:
    script = """
import sys
import fluxburst
from fluxburst import FluxBurst
assert not [m for m in sys.modules if m.startswith("fluxburst_")]
client = FluxBurst()
assert "flux" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unused_live_instance_needs_no_flux() -> None:
    LiveInstance()


FEW_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
import sys
from fluxburst.flux import live, live_jobspecs
from fluxburst.model.job import JobState, Mark
live_jobspecs.JOURNAL_FROM = int(sys.argv[1])
instance = live.LiveInstance()
jobs = instance.pending_jobs()
assert instance.set_marks({job.id: Mark("gke") for job in jobs}) == []
instance.wait_for_jobs([job.id for job in jobs], JobState.SCHED)
print(len(jobs), sum(job.burstable is True for job in jobs))
"""


@pytest.mark.flux
@needs_flux
@pytest.mark.parametrize("journal_from", ["1", "1000000"], ids=["journal", "lookups"])
def test_a_long_queue_needs_few_file_descriptors(flux: Flux, journal_from: str) -> None:
    flux("submit", "--cc=1-300", "--setattr=burstable", "hostname")
    done = subprocess.run(
        [sys.executable, "-c", FEW_FILES, journal_from],
        env=flux.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["300", "300"], "")


@pytest.mark.flux
@needs_flux
@pytest.mark.parametrize("journal_from", [1, 1_000_000], ids=["journal", "lookups"])
def test_jobspecs_come_with_their_updates(
    flux: Flux, journal_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluxburst.flux.live_jobspecs.JOURNAL_FROM", journal_from)
    jobid = flux("submit", "-t", "60s", "hostname")
    flux("update", jobid, "duration=2h")
    (job,) = client_of(flux).instance.pending_jobs()
    assert job["spec"]["attributes"]["system"]["duration"] == 7200.0
    assert job.duration == 7200.0


@pytest.mark.flux
@needs_flux
def test_the_same_handle_can_be_used_after_the_journal_was_read(
    flux: Flux, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluxburst.flux.live_jobspecs.JOURNAL_FROM", 1)
    instance = client_of(flux).instance
    for number in range(1, 4):
        flux("submit", "hostname")
        assert len(instance.pending_jobs()) == number
        assert instance.set_marks({j.id: Mark("gke") for j in instance.pending_jobs()}) == []


# --- what happens, as it happens -------------------------------------------------------------


TWO_NODES = """
[resource]
noverify = true

[[resource.config]]
hosts = "node[0-1]"
cores = "0-1"
"""


def wait_until(instance: LiveInstance, condition: Callable[[], bool]) -> None:
    with at_most(60):
        while not condition():
            instance.wait(30)


def test_an_instance_that_is_not_there_is_waited_for_like_any_other(tmp_path: Path) -> None:
    instance = LiveInstance()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLUX_URI", f"local://{tmp_path}/nothing")
        with at_most(30):
            instance.wait(0.1)
            instance.wake()
            instance.wait(3600)
    instance.close()


def test_a_signal_ends_a_wait_also_where_its_handler_came_too_early_to_say_so(
    tmp_path: Path,
) -> None:
    instance = LiveInstance()
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    to_main = functools.partial(signal.pthread_kill, threading.get_ident(), signal.SIGUSR1)
    timer = threading.Timer(0.1, to_main)
    with pytest.MonkeyPatch.context() as patch, at_most(30):
        patch.setenv("FLUX_URI", f"local://{tmp_path}/nothing")
        instance.wait(0.1)
        timer.start()
        instance.wait(3600)
    timer.join()
    signal.signal(signal.SIGUSR1, before)
    assert signal.set_wakeup_fd(-1) == -1
    instance.close()


@pytest.mark.flux
@needs_flux
@pytest.mark.parametrize(
    "command",
    [
        ["submit", "--quiet", "hostname"],
        ["urgency", "f1", "20"],
        ["job", "memo", "f1", "note=mine"],
        ["cancel", "f1"],
        ["resource", "drain", "0"],
    ],
    ids=["submit", "urgency", "memo", "cancel", "drain"],
)
def test_what_happens_ends_a_wait(flux: Flux, command: list[str]) -> None:
    jobid = flux("submit", "hostname")
    command = [jobid if word == "f1" else word for word in command]
    if command[0] == "urgency":
        command = ["job", *command]
    instance = LiveInstance(handle_of(flux))
    instance.pending_changes()
    instance.wait(1)
    timer = threading.Timer(0.2, lambda: flux(*command))
    timer.start()
    with at_most(30):
        instance.wait(3600)
    timer.join()


@pytest.mark.flux
@needs_flux
def test_a_node_that_goes_down_ends_a_wait() -> None:
    with running_flux({"two.toml": TWO_NODES}, size=2) as flux:
        instance = LiveInstance(handle_of(flux))
        instance.pending_changes()
        assert [node.up for node in instance.nodes()] == [True, True]
        timer = threading.Timer(0.2, lambda: flux("overlay", "disconnect", "1"))
        timer.start()
        wait_until(instance, lambda: not instance.nodes()[1].up)
        timer.join()


@pytest.mark.flux
@needs_flux
def test_a_node_whose_broker_was_killed_a_moment_ago_can_be_disconnected() -> None:
    with running_flux({"two.toml": TWO_NODES}, size=2) as flux:
        instance = LiveInstance(handle_of(flux))
        os.kill(int(flux("exec", "-r1", "flux", "getattr", "broker.pid")), signal.SIGKILL)
        time.sleep(0.1)  # its socket is closed by now, and the instance sends nothing to it
        instance.disconnect([1])
        wait_until(instance, lambda: not instance.nodes()[1].up)


@pytest.mark.flux
@needs_flux
def test_a_wait_takes_its_time_where_nothing_happens(flux: Flux) -> None:
    flux("submit", "--cc=1-20", "--quiet", "hostname")
    instance = LiveInstance(handle_of(flux))
    instance.pending_changes()
    instance.wait(1)
    turns = 0
    until = instance.now() + 1
    while instance.now() < until:
        instance.wait(until - instance.now())
        turns += 1
    assert turns < 20


@pytest.mark.flux
@needs_flux
def test_an_instance_goes_on_after_its_broker_was_restarted(tmp_path: Path) -> None:
    with running_flux(keep=tmp_path) as flux:
        flux("submit", "--cc=1-3", "--quiet", "--urgency=0", "hostname")
        instance = LiveInstance(handle_of(flux))
        first = instance.pending_changes()
        assert (len(first.jobs), first.complete) == (3, True)
        assert len(instance.nodes()) == 1
    for method in (
        instance.pending_changes,
        instance.pending_jobs,
        instance.nodes,
        instance.job_ids,
        lambda: instance.name,
    ):
        with pytest.raises(InstanceError, match="the Flux instance is away"):
            method()
    instance.wait(0.1)
    with running_flux(keep=tmp_path) as flux:
        with at_most(60):
            instance.wait(3600)
        again = instance.pending_changes()
        assert ({job.id for job in again.jobs}, again.complete) == (
            {j.id for j in first.jobs},
            True,
        )
        assert [job.id for job in instance.pending_jobs()] == [job.id for job in again.jobs]
        assert len(instance.nodes()) == 1
        flux("submit", "--quiet", "--urgency=0", "hostname")
        wait_until(instance, lambda: len(instance.pending_changes().jobs) > 0)


@pytest.mark.flux
@needs_flux
def test_a_restart_that_nobody_noticed_costs_no_error(tmp_path: Path) -> None:
    with running_flux(keep=tmp_path) as flux:
        flux("submit", "--quiet", "--urgency=0", "hostname")
        instance = LiveInstance(handle_of(flux))
        assert len(instance.pending_changes().jobs) == len(instance.pending_jobs()) == 1
    with running_flux(keep=tmp_path):
        assert len(instance.pending_jobs()) == len(instance.nodes()) == 1
        changes = instance.pending_changes()
        assert (len(changes.jobs), changes.complete) == (1, True)


class Interrupted(BaseException):
    """What a person's Ctrl-C raises, at a place of the test's choice."""


@pytest.mark.flux
@needs_flux
# Where it comes in a finalizer of somebody's, Python says so and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_instance_can_be_used_after_ctrl_c(flux: Flux) -> None:
    flux("submit", "--cc=1-500", "--quiet", "hostname")
    instance = LiveInstance(handle_of(flux))
    instance.pending_changes()  # which imports what there is to import
    instance.close()
    seen: set[int] = set()

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(40):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.001 + number * 0.002)
                changes = instance.pending_changes()
                instance.pending_jobs()
                instance.nodes()
            except Interrupted:
                continue
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            seen = {job.id for job in changes.jobs} if changes.complete else seen
    finally:
        signal.signal(signal.SIGALRM, before)
    instance.close()
    expected = set(instance.job_ids())
    assert len(expected) == 500
    assert {job.id for job in instance.pending_changes().jobs} == expected
    assert {job.id for job in instance.pending_jobs()} == expected


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.flux
@needs_flux
def test_the_connections_of_threads_end_with_them_and_with_close(flux: Flux) -> None:
    instance = LiveInstance(handle_of(flux))
    instance.nodes()
    gc.collect()
    before = descriptors()
    for _ in range(5):
        thread = threading.Thread(target=instance.nodes)
        thread.start()
        thread.join()
    gc.collect()
    assert descriptors() == before
    instance.pending_changes()
    assert descriptors() > before
    instance.close()
    gc.collect()
    assert descriptors() <= before


@pytest.mark.flux
@needs_flux
def test_the_lock_of_an_instance_is_in_the_run_directory_of_its_lead(flux: Flux) -> None:
    instance = LiveInstance(handle_of(flux))
    assert instance.lock_file == Path(flux("getattr", "rundir")) / "fluxburst.lock"


@pytest.mark.flux
@needs_flux
def test_the_owner_of_a_handle_keeps_the_answers_to_what_it_asked_itself(flux: Flux) -> None:
    handle = handle_of(flux)
    instance = LiveInstance(handle)
    own = handle.rpc("attr.get", {"name": "size"})
    assert len(instance.nodes()) == 1
    assert own.get()["value"] == "1"
