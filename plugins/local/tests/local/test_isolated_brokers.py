"""Isolated bursts: brokers on this machine that make an instance of their own."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tests.elastic_instance import ElasticInstance, wait_until
from tests.live import running_flux
from tests.local.growing import Growing, growing, local_plugin
from tests.local.isolating import FAILS, check_it_runs_there, pass_until, result_of
from tests.support import flux_available

from fluxburst import Burst, BurstState, FluxBurst
from fluxburst.config.parameters import build
from fluxburst_local import BurstParameters, LocalBurst, boot_isolated, run_job

live = pytest.mark.skipif(not flux_available(), reason="no live Flux")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growing]:
    directory = tmp_path_factory.mktemp("Straße no 1") / "elastic"
    with growing(directory, "--burst-nodes=3", "--cores=2", "--lead-cores=2") as made:
        yield made


@pytest.fixture
def grown(instance: Growing, tmp_path: Path) -> Iterator[Growing]:
    """An instance with room for three burst nodes, whose bursts are isolated."""
    instance.parameters |= {"isolated_burst": True, "output_dir": str(tmp_path / "output")}
    yield instance
    instance.clear()


@pytest.fixture
def plain(grown: Growing) -> Iterator[ElasticInstance]:
    """An instance that was not made to grow, of two nodes, one of which is in use."""
    with running_flux(size=2) as flux:
        flux("submit", "-N1", "--exclusive", "sleep", "inf")
        made = ElasticInstance(grown.directory, flux.uri, "local", grown.parameters)
        yield made
        made.clear(config_dir=str(grown.directory))


def job_on_two_nodes(grown: Growing, *command: str) -> int:
    return grown.submit("-N2", "-n2", "-oexit-timeout=1s", *command)


def with_a_burst(grown: Growing) -> tuple[FluxBurst, Burst]:
    """Have a job sleep in a burst; return the client that brought it up, and the burst."""
    client = grown.client()
    job_on_two_nodes(grown, "sleep", "inf")
    client.run_burst()
    pass_until(client, lambda: [e for e in client.ledger.live() if e.ready])
    (entry,) = client.ledger.live()
    return client, entry.burst


@pytest.mark.flux
@live
def test_a_job_runs_in_an_instance_of_its_own_and_is_ended_here_as_there(
    grown: Growing, tmp_path: Path
) -> None:
    check_it_runs_there(grown, tmp_path / "output")


@pytest.mark.flux
@live
def test_an_instance_that_was_not_made_to_grow_has_its_jobs_run_elsewhere(
    plain: ElasticInstance,
) -> None:
    client = plain.client(config_dir=str(plain.directory))
    jobid = plain.submit(*FAILS)
    client.run_burst()
    pass_until(client, lambda: not client.ledger.live())
    assert "with exit code 3" in plain.flux("jobs", "-no", "{exception.note}", str(jobid))


@pytest.mark.flux
@live
def test_instances_that_share_a_directory_leave_each_others_bursts_alone(grown: Growing) -> None:
    client, burst = with_a_burst(grown)
    with running_flux() as flux:
        other = ElasticInstance(grown.directory, flux.uri, "local", grown.parameters)
        theirs = other.client(config_dir=str(grown.directory))
        theirs.run_burst()
        theirs.run_unburst()
        assert theirs.plugins["local"].list_bursts() == []
        other.release()
    assert local_plugin(client).refresh(burst).state is BurstState.READY


@pytest.mark.flux
@live
def test_no_more_nodes_are_planned_than_hosts_are_free(plain: ElasticInstance) -> None:
    client = plain.client(config_dir=str(plain.directory))
    jobs = [plain.submit("-N2", "-n2", "-oexit-timeout=1s", "sleep", "inf") for _ in range(2)]
    for _ in range(2):  # two of three hosts are in use from the first time on
        client.run_burst()
        assert [entry.burst.jobs for entry in client.ledger.live()] == [(jobs[0],)]


@pytest.mark.flux
@live
def test_output_that_cannot_be_put_where_it_should_is_where_the_job_says(
    grown: Growing, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    client = grown.client(output_dir=str(tmp_path / "file" / "output"))
    jobid = job_on_two_nodes(grown, "echo", "precious")
    client.run_burst()
    pass_until(client, lambda: not client.ledger.live())
    where = Path(result_of(grown, jobid).rpartition("its output: ")[2])
    assert where.is_relative_to(grown.directory / "log")
    assert "precious" in where.read_text()
    assert stat.S_IMODE(where.stat().st_mode) == 0o600


@pytest.mark.flux
@live
def test_what_only_its_owner_may_know_is_for_its_owner_alone(grown: Growing) -> None:
    client, _ = with_a_burst(grown)
    (folder,) = grown.directory.glob("isolated/*/*")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    secrets = {modes[name] for name in ("curve.cert", "job.json", "output", "told")}
    assert secrets == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (entry,) = client.ledger.live()
    assert entry.burst.state is BurstState.READY


@pytest.mark.flux
@live
def test_a_job_takes_along_the_variables_that_are_asked_for(grown: Growing, tmp_path: Path) -> None:
    client = grown.client(environment=["COL*"])
    say = 'echo "<$COLOR$SHAPE>" > "$0-$FLUX_TASK_RANK"'
    where = tmp_path / "said"
    jobid = grown.submit(
        "-N2", "-n2", "--env=COLOR=red", "--env=SHAPE=round", "/bin/sh", "-c", say, str(where)
    )
    client.run_burst()
    pass_until(client, lambda: not client.ledger.live())
    assert "with exit code 0" in result_of(grown, jobid)
    assert Path(f"{where}-0").read_text() == "<red>\n"


@pytest.mark.flux
@live
def test_a_lead_that_is_killed_fails_the_burst_and_the_job_is_free_again_once_it_has_ended(
    grown: Growing, tmp_path: Path
) -> None:
    client = grown.client()
    alive = tmp_path / "alive"
    # What nothing but its parents tell whose it is: these end first.
    command = 'echo "$$" > "$0-$FLUX_TASK_RANK"; exec env -i sleep inf'
    jobid = job_on_two_nodes(grown, "sh", "-c", command, str(alive))
    client.run_burst()
    files = [Path(f"{alive}-{rank}") for rank in range(2)]
    wait_until(lambda: all(f.exists() and f.read_text().strip() for f in files), "the job runs")
    tasks = [Path("/proc", file.read_text().strip()) for file in files]
    (burst,) = [entry.burst for entry in client.ledger.live()]
    grown.brokers()["burst0"].kill()
    wait_until(lambda: "burst0" not in grown.brokers(), "the lead is no more")
    pass_until(client, lambda: burst.name not in {e.burst.name for e in client.ledger.live()})
    assert [task.exists() for task in tasks] == [False, False]
    (failed,) = [e for e in client.ledger.entries() if e.burst.name == burst.name]
    assert failed.burst.state is BurstState.FAILED
    assert "burst0" in failed.burst.error
    assert "is gone" in failed.burst.error
    assert jobid in client.instance.job_ids()


@pytest.mark.flux
@live
def test_a_node_that_is_lost_is_not_the_end_of_its_job(grown: Growing, tmp_path: Path) -> None:
    client = grown.client()
    alive = tmp_path / "alive"
    jobid = job_on_two_nodes(grown, "sh", "-c", 'echo "$$" > "$0"; exec sleep inf', str(alive))
    client.run_burst()
    wait_until(lambda: alive.exists(), "the job runs")
    (burst,) = [entry.burst for entry in client.ledger.live()]
    lead = next(host for host in grown.brokers() if host.endswith("0"))
    follower = next(host for host in grown.brokers() if host != lead)
    grown.brokers()[follower].kill()
    plugin = client.plugins["local"]
    assert isinstance(plugin, LocalBurst)
    told = plugin.brokers.isolated(burst.name) / "told"
    wait_until(lambda: "broken a node of its instance" in told.read_text(), "the lead says so", 60)
    pass_until(client, lambda: burst.name not in {e.burst.name for e in client.ledger.live()})
    (failed,) = [e for e in client.ledger.entries() if e.burst.name == burst.name]
    assert (failed.burst.state, failed.burst.exit_code) == (BurstState.FAILED, None)
    assert jobid in client.instance.job_ids()


@pytest.mark.flux
@live
def test_a_job_that_is_canceled_here_is_ended_there(grown: Growing, tmp_path: Path) -> None:
    client = grown.client()
    alive = tmp_path / "alive"
    jobid = job_on_two_nodes(grown, "sh", "-c", 'echo "$$" > "$0"; exec sleep inf', str(alive))
    client.run_burst()
    wait_until(lambda: alive.exists() and alive.read_text().strip(), "the job runs")
    process = int(alive.read_text())
    grown.flux("cancel", str(jobid))
    pass_until(client, lambda: not client.ledger.live())
    wait_until(lambda: not Path(f"/proc/{process}").exists(), "what ran there has ended")
    assert grown.left_over() == []


@pytest.mark.flux
@live
def test_a_burst_whose_job_has_started_is_not_started_again(grown: Growing, tmp_path: Path) -> None:
    plugin = grown.local()
    said = tmp_path / "said"
    jobid = grown.submit("--urgency=0", "-N1", "-n1", "sh", "-c", 'echo ran >> "$0"', str(said))
    burst = replace(Burst("local-1", "local", "2-core", 1), jobs=(jobid,), isolated=True)
    plugin.create(burst)
    wait_until(lambda: plugin.refresh(burst).exit_code == 0, "it has ended")
    wait_until(lambda: grown.brokers() == {}, "its brokers have ended")
    assert plugin.create(burst).exit_code == 0
    assert grown.brokers() == {}
    assert plugin.list_bursts() == ["local-1"]
    plugin.delete(burst)
    assert (plugin.list_bursts(), said.read_text()) == ([], "ran\n")
    assert grown.left_over() == []


@pytest.mark.flux
@live
def test_a_burst_of_which_only_the_directory_is_left_was_not_started_and_is_removed(
    grown: Growing,
) -> None:
    plugin = grown.local()
    folder = plugin.brokers.isolated("local-1")
    folder.mkdir(parents=True)
    (folder.parent / ".nfs0001").touch()  # which is no burst
    (found,) = plugin.adopt()
    assert (found.name, found.isolated) == ("local-1", True)
    assert (found.state, found.error) == (BurstState.FAILED, "its brokers were not started")
    plugin.delete(found)
    assert not folder.exists()
    (folder.parent / ".nfs0001").unlink()


def test_the_doctor_says_whether_output_can_be_kept(tmp_path: Path) -> None:
    def findings(**parameters: object) -> list[tuple[str, str]]:
        plugin = LocalBurst(build("local", BurstParameters, config=parameters))
        return [(one.level, one.what) for one in plugin.diagnose()]

    file = tmp_path / "file"
    file.touch()
    ((level, what),) = findings(isolated_burst=True, output_dir=str(file / "output"))
    assert (level, what) == ("error", f"cannot keep the output of jobs: {file} is a file")
    assert findings() == []


# --- the scripts -------------------------------------------------------------------------------


def script(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts, as a file and without this project on the path."""
    command = [sys.executable, "-I", path, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def template(directory: Path) -> None:
    (directory / "lead").write_text("a")
    (directory / "endpoint").write_text("")
    (directory / "broker.toml").write_text("bind = @bound@\nconnect = @endpoint@\n")


def test_the_lead_says_where_it_is_reached_and_the_others_are_told(tmp_path: Path) -> None:
    template(tmp_path)
    for host in ("a", "b"):
        done = script(
            boot_isolated.__file__, str(tmp_path), "127.0.0.1", "5", host, "echo", "{}", host
        )
        assert (done.returncode, done.stdout) == (0, f"{{}} {host}\n"), done.stderr
    endpoint = (tmp_path / "endpoint").read_text().strip()
    assert endpoint.startswith("tcp://127.0.0.1:")
    told = f"bind = {endpoint}\nconnect = {endpoint}\n"
    assert (tmp_path / "a.toml").read_text() == (tmp_path / "b.toml").read_text() == told


def test_a_lead_without_an_address_listens_everywhere_and_is_reached_by_name(
    tmp_path: Path,
) -> None:
    template(tmp_path)
    assert script(boot_isolated.__file__, str(tmp_path), "", "5", "a", "true").returncode == 0
    bound, connect = (tmp_path / "a.toml").read_text().splitlines()
    assert bound.startswith("bind = tcp://*:")
    assert connect.startswith(f"connect = tcp://{os.uname().nodename}:")


def test_a_broker_whose_lead_never_comes_gives_up_and_says_so(tmp_path: Path) -> None:
    template(tmp_path)
    done = script(boot_isolated.__file__, str(tmp_path), "", "0.2", "b", "true")
    assert done.returncode == 1
    assert done.stderr == f"fluxburst: the lead did not write {tmp_path}/endpoint within 0.2 s\n"


LEAVES = 'env -i setsid sleep inf & echo $! > "$0"; kill -"$1" $$; wait'
"""It leaves a process behind that nothing tells whose it is, and is ended by a signal."""


@pytest.mark.parametrize(("number", "code"), [("KILL", 137), ("TERM", 143)])
def test_what_a_broker_leaves_behind_is_ended_with_it(
    tmp_path: Path, number: str, code: int
) -> None:
    template(tmp_path)
    left = tmp_path / "left"
    command = ["sh", "-c", LEAVES, str(left), number]
    done = script(boot_isolated.__file__, str(tmp_path), "", "5", "a", *command)
    assert done.returncode == code, done.stderr
    assert not Path("/proc", left.read_text().strip()).exists()


def test_a_broker_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    template(tmp_path)
    done = script(boot_isolated.__file__, str(tmp_path), "", "5", "a", "/no/flux")
    assert (done.returncode, done.stderr) == (
        127,
        "fluxburst: /no/flux cannot be run: No such file or directory\n",
    )


SAYS = """
trap 'sleep 0.1; echo kindly > "$0"; exit 7' TERM
env -i setsid sleep inf &
echo $$ $! > "$1.new"; mv "$1.new" "$1"
while :; do sleep 0.1; done
"""
"""It leaves such a process behind, and says that it has ended kindly if it could."""


def booted(tmp_path: Path) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """Start such a broker; return what was started, and it and what it leaves behind."""
    template(tmp_path)
    command = ["sh", "-c", SAYS, str(tmp_path / "said"), str(tmp_path / "ready")]
    process = subprocess.Popen(
        [sys.executable, "-I", boot_isolated.__file__, str(tmp_path), "", "5", "a", *command],
        start_new_session=True,
    )
    wait_until((tmp_path / "ready").exists, "it runs")
    pids = (tmp_path / "ready").read_text().split()
    return process, [psutil.Process(int(pid)) for pid in pids]


def test_a_broker_ends_as_it_wants_when_its_group_is_told_to_end(tmp_path: Path) -> None:
    process, others = booted(tmp_path)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 7
    assert (tmp_path / "said").read_text() == "kindly\n"
    assert not any(one.is_running() for one in others)


def test_when_all_of_its_group_is_killed_nothing_of_a_broker_goes_on(tmp_path: Path) -> None:
    process, others = booted(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    wait_until(lambda: not any(one.is_running() for one in others), "all has ended")


def test_when_what_runs_a_broker_is_killed_nothing_of_it_goes_on(tmp_path: Path) -> None:
    process, others = booted(tmp_path)
    (apart,) = psutil.Process(process.pid).children()
    apart.kill()
    assert process.wait(60) == 137
    assert not any(one.is_running() for one in others)


LOST = (
    """eventlog) echo '1.5 exception type="exec" severity=0 userid=0 note="node failure on b"';;"""
)


def flux_that(tmp_path: Path, text: str) -> str:
    """Make a flux command of a few lines."""
    path = tmp_path / "flux"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("case $2 in submit) echo ƒA;; attach) echo out; exit 7;; esac", "exit-code 7"),
        ("echo 'ERROR: not today' >&2; exit 1", "rejected the job: ERROR: not today"),
        ("case $2 in submit) echo ƒA;; attach) kill $$;; status) exit 5;; esac", "exit-code 5"),
        ("case $2 in submit) echo ƒA;; *) exit 1;; esac", "broken its instance ended"),
        (f"case $2 in submit) echo ƒA;; attach) exit 143;; {LOST} esac", "broken a node of its"),
        (f"case $2 in submit) echo ƒA;; attach) exit 0;; {LOST} esac", "exit-code 0"),
    ],
)
def test_what_becomes_of_a_job_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "told").touch()
    (tmp_path / "job.json").write_text(json.dumps({}))
    script(run_job.__file__, flux_that(tmp_path, text), str(tmp_path), "99")
    assert told in (tmp_path / "told").read_text().splitlines()[-1]


def test_of_an_output_as_much_is_kept_as_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "told").touch()
    flux = flux_that(tmp_path, "case $2 in submit) echo ƒA;; attach) seq 1000000;; esac")
    script(run_job.__file__, flux, str(tmp_path), "99")
    assert len((tmp_path / "output").read_bytes()) == 99
    assert (tmp_path / "told").read_text().splitlines()[-1] == "exit-code 0"


def test_an_output_that_cannot_be_kept_is_told_with_how_the_job_ended(tmp_path: Path) -> None:
    (tmp_path / "told").touch()
    (tmp_path / "output").symlink_to("/dev/full")
    flux = flux_that(tmp_path, "case $2 in submit) echo ƒA;; attach) echo out; exit 3;; esac")
    script(run_job.__file__, flux, str(tmp_path), "99")
    told = (tmp_path / "told").read_text().splitlines()
    assert told[-2:] == ["cut No space left on device", "exit-code 3"]


def test_a_job_that_was_started_is_not_started_again(tmp_path: Path) -> None:
    (tmp_path / "told").write_text("state submitted\n")
    script(run_job.__file__, flux_that(tmp_path, f"touch {tmp_path}/ran"), str(tmp_path), "99")
    assert not (tmp_path / "ran").exists()
    assert "broken its lead was restarted" in (tmp_path / "told").read_text()
