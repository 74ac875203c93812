"""``fluxburst local init`` and ``fluxburst local start``: what they write, start and refuse."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.elastic_instance import command_line, free_port, outside
from tests.local.growing import growing
from tests.support import at_most, flux_available

from fluxburst.cli import main
from fluxburst.config import file as config_file
from fluxburst.config import parameters
from fluxburst.errors import RequestError
from fluxburst.formats import flux_configuration
from fluxburst.formats.hostlist import format_hostlist, parse_hostlist
from fluxburst.formats.units import parse_duration
from fluxburst.provider import elastic, elastic_directory
from fluxburst.provider.elastic import Elastic, Shape
from fluxburst_local import BurstParameters
from fluxburst_local.allocations import Enclosure, enclosure

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

needs_flux = pytest.mark.skipif(not flux_available(), reason="no live Flux")
only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
THIS_HOST = socket.gethostname()
USER = pwd.getpwuid(os.getuid()).pw_name

FLUX = r"""
import json, os, signal, sys
with open(os.path.join(os.path.dirname(sys.argv[0]), "said.json")) as file:
    said = json.load(file)
command, arguments = sys.argv[1], sys.argv[2:]
if said.get("dead") and os.environ.get("FLUX_URI"):
    sys.exit(f"flux-{command}: flux_open: No such file or directory")
if command in said["fails"]:
    sys.exit(f"flux-{command}: no such luck")
if command == "version":
    print(f"commands:    \t{said['version']}\nlibflux-core:\t{said['version']}")
elif command == "env":
    print(said.get("modules", "/nowhere"))
elif command == "keygen":
    with open(arguments[-1], "w") as file:
        file.write(f"curve\n    secret-key = \"{said['certificate']}\"\n")
elif command == "R" and arguments[0] == "encode":
    options = dict(argument.partition("=")[::2] for argument in arguments)
    print(options["--hosts"])
elif command == "R" and arguments[0] == "append":
    print(",".join(sys.stdin.read().split()))
elif command == "R":
    print(sys.stdin.read().strip())
elif command == "getattr":
    print(said[arguments[0]])
elif command == "resource":
    print(said["resource"])
elif command == "broker" and said.get("fifo"):
    with open(said["fifo"], "w") as file:
        file.write(str(os.getpid()))
    signal.pause()
elif command == "broker" and said.get("hangs"):
    signal.pause()
elif command == "broker":
    print(json.dumps(sys.argv))
"""
"""A ``flux`` that answers what it is told to in a file beside it, and starts nothing."""

CERTIFICATE = b'curve\n    secret-key = "own"\n'

SCONTROL = """
import sys
assert sys.argv[1:3] == ["show", "node"]
print(f"NodeName={sys.argv[3]} Arch=x86_64 NodeAddr=192.0.2.7 NodeHostName=h7 Version=23.11")
"""


def executable(path: Path, text: str) -> None:
    path.write_text(f"#!{sys.executable} -IS\n{text}")
    path.chmod(0o755)


class Site:
    """A machine of its own, as far as the command line can tell: its commands, and a place."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.place = root / "place"
        self.directory = self.place / "elastic"
        self.port = free_port()
        for made in (self.bin, self.place):
            made.mkdir()
        executable(self.bin / "flux", FLUX)
        self.says()

    def says(self, **answers: Any) -> None:
        """Have flux answer differently from now on."""
        usual = {"version": "0.88.0", "fails": [], "certificate": 1}
        (self.bin / "said.json").write_text(json.dumps({**usual, **answers}))

    def listing(self) -> dict[str, bytes]:
        """Return everything that is there, hidden or not."""
        return {
            str(path): path.read_bytes() if path.is_file() else b""
            for path in self.place.rglob("*")
        }


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A machine with a stub of Flux, in no allocation."""
    for name in list(os.environ):
        if name.startswith(("FLUX", "SLURM", "PMI")):
            monkeypatch.delenv(name)
    made = Site(tmp_path)
    monkeypatch.setenv("PATH", str(made.bin))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SHELL", "/bin/sh")
    monkeypatch.chdir(made.place)
    return made


Result = tuple[int, str, str]
Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in this process, which no broker may take the place of."""

    def become(*_: object) -> None:
        raise AssertionError("it was started")

    monkeypatch.setattr(os, "execv", become)

    def run_it(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        captured = capsys.readouterr()
        status = exited.value.code
        assert isinstance(status, int)
        return status, captured.out, captured.err

    return run_it


@pytest.fixture
def init(site: Site, run: Run) -> Run:
    """Run ``fluxburst local init`` for the site's directory."""

    def run_it(*options: str) -> Result:
        port = [] if any(option.startswith("--port") for option in options) else [site.port]
        ports = [f"--port={number}" for number in port]
        return run("local", "init", str(site.directory), *ports, *options)

    return run_it


def done(result: Result) -> str:
    """Return what a command printed that went well."""
    status, out, err = result
    assert (status, err) == (0, "")
    return out


def line_of(result: Result, status: int = 2) -> str:
    """Return the one line that says why something was refused, or failed."""
    assert result[:2] == (status, ""), result
    (line,) = result[2].splitlines()
    assert line.startswith("fluxburst: ")
    return line


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def system_of(directory: Path) -> dict[str, Any]:
    text = (directory / "config" / "system.toml").read_text(encoding="utf-8")
    system: dict[str, Any] = tomllib.loads(text)
    return system


def parameters_of(directory: Path) -> BurstParameters:
    """Return the parameters that fluxburst.toml gives the local plugin."""
    loaded = config_file.load(directory / "fluxburst.toml")
    assert list(loaded.plugins) == ["local"]
    return parameters.build("local", BurstParameters, config=loaded.plugins["local"], environ={})


# --- what init writes --------------------------------------------------------------------------


@pytest.fixture
def umask() -> Iterator[None]:
    """Keep nothing from anybody but by what is asked for."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_what_is_written_is_for_its_user_alone(site: Site, init: Run) -> None:
    done(init("--burst-nodes=3"))
    directory = site.directory
    assert mode(directory) == 0o700
    assert mode(directory / "curve.cert") == 0o600
    assert mode(directory / "fluxburst.toml") == 0o600
    assert [mode(directory / name) for name in ("config", "log", "start")] == [0o700] * 3
    assert sorted(path.name for path in directory.iterdir()) == [
        "R",
        "config",
        "curve.cert",
        "elastic.toml",
        "fluxburst.toml",
        "log",
        "start",
    ]
    assert list((directory / "log").iterdir()) == []
    assert [path.name for path in site.place.iterdir()] == ["elastic"]


def test_the_brokers_configuration_declares_all_hosts(site: Site, init: Run) -> None:
    done(init("--burst-hosts=n[1-3],x", "--lead-hosts", f"{THIS_HOST},lead1"))
    system = system_of(site.directory)
    endpoint = f"tcp://127.0.0.1:{site.port}"
    assert system["bootstrap"] == {
        "curve_cert": str(site.directory / "curve.cert"),
        "hosts": [
            {"host": THIS_HOST, "bind": endpoint, "connect": endpoint},
            {"host": "lead1,n[1-3],x"},
        ],
    }
    assert system["resource"] == {"path": str(site.directory / "R"), "noverify": True}
    assert 0 < parse_duration(system["tbon"].pop("tcp_user_timeout")) < 3600
    assert system["tbon"] == {}
    assert sorted(system) == ["bootstrap", "resource", "tbon"]


def test_a_queue_is_declared_with_the_default_one_and_what_they_require(
    site: Site, init: Run
) -> None:
    done(init("--burst-nodes=3", "--queue=more", "--default-queue=here"))
    system = system_of(site.directory)
    assert system["queues"] == {"here": {"requires": ["lead"]}, "more": {"requires": ["burst"]}}
    assert system["policy"] == {"jobspec": {"defaults": {"system": {"queue": "here"}}}}
    assert elastic.load(site.directory).queue == "more"


def test_the_configuration_of_fluxburst_builds_the_plugins_parameters(
    site: Site, init: Run
) -> None:
    done(init("--burst-nodes=3", "--log-level=5", "--launcher=ssh"))
    made = parameters_of(site.directory)
    assert (made.config_dir, made.launcher, made.log_level) == (site.directory, "ssh", 5)


def test_the_start_script_starts_the_lead_with_the_command_it_is_given(
    site: Site, init: Run
) -> None:
    done(init("--burst-nodes=3"))
    started = subprocess.run(
        [site.directory / "start", "echo", "a  b", "*", "--mock"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    flux, verb, *options = json.loads(started.stdout)
    assert (flux, verb) == (str(site.bin / "flux"), "broker")
    assert f"--config-path={site.directory / 'config'}" in options
    assert f"-Shostname={THIS_HOST}" in options
    assert options[-4:] == ["echo", "a  b", "*", "--mock"]


def test_what_was_written_is_loaded_back_the_same(site: Site, init: Run) -> None:
    done(
        init(
            "--lead-hosts=lead[0-1]",
            "--burst-hosts=n[08-11],gpu",
            "--address=lead0.example.org",
            "--network-device=eth0",
            "--cores=8",
            "--gpus=2",
            "--lead-cores=4",
            "--lead-gpus=1",
            "--queue=more",
        )
    )
    assert elastic.load(site.directory) == Elastic(
        lead_hosts=("lead0", "lead1"),
        burst_hosts=("n08", "n09", "n10", "n11", "gpu"),
        cores=8,
        gpus=2,
        lead_cores=4,
        lead_gpus=1,
        address="lead0.example.org",
        port=site.port,
        network_device="eth0",
        queue="more",
        default_queue="batch",
        flux=str(site.bin / "flux"),
        user=USER,
    )


def test_where_it_says_nothing_an_option_is_what_is_here(site: Site, init: Run) -> None:
    done(init("--burst-nodes=3"))
    assert elastic.load(site.directory) == Elastic(
        lead_hosts=(THIS_HOST,),
        burst_hosts=("burst0", "burst1", "burst2"),
        cores=len(os.sched_getaffinity(0)),
        lead_cores=len(os.sched_getaffinity(0)),
        port=site.port,
        flux=str(site.bin / "flux"),
    )
    assert parameters_of(site.directory).launcher == "process"


def test_a_certificate_that_is_given_is_copied(site: Site, init: Run) -> None:
    own = site.place / "own.cert"
    own.write_bytes(CERTIFICATE + b"\xff")
    own.chmod(0o600)
    site.says(fails=["keygen"])
    done(init("--burst-nodes=1", f"--curve-cert={own}"))
    copy = site.directory / "curve.cert"
    assert (copy.read_bytes(), mode(copy)) == (own.read_bytes(), 0o600)


def test_quiet_is_quiet_and_otherwise_the_next_commands_are_told(site: Site, init: Run) -> None:
    assert done(init("--burst-nodes=1", "--quiet")) == ""
    said = done(init("--burst-nodes=2", "--force"))
    assert f"fluxburst local start {site.directory}" in said
    assert f"fluxburst --config {site.directory}/fluxburst.toml run" in said


def test_the_commands_that_are_told_are_as_a_shell_takes_them(site: Site, run: Run) -> None:
    directory = site.place / "my $HOME; elastic"
    said = done(run("local", "init", str(directory), f"--port={site.port}", "--burst-nodes=1"))
    told = [line.split(":", 1)[1] for line in said.splitlines() if line.startswith(("Start", "Bu"))]
    assert shlex.split(told[0])[-1] == str(directory)
    assert shlex.split(told[1])[2] == str(directory / "fluxburst.toml")


@only_root
def test_an_instance_for_another_user_is_all_that_users(site: Site, init: Run) -> None:
    done(init("--burst-nodes=1", "--user=nobody"))
    nobody = pwd.getpwnam("nobody").pw_uid
    written = [site.directory, *site.directory.rglob("*")]
    assert len(written) > 7
    assert {path.stat().st_uid for path in written} == {nobody}
    assert elastic.load(site.directory).user == "nobody"


# --- what is there already ---------------------------------------------------------------------


def test_an_empty_directory_is_used_as_it_is(site: Site, init: Run) -> None:
    site.directory.mkdir()
    done(init("--burst-nodes=1"))
    assert elastic.load(site.directory).burst_hosts == ("burst0",)


def test_the_directory_that_one_stands_in_stays_the_one_that_one_stands_in(site: Site) -> None:
    site.directory.mkdir()
    init = [sys.executable, "-m", "fluxburst", "local", "init", ".", f"--port={site.port}"]
    script = f"{shlex.join([*init, '--burst-nodes=1'])} >&2 && echo *"
    shell = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=site.directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert shell.stdout.strip() == "R config curve.cert elastic.toml fluxburst.toml log start"


def test_force_replaces_an_elastic_instance_and_leaves_nothing_of_it(site: Site, init: Run) -> None:
    done(init("--burst-nodes=1"))
    (site.directory / "log" / "lead.log").write_text("old")
    assert "already has an elastic instance; replace it with --force" in line_of(
        init("--burst-nodes=2")
    )
    assert elastic.load(site.directory).burst_hosts == ("burst0",)
    site.says(certificate=2)
    done(init("--burst-nodes=2", "--force"))
    assert elastic.load(site.directory).burst_hosts == ("burst0", "burst1")
    assert '"2"' in (site.directory / "curve.cert").read_text()
    assert list((site.directory / "log").iterdir()) == []
    assert [path.name for path in site.place.iterdir()] == ["elastic"]


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_what_is_no_elastic_instance_is_never_replaced(
    site: Site, init: Run, options: list[str]
) -> None:
    site.directory.mkdir()
    (site.directory / "thesis.tex").write_text("all of it")
    before = site.listing()
    assert "is not empty, and is not an elastic instance" in line_of(
        init("--burst-nodes=1", *options)
    )
    assert site.listing() == before


def test_an_instance_stays_as_it_was_if_flux_refuses_the_one_that_is_to_replace_it(
    site: Site, init: Run
) -> None:
    done(init("--burst-nodes=1"))
    before = site.listing()
    site.says(fails=["broker"])
    assert "no such luck" in line_of(init("--burst-nodes=2", "--force"))
    assert site.listing() == before


# --- what else configures it -------------------------------------------------------------------

FLUXION = "sched-fluxion-qmanager"


def with_fluxion(site: Site) -> None:
    """Have Flux find Fluxion among its modules."""
    (site.bin / f"{FLUXION}.so").touch()
    site.says(modules=f"/nowhere:{site.bin}")


def policy_of(directory: Path) -> Any:
    return flux_configuration.read(directory / "config").get(FLUXION, {}).get("queue-policy")


def configured(site: Site, text: str, name: str = "more.toml") -> Path:
    path = site.place / name
    path.write_text(text)
    return path


def test_where_fluxion_is_jobs_are_to_wait_for_nodes_and_that_is_said(
    site: Site, init: Run
) -> None:
    assert "Fluxion" not in done(init("--burst-nodes=1"))
    assert policy_of(site.directory) is None
    with_fluxion(site)
    said = done(init("--burst-nodes=1", "--force"))
    assert "under its queue-policy 'conservative' jobs wait for burst nodes" in said
    assert policy_of(site.directory) == "conservative"
    site.says()
    done(init("--burst-nodes=1", "--force"))
    assert policy_of(site.directory) is None


def test_a_policy_that_somebody_chose_stays_and_is_warned_of_where_jobs_do_not_wait(
    site: Site, init: Run
) -> None:
    with_fluxion(site)
    own = configured(site, f'[{FLUXION}]\nqueue-policy = "hybrid"\n')
    said = done(init("--burst-nodes=1", f"--config-file={own}"))
    assert "queue-policy 'hybrid'" in said
    assert policy_of(site.directory) == "hybrid"
    own.write_text(own.read_text().replace("hybrid", "easy"))
    status, _, err = init("--burst-nodes=1", "--force", f"--config-file={own}")
    assert status == 0
    assert "under Fluxion's queue-policy 'easy' a job that needs more nodes than are up" in err
    assert 'put queue-policy = "conservative" into the table [sched-fluxion-qmanager]' in err
    assert policy_of(site.directory) == "easy"


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        (
            'queue-policy = "conservative"\nqueue-policy-per-queue = "a:fcfs b:hybrid"',
            "queue a: under Fluxion's queue-policy 'fcfs' a job that needs more",
        ),
        (
            'queue-policy = "conservativ"',
            "Fluxion ignores unknown queue-policy 'conservativ', uses its default: under Fluxion's "
            "queue-policy 'fcfs' a job that needs more",
        ),
    ],
)
def test_a_policy_of_one_queue_and_one_that_fluxion_does_not_know_are_warned_of(
    site: Site, init: Run, policies: str, said: str
) -> None:
    with_fluxion(site)
    own = configured(site, f"[{FLUXION}]\n{policies}\n")
    status, out, err = init("--burst-nodes=1", f"--config-file={own}")
    assert status == 0
    assert err.count("a job that needs more") == 1
    assert said in err
    assert "jobs wait for burst nodes" not in out


def test_more_configuration_is_put_beside_ours_and_stays_when_it_is_run_again(
    site: Site, init: Run
) -> None:
    access = configured(site, "[access]\nallow-guest-user = true\n", "access.toml")
    limits = configured(site, '[policy.limits]\nduration = "1h"\n', "limits.toml")
    files = [f"--config-file={access}", f"--config-file={limits}"]
    status, _, warned = init("--burst-nodes=1", "--queue=more", *files)
    assert (status, "[exec] imp is not set" in warned) == (0, True)
    later = site.directory / "config" / "exec.toml"
    later.write_text('[exec]\nimp = "/usr/libexec/flux/flux-imp"\n')
    (site.directory / "notes").mkdir()
    (site.directory / "notes" / "mine").write_text("mine")
    done(init("--burst-nodes=2", "--queue=more", "--force"))
    whole = flux_configuration.read(site.directory / "config")
    assert whole["access"] == {"allow-guest-user": True}
    assert whole["exec"] == {"imp": "/usr/libexec/flux/flux-imp"}
    assert whole["policy"] == {
        "limits": {"duration": "1h"},
        "jobspec": {"defaults": {"system": {"queue": "batch"}}},
    }
    assert whole["bootstrap"]["hosts"][1] == {"host": "burst[0-1]"}
    assert (site.directory / "notes" / "mine").read_text() == "mine"


def test_what_somebody_wrote_into_a_file_of_ours_is_kept_aside(site: Site, init: Run) -> None:
    done(init("--burst-nodes=1"))
    system = site.directory / "config" / "system.toml"
    system.write_text(f"{system.read_text()}\n[access]\nallow-root-owner = true\n")
    assert not init("--burst-nodes=2", "--force")[0]
    kept = system.with_name("system.toml.old")
    assert "allow-root-owner" in kept.read_text()
    assert "allow-root-owner" not in system.read_text()
    assert system.read_text().startswith("# Written by fluxburst, which overwrites it")


def test_what_is_written_anew_is_said_and_other_settings_stay(site: Site, init: Run) -> None:
    done(init("--burst-nodes=1"))
    file = site.directory / "fluxburst.toml"
    file.write_text(f"{file.read_text()}\n[limits]\nnodes = 3\n")
    system = site.directory / "config" / "system.toml"
    system.write_text(f"{system.read_text()}\n[access]\nallow-root-owner = true\n")
    _, out, err = init("--burst-nodes=2", "--force")
    assert "[limits]\nnodes = 3" in file.read_text()
    assert f"{system} was overwritten; its former content is in {system}.old" in err
    assert "curve.cert, is new" in out


def test_guests_without_an_imp_are_warned_of(site: Site, init: Run, tmp_path: Path) -> None:
    more = tmp_path / "guests.toml"
    more.write_text("[access]\nallow-guest-user = true\n")
    assert "[exec] imp is not set" in init("--burst-nodes=1", f"--config-file={more}")[2]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.toml", '[resource]\npath = "/else"', "resource.path is "),
        ("a.toml", "[[bootstrap.hosts]]\nhost = 'x'", "bootstrap.hosts is "),
        ("a.toml", "[access", "a.toml is not TOML"),
        ("a.json", "{}", "must end in .toml, or Flux skips it"),
        ("system.toml", "", "system.toml is reserved for fluxburst"),
    ],
)
def test_configuration_that_cannot_stand_beside_ours_is_named(
    site: Site, init: Run, name: str, text: str, problem: str
) -> None:
    own = configured(site, text, name)
    line = line_of(init("--burst-nodes=1", f"--config-file={own}"))
    assert problem in line
    assert [str(own)] == list(site.listing())


def test_a_configuration_that_is_not_there_is_named(site: Site, init: Run) -> None:
    line = line_of(init("--burst-nodes=1", f"--config-file={site.place / 'no.toml'}"))
    assert "no.toml cannot be read: No such file" in line


def test_two_files_that_say_different_things_are_both_named(site: Site, init: Run) -> None:
    one = configured(site, "[access]\nallow-guest-user = true\n", "one.toml")
    two = configured(site, "[access]\nallow-guest-user = false\n", "two.toml")
    line = line_of(init("--burst-nodes=1", f"--config-file={one}", f"--config-file={two}"))
    assert "access.allow-guest-user is false in two.toml, but true in one.toml" in line


# --- more burst nodes --------------------------------------------------------------------------


def test_burst_nodes_are_added_behind_those_there_are_and_all_else_stays(
    site: Site, init: Run, run: Run
) -> None:
    done(init("--burst-nodes=2", "--queue=more", "--cores=8"))
    config_file = site.directory / "fluxburst.toml"
    config_file.write_text(f"{config_file.read_text()}\n[limits]\nnodes = 2\n")
    (site.directory / "log" / "lead.log").write_text("of before")
    before = site.listing()
    site.says(certificate=2)
    add = ["local", "init", str(site.directory), "--add"]
    said = done(run(*add, "--burst-nodes=2"))
    assert "2 more nodes (burst[2-3]) of 8 cores, 4 in all, once it is restarted" in said
    done(run(*add, "--burst-hosts=gpu[1-2]", "--cores=16", "--gpus=4"))
    now = elastic.load(site.directory)
    assert now.burst_hosts == ("burst0", "burst1", "burst2", "burst3", "gpu1", "gpu2")
    assert now.shapes == (Shape("16-core-4-gpu", ("gpu1", "gpu2"), 16, 4),)
    assert system_of(site.directory)["bootstrap"]["hosts"][1] == {"host": "burst[0-3],gpu[1-2]"}
    after = site.listing()
    changed = {Path(name).name for name in after if after[name] != before.get(name)}
    assert changed == {"system.toml", "R", "elastic.toml"}
    assert after.keys() == before.keys()


def test_nodes_are_not_added_to_an_instance_that_runs_here(site: Site, init: Run, run: Run) -> None:
    done(init("--burst-nodes=1"))
    before = site.listing()
    with listening(site.port):
        line = line_of(run("local", "init", str(site.directory), "--add", "--burst-nodes=1"))
    assert "runs on this host: end it first" in line
    assert site.listing() == before


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            ["--burst-nodes=1", "--port=9", "--force"],
            "--force, --port cannot be combined with --add",
        ),
        ([], "set their number with --burst-nodes"),
        (["--burst-hosts=burst0"], "burst0 is named twice"),
        (["--burst-hosts=a", "--burst-nodes=2"], "2 burst nodes requested, but 1 host named"),
    ],
)
def test_what_cannot_be_added_is_named(
    site: Site, init: Run, run: Run, options: list[str], problem: str
) -> None:
    done(init("--burst-nodes=1"))
    before = site.listing()
    assert problem in line_of(run("local", "init", str(site.directory), "--add", *options))
    assert site.listing() == before


def test_nodes_are_only_added_to_an_elastic_instance(site: Site, run: Run) -> None:
    line = line_of(run("local", "init", str(site.directory), "--add", "--burst-nodes=1"))
    assert "is not an elastic instance's directory" in line


# --- where the hosts come from -----------------------------------------------------------------


def hosts_of(directory: Path) -> tuple[str, str]:
    made = elastic.load(directory)
    return format_hostlist(made.lead_hosts), format_hostlist(made.burst_hosts)


@pytest.mark.parametrize(
    ("options", "burst_hosts"),
    [
        (["--burst-nodes=2"], "burst[0-1]"),
        (["--burst-hosts=a[1-3],b"], "a[1-3],b"),
        (["--burst-hosts=a[1-3],b", "--burst-nodes=2"], "a[1-2]"),
        (["--burst-hosts=a[08-10]"], "a[08-10]"),
    ],
)
def test_burst_nodes_are_those_named_or_made_up(
    site: Site, init: Run, options: list[str], burst_hosts: str
) -> None:
    done(init(*options))
    assert hosts_of(site.directory) == (THIS_HOST, burst_hosts)
    assert system_of(site.directory)["bootstrap"]["hosts"][1] == {"host": burst_hosts}


def in_slurm(site: Site, monkeypatch: pytest.MonkeyPatch, nodes: str = "n[1-4]") -> None:
    """Run in a Slurm job."""
    executable(site.bin / "scontrol", SCONTROL)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", nodes)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "6")
    monkeypatch.setenv("SLURMD_NODENAME", "n2")


@pytest.mark.parametrize(
    ("options", "burst_hosts"), [([], "n[1,3-4]"), (["--burst-nodes=2"], "n[1,3]")]
)
def test_the_other_hosts_of_a_slurm_allocation_are_found(
    site: Site,
    init: Run,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    burst_hosts: str,
) -> None:
    in_slurm(site, monkeypatch)
    done(init(*options))
    assert hosts_of(site.directory) == ("n2", burst_hosts)
    made = elastic.load(site.directory)
    assert (made.address, made.cores, made.lead_cores) == ("192.0.2.7", 6, 6)
    (lead, _) = system_of(site.directory)["bootstrap"]["hosts"]
    assert lead["connect"] == f"tcp://192.0.2.7:{site.port}"
    assert lead["bind"] == f"tcp://*:{site.port}"
    assert parameters_of(site.directory).launcher == "srun"


def test_in_a_slurm_job_of_one_node_more_are_asked_of_slurm(
    site: Site, init: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_slurm(site, monkeypatch, "n2")
    done(init("--burst-nodes=3"))
    assert hosts_of(site.directory) == ("n2", "burst[0-2]")
    assert parameters_of(site.directory).launcher == "slurm"


def in_flux(site: Site, monkeypatch: pytest.MonkeyPatch, hostlist: str, rank: int) -> None:
    """Run in an enclosing Flux."""
    monkeypatch.setenv("FLUX_URI", "local:///run/flux/local")
    site.says(hostlist=hostlist, rank=rank, resource="4 32")


def test_the_other_hosts_of_an_enclosing_flux_are_found(
    site: Site, init: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_flux(site, monkeypatch, "n[1-4]", 2)
    done(init())
    assert hosts_of(site.directory) == ("n3", "n[1-2,4]")
    made = elastic.load(site.directory)
    assert (made.address, made.cores) == ("n3", 8)
    assert parameters_of(site.directory).launcher == "flux"


def test_the_nodes_of_an_enclosing_flux_on_one_machine_get_names(
    site: Site, init: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_flux(site, monkeypatch, f"{THIS_HOST},{THIS_HOST},{THIS_HOST}", 0)
    done(init())
    assert hosts_of(site.directory) == (THIS_HOST, "burst[0-1]")
    assert elastic.load(site.directory).address == "127.0.0.1"


def test_the_nodes_of_an_enclosing_flux_that_share_some_machines_get_names(
    site: Site, init: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_flux(site, monkeypatch, "n1,n1,n2,n2", 2)
    done(init())
    assert hosts_of(site.directory) == ("n2", "burst[0-2]")
    assert elastic.load(site.directory).address == "n2"


# --- what init refuses -------------------------------------------------------------------------


BAD_OPTIONS = [
    (["--burst-hosts=a[1"], "'a[1' is not a hostlist (RFC 29)"),
    (["--lead-hosts=a]", "--burst-nodes=1"], "'a]' is not a hostlist (RFC 29)"),
    (["--burst-hosts=a[1-3],a2"], "a2 is named twice"),
    (["--burst-hosts=a,b", "--lead-hosts=b"], "b is named twice"),
    (
        ["--burst-hosts=a,b", "--burst-nodes=3"],
        "3 burst nodes requested, but 2 hosts named",
    ),
    (["--burst-hosts=a_/b"], "'a_/b' is not a hostname"),
    (["--burst-hosts=,"], "at least one lead host and one burst node"),
    ([], "name them with --burst-hosts, or set their number with --burst-nodes"),
    (["--burst-nodes=0"], "--burst-nodes"),
    (["--burst-nodes=1", "--port=0"], "0 is not a TCP port"),
    (["--burst-nodes=1", "--port=65536"], "65536 is not a TCP port"),
    (["--burst-nodes=1", "--port=x"], "--port"),
    (["--burst-nodes=1", "--queue=batch"], "both 'batch'"),
    (["--burst-nodes=1", "--queue=a", "--default-queue=a"], "both 'a'"),
    (["--burst-nodes=1", "--queue=a b"], "'a b' is not a valid queue name"),
    (["--burst-nodes=1", "--queue=a", "--default-queue="], "is not a valid queue name"),
    (["--burst-nodes=1", "--user=nobody-at-all"], "there is no user 'nobody-at-all'"),
    (["--burst-nodes=1", "--address=a b"], "'a b' is neither a hostname nor an IPv4 address"),
    (["--burst-nodes=1", "--cores=0"], "--cores"),
    (["--burst-nodes=1", "--log-level=8"], "--log-level"),
    (["--burst-nodes=1", "--launcher=magic"], "--launcher"),
    (["--burst-nodes=1", "--flux-root=/nowhere"], "/nowhere/bin/flux does not exist"),
    (["--burst-nodes=1", "--network-device=nosuch0"], "no network device 'nosuch0'"),
    (["--burst-nodes=1", "--network-device=a b"], "'a b' is not a network device"),
    (
        ["--burst-nodes=1", "--curve-cert=/nowhere"],
        "cannot read the certificate /nowhere: No such file",
    ),
]


@pytest.mark.parametrize(
    ("options", "problem"), BAD_OPTIONS, ids=[" ".join(options) for options, _ in BAD_OPTIONS]
)
def test_bad_options_are_named_and_nothing_is_left(
    site: Site, init: Run, options: list[str], problem: str
) -> None:
    assert problem in line_of(init(*options))
    assert site.listing() == {}


def test_the_loopback_address_by_name_is_listened_on_by_its_number() -> None:
    made = elastic.system_toml(Elastic(("a",), ("b",), 1, address="localhost"), Path("/e"))
    (lead, _) = tomllib.loads(made)["bootstrap"]["hosts"]
    assert lead["bind"] == "tcp://127.0.0.1:8050"


def test_no_flux_on_path_is_said(site: Site, init: Run) -> None:
    (site.bin / "flux").unlink()
    assert "there is no flux on PATH" in line_of(init("--burst-nodes=1"))
    assert site.listing() == {}


def test_a_flux_that_is_too_old_is_named(site: Site, init: Run) -> None:
    site.says(version="0.70.0")
    line = line_of(init("--burst-nodes=1"))
    assert "too old: at least 0.88.0 is required (running Flux: 0.70.0" in line
    assert site.listing() == {}


def test_a_flux_of_another_version_than_its_binding_is_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "packages" / "flux_python-0.88.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flux-python\nVersion: 0.88.0\n")
    site.says(version="0.99.1")
    paths = filter(None, [str(info.parent), os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    options = ["--burst-nodes=1", f"--port={site.port}"]
    refused = command_line("local", "init", "elastic", *options, environment=environment)
    line = line_of((refused.returncode, refused.stdout, refused.stderr))
    assert "install flux-python==0.99.1 (running Flux: 0.99.1, Python binding: 0.88.0)" in line
    assert site.listing() == {}


def test_a_place_that_cannot_be_written_is_named(site: Site, run: Run) -> None:
    (site.place / "file").touch()
    before = site.listing()
    for place, problem in (
        ("nowhere/elastic", "nowhere/elastic: No such file or directory"),
        ("file/elastic", "file/elastic: Not a directory"),
        ("file", "'file' is a file"),
        ("x" * 300, "File name too long"),
    ):
        line = line_of(run("local", "init", place, "--burst-nodes=1", f"--port={site.port}"))
        assert problem in line
        assert "/elastic: " not in problem or "cannot write " in line
        assert site.listing() == before


@pytest.mark.parametrize("name", ["a\x7fb", os.fsdecode(b"a\xffb")], ids=["DEL", "not UTF-8"])
def test_a_name_that_no_configuration_can_hold_is_refused_or_written_as_it_is(
    site: Site, run: Run, name: str
) -> None:
    options = ["--burst-nodes=1", f"--port={site.port}"]
    status, out, err = run("local", "init", str(site.place / name), *options)
    if status == 0:
        certificate = system_of(site.place / name)["bootstrap"]["curve_cert"]
        assert certificate == str(site.place / name / "curve.cert")
    else:
        line_of((status, out, err))
        assert site.listing() == {}


def test_more_nodes_than_the_allocation_has_are_refused(
    site: Site, init: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_slurm(site, monkeypatch)
    problem = "4 burst nodes requested, but the allocation has 3 nodes besides the lead"
    assert problem in line_of(init("--burst-nodes=4"))
    in_flux(site, monkeypatch, f"{THIS_HOST},{THIS_HOST}", 0)
    problem = "2 burst nodes requested, but the allocation has 1 node besides the lead"
    assert problem in line_of(init("--burst-nodes=2"))
    assert site.listing() == {}


def test_a_slurm_that_does_not_answer_is_named(
    site: Site, init: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_slurm(site, monkeypatch)
    executable(site.bin / "scontrol", "import sys\nsys.exit('slurm_load_node: no contact')")
    line = line_of(init())
    assert "Slurm does not report the address of node n2" in line
    assert "no contact" in line
    (site.bin / "scontrol").unlink()
    assert "scontrol show node: cannot be run" in line_of(init())
    in_slurm(site, monkeypatch, "n[1-")
    assert "'n[1-' is not a hostlist" in line_of(init())
    assert site.listing() == {}


def test_an_enclosing_flux_that_does_not_answer_is_named(
    site: Site, init: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUX_URI", "local:///run/gone")
    site.says(dead=True)
    problem = "the enclosing Flux instance local:///run/gone does not answer"
    assert problem in line_of(init("--burst-nodes=1"))
    assert site.listing() == {}


@contextmanager
def listening(port: int) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", port)):
        yield


def test_a_port_in_use_is_named(site: Site, init: Run, run: Run) -> None:
    with listening(site.port):
        line = line_of(init("--burst-nodes=1"))
        assert f"cannot use port {site.port} on this host (Address already in use)" in line
        assert site.listing() == {}
    done(init("--burst-nodes=1"))
    with listening(site.port):
        line = line_of(run("local", "start", str(site.directory), "--", "true"))
    assert f"cannot use port {site.port} on this host (Address already in use)" in line


def test_a_port_in_use_here_does_not_matter_to_a_lead_elsewhere(site: Site, init: Run) -> None:
    site.says(fails=["broker"])
    with listening(site.port):
        done(init("--lead-hosts=elsewhere", "--burst-nodes=1"))


def test_a_certificate_that_others_can_read_is_refused(site: Site, init: Run) -> None:
    own = site.place / "own.cert"
    own.write_bytes(CERTIFICATE)
    for others in (0o640, 0o604, 0o620, 0o602):
        own.chmod(others)
        line = line_of(init("--burst-nodes=1", f"--curve-cert={own}"))
        assert f"others can read the certificate {own} (mode {others:04o})" in line
        assert list(site.listing()) == [str(own)]


def test_a_file_that_is_no_certificate_is_named(site: Site, init: Run) -> None:
    own = site.place / "own.cert"
    own.write_text("hello")
    own.chmod(0o600)
    line = line_of(init("--burst-nodes=1", f"--curve-cert={own}"))
    assert f"{own} is not a certificate" in line
    assert list(site.listing()) == [str(own)]


def test_a_certificate_that_is_a_directory_is_named(site: Site, init: Run) -> None:
    own = site.place / "own.cert"
    own.mkdir(mode=0o700)
    assert str(own) in line_of(init("--burst-nodes=1", f"--curve-cert={own}"))
    assert list(site.listing()) == [str(own)]


@pytest.mark.parametrize(("command", "status"), [("keygen", 1), ("R", 1), ("broker", 2)])
def test_what_a_flux_that_fails_says_is_told_and_nothing_is_left(
    site: Site, init: Run, command: str, status: int
) -> None:
    site.says(fails=[command])
    line = line_of(init("--burst-nodes=1"), status)
    assert f"flux-{command}: no such luck" in line
    assert site.listing() == {}


def test_a_broker_that_hangs_is_ended_and_told(
    site: Site, init: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elastic_directory, "TRIAL_SECONDS", 1.0)
    site.says(hangs=True)
    with at_most(60):
        status, out, err = init("--burst-nodes=1")
    assert "did not end within 1 seconds" in line_of((status, out, err), status)
    assert status in (1, 2)
    assert site.listing() == {}


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_an_interrupt_leaves_nothing(
    site: Site, tmp_path: Path, number: int, status: int, said: str
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    site.says(fifo=str(fifo))
    arguments = ["local", "init", "elastic", "--burst-nodes=1", f"--port={site.port}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fluxburst", *arguments], stderr=subprocess.PIPE, text=True
    )
    with at_most(60):
        broker = int(fifo.read_text())
        assert [path.name[0] for path in site.place.iterdir()] == ["."]
        process.send_signal(number)
        _, err = process.communicate()
    assert (process.returncode, err.strip()) == (status, f"fluxburst: {said}")
    assert site.listing() == {}
    assert not Path(f"/proc/{broker}").exists()


# --- what start does and refuses ---------------------------------------------------------------


def start(site: Site, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``fluxburst local start`` in a process of its own."""
    return command_line(
        "local", "start", str(site.directory), *arguments, environment={**os.environ, **environment}
    )


def test_start_runs_the_shell_where_no_command_is_given(site: Site, init: Run) -> None:
    done(init("--burst-nodes=1"))
    started = start(site, SHELL="/bin/my shell")
    assert json.loads(started.stdout)[-1] == "/bin/my shell"


def test_start_notes_what_it_was_started_in(site: Site, init: Run) -> None:
    done(init("--burst-nodes=1"))
    start(site, FLUX_URI='local:///a "b"', SLURM_JOB_ID="7", SLURM_CONF="/etc/x/slurm.conf")
    assert enclosure(site.directory) == Enclosure('local:///a "b"', "7", "/etc/x/slurm.conf")
    start(site)
    assert enclosure(site.directory) == Enclosure()


def test_start_takes_options_for_the_broker_as_flux_start_does(site: Site, init: Run) -> None:
    done(init("--burst-nodes=1"))
    started = start(site, "-o", "-Sa=1,-Sb=2", "--broker-opts=-v", "--", "true", "-o", "x")
    options = json.loads(started.stdout)
    assert options[options.index("-Sa=1") :][:3] == ["-Sa=1", "-Sb=2", "-v"]
    assert options[-3:] == ["true", "-o", "x"]


def test_a_lead_that_guests_may_reach_has_a_run_directory_that_they_can_enter(
    site: Site, init: Run, tmp_path: Path
) -> None:
    done(init("--burst-nodes=1"))
    assert "-Srundir=" not in start(site, "--", "true").stdout
    access = site.directory / "config" / "access.toml"
    access.write_text("[access]\nallow-guest-user = true\n")
    options = json.loads(start(site, "--", "true", TMPDIR=str(tmp_path)).stdout)
    (made,) = [Path(o.removeprefix("-Srundir=")) for o in options if o.startswith("-Srundir=")]
    assert (made.parent, mode(made)) == (tmp_path, 0o755)
    assert "-Srundir-cleanup=1" in options
    named = tmp_path / "named"
    options = json.loads(start(site, "-o", f"-Srundir={named}", "--", "true").stdout)
    assert [o for o in options if o.startswith("-Srundir")] == [f"-Srundir={named}"]
    assert mode(named) == 0o755


def test_each_lead_starts_under_its_own_name(site: Site, init: Run) -> None:
    done(init("--lead-hosts=lead[0-1]", "--burst-nodes=1"))
    for node, name in (("lead0", "lead0"), ("lead1", "lead1"), ("lead1.example.org", "lead1")):
        options = json.loads(start(site, "--", "true", SLURMD_NODENAME=node).stdout)
        assert f"-Shostname={name}" in options
        assert "-Sbroker.quorum=2" in options
    refused = start(site, "--", "true", SLURMD_NODENAME="n7")
    line = line_of((refused.returncode, refused.stdout, refused.stderr))
    assert "this host, n7, is not a lead host of the instance (lead[0-1])" in line


def test_start_refuses_a_directory_that_is_none(site: Site, run: Run) -> None:
    (site.place / "file").touch()
    (site.place / "empty").mkdir()
    before = site.listing()
    for place, problem in (
        ("nowhere", "nowhere is not an elastic instance's directory"),
        ("empty", "empty is not an elastic instance's directory"),
        ("file", "'file' is a file"),
    ):
        assert problem in line_of(run("local", "start", place, "--", "true"))
    assert site.listing() == before


CORRUPT: dict[str, Callable[[str], str]] = {
    "not TOML": lambda text: text + "[",
    "cut off": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "no lead hosts": lambda text: text.replace("lead_hosts", "#"),
    "an unknown key": lambda text: text + 'color = "blue"\n',
    "no hostlist": lambda text: text.replace('"burst0"', '"burst["'),
    "hosts that are a number": lambda text: text.replace('"burst0"', "7"),
    "a host named twice": lambda text: text.replace('"burst0"', f'"{THIS_HOST}"'),
    "a port that is a text": lambda text: text.replace("port = ", 'port = "x" #'),
    "a port that is none": lambda text: text.replace("port = ", "port = 99999 #"),
    "a port that is a fraction": lambda text: text.replace("port = ", "port = 8050.5 #"),
    "a flux that is a number": lambda text: text.replace("flux = ", "flux = 5 #"),
}


@pytest.mark.parametrize("how", CORRUPT)
def test_start_names_a_record_that_is_corrupt(site: Site, init: Run, run: Run, how: str) -> None:
    done(init("--burst-nodes=1"))
    record = site.directory / "elastic.toml"
    text = record.read_text()
    record.write_text(CORRUPT[how](text))
    assert record.read_text() != text
    assert str(record) in line_of(run("local", "start", str(site.directory), "--", "true"))


def test_start_refuses_a_certificate_that_others_can_read_or_that_is_not_there(
    site: Site, init: Run, run: Run
) -> None:
    done(init("--burst-nodes=1"))
    certificate = site.directory / "curve.cert"
    certificate.chmod(0o640)
    line = line_of(run("local", "start", str(site.directory), "--", "true"))
    assert f"others can read the certificate {certificate} (mode 0640)" in line
    certificate.unlink()
    line = line_of(run("local", "start", str(site.directory), "--", "true"))
    assert f"cannot read the certificate {certificate}: No such file or directory" in line


@only_root
def test_start_refuses_the_instance_of_another_user(site: Site, init: Run, run: Run) -> None:
    done(init("--burst-nodes=1", "--user=nobody"))
    line = line_of(run("local", "start", str(site.directory), "--", "true"))
    assert "belongs to nobody" in line


def test_a_command_that_there_is_not_is_named(site: Site) -> None:
    site.says(fails=[])
    program = [sys.executable, "-m", "fluxburst_local.initial_program", str(site.bin / "flux")]
    failed = subprocess.run(
        [*program, "no-such-command"], capture_output=True, text=True, check=False, timeout=60
    )
    assert failed.returncode != 0
    assert "no-such-command" in failed.stderr
    assert "Traceback" not in failed.stderr


# --- the parameters of the plugin --------------------------------------------------------------


def plan(site: Site, run: Run, **values: object) -> Result:
    """Plan with parameters besides those that init wrote."""
    file = site.directory / "fluxburst.toml"
    table = config_file.load(file).plugins["local"]
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**table, **values}.items()]
    file.write_text("\n".join(["[plugins.local]", *lines, ""]), encoding="utf-8")
    return run("--config", str(file), "plan", "--mock", "--json")


def test_what_init_wrote_is_accepted_by_the_plugin(site: Site, init: Run, run: Run) -> None:
    done(init("--burst-nodes=3"))
    planned = json.loads(done(plan(site, run, hostnames="burst[0-1]", log_level=0)))
    assert list(planned["assignments"]) == ["local"]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("hostnames", "burst[1-4]", "burst[3-4] is not declared as a burst node in "),
        ("hostnames", "burst[1-", "'burst[1-' is not a hostlist (RFC 29)"),
        ("hostnames", ",", "a hostlist (RFC 29) of at least one host"),
        ("config_dir", "/nowhere", "/nowhere"),
        ("config_dir", ".", "/curve.cert: No such file"),
        ("log_level", 9, "must be from 0 (emergency) to 7 (debug), got 9"),
        ("log_level", -1, "must be from 0 (emergency) to 7 (debug), got -1"),
        ("log_level", "high", "expected integer, got 'high'"),
        ("run_dir", "tmp", "must be an absolute path, got 'tmp'"),
        ("launcher", "magic", "got 'magic'"),
        ("colour", "blue", "is not a parameter"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(
    site: Site, init: Run, run: Run, field: str, value: object, problem: str
) -> None:
    done(init("--burst-nodes=3"))
    line = line_of(plan(site, run, **{field: value}))
    assert line.startswith(f"fluxburst: plugin local: {field} (from ")
    assert problem in line


def test_all_parameters_that_cannot_be_used_are_named_at_once(
    site: Site, init: Run, run: Run
) -> None:
    done(init("--burst-nodes=3"))
    (site.directory / "curve.cert").chmod(0o644)
    status, out, err = plan(site, run, hostnames="x", log_level=9, run_dir="tmp")
    assert (status, out) == (2, "")
    fields = [line.split(": ", 2)[2].split(" (")[0] for line in err.splitlines()]
    assert fields == ["config_dir", "hostnames", "log_level", "run_dir"]


# --- whatever it is made of --------------------------------------------------------------------

HOSTS = st.lists(
    st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9._-]{0,6}[a-zA-Z0-9])?", fullmatch=True)
    | st.from_regex(r"n[0-9]{0,2}", fullmatch=True),
    min_size=2,
    max_size=8,
    unique=True,
)
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@st.composite
def elastics(draw: st.DrawFn) -> Elastic:
    hosts = draw(HOSTS)
    leads = draw(st.integers(1, len(hosts) - 1))
    numbers = st.integers(0, 4)
    names = draw(st.lists(st.sampled_from(["n2-standard-8", "a.b"]), unique=True))
    burst = hosts[leads:]
    last = {name: burst.pop() for name in names if len(burst) > 1}
    return Elastic(
        lead_hosts=tuple(hosts[:leads]),
        burst_hosts=tuple(hosts[leads:]),
        cores=1 + draw(numbers),
        gpus=draw(numbers),
        lead_cores=draw(st.none() | st.integers(1, 4)),
        lead_gpus=draw(numbers),
        address=draw(st.sampled_from(["127.0.0.1", "192.0.2.1", "lead.example.org"])),
        port=draw(st.integers(1, 65535)),
        network_device=draw(st.sampled_from(["", "eth0", "br-0.1"])),
        queue=draw(st.sampled_from(["", "more", "a.b"])),
        default_queue=draw(st.sampled_from(["batch", "c-d", "e.f"])),
        user=draw(st.sampled_from(["root", "jürgen"])),
        shapes=tuple(
            Shape(name, (host,), 1 + draw(numbers), draw(numbers))
            for name, host in reversed(last.items())
        ),
    )


@given(elastics())
@settings(deadline=None)
def test_any_hosts_and_queues_are_read_from_the_brokers_configuration(made: Elastic) -> None:
    elastic.check(made)
    system = tomllib.loads(elastic.system_toml(made, Path("/e")))
    declared = [host for entry in system["bootstrap"]["hosts"] for host in entry_hosts(entry)]
    assert tuple(declared) == made.hosts
    queues = {made.queue, made.default_queue} if made.queue else set()
    assert set(system.get("queues", {})) == queues


def entry_hosts(entry: Mapping[str, str]) -> tuple[str, ...]:
    return parse_hostlist(entry["host"])


@given(NAMES)
@settings(deadline=None)
def test_any_directory_is_read_from_the_brokers_configuration(name: str) -> None:
    directory = Path("/") / f"x{name}"
    system = tomllib.loads(elastic.system_toml(Elastic(("a",), ("b",), 1), directory))
    assert system["bootstrap"]["curve_cert"] == str(directory / "curve.cert")
    assert system["resource"]["path"] == str(directory / "R")


@given(made=elastics())
@settings(deadline=None, max_examples=15, phases=[Phase.generate])  # each runs five commands
def test_any_instance_that_is_written_is_loaded_back_the_same(made: Elastic) -> None:
    with tempfile.TemporaryDirectory() as root:
        site = Site(Path(root))
        made = Elastic(**{**vars(made), "flux": str(site.bin / "flux"), "user": USER})
        elastic_directory.write(made, site.directory)
        assert elastic.load(site.directory) == made


# --- with a real Flux --------------------------------------------------------------------------


def flux_says(*arguments: str, stdin: str = "") -> str:
    ran = subprocess.run(
        ["flux", *arguments], input=stdin, capture_output=True, text=True, check=True, timeout=60
    )
    return ran.stdout.strip()


@pytest.mark.flux
@needs_flux
def test_a_path_with_spaces_and_letters_of_any_alphabet_works_from_start_to_end(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "il était une fois" / "'λ' \"$x\""
    directory.parent.mkdir()
    with growing(directory, "--burst-nodes=2", "--cores=1", "--queue=more") as grown:
        resources = (directory / "R").read_text()
        assert flux_says("R", "decode", "--nodelist", stdin=resources) == f"{THIS_HOST},burst[0-1]"
        assert flux_says("R", "decode", "--ranks", "--properties=burst", stdin=resources) == "1-2"
        ran = grown.fluxburst("run", "--nodes", "1")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert grown.up() == {THIS_HOST, "burst0"}
        gone = grown.fluxburst("unburst", "--all")
        assert (gone.returncode, gone.stderr) == (0, "")
        assert grown.left_over() == []


SHAPED = Elastic(
    ("lead",),
    ("a1", "b1", "a2", "c1"),
    cores=4,
    shapes=(Shape("large", ("a1", "a2"), 8, 2), Shape("n2-standard-8", ("c1",), 16)),
)


@pytest.mark.flux
@needs_flux
def test_flux_reads_burst_nodes_of_several_shapes(tmp_path: Path) -> None:
    elastic_directory.write(SHAPED, tmp_path / "elastic")
    resources = (tmp_path / "elastic" / "R").read_text()

    def decoded(what: str, *options: str) -> str:
        return flux_says("R", "decode", f"--{what}", *options, stdin=resources)

    assert decoded("nodelist") == "lead,a1,b1,a2,c1"
    assert decoded("ranks", "--properties=burst") == "1-4"
    assert decoded("ranks", "--properties=large") == "1,3"
    assert decoded("ranks", "--properties=n2-standard-8") == "4"
    assert [decoded("count=core", f"--include={rank}") for rank in range(5)] == [
        *["4", "8", "4", "8", "16"]
    ]
    assert [decoded("count=gpu", f"--include={rank}") for rank in range(5)] == list("02020")
    assert elastic.load(tmp_path / "elastic").shape_of("a2") == SHAPED.shapes[0]
    assert elastic.load(tmp_path / "elastic").shape_of("b1") == Shape("", ("b1",), 4)


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ([Shape("x", ("z",), 1)], "names undeclared hosts: z"),
        ([Shape("x", (), 1)], "names undeclared hosts: none"),
        ([Shape("x", ("a1",), 1), Shape("y", ("a1", "a2"), 1)], "a1 has two shapes"),
        ([Shape("lead", ("a1",), 1)], "'lead' is not a valid name"),
        ([Shape("burst", ("a1",), 1)], "'burst' is not a valid name"),
        ([Shape("a b", ("a1",), 1)], "'a b' is not a valid name"),
        ([Shape("x", ("a1",), 0)], "at least 1 core"),
        ([Shape("x", ("a1",), 1, 5000)], "at most 4096"),
    ],
)
def test_shapes_that_cannot_be_are_refused(shapes: Sequence[Shape], problem: str) -> None:
    made = dataclasses.replace(SHAPED, shapes=tuple(shapes))
    with pytest.raises(RequestError, match=problem):
        elastic.check(made)


@pytest.mark.flux
@needs_flux
def test_an_instance_of_two_leads_runs_the_command_and_ends_with_it_and_its_status(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "elastic"
    here, there = ({**outside(), "SLURMD_NODENAME": f"lead{number}"} for number in (0, 1))
    options = ["--lead-hosts=lead[0-1]", "--burst-nodes=1", f"--port={free_port()}"]
    made = command_line("local", "init", str(directory), *options, environment=here)
    assert made.returncode == 0, made.stderr
    start = ["local", "start", str(directory), "--", "sh", "-c"]
    second = subprocess.Popen(
        [sys.executable, "-m", "fluxburst", *start, "exit 9"],
        env=there,
        stderr=subprocess.DEVNULL,
    )
    script = "flux resource list -no '{nodelist}' --states=free; exit 7"
    first = command_line(*start, script, environment=here)
    assert (first.returncode, first.stdout.strip()) == (7, "lead[0-1]"), first.stderr
    assert second.wait(60) == 0


@pytest.mark.flux
@needs_flux
def test_the_nodes_of_a_real_enclosing_flux_are_counted(tmp_path: Path) -> None:
    directory = tmp_path / "elastic"
    init = [sys.executable, "-m", "fluxburst", "local", "init", str(directory), "--quiet"]
    subprocess.run(
        ["flux", "start", "--test-size=4", *init, f"--port={free_port()}", "--launcher=flux"],
        env=outside(),
        check=True,
        timeout=120,
    )
    assert hosts_of(directory) == (THIS_HOST, "burst[0-2]")
    assert elastic.load(directory).address == "127.0.0.1"


def failing_init(tmp_path: Path, *options: str, **environment: str) -> Result:
    """Run an init that fails with a real Flux, and check that it leaves nothing."""
    (tmp_path / "place").mkdir()
    with tempfile.TemporaryDirectory(prefix="fluxburst-") as rundirs:  # a socket's path is short
        failed = command_line(
            "local",
            "init",
            str(tmp_path / "place" / "elastic"),
            f"--port={free_port()}",
            "--burst-nodes=1",
            *options,
            environment={**outside(), "TMPDIR": rundirs, **environment},
        )
        assert list(Path(rundirs).iterdir()) == []
    assert list((tmp_path / "place").iterdir()) == []
    return failed.returncode, failed.stdout, failed.stderr


@pytest.mark.flux
@needs_flux
def test_an_enclosing_flux_that_is_gone_is_named(tmp_path: Path) -> None:
    line = line_of(failing_init(tmp_path, FLUX_URI="local:///nowhere/local-0"))
    assert "the enclosing Flux instance local:///nowhere/local-0 does not answer" in line


@pytest.mark.flux
@needs_flux
def test_a_certificate_that_flux_does_not_take_is_named(tmp_path: Path) -> None:
    own = tmp_path / "own.cert"
    own.write_bytes(CERTIFICATE)
    own.chmod(0o600)
    line = line_of(failing_init(tmp_path, f"--curve-cert={own}"))
    assert re.search(r"(own|curve)\.cert", line), line
