"""Bursts onto real brokers, as processes of this machine."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.elastic_instance import provision, wait_until
from tests.local.growing import Growing, growing
from tests.plugin_contract import check_contract
from tests.readmes import run_commands
from tests.support import flux_available

from fluxburst import Burst, BurstState, FluxBurst
from fluxburst.cli.progress import follow
from fluxburst.errors import BurstErrors, CapacityError
from fluxburst.formats.fluid import format_f58
from fluxburst.model.burst import prefix_of
from fluxburst.model.job import Mark
from fluxburst.reports import timeline

pytestmark = [
    pytest.mark.flux,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growing]:
    directory = tmp_path_factory.mktemp("site") / "elastic"
    with growing(directory, "--burst-nodes=3", "--cores=2", "--lead-cores=2") as made:
        yield made


@pytest.fixture
def grown(instance: Growing) -> Iterator[Growing]:
    """An instance with room for three burst nodes, all of them down."""
    yield instance
    instance.clear()


def lost(grown: Growing, host: str) -> None:
    """Kill a broker, and wait until the instance has noticed."""
    grown.brokers()[host].kill()
    wait_until(lambda: host not in grown.up(), f"{host} is down")


def script(path: Path, text: str) -> Path:
    """Write an executable script of Python."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def flux_that(tmp_path: Path, change: str) -> Path:
    """Make a Flux root whose brokers see ``argv`` changed, as on a host that is set up wrongly."""
    real = subprocess.run(["which", "flux"], capture_output=True, text=True, check=True).stdout
    run = f"os.execv({real.strip()!r}, ['flux', *argv])"
    text = f"import os, sys\nargv = sys.argv[1:]\n{change}\n{run}"
    return script(tmp_path / "root" / "bin" / "flux", text).parent.parent


# --- what the documentation shows --------------------------------------------------------------


def test_the_commands_of_the_readme_work_as_they_stand_and_leave_nothing(tmp_path: Path) -> None:
    done = run_commands(README.read_text(), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 job selected, 1 assigned, 0 not." in done.stdout
    assert " ready " in done.stdout
    assert re.fullmatch(r" +down burst +3 +\d+ +0 burst\[0-2\]", done.stdout.splitlines()[-1])
    left = Growing(tmp_path / "elastic", "")
    assert left.brokers() == {}
    assert [path.name for path in (tmp_path / "elastic" / "log").iterdir() if path.is_dir()] == []


# --- coming and going --------------------------------------------------------------------------


def test_exactly_the_nodes_that_are_missing_come_up(grown: Growing) -> None:
    jobid = grown.submit("-N3", "hostname")
    client = grown.client()
    (burst,) = provision(client)
    assert (burst.state, burst.nodes, burst.jobs) == (BurstState.READY, 2, (jobid,))
    assert sorted(grown.brokers()) == sorted(burst.hostnames) == ["burst0", "burst1"]
    client.wait_for_jobs([jobid])
    assert client.run_unburst() == [burst.name]
    assert (grown.left_over(), grown.nodes("down")) == ([], 3)


def test_nodes_that_are_coming_are_not_brought_up_again(grown: Growing) -> None:
    grown.submit("-N2", "sleep", "100")
    first = grown.client()
    first.run_burst()
    grown.submit("-N1", "hostname")
    second = grown.client()
    second.run_burst()
    adopted, new = second.plugins["local"].bursts.values()
    assert adopted.name == next(iter(first.plugins["local"].bursts))
    assert (len(adopted.hostnames), len(new.hostnames)) == (1, 1)
    assert set(adopted.hostnames).isdisjoint(new.hostnames)
    third = provision(grown.client())
    assert {burst.name for burst in third} == {adopted.name, new.name}
    assert {burst.state for burst in third} == {BurstState.READY}


def test_bursts_may_be_brought_up_and_taken_down_again_and_again(grown: Growing) -> None:
    client = grown.client()
    descriptors = 0
    for turn in range(3):
        jobid = grown.submit("-N4", "hostname")
        assert {burst.state for burst in provision(client)} <= {BurstState.READY, BurstState.ENDED}
        client.wait_for_jobs([jobid])
        assert len(client.run_unburst()) == 1
        assert (grown.left_over(), grown.nodes("down")) == ([], 3)
        now = len(list(Path("/proc/self/fd").iterdir()))
        assert turn < 2 or now <= descriptors
        descriptors = now


@pytest.mark.soak
def test_sixteen_nodes_come_and_go_in_turn_and_nothing_is_left(tmp_path: Path) -> None:
    with growing(tmp_path / "elastic", "--burst-nodes=16", "--cores=1", "--lead-cores=1") as many:
        client = many.client()
        for _ in range(2):
            jobid = many.submit("-N17", "hostname")
            provision(client)
            client.wait_for_jobs([jobid])
            assert len(client.run_unburst()) == 1
            assert (many.left_over(), many.nodes("down")) == ([], 16)


def test_processes_that_burst_at_the_same_time_start_each_node_once(grown: Growing) -> None:
    jobid = grown.submit("-N4", "hostname")
    command = [sys.executable, "-m", "fluxburst", "--config", f"{grown.directory}/fluxburst.toml"]
    runs = [
        subprocess.Popen([*command, "run"], env=grown.flux.environment, stdout=subprocess.DEVNULL)
        for _ in range(3)
    ]
    statuses = {run.wait(60) for run in runs}
    assert 0 in statuses
    assert statuses <= {0, 2}  # the others are told that the instance is held
    assert len(grown.brokers()) == 3
    client = grown.client()
    client.wait_for_jobs([jobid])
    assert len(client.run_unburst()) == 1


def test_more_nodes_than_are_declared_are_refused_and_nothing_is_started(grown: Growing) -> None:
    plugin = grown.local()
    with pytest.raises(
        CapacityError, match="4 nodes requested, but only 3 declared nodes are down and free"
    ):
        plugin.create(Burst("local-many", "local", "2-core", 4))
    assert grown.brokers() == {}
    done = grown.fluxburst("run", "--nodes", "4")
    assert done.returncode == 1
    assert grown.brokers() == {}


def test_creating_twice_adopts_and_deleting_twice_is_no_error(grown: Growing) -> None:
    plugin = grown.local()
    burst = plugin.create(Burst("local-twice", "local", "2-core", 2))
    wait_until(lambda: len(grown.brokers()) == 2, "two brokers run")
    pids = {host: process.pid for host, process in grown.brokers().items()}
    again = grown.local().create(Burst("local-twice", "local", "2-core", 2))
    assert again.hostnames == burst.hostnames
    assert {host: process.pid for host, process in grown.brokers().items()} == pids
    plugin.delete(burst)
    plugin.delete(burst)
    assert grown.left_over() == []


def test_a_burst_is_found_from_nothing_by_another_process(grown: Growing) -> None:
    name = f"{prefix_of('local', grown.local().instance_tag)}1"
    grown.local().create(Burst(name, "local", "2-core", 2))
    other = grown.local()
    assert list(other.list_bursts()) == [name]
    (burst,) = other.adopt()
    assert (burst.name, burst.nodes, burst.node_type) == (name, 2, "2-core")
    assert grown.client().run_unburst([name]) == [name]
    assert grown.left_over() == []


def test_bursts_of_another_instance_are_left_alone(grown: Growing, tmp_path: Path) -> None:
    name = f"{prefix_of('local', grown.local().instance_tag)}1"
    grown.local().create(Burst(name, "local", "2-core", 1))
    with growing(tmp_path / "other", "--burst-nodes=1", "--cores=1") as other:
        assert list(other.local().list_bursts()) == []
        assert other.client().run_unburst() == []
        assert list(grown.brokers()) == ["burst0"]
    grown.client().run_unburst()


# --- jobs on nodes that leave ------------------------------------------------------------------


def test_taking_down_waits_for_the_jobs_on_its_nodes(grown: Growing) -> None:
    client = grown.client()
    jobid = grown.submit("-N4", "sleep", "1.5")
    provision(client)
    client.wait_for_jobs([jobid], ["RUN"])
    assert len(client.run_unburst()) == 1
    assert grown.flux("jobs", "-no", "{status}", str(jobid)) == "COMPLETED"
    assert grown.left_over() == []


def test_after_the_grace_period_jobs_are_named_and_left_running(grown: Growing) -> None:
    client = grown.client(grace="0.2s")
    jobid = grown.submit("-N4", "sleep", "100")
    provision(client)
    client.wait_for_jobs([jobid], ["RUN"])
    with pytest.raises(BurstErrors, match=r"still runs on its nodes after 0\.2s; they are drained"):
        client.run_unburst()
    assert (grown.drained(), len(grown.up())) == ("1-3", 4)
    grown.flux("cancel", str(jobid))
    grown.flux("job", "wait-event", str(jobid), "clean")
    grown.client().reconcile()
    assert (grown.left_over(), grown.nodes("down")) == ([], 3)


def test_after_the_grace_period_jobs_are_canceled_if_that_is_wanted(grown: Growing) -> None:
    client = grown.client(grace="0.2s", cancel_jobs=True)
    jobid = grown.submit("-N4", "sleep", "100")
    provision(client)
    client.wait_for_jobs([jobid], ["RUN"])
    assert len(client.run_unburst()) == 1
    assert grown.flux("jobs", "-no", "{status}", str(jobid)) == "CANCELED"
    assert (grown.left_over(), grown.nodes("down")) == ([], 3)


# --- brokers that are killed -------------------------------------------------------------------


def test_a_broker_killed_while_it_joins_fails_the_burst_and_the_next_run_mends_it(
    grown: Growing,
) -> None:
    jobid = grown.submit("-N4", "hostname")
    client = grown.client()
    client.run_burst()
    wait_until(lambda: "burst1" in grown.brokers(), "the brokers run")
    grown.brokers()["burst1"].kill()
    (burst,) = follow(client, 60, quiet=True)
    assert burst.state is BurstState.FAILED
    assert "burst1 is gone" in burst.error
    assert (grown.left_over(), client.instance.pending_jobs()[0].mark) == ([], None)
    again = grown.client()
    assert [burst.state for burst in provision(again)] == [BurstState.READY]
    again.wait_for_jobs([jobid])
    again.run_unburst()
    assert grown.left_over() == []


def test_a_broker_killed_while_a_job_runs_on_it_is_mended_and_flux_fails_the_job(
    grown: Growing,
) -> None:
    running = grown.submit("-N4", "sleep", "100")
    client = grown.client()
    provision(client)
    # A node that is lost before its shell runs leaves the job in Flux forever, also if canceled.
    grown.flux("job", "wait-event", "-p", "exec", str(running), "shell.start")
    lost(grown, "burst1")
    client.wait_for_jobs([running])
    assert grown.flux("jobs", "-no", "{status}", str(running)) in ("FAILED", "CANCELED")
    waiting = grown.submit("-N4", "hostname")
    mender = grown.client()
    assert BurstState.READY in [burst.state for burst in provision(mender)]
    mender.wait_for_jobs([waiting])
    assert grown.flux("jobs", "-no", "{status}", str(waiting)) == "COMPLETED"
    mender.run_unburst()
    assert (grown.left_over(), grown.nodes("down")) == ([], 3)


def test_a_lost_node_and_its_job_are_warned_of_while_another_job_goes_on(
    grown: Growing, caplog: pytest.LogCaptureFixture
) -> None:
    grown.submit("-N1", "-x", "sleep", "100")
    jobs = [grown.submit("-N1", "-x", "sleep", "100") for _ in range(2)]
    client = grown.client()
    (burst,) = provision(client)
    for jobid in jobs:
        grown.flux("job", "wait-event", "-p", "exec", str(jobid), "shell.start")
    client.reconcile()
    (run,) = [run for run in client.instance.runs(jobs) if run.hostnames == ("burst1",)]
    gone = run.job
    lost(grown, "burst1")
    client.wait_for_jobs([gone])
    client.reconcile()
    warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert warned[:2] == [
        f"burst {burst.name}: node burst1 is lost: no longer up in the instance",
        f"burst {burst.name}: job {format_f58(gone)} is lost: it ran on burst1 "
        "(node failure on burst1 (rank 2))",
    ]
    why = timeline.of_job(client.ledger, gone, client.now())
    assert f"job {format_f58(gone)} is lost" in " ".join(event.why for event in why.events)
    (other,) = {*jobs} - {gone}
    assert grown.flux("jobs", "-no", "{status}", str(other)) == "RUN"
    grown.flux("cancel", "--all")
    client.wait_for_jobs()
    grown.client().run_unburst()


def test_what_jobs_of_a_killed_broker_leave_behind_is_ended_with_it(grown: Growing) -> None:
    jobid = grown.submit("-N4", "sleep", "4242")
    client = grown.client()
    provision(client)
    # A shell that Flux kills before that would leave its task behind by itself, also on the lead.
    grown.flux("job", "wait-event", "-p", "exec", str(jobid), "shell.start")
    for host in ("burst0", "burst1", "burst2"):
        lost(grown, host)
    grown.client().reconcile()
    assert grown.left_over() == []
    orphans = subprocess.run(["pgrep", "-f", "sleep 4242"], capture_output=True, text=True)
    states = [Path(f"/proc/{pid}/stat").read_text().split()[2] for pid in orphans.stdout.split()]
    assert set(states) <= {"Z"}


def test_a_broker_killed_while_it_is_drained_is_mended_by_the_next_run(grown: Growing) -> None:
    client = grown.client(grace="0.2s")
    jobid = grown.submit("-N4", "sleep", "100")
    provision(client)
    client.wait_for_jobs([jobid], ["RUN"])
    with pytest.raises(BurstErrors):
        client.run_unburst()
    lost(grown, "burst2")
    client.wait_for_jobs([jobid])
    done = grown.fluxburst("run")
    assert grown.drained() == "", done.stderr
    assert (grown.left_over(), grown.nodes("down")) == ([], 3)


def test_all_brokers_killed_leave_no_job_given_to_a_burst_that_is_not_there(
    grown: Growing,
) -> None:
    jobid = grown.submit("-N4", "hostname")
    client = grown.client()
    client.instance.set_marks({jobid: Mark("local", "local-never-was")})
    assert [burst.state for burst in provision(grown.client())] == [BurstState.READY]
    client.wait_for_jobs([jobid])
    assert len(grown.client().run_unburst()) == 1


def test_taking_down_that_is_interrupted_anywhere_is_finished_by_the_next(grown: Growing) -> None:
    for step in ("drain", "disconnect", "undrain"):
        client = grown.client()
        jobid = grown.submit("-N4", "hostname")
        provision(client)
        client.wait_for_jobs([jobid])
        _interrupt_after(client, step)
        with pytest.raises(KeyboardInterrupt):
            client.run_unburst()
        if step == "drain":  # nothing was begun
            assert len(grown.client().run_unburst()) == 1
        grown.client().reconcile()
        assert (grown.left_over(), grown.nodes("down")) == ([], 3), step


def _interrupt_after(client: FluxBurst, step: str) -> None:
    """Have the process interrupted right before a step that the instance is asked for."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    setattr(client.instance, step, interrupted)


# --- brokers that do not join ------------------------------------------------------------------

WRONG_HOST = 'argv = [a.replace("hostname=burst", "hostname=elsewhere") for a in argv]'
WRONG_CONFIG = 'argv = [a.replace("elastic/config", "elsewhere") for a in argv]'


def _elsewhere(grown: Growing, change: Callable[[str], str]) -> None:
    """Give brokers a configuration of their own."""
    config = grown.directory.parent / "elsewhere"
    config.mkdir(exist_ok=True)
    text = (grown.directory / "config" / "system.toml").read_text()
    (config / "system.toml").write_text(change(text))


def _failed(grown: Growing, flux_root: Path) -> str:
    """Burst with brokers of another Flux root; return why it failed."""
    grown.submit("-N2", "hostname")
    client = grown.client(flux_root=str(flux_root), join_timeout="3s")
    (burst,) = provision(client)
    assert burst.state is BurstState.FAILED
    assert (grown.left_over(), grown.nodes("down")) == ([], 3)
    assert client.instance.pending_jobs()[0].mark is None
    return burst.error


def test_a_wrong_hostname_is_named(grown: Growing, tmp_path: Path) -> None:
    error = _failed(grown, flux_that(tmp_path, WRONG_HOST))
    assert "its hostname elsewhere0 is not in the bootstrap configuration" in error


def test_an_address_that_does_not_answer_is_named(grown: Growing, tmp_path: Path) -> None:
    _elsewhere(grown, lambda text: re.sub(r"127.0.0.1:\d+", "127.0.0.1:9", text))
    error = _failed(grown, flux_that(tmp_path, WRONG_CONFIG))
    assert "did not join within 3s" in error
    assert "nothing answers at tcp://127.0.0.1:9" in error


def test_another_certificate_is_named(grown: Growing, tmp_path: Path) -> None:
    other = tmp_path / "other.cert"
    subprocess.run(["flux", "keygen", str(other)], check=True)
    _elsewhere(grown, lambda text: text.replace(str(grown.directory / "curve.cert"), str(other)))
    error = _failed(grown, flux_that(tmp_path, WRONG_CONFIG))
    assert "its certificate is not the lead's" in error


def test_a_broker_that_cannot_be_started_is_named(grown: Growing, tmp_path: Path) -> None:
    root = tmp_path / "root"
    script(root / "bin" / "flux", "import sys\nsys.exit('no such luck')")
    error = _failed(grown, root)
    assert "no such luck" in error
    done = grown.fluxburst("plan")
    assert done.returncode == 0


def test_the_command_line_says_what_failed_and_why(
    grown: Growing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown.submit("-N2", "hostname")
    monkeypatch.setenv("FLUXBURST_LOCAL_FLUX_ROOT", str(flux_that(tmp_path, WRONG_HOST)))
    done = grown.fluxburst("run")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("fluxburst: local-")
    assert "failed: burst0 is gone: burst0: its hostname elsewhere0 is not in the" in line


# --- a queue of the burst nodes ----------------------------------------------------------------


@pytest.fixture(scope="module")
def instance_with_queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growing]:
    directory = tmp_path_factory.mktemp("site") / "elastic"
    options = ["--burst-nodes=2", "--cores=2", "--lead-cores=2", "--queue=burst"]
    with growing(directory, *options) as made:
        yield made


@pytest.fixture
def queued(instance_with_queue: Growing) -> Iterator[Growing]:
    """An instance whose burst nodes have a queue of their own, all of them down."""
    yield instance_with_queue
    instance_with_queue.clear()


def test_a_job_that_is_taken_is_moved_to_the_burst_queue_and_others_stay_off_its_nodes(
    queued: Growing,
) -> None:
    busy = queued.flux("submit", "-N1", "sleep", "100")
    jobid = queued.submit("-N1", "hostname")
    client = queued.client()
    (burst,) = provision(client)
    assert (burst.nodes, burst.jobs) == (1, (jobid,))
    client.wait_for_jobs([jobid])
    stays = queued.flux("submit", "-N1", "hostname")
    assert queued.flux("jobs", "-ano", "{queue} {status} {nodelist}", str(jobid)) == (
        "burst COMPLETED burst0"
    )
    assert queued.flux("jobs", "-no", "{queue} {state}", stays) == "batch SCHED"
    queued.flux("cancel", busy)
    client.run_unburst()
    assert queued.left_over() == []


def test_a_job_whose_burst_fails_is_moved_back(queued: Growing, tmp_path: Path) -> None:
    queued.flux("submit", "-N1", "sleep", "100")
    jobid = queued.submit("-N1", "hostname")
    client = queued.client(flux_root=str(flux_that(tmp_path, WRONG_HOST)))
    client.run_burst()
    assert client.instance.pending_jobs()[0].queue == "burst"
    (burst,) = follow(client, 60, quiet=True)
    assert burst.state is BurstState.FAILED
    (job,) = client.instance.pending_jobs()
    assert (job.id, job.queue, job.mark) == (jobid, "batch", None)


def test_a_free_burst_node_is_used_by_the_next_job_that_is_moved(queued: Growing) -> None:
    queued.flux("submit", "-N1", "sleep", "100")
    first = queued.submit("-N1", "hostname")
    client = queued.client()
    provision(client)
    client.wait_for_jobs([first])
    second = queued.submit("-N1", "hostname")
    client.run_burst()
    client.wait_for_jobs([second])
    assert list(queued.brokers()) == ["burst0"]
    assert queued.flux("jobs", "-ano", "{nodelist}", str(second)) == "burst0"
    client.run_unburst()


# --- misfortunes -------------------------------------------------------------------------------


@pytest.mark.soak
def test_a_burst_whose_processes_will_not_end_is_ended_by_force(grown: Growing) -> None:
    plugin = grown.local()
    burst = plugin.create(Burst("local-stuck", "local", "2-core", 1))
    wait_until(lambda: grown.nodes("up") == 2, "burst0 has joined")
    os.kill(grown.brokers()["burst0"].pid, signal.SIGSTOP)
    plugin.launcher.end("local-stuck")
    assert grown.brokers() == {}
    plugin.delete(replace(burst, state=BurstState.READY))
    assert grown.left_over() == []


def test_a_node_that_somebody_drained_is_not_used_and_stays_drained(grown: Growing) -> None:
    grown.flux("resource", "drain", "1", "bad", "memory")
    grown.submit("-N3", "hostname")
    client = grown.client()
    (burst,) = provision(client)
    assert burst.hostnames == ("burst1", "burst2")
    client.run_unburst()
    assert client.remaining() == []
    assert grown.flux("resource", "drain", "-no", "{ranks} {reason}") == "1 bad memory"
    wide = grown.submit("-N4", "hostname")
    drained = r"burst0 is drained since 20\S+ \S+Z \('bad memory'\) and not used: "
    drained += "undrain it with 'flux resource undrain burst0'"
    reasons = {decision.id: decision.reasons for decision in client.plan().decisions}
    assert re.search(drained, reasons[wide][0])
    grown.flux("resource", "drain", "2-3", "bad disk")
    reasons = {decision.id: decision.reasons for decision in client.plan().decisions}
    assert re.fullmatch(
        f"local declined; {drained}; burst\\[1-2\\] are drained .*", reasons[wide][0]
    )
    grown.flux("cancel", str(wide))
    grown.flux("resource", "undrain", "1-3")


def test_the_contract_of_all_plugins(grown: Growing) -> None:
    def out_of_capacity(yes: bool) -> None:
        grown.flux("resource", *(["drain", "1-3", "maintenance"] if yes else ["undrain", "1-3"]))

    def left() -> list[str]:
        """Return the brokers, and what they leave only once there are none: they make it later."""
        drained = f"drained: {grown.drained()}"
        return sorted(grown.brokers()) or [what for what in grown.left_over() if what != drained]

    check_contract(grown.local, "2-core", left, out_of_capacity, time.time())
