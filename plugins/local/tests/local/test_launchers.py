"""Launchers and diagnosis, as far as they need neither Flux nor Slurm nor ssh."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxburst.errors import BurstError, CapacityError, FormatError, ParameterError, QuotaError
from fluxburst_local import open_rundir, start_broker
from fluxburst_local.brokers import Brokers
from fluxburst_local.diagnosis import explain, explain_all
from fluxburst_local.launchers import (
    FluxLauncher,
    Launched,
    ProcessLauncher,
    SlurmLauncher,
    SlurmOptions,
    SrunLauncher,
    SshLauncher,
)
from fluxburst_local.slurm_limits import parse_time

SLEEPER = "import time\ntime.sleep(600)\n"


def command_of(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


@pytest.fixture
def brokers(tmp_path: Path) -> Brokers:
    """Brokers that are processes which sleep."""
    flux = command_of(tmp_path / "flux", SLEEPER)
    return Brokers(str(flux), tmp_path / "elastic", run_dir=tmp_path)


@pytest.fixture
def launcher(brokers: Brokers) -> Iterator[ProcessLauncher]:
    made = ProcessLauncher(brokers)
    yield made
    for launched in made.launched():
        made.end(launched.name)


def wait_for(launcher: ProcessLauncher, *expected: tuple[str, tuple[str, ...], set[str]]) -> None:
    """Wait until these are what a launcher lists: name, hosts, and which of them are lost."""
    until = time.monotonic() + 20
    while (listed := [(one.name, one.hosts, set(one.lost)) for one in launcher.launched()]) != [
        *expected
    ]:
        assert time.monotonic() < until, listed
        time.sleep(0.02)


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


# --- processes ---------------------------------------------------------------------------------


def test_processes_are_found_again_by_another_launcher_and_ended(
    launcher: ProcessLauncher, brokers: Brokers
) -> None:
    before = time.time()
    launcher.launch("local-1", ["burst0", "burst1"])
    launcher.launch("local-2", ["burst2"])
    other = ProcessLauncher(brokers)
    wait_for(other, ("local-1", ("burst0", "burst1"), set()), ("local-2", ("burst2",), set()))
    since = other.launched()[0].since
    assert since is not None
    assert before - 2 < since < time.time() + 2
    other.end("local-1")
    wait_for(other, ("local-2", ("burst2",), set()))
    other.end("local-1")


def test_launching_again_starts_only_what_does_not_run(launcher: ProcessLauncher) -> None:
    launcher.launch("local-1", ["burst0"])
    wait_for(launcher, ("local-1", ("burst0",), set()))
    first = launcher.launched()[0].since
    launcher.launch("local-1", ["burst0", "burst1"])
    wait_for(launcher, ("local-1", ("burst0", "burst1"), set()))
    assert launcher.launched()[0].since == first


def test_the_run_directory_of_a_killed_broker_is_found_as_lost_and_removed(
    launcher: ProcessLauncher, brokers: Brokers
) -> None:
    rundir = brokers.rundir("local-1", "burst0")
    rundir.mkdir()
    (rundir / "local-1").touch()
    wait_for(launcher, ("local-1", ("burst0",), {"burst0"}))
    launcher.end("local-1")
    assert not rundir.exists()
    assert launcher.launched() == []


def test_processes_of_jobs_that_a_killed_broker_left_are_ended_with_its_burst(
    launcher: ProcessLauncher, brokers: Brokers
) -> None:
    uri = f"local://{brokers.rundir('local-1', 'burst0')}/local-1"
    orphan = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], env={**os.environ, "FLUX_URI": uri}, start_new_session=True
    )
    wait_for(launcher, ("local-1", (), set()))
    launcher.end("local-1")
    assert orphan.wait(10) != 0


def test_a_stranger_is_not_taken_for_a_burst(launcher: ProcessLauncher, tmp_path: Path) -> None:
    stranger = ProcessLauncher(Brokers(str(tmp_path / "flux"), tmp_path / "other", tmp_path))
    stranger.launch("local-1", ["burst0"])
    wait_for(stranger, ("local-1", ("burst0",), set()))
    assert launcher.launched() == []
    stranger.end("local-1")


def test_a_process_that_ignores_a_kind_word_is_ended_by_force(
    brokers: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluxburst_local.processes.TERM_SECONDS", 0.2)
    ignore = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    command_of(Path(brokers.flux), f"{ignore}print('deaf', flush=True)\n{SLEEPER}")
    launcher = ProcessLauncher(brokers)
    launcher.launch("local-1", ["burst0"])
    log = brokers.log("local-1", "burst0")
    until = time.monotonic() + 20
    while "deaf" not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < until
        time.sleep(0.02)
    launcher.end("local-1")
    assert launcher.launched() == []


def test_a_broker_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    launcher = ProcessLauncher(Brokers("/nowhere/flux", tmp_path / "elastic", tmp_path))
    with pytest.raises(BurstError, match="cannot start broker burst0"):
        launcher.launch("local-1", ["burst0"])


def test_a_broker_that_guests_may_reach_has_a_run_directory_that_they_can_enter(
    brokers: Brokers, tmp_path: Path
) -> None:
    rundir = brokers.rundir("local-1", "burst0")
    for guests in (False, True):
        launcher = ProcessLauncher(replace(brokers, guests=guests))
        launcher.launch("local-1", ["burst0"])
        wait_for(launcher, ("local-1", ("burst0",), set()))
        if guests:
            wait_until(lambda: rundir.exists() and stat.S_IMODE(rundir.stat().st_mode) == 0o755)
        else:
            assert not rundir.exists()
        launcher.end("local-1")
        assert not rundir.exists()


def test_a_run_directory_is_never_opened_by_way_of_somebody_elses_link(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (tmp_path / "rundir").symlink_to(private)
    command = ["true", f"-Srundir={tmp_path / 'rundir'}"]
    refused = subprocess.run(
        [sys.executable, open_rundir.__file__, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode
    assert "exists, and belongs to another user" in refused.stderr
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_brokers_do_not_inherit_an_instance_or_a_job(
    launcher: ProcessLauncher, brokers: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import json, os\nprint(json.dumps(dict(os.environ)), flush=True)\n"
    command_of(Path(brokers.flux), text + SLEEPER)
    for name in ("FLUX_URI", "FLUX_JOB_ID", "PMI_RANK", "FLUXBURST_CONFIG"):
        monkeypatch.setenv(name, "theirs")
    launcher.launch("local-1", ["burst0"])
    wait_for(launcher, ("local-1", ("burst0",), set()))
    log = brokers.log("local-1", "burst0")
    until = time.monotonic() + 20
    while not log.read_text().endswith("\n"):
        assert time.monotonic() < until
        time.sleep(0.02)
    environment = json.loads(log.read_text())
    assert "theirs" not in environment.values()
    assert environment["FLUXBURST_BURST"] == "local-1"
    assert log.stat().st_mode & 0o777 == 0o600


# --- ssh and srun ------------------------------------------------------------------------------


def test_ssh_checks_host_keys_whatever_its_arguments_say(brokers: Brokers) -> None:
    launcher = SshLauncher(brokers, ["-o", "StrictHostKeyChecking=no"], "flux")
    command = launcher.command("local-1", "node1")
    first = next(word for word in command if word.startswith("StrictHostKeyChecking"))
    assert first == "StrictHostKeyChecking=yes"
    assert command[command.index("--") + 1] == "node1"
    assert command[command.index("-l") :][:2] == ["-l", "flux"]


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_what_ssh_hands_to_a_shell_is_what_was_meant(directory: str) -> None:
    brokers = Brokers("/opt/my flux/bin/flux", Path("/") / directory)
    remote = SshLauncher(brokers).command("local-1", "node1")[-1]
    words = shlex.split(remote)
    assert words[0] == "env"
    assert words[-len(brokers.command("local-1", "node1")) :] == brokers.command("local-1", "node1")


def test_srun_needs_an_allocation(brokers: Brokers, tmp_path: Path) -> None:
    launcher = SrunLauncher(brokers, 4, "", {})
    with pytest.raises(BurstError, match=r"no srun on PATH|no Slurm allocation"):
        launcher.check()
    command = SrunLauncher(brokers, 4, "77", {}).command("local-1", "n2")
    assert {"--jobid=77", "--nodelist=n2", "--cpus-per-task=4", "--overlap"} <= set(command)


# --- Slurm, at the border of its commands ------------------------------------------------------


class FakeSlurm:
    """Slurm's commands, as scripts that note what they were given."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.answers("squeue", "")
        self.answers("sinfo", "main|main*|infinite|n/a")
        self.answers("scancel", "")
        self.answers("sbatch", "7")
        monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")

    def answers(
        self,
        name: str,
        text: str,
        status: int = 0,
        error: str = "",
        *,
        nodes: str = "",
        cpus: str = "4|1|4",
        then: Mapping[str, str] | None = None,
    ) -> None:
        """Have a command answer with a text; ``then`` is what others answer once it has run."""
        note = self.directory / f"{name}.given"
        for other, answer in (then or {}).items():
            self.answers(f"{other}.then", answer)
        command_of(
            self.directory / name,
            f"import json, os, sys\nwith open({str(note)!r}, 'a') as file:\n"
            f"    file.write(json.dumps(sys.argv[1:]) + '\\n')\n"
            f"if {name!r} == 'sbatch':\n"
            f"    open({str(self.directory / 'script')!r}, 'w').write(sys.stdin.read())\n"
            f"for other in {[*(then or {})]!r}:\n"
            f"    os.rename({str(self.directory)!r} + f'/{{other}}.then',\n"
            f"              {str(self.directory)!r} + f'/{{other}}')\n"
            f"cpus = any('%c' in word for word in sys.argv)\n"
            f"print({nodes!r} if '--Node' in sys.argv else {cpus!r} if cpus else {text!r})\n"
            f"print({error!r}, file=sys.stderr)\nsys.exit({status})\n",
        )

    def given(self, name: str) -> list[list[str]]:
        note = self.directory / f"{name}.given"
        return [json.loads(line) for line in note.read_text().splitlines()] if note.exists() else []


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path / "slurm", monkeypatch)


def slurm_launcher(brokers: Brokers, **options: object) -> SlurmLauncher:
    return SlurmLauncher(brokers, SlurmOptions(**options), 4, 1, dict(os.environ))  # type: ignore[arg-type]


def job(
    brokers: Brokers,
    hosts: str = "burst[0-1]",
    state: str = "RUNNING",
    start: str = "1000",
    reason: str = "None",
) -> str:
    """Return the line that squeue writes of a burst's job."""
    return f"7|{state}|{start}|local-1|fluxburst {brokers.tag} {hosts}|{reason}"


def test_a_slurm_job_bears_the_name_of_the_burst_and_asks_for_its_nodes(
    slurm: FakeSlurm, brokers: Brokers
) -> None:
    launcher = slurm_launcher(
        brokers, partition="main", account="me", time="1:00", arguments=("--qos=x",)
    )
    launcher.launch("local-1", ["burst0", "burst1"])
    (given_,) = slurm.given("sbatch")
    assert {
        "--parsable",
        "--job-name=local-1",
        "--nodes=2",
        "--cpus-per-task=4",
        "--gpus-per-node=1",
        "--partition=main",
        "--account=me",
        "--time=1:00",
        "--qos=x",
        "--no-requeue",
        f"--comment=fluxburst {brokers.tag} burst[0-1]",
    } <= set(given_)
    assert not any(argument.startswith("--nodelist") for argument in given_)


@pytest.mark.parametrize(
    ("cpus", "asked"),
    [("8|2|2", 8), ("4|2|2", 4), ("4|1|4\n16|2|4", 8), ("", 4)],
)
def test_a_slurm_job_asks_for_cores_where_slurm_counts_threads(
    slurm: FakeSlurm, brokers: Brokers, cpus: str, asked: int
) -> None:
    slurm.answers("sinfo", "main|main*|infinite|n/a", cpus=cpus)
    slurm.answers("srun", "")
    slurm_launcher(brokers).launch("local-1", ["burst0"])
    assert f"--cpus-per-task={asked}" in slurm.given("sbatch")[0]
    assert f"--cpus-per-task={asked}" in (slurm.directory / "script").read_text()
    slurm.answers("squeue", "n[1-2]")
    steps = SrunLauncher(brokers, 4, "77", dict(os.environ))
    steps.check()
    assert f"--cpus-per-task={asked}" in steps.command("local-1", "n2")
    assert slurm.given("sinfo")[-1][-1] == "--nodes=n[1-2]"


def test_the_batch_script_becomes_srun_and_no_shell_reads_it(
    slurm: FakeSlurm, tmp_path: Path
) -> None:
    flux = "/opt/$(touch /tmp/x) 'flux'"
    brokers = Brokers(flux, tmp_path / "elastic")
    slurm_launcher(brokers).launch("local-1", ["burst0"])
    script = (slurm.directory / "script").read_text()
    assert script.startswith(f"#!{sys.executable}\n")
    executed: list[list[str]] = []
    os_double = type("os", (), {"execvp": lambda _, command: executed.append(command)})
    exec(script.replace("import os\n", ""), {"os": os_double})
    assert executed[0][0] == "srun"
    assert flux in executed[0]


def test_hosts_that_are_nodes_of_slurm_are_asked_for_by_name(
    slurm: FakeSlurm, brokers: Brokers
) -> None:
    slurm.answers("sinfo", "main|main*|infinite|n/a", nodes="n1\nn2\nn3")
    slurm_launcher(brokers).launch("local-1", ["n2", "n3"])
    assert "--nodelist=n2,n3" in slurm.given("sbatch")[0]


HOSTS = ("burst0", "burst1")


@pytest.mark.parametrize(
    ("job_of", "launched"),
    [
        ({}, Launched("local-1", HOSTS, since=1000.0)),
        (
            {"state": "PENDING", "start": "N/A", "reason": "Resources"},
            Launched("local-1", HOSTS, waiting="waits in Slurm's queue (Resources)"),
        ),
        (
            {"state": "REQUEUE_HOLD", "reason": "some|thing, new"},
            Launched("local-1", HOSTS, waiting="waits in Slurm's queue (some|thing, new)"),
        ),
        (
            {"state": "CONFIGURING", "reason": "Prolog"},
            Launched("local-1", HOSTS, waiting="waits in Slurm's queue (Prolog)"),
        ),
        (
            {"state": "COMPLETING"},
            Launched("local-1", HOSTS, frozenset(HOSTS), since=1000.0),
        ),
    ],
)
def test_bursts_are_read_from_what_squeue_says(
    slurm: FakeSlurm, brokers: Brokers, job_of: dict[str, str], launched: Launched
) -> None:
    others = ["1|RUNNING|5|x||None", "2|PENDING|N/A|y|a|b|Priority", "3|RUNNING|5|z|fluxburst o h|"]
    slurm.answers("squeue", "\n".join([*others, job(brokers, **job_of), ""]))
    assert slurm_launcher(brokers).launched() == [launched]


def test_only_the_jobs_of_this_user_are_asked_for(slurm: FakeSlurm, brokers: Brokers) -> None:
    slurm_launcher(brokers).launched()
    assert all("--me" in asked and "--json" not in asked for asked in slurm.given("squeue"))


def test_a_job_that_is_there_is_not_submitted_again(slurm: FakeSlurm, brokers: Brokers) -> None:
    slurm.answers("squeue", job(brokers, "burst0"))
    slurm_launcher(brokers).launch("local-1", ["burst0"])
    assert slurm.given("sbatch") == []
    slurm_launcher(brokers).launch("local-1", ["burst0", "burst1"])
    assert "--nodes=1" in slurm.given("sbatch")[0]


@pytest.mark.parametrize(
    ("reason", "kind", "why"),
    [
        ("PartitionTimeLimit", ParameterError, "time (from config or environment): Slurm does not"),
        ("AccountNotAllowed", ParameterError, "account (from"),
        ("Job's account not permitted to use this partition (p allows x not y)", ParameterError,
         "account (from config or environment): Slurm does not start job 7 (AccountNotAllowed)"),
        ("Job's QOS not permitted to use this partition (p denies x)", ParameterError, "QOS"),
        ("InvalidQOS", ParameterError, "slurm_args (from"),
        ("DependencyNeverSatisfied", ParameterError, "never be satisfied"),
        ("BadConstraints", CapacityError, "no node of the partition can run it"),
        ("PartitionNodeLimit", CapacityError, "does not allow so many nodes"),
        ("PartitionConfig", CapacityError, "the partition has no such nodes"),
        ("JobHeldAdmin", CapacityError, "a person must act: an administrator holds it"),
        ("JobHeldUser", CapacityError, "'scontrol release'"),
        ("PartitionDown", CapacityError, "the partition is down"),
        ("ReqNodeNotAvail, UnavailableNodes:n[2-3]", CapacityError, "silent: n[2-3]"),
        ("AssocGrpCPUMinutesLimit", QuotaError, "a limit of the account or the QOS"),
        ("QOSGrpNodeMinutes", QuotaError, "a limit"),
        ("AssocGrpWallLimit", QuotaError, "a limit"),
        ("AssocMaxNodePerJobLimit", QuotaError, "a limit"),
        ("AssocMaxCpuPerNode", QuotaError, "a limit"),
        ("QOSMaxWallDurationPerJobLimit", QuotaError, "a limit"),
        ("QOSMaxGRESMinutesPerJob", QuotaError, "a limit"),
        ("QOSMinCpuNotSatisfied", QuotaError, "a limit"),
    ],
)  # fmt: skip
def test_a_reason_that_never_passes_is_a_refusal(
    slurm: FakeSlurm, brokers: Brokers, reason: str, kind: type[BurstError], why: str
) -> None:
    slurm.answers("squeue", job(brokers, state="PENDING", reason=reason))
    (launched,) = slurm_launcher(brokers).launched()
    assert isinstance(launched.refused, kind)
    assert launched.refused.final
    assert "Slurm does not start job 7" in str(launched.refused)
    assert why in str(launched.refused)


@pytest.mark.parametrize(
    "reason",
    ["None", "", "Priority", "Resources", "Prolog", "Dependency", "BeginTime", "Licenses",
     "Reservation", "Cleaning", "JobArrayTaskLimit", "BurstBufferStageIn", "FedJobLock",
     "ReqNodeNotAvail", "ReqNodeNotAvail, Reserved for maintenance",
     "ReqNodeNotAvail, UnavailableNodes:", "(ReqNodeNotAvail, UnavailableNodes:)",
     "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
     "AssocGrpCpuLimit", "AssocGrpCPURunMinutesLimit", "QOSGrpJobsLimit", "AssocMaxJobsLimit",
     "QOSMaxJobsPerUserLimit", "QOSMaxNodePerUserLimit", "MaxCpuPerAccount", "AssociationJobLimit",
     "WaitingForScheduling", "SomethingOfNextYear"],
)  # fmt: skip
def test_a_reason_that_may_pass_or_is_not_known_is_waited_out(
    slurm: FakeSlurm, brokers: Brokers, reason: str
) -> None:
    slurm.answers("squeue", job(brokers, state="PENDING", reason=reason))
    (launched,) = slurm_launcher(brokers).launched()
    assert launched.refused is None
    assert launched.waiting == f"waits in Slurm's queue ({reason or 'no reason given'})"


def test_a_reason_of_a_job_that_has_started_refuses_nothing(
    slurm: FakeSlurm, brokers: Brokers
) -> None:
    slurm.answers("squeue", job(brokers, reason="PartitionTimeLimit"))
    assert slurm_launcher(brokers).launched()[0].refused is None


def test_a_job_that_slurm_will_never_start_is_a_refusal_at_once(
    slurm: FakeSlurm, brokers: Brokers
) -> None:
    pending = job(brokers, state="PENDING", reason="PartitionDown")
    slurm.answers("sbatch", "7", then={"squeue": pending})
    with pytest.raises(CapacityError, match="the partition is down"):
        slurm_launcher(brokers).launch("local-1", HOSTS)


# --- how long Slurm lets a job live ---


@pytest.mark.parametrize(
    ("partitions", "options", "lease", "asked"),
    [
        ("p|p*|30:00|n/a", {}, 3600, "--time=30"),
        ("p|p*|30:00|n/a", {}, 600, "--time=10"),
        ("p|p*|infinite|n/a", {}, 3600, "--time=60"),
        ("p|p*|1-00:00:00|n/a", {}, 90000, "--time=1440"),
        ("q|q|10:00|n/a\np|p*|30:00|n/a", {}, 3600, "--time=30"),
        ("q|q|10:00|n/a\np|p*|30:00|n/a", {"partition": "q"}, 3600, "--time=10"),
        ("q|q|10:00|n/a\np|p*|30:00|n/a", {"partition": "p,q"}, 3600, "--time=10"),
        ("p|p*|30:00|n/a", {"time": "5"}, 3600, "--time=5"),
        # No lease: a limit is only asked for where the partition would give less.
        ("p|p*|infinite|n/a", {}, None, ""),
        ("p|p*|30:00|n/a", {}, None, ""),
        ("p|p*|30:00|5:00", {}, None, "--time=30"),
        ("p|p*|infinite|5:00", {}, None, "--time=UNLIMITED"),
    ],
)
def test_a_lease_is_no_longer_than_the_partition_allows(
    slurm: FakeSlurm,
    brokers: Brokers,
    partitions: str,
    options: dict[str, str],
    lease: float | None,
    asked: str,
) -> None:
    slurm.answers("sinfo", partitions)
    slurm_launcher(brokers, **options).launch("local-1", ["burst0"], lease)
    (given_,) = slurm.given("sbatch")
    assert [word for word in given_ if word.startswith("--time")] == [asked] * bool(asked)


def test_a_time_limit_that_the_partition_does_not_allow_is_never_asked_for(
    slurm: FakeSlurm, brokers: Brokers
) -> None:
    slurm.answers("sinfo", "p|p*|30:00|n/a")
    launcher = slurm_launcher(brokers, time="1:00:00")
    launcher.check()
    with pytest.raises(ParameterError, match=r"time .*: 1h is longer than the 30m that partition"):
        launcher.launch("local-1", ["burst0"])
    assert slurm.given("sbatch") == []


def test_a_lease_is_renewed_up_to_what_the_partition_allows(
    slurm: FakeSlurm, brokers: Brokers
) -> None:
    slurm.answers("sinfo", "p|p*|30:00|n/a")
    slurm.answers("scontrol", "")
    slurm.answers("squeue", job(brokers, start="100000"))
    launcher = slurm_launcher(brokers)
    launcher.check()
    assert launcher.max_lifetime == 1800.0
    assert launcher.renew("local-1", 100000.0 + 600) == 100600.0
    assert launcher.renew("local-1", 100000.0 + 7200) == 101800.0
    limits = [words[-1] for words in slurm.given("scontrol")]
    assert limits == ["TimeLimit=10", "TimeLimit=30"]


def test_the_time_of_a_job_in_the_queue_runs_from_its_start_and_stays(
    slurm: FakeSlurm, brokers: Brokers
) -> None:
    slurm.answers("scontrol", "")
    slurm.answers("squeue", job(brokers, state="PENDING", start="N/A", reason="Priority"))
    assert slurm_launcher(brokers).renew("local-1", 5000.0) == 5000.0
    assert slurm.given("scontrol") == []
    slurm.answers("squeue", job(brokers, start="1000"))
    launcher = slurm_launcher(brokers, time="10")
    assert launcher.renew("local-1", 5000.0) == 1600.0
    assert slurm.given("scontrol") == []


@pytest.mark.parametrize(
    ("user", "level", "renewable"),
    [("root", "", True), ("slurm", "", True), ("me", "None", False), ("me", "Operator", True),
     ("me", "Administrator", True), ("slu", "", False)],
)  # fmt: skip
def test_whose_leases_slurm_lets_be_renewed(
    slurm: FakeSlurm,
    brokers: Brokers,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    level: str,
    renewable: bool,
) -> None:
    monkeypatch.setattr("pwd.getpwuid", lambda _: SimpleNamespace(pw_name=user))
    slurm.answers("scontrol", "ClusterName = c\nSlurmUser               = slurm(64030)")
    slurm.answers("sacctmgr", level, status=0 if level else 1)
    launcher = slurm_launcher(brokers)
    launcher.check()
    assert (launcher.not_renewable == "") is renewable
    own = slurm_launcher(brokers, time="30")
    own.check()
    assert own.not_renewable == "its jobs have a configured time limit"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("30:15", 1815), ("1:30:00", 5400), ("2-12", 216000), ("1-1:30", 91800),
     ("1-00:00:01", 86401), ("infinite", math.inf), ("UNLIMITED", math.inf), ("", math.inf)],
)  # fmt: skip
def test_time_limits_are_read_as_slurm_writes_them(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@given(st.text(max_size=12))
def test_what_is_no_time_limit_is_a_format_error(text: str) -> None:
    with contextlib.suppress(FormatError):
        assert parse_time(text) >= 0


def test_what_slurm_refuses_is_told_in_its_words(slurm: FakeSlurm, brokers: Brokers) -> None:
    slurm.answers("sbatch", "", 1, "error: invalid partition specified: nope")
    with pytest.raises(BurstError, match="invalid partition specified: nope"):
        slurm_launcher(brokers).launch("local-1", ["burst0"])
    slurm.answers("sbatch", "", 1, "error: AssocGrpCpuLimit: Job violates accounting policy")
    with pytest.raises(QuotaError):
        slurm_launcher(brokers).launch("local-1", ["burst0"])


@pytest.mark.parametrize(
    ("said", "kind", "field"),
    [
        ("Requested time limit is invalid (missing or exceeds some limit)", ParameterError, "time"),
        ("Invalid account or account/partition combination specified", ParameterError, "account"),
        ("invalid partition specified: nope", ParameterError, "partition"),
        ("Invalid qos specification", ParameterError, "slurm_args"),
        ("Requested node configuration is not available", CapacityError, ""),
        ("Node count specification invalid", CapacityError, ""),
        ("More processors requested than permitted", CapacityError, ""),
        ("Unable to contact slurm controller (connect failure)", BurstError, ""),
    ],
)
def test_what_slurm_refuses_says_who_is_to_act(
    slurm: FakeSlurm, brokers: Brokers, said: str, kind: type[BurstError], field: str
) -> None:
    slurm.answers("sbatch", "", 1, f"sbatch: error: Batch job submission failed: {said}")
    with pytest.raises(kind) as caught:
        slurm_launcher(brokers).launch("local-1", ["burst0"])
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert [p.field for p in getattr(caught.value, "problems", ())] == [field] * bool(field)


def test_an_unknown_partition_is_named_with_those_there_are(
    slurm: FakeSlurm, brokers: Brokers
) -> None:
    with pytest.raises(BurstError, match=r"no partition 'nope' \[choose from main\]"):
        slurm_launcher(brokers, partition="nope").check()


def test_a_slurm_that_does_not_answer_is_an_error_and_nothing_is_presumed_gone(
    slurm: FakeSlurm, brokers: Brokers
) -> None:
    slurm.answers("squeue", "", 1, "Unable to contact slurm controller")
    with pytest.raises(BurstError, match="Unable to contact slurm controller"):
        slurm_launcher(brokers).launched()
    slurm.answers("squeue", "surprise")
    with pytest.raises(BurstError, match="malformed output of squeue"):
        slurm_launcher(brokers).launched()


# --- an enclosing Flux, at the border of its command -------------------------------------------


def test_an_enclosing_instance_that_does_not_answer_is_named(tmp_path: Path) -> None:
    flux = command_of(tmp_path / "flux", "import sys\nsys.exit('flux-getattr: no such socket')")
    launcher = FluxLauncher(Brokers(str(flux), tmp_path), "local:///nowhere", 1)
    with pytest.raises(BurstError, match=r"local:///nowhere does not answer: .*no such socket"):
        launcher.check()
    with pytest.raises(BurstError, match="no enclosing Flux"):
        FluxLauncher(Brokers(str(flux), tmp_path), "", 1).check()


def test_a_job_that_the_enclosing_instance_has_no_nodes_for_is_a_lack_of_capacity(
    tmp_path: Path,
) -> None:
    text = (
        "import sys\n"
        "if 'submit' in sys.argv:\n    sys.exit('flux-submit: ERROR: unsatisfiable request')\n"
        "print({'jobs': '{}', 'rank': 0}.get(sys.argv[1], 'vm'))\n"
    )
    launcher = FluxLauncher(Brokers(str(command_of(tmp_path / "flux", text)), tmp_path), "u", 1)
    with pytest.raises(CapacityError, match="unsatisfiable request"):
        launcher.launch("local-1", ["burst0"])


# --- the task that becomes a broker ------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ({"SLURM_PROCID": "1"}, "burst1"),
        ({"FLUX_TASK_RANK": "1"}, "burst1"),
        ({"SLURM_PROCID": "1", "SLURMD_NODENAME": "burst0"}, "burst0"),
        ({"SLURM_PROCID": "1", "SLURMD_NODENAME": "n7"}, "burst1"),
    ],
)
def test_a_task_takes_its_nodes_name_or_the_one_of_its_rank(
    tmp_path: Path, environment: dict[str, str], host: str
) -> None:
    rundir = tmp_path / f"run-{host}"
    rundir.mkdir()
    echo = [sys.executable, "-c", "import os, sys; print(sys.argv[1:], 'FLUX_URI' in os.environ)"]
    script = [sys.executable, start_broker.__file__, "burst0,burst1", str(tmp_path / "logs")]
    subprocess.run(
        [*script, *echo, "-Shostname=@HOST@", f"-Srundir={tmp_path}/run-@HOST@"],
        env={"PATH": os.environ["PATH"], "FLUX_URI": "local:///x", **environment},
        check=True,
    )
    said = (tmp_path / "logs" / f"{host}.log").read_text()
    assert said == f"['-Shostname={host}', '-Srundir={rundir}'] False\n"
    assert not rundir.exists()


# --- diagnosis ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (
            "<2>broker.crit[x]: bootstrap: config: initialize: Config file error [bootstrap]: x0 "
            "not found in hosts",
            "its hostname x0 is not in the bootstrap configuration",
        ),
        (
            "<7>overlay.debug[1]: parent sockevent tcp://10.0.0.1:8050 connected\n"
            "<3>overlay.err[1]: parent sockevent tcp://10.0.0.1:8050 handshake failed: Broken pipe",
            "its certificate is not the lead's",
        ),
        (
            "<7>overlay.debug[1]: parent sockevent tcp://10.0.0.1:8050 connect retried\n",
            "nothing answers at tcp://10.0.0.1:8050",
        ),
        (
            "<4>overlay.warning[1]: unable to resolve upstream peer lead.invalid: Name or service",
            "it cannot resolve the lead's address lead.invalid",
        ),
        (
            "<3>overlay.err[1]: hello: client (0.87.0) version mismatched with server (0.88.0)",
            "its Flux is of another version than the lead's (version mismatched with server (0.88",
        ),
        ("Host key verification failed.", "ssh: Host key verification failed"),
        ("something else", "its log gives no reason"),
    ],
)
def test_a_log_is_read_for_why_a_broker_did_not_join(tmp_path: Path, log: str, cause: str) -> None:
    path = tmp_path / "burst0.log"
    path.write_text(log)
    assert cause in explain(path)


def test_the_last_lines_of_a_log_are_shown_without_noise(tmp_path: Path) -> None:
    path = tmp_path / "burst0.log"
    path.write_text("first\n<7>broker.debug[1]: insmod kvs\n<3>broker.err[1]: last\n")
    assert explain(path).endswith(f"{path} ends: first | broker.err[1]: last")
    assert explain(tmp_path / "none.log").endswith("is empty")


def test_of_many_hosts_only_some_are_explained(tmp_path: Path) -> None:
    logs = [(f"burst{number}", tmp_path / f"{number}.log") for number in range(10)]
    assert explain_all(logs).endswith("and 7 more")
