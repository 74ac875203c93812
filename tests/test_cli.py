from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support import named

from fluxburst.cli import main
from fluxburst.formats.fluid import format_f58
from fluxburst.simulation.recordings import BUNDLED

MakePackage = Callable[..., str]

CLOUD = """
from dataclasses import dataclass, field, replace
from fluxburst import BurstPlugin, BurstState, NodeType, PluginType, hookimpl

@dataclass
class Parameters:
    size: int = field(default=4, metadata={"help": "cores of a node"})
    token: str = field(default="", metadata={"help": "who we are", "secret": True})
    zone: str = "here"

class Cloud(BurstPlugin):
    _param_dataclass = Parameters

    def node_types(self):
        return [NodeType("node", cores=self.params.size, price=1.0, max_nodes=200)]

    def create(self, burst):
        return replace(burst, state=BurstState.READY)

    def delete(self, burst):
        pass

@hookimpl
def fluxburst_register_plugins():
    return [PluginType("cloud", Parameters, Cloud)]
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], make_package: MakePackage) -> Run:
    """Run the command line where the package fluxburst-cloud is installed."""
    make_package("fluxburst_cloud", CLOUD)

    def run_it(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        captured = capsys.readouterr()
        status = exited.value.code
        assert isinstance(status, int)
        return status, captured.out, captured.err

    return run_it


def json_of(result: tuple[int, str, str]) -> Any:
    status, out, err = result
    assert (status, err) == (0, "")
    return json.loads(out)


def refused(result: tuple[int, str, str]) -> str:
    """Return the one line that says why a request was refused."""
    status, out, err = result
    assert status == 2
    assert out == ""
    assert "Traceback" not in err
    (line,) = err.splitlines()
    assert line.startswith("fluxburst: ")
    return line


def test_plan_says_for_each_job_of_the_recorded_queue_why_or_why_not(run: Run) -> None:
    plan = json_of(run("plan", f"--mock={BUNDLED}", "--plugin", "cloud", "--json"))
    assert list(plan) == ["selected", "assignments", "unmatched", "decisions", "bursts"]
    assert len(plan["decisions"]) == 300
    assert all(decision["reasons"] for decision in plan["decisions"])
    assert len(plan["selected"]) == 99
    assigned = plan["assignments"]["cloud"]
    assert sorted(assigned + plan["unmatched"]) == sorted(plan["selected"])
    assert {"id", "outcome", "plugin", "reasons"} == set(plan["decisions"][0])
    assert {"plugin", "node_type", "nodes", "jobs"} == set(plan["bursts"][0])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--mock", "--plugin", "cloud", "--json", "plan"),
        ("--mock", "plan", "--plugin", "cloud", "--json"),
        ("plan", "--mock", "--json", "--plugin=cloud"),
        ("--json", "plan", "--plugin", "cloud", "--mock="),
        ("-v", "--plugin", "cloud", "plan", "--json", "--mock", "-q"),
    ],
)
def test_options_may_stand_before_or_after_the_command(
    run: Run, arguments: tuple[str, ...]
) -> None:
    status, out, _ = run(*arguments)
    assert status == 0
    assert len(json.loads(out)["decisions"]) == 300


def test_plan_prints_tables_for_people(run: Run) -> None:
    status, out, _ = run("plan", "--mock", "--plugin", "cloud")
    assert status == 0
    assert "Bursts to provision" in out
    assert "asks for plugin 'gke', which is not loaded" in out


def test_run_gives_what_plan_says_and_shows_the_bursts_ready(run: Run) -> None:
    planned = json_of(run("plan", "--mock", "--plugin", "cloud", "--json"))
    done = json_of(run("run", "--mock", "--plugin", "cloud", "--json"))
    assert done["assignments"] == planned["assignments"]
    assert [burst["state"] for burst in done["bursts"]] == ["ready"]
    assert done["bursts"][0]["jobs"] == planned["bursts"][0]["jobs"]
    assert done["errors"] == []


def test_run_by_hand_brings_up_what_was_asked_for(run: Run) -> None:
    done = json_of(run("run", "--mock", "--plugin", "cloud", "--nodes", "3", "--json"))
    name = named("cloud", 1, "embedded")
    assert [(b["name"], b["nodes"], b["jobs"]) for b in done["bursts"]] == [(name, 3, [])]


def test_run_that_fails_exits_with_1_and_says_what_failed(
    run: Run, make_package: MakePackage
) -> None:
    make_package(
        "fluxburst_bad",
        CLOUD.replace('"cloud"', '"bad"').replace(
            "return replace(burst, state=BurstState.READY)", "raise OSError('no route')"
        ),
    )
    status, out, err = run("run", "--mock", "--plugin", "bad")
    assert status == 1
    assert "OSError: no route" in err
    assert "Traceback" not in err
    assert "failed" in out


def test_jobs_shows_what_would_be_selected_without_any_plugin(run: Run) -> None:
    jobs = json_of(run("jobs", "--mock", "--json"))
    assert len(jobs) == 99
    assert {"id", "user", "queue", "nodes", "tasks", "cores", "gpus", "memory"} < set(jobs[0])
    status, out, _ = run("jobs", "--mock")
    assert (status, len(out.splitlines()) > 99) == (0, True)


def test_unburst_of_all_takes_down_nothing_where_there_is_nothing(run: Run) -> None:
    result = json_of(run("unburst", "--all", "--mock", "--plugin", "cloud", "--json"))
    assert result == {"gone": [], "errors": [], "remaining": None, "strangers": None}


def test_unburst_of_all_goes_on_without_a_plugin_that_is_not_installed_and_fails(run: Run) -> None:
    both = ("--plugin", "gone", "--plugin", "cloud")
    status, out, err = run("unburst", "--all", "--mock", *both)
    assert (status, out.strip()) == (1, "Nothing to terminate.")
    assert "skipping plugin gone: unknown burst plugin 'gone'" in err
    assert run("unburst", "--all", "--mock", "--plugin", "gone")[0] == 2


def test_plugins_lists_packages_with_what_they_do_or_why_not(
    run: Run, make_package: MakePackage
) -> None:
    make_package("fluxburst_broken", "import a_module_that_is_not_there")
    packages = {p["distribution"]: p for p in json_of(run("plugins", "--json"))}
    assert packages["fluxburst-cloud"]["status"] == "registered"
    assert packages["fluxburst-cloud"]["plugins"] == ["cloud"]
    assert packages["fluxburst-broken"]["status"] == "broken"
    assert "a_module_that_is_not_there" in packages["fluxburst-broken"]["problem"]
    assert "a_module_that_is_not_there" in run("plugins")[1]


def test_a_broken_package_changes_nothing_but_the_list_of_plugins(
    run: Run, make_package: MakePackage
) -> None:
    arguments = ("plan", "--mock", "--plugin", "cloud", "--json")
    before = run(*arguments)
    make_package("fluxburst_broken", "import a_module_that_is_not_there")
    assert run(*arguments) == before


@pytest.mark.parametrize("how", ["option", "environment", "config"])
def test_packages_can_be_blocked(
    run: Run, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = ["plugins", "--json"]
    if how == "option":
        arguments += ["--block", "cloud"]
    elif how == "environment":
        monkeypatch.setenv("FLUXBURST_BLOCK", "other, cloud")
    else:
        (tmp_path / "c.toml").write_text('block = ["fluxburst-cloud"]')
        arguments += ["--config", str(tmp_path / "c.toml")]
    packages = {p["distribution"]: p for p in json_of(run(*arguments))}
    assert packages["fluxburst-cloud"]["status"] == "blocked"


def test_params_shows_where_each_value_comes_from_and_no_secret(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLUXBURST_TOKEN", "s3cret")
    config = tmp_path / "c.toml"
    config.write_text("[plugins.cloud]\nsize = 8\n")
    arguments = ("params", "cloud", "--config", str(config))
    values = {v["field"]: v for v in json_of(run(*arguments, "--json"))}
    assert values["size"]["value"] == 8
    assert values["size"]["source"] == f"{config} [plugins.cloud]"
    assert values["token"]["value"] == "********"
    assert values["token"]["source"] == "environment variable FLUXBURST_TOKEN"
    assert values["zone"]["source"] == "default"
    assert values["size"]["environment"] == ["FLUXBURST_CLOUD_SIZE", "FLUXBURST_SIZE"]
    shown = run(*arguments)[1]
    assert "cores of a node" in shown
    assert "s3cret" not in shown


def test_plugins_are_loaded_from_the_config_in_its_order(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('ordering = "by_price"\nselector = "burstable"\n[plugins.cloud]\nsize = 64\n')
    plan = json_of(run("plan", "--mock", "--config", str(config), "--json"))
    assert list(plan["assignments"]) == ["cloud"]


@pytest.mark.parametrize("name", ["far-cloud", "FAR_CLOUD"])
def test_a_plugin_is_loaded_as_people_write_its_name(
    run: Run, make_package: MakePackage, tmp_path: Path, name: str
) -> None:
    make_package("fluxburst_far_cloud", CLOUD.replace('"cloud"', '"far_cloud"'))
    config = write(tmp_path / "c.toml", f"[plugins.{name}]\nsize = 64\n")
    for arguments in [("--plugin", name), ("--plugin", name, "--plugin", "far_cloud"), ()]:
        plan = json_of(run("plan", "--mock", f"--config={config}", *arguments, "--json"))
        assert list(plan["assignments"]) == ["far_cloud"]
        findings = json_of(run("doctor", "--mock", f"--config={config}", *arguments, "--json"))
        assert "plugin far_cloud" in {finding["check"] for finding in findings}
    size = json_of(run("params", name, f"--config={config}", "--json"))[0]
    assert (size["value"], size["source"]) == (64, f"{config} [plugins.{name}]")
    unburst = ("unburst", "--all", "--mock", f"--config={config}", "--plugin", name, "--json")
    assert json_of(run(*unburst))["gone"] == []


def test_limits_hold_for_a_plugin_as_people_write_its_name(run: Run, tmp_path: Path) -> None:
    config = write(tmp_path / "c.toml", "[plugins.cloud]\n[limits.plugins.Cloud]\nnodes = 1\n")
    plan = json_of(run("plan", "--mock", f"--config={config}", "--json"))
    assert sum(burst["nodes"] for burst in plan["bursts"]) == 1


def test_two_tables_of_one_plugin_are_refused(run: Run, tmp_path: Path) -> None:
    config = write(tmp_path / "c.toml", "[plugins.cloud]\nsize = 2\n[plugins.CLOUD]\nsize = 3\n")
    line = refused(run("plan", "--mock", f"--config={config}"))
    assert line == (
        f"fluxburst: {config}: 'plugins.cloud' and 'plugins.CLOUD' name one burst plugin"
    )


def test_what_cannot_be_counted_of_a_job_is_null_and_the_rest_is_shown(
    run: Run, tmp_path: Path
) -> None:
    before = json_of(run("jobs", "--mock", "--json"))
    odd = before[3]["id"]
    lines = [json.loads(line) for line in BUNDLED.read_text().splitlines()]
    record = next(line for line in lines if line.get("job", {}).get("id") == odd)
    record["jobspec"]["tasks"][0]["slot"] = "nosuch"
    del record["job"]["duration"]
    record["jobspec"]["attributes"]["system"]["duration"] = "1h"
    file = write(tmp_path / "queue.jsonl", "\n".join(map(json.dumps, lines)))
    status, out, err = run("jobs", f"--mock={file}", "--json")
    assert status == 2
    assert json.loads(out) == [
        {**job, "tasks": None, "duration": None} if job["id"] == odd else job for job in before
    ]
    assert err.splitlines() == [
        f"fluxburst: job {odd}: jobspec: a task is for the missing slot 'nosuch'",
        f"fluxburst: job {odd}: jobspec: its duration is '1h', not a number of seconds",
    ]
    status, out, _ = run("jobs", f"--mock={file}")
    assert (status, format_f58(odd) in out) == (2, True)


def test_of_a_job_with_alternatives_it_cannot_be_told_how_much_it_takes(
    run: Run, tmp_path: Path
) -> None:
    choices = [
        {
            "type": "xor_slot",
            "count": 2,
            "label": "task",
            "with": [{"type": "core", "count": cores}],
        }
        for cores in (12, 5)
    ]
    lines = [json.loads(line) for line in BUNDLED.read_text().splitlines()]
    odd = json_of(run("jobs", "--mock", "--json"))[0]["id"]
    record = next(line for line in lines if line.get("job", {}).get("id") == odd)
    record["jobspec"]["resources"] = choices
    file = write(tmp_path / "queue.jsonl", "\n".join(map(json.dumps, lines)))
    jobs = {job["id"]: job for job in json.loads(run("jobs", f"--mock={file}", "--json")[1])}
    assert len(jobs) == 99
    told = [jobs[odd][name] for name in ("nodes", "cores", "gpus", "memory")]
    assert told == [None, None, None, None]


@pytest.mark.parametrize(("kind", "cores"), [("pu", None), ("socket", None), ("core", 4)])
def test_cores_that_are_asked_for_by_something_else_are_not_counted_as_none(
    kind: str, cores: int | None, run: Run, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in BUNDLED.read_text().splitlines()]
    odd = json_of(run("jobs", "--mock", "--json"))[0]["id"]
    record = next(line for line in lines if line.get("job", {}).get("id") == odd)
    within = [{"type": kind, "count": 4}]
    record["jobspec"]["resources"] = [{"type": "slot", "count": 1, "label": "task", "with": within}]
    file = write(tmp_path / "queue.jsonl", "\n".join(map(json.dumps, lines)))
    (job,) = [job for job in json_of(run("jobs", f"--mock={file}", "--json")) if job["id"] == odd]
    assert job["cores"] == cores


def test_plan_says_why_jobs_are_not_startable(run: Run) -> None:
    out = run("plan", "--mock", "--plugin=cloud")[1]
    assert re.search(r"^not startable: \d+ \(ƒ\w+, …: is held \(urgency 0\)\)$", out, re.M), out


def test_a_package_can_add_a_command(run: Run, make_package: MakePackage) -> None:
    make_package(
        "fluxburst_more",
        """
        import click
        from fluxburst import hookimpl

        @click.command()
        def greet():
            click.echo("hello")

        @hookimpl
        def fluxburst_register_commands():
            return [greet]
        """,
    )
    assert run("greet", "-q")[:2] == (0, "hello\n")


def test_a_packages_command_is_found_by_its_plugins_name_and_suggested(
    run: Run, make_package: MakePackage
) -> None:
    make_package(
        "fluxburst_more",
        """
        import click
        from fluxburst import hookimpl

        @click.group("far-away")
        def far_away():
            pass

        @far_away.command()
        def init():
            click.echo("made")

        @hookimpl
        def fluxburst_register_commands():
            return [far_away]
        """,
    )
    assert run("far-away", "init")[:2] == (0, "made\n")
    assert run("far_away", "init")[:2] == (0, "made\n")
    assert "'far_awai'; did you mean 'far-away'?" in refused(run("far_awai", "init"))


def test_record_refuses_to_overwrite_unless_forced(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "queue.jsonl"
    assert run("record", "--mock", str(file))[0] == 0
    assert "queue.jsonl exists" in refused(run("record", "--mock", str(file)))
    assert run("record", "--mock", "--force", str(file))[0] == 0
    assert len(json_of(run("jobs", f"--mock={file}", "--json"))) == 99


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_bad_input_is_named_in_one_line_with_status_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mock = ("--mock", "--plugin", "cloud")

    def config(text: str) -> str:
        return "--config=" + write(tmp_path / f"{len(list(tmp_path.iterdir()))}.toml", text)

    whole = BUNDLED.read_text()
    cut = write(tmp_path / "cut.jsonl", whole[: len(whole) // 2])
    text = write(tmp_path / "text.jsonl", "hello\n")
    expected = [
        (("plan", "--mock", "--plugin", "clod"), "'clod'; did you mean 'cloud'?"),
        (("params", "clod"), "did you mean 'cloud'?"),
        (("plan", "--mock"), "no burst plugin selected: use --plugin NAME"),
        (("plna", *mock), "'plna'; did you mean 'plan'?"),
        (("plan", "--nonsense"), "--nonsense"),
        (("unburst", *mock), "name the bursts to terminate, or use --all"),
        (("unburst", "nobody", *mock), "there is no burst 'nobody'"),
        (("run", "--nodes", "0", *mock), "--nodes"),
        (("run", "--wait", "soon", *mock), "'soon' is not a Flux Standard Duration"),
        (("plan", *mock, config("[plugins.cloud]\nsise = 3\n")), "did you mean 'size'?"),
        (("plan", *mock, config('[plugins.cloud]\nsize = "x"\n')), "expected integer, got 'x'"),
        (("plan", *mock, config("plugin = 1")), "unknown key 'plugin'; did you mean 'plugins'?"),
        (("plan", *mock, config("not toml")), "is not TOML"),
        (("plan", *mock, config('ordering = "by_prise"')), "did you mean 'by_price'?"),
        (("plan", *mock, config('selector = "burstible"')), "did you mean 'burstable'?"),
        (("plan", *mock, "--config", str(tmp_path / "none.toml")), "cannot be read: No such file"),
        (("plan", "--plugin=cloud", f"--mock={cut}"), "is not JSON, or is truncated"),
        (("plan", "--plugin=cloud", f"--mock={text}"), "line 1: is not JSON"),
        (("plan", "--plugin=cloud", f"--mock={tmp_path}"), "cannot be read"),
        (("plan", "--plugin=cloud", "--mock=/nowhere"), "/nowhere: cannot be read"),
    ]
    for arguments, line in expected:
        assert line in refused(run(*arguments)), arguments
    monkeypatch.setenv("FLUXBURST_CLOUD_SIZE", "many")
    line = refused(run("plan", *mock))
    assert "size (from environment variable FLUXBURST_CLOUD_SIZE): expected integer" in line


def test_all_wrong_parameters_are_named_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLUXBURST_SIZE", "many")
    file = write(tmp_path / "c.toml", "[plugins.cloud]\nzone = 3\nsise = 1\n")
    status, out, err = run("plan", "--mock", "--plugin", "cloud", "--config", file)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 3


def test_a_malformed_job_does_not_stop_a_plan_and_is_said(run: Run, tmp_path: Path) -> None:
    lines = BUNDLED.read_text().splitlines()
    record = json.loads(lines[5])
    del record["jobspec"]["attributes"]
    lines[5] = json.dumps(record)
    file = write(tmp_path / "queue.jsonl", "\n".join(lines))
    status, out, err = run("plan", f"--mock={file}", "--plugin", "cloud", "--json")
    assert status == 2
    assert err == f"fluxburst: job {record['job']['id']}: jobspec: lacks 'attributes'\n"
    plan = json.loads(out)
    assert len(plan["decisions"]) == 300
    assert plan["assignments"]["cloud"]


def test_a_wrong_answer_of_a_hook_is_said_once_for_all_jobs(
    run: Run, make_package: MakePackage
) -> None:
    make_package(
        "fluxburst_wrong",
        "from fluxburst import hookimpl\n@hookimpl\ndef fluxburst_select_job(job): return 'yes'\n",
    )
    status, _, err = run("plan", "--mock", "--plugin", "cloud", "--json")
    assert status == 2
    (line,) = err.splitlines()
    assert "fluxburst-wrong: fluxburst_select_job: returned 'yes' (str)" in line
    assert line.endswith("(231 jobs)")


def test_no_flux_where_a_live_one_is_asked_for_is_said(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flux", None)
    assert "no Flux" in refused(run("plan", "--plugin", "cloud"))


def test_help_and_version_import_no_plugin_and_no_flux(tmp_path: Path) -> None:
    script = f"""
import sys
from fluxburst.cli import main
try:
    main({["--help"]!r})
except SystemExit as status:
    assert status.code in (0, None), status.code
unwanted = ("fluxburst_", "flux.", "cattrs", "rich")
loaded = [module for module in sys.modules if module.startswith(unwanted)]
assert not loaded, loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Commands:" in done.stdout


@pytest.mark.parametrize(
    "command",
    ["cost", "demo", "doctor", "jobs", "ledger", "params", "plan", "plugins", "record", "run",
     "status", "unburst", "why"],
)  # fmt: skip
def test_every_command_has_help_that_agrees_with_the_list(run: Run, command: str) -> None:
    from fluxburst.cli.app import _COMMANDS

    status, out, _ = run(command, "--help")
    assert status == 0
    assert _COMMANDS[command][1].split()[0] in out


def test_completion_answers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fluxburst"],
        env={
            **os.environ,
            "_FLUXBURST_COMPLETE": "bash_complete",
            "COMP_WORDS": "fluxburst pl",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["plain,plan", "plain,plugins"]


def test_the_version_is_printed(run: Run) -> None:
    from importlib.metadata import version

    assert run("--version")[:2] == (0, f"fluxburst {version('fluxburst')}\n")


def test_a_closed_pipe_is_no_traceback() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m fluxburst jobs --mock | head -1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["jobs"], ["plugins"], ["doctor"], ["status"]])
def test_a_closed_standard_output_is_no_traceback(command: list[str], tmp_path: Path) -> None:
    options = ["--mock", "--state-dir", str(tmp_path / "state")]
    done = subprocess.run(
        [sys.executable, "-c", CLOSED, sys.executable, "-m", "fluxburst", *command, *options],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


CLOSED = "import os, sys; os.close(1); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.mark.parametrize("jobid", [str(2**64 - 1), str(2**63), "0xffffffffffffffff"])
def test_a_job_id_that_no_ledger_can_have_is_not_known(run: Run, jobid: str) -> None:
    status, _, err = run("why", jobid, "--mock")
    assert status == 1
    assert "unknown job" in err


@pytest.mark.parametrize("since", ["inf", "1e300d", "800000d"])
def test_costs_since_before_time_began_are_those_of_all_times(run: Run, since: str) -> None:
    assert run("cost", "--since", since, "--mock") == run("cost", "--since", "1970-01-01", "--mock")


def test_names_of_jobs_are_shown_as_they_are_and_move_no_cursor(run: Run, tmp_path: Path) -> None:
    record = json.loads(BUNDLED.read_text().splitlines()[4])
    record["job"]["name"] = "[/x] a\x1b[2Jb"
    record["jobspec"]["attributes"]["system"]["burstable"] = "[/y]"
    file = write(tmp_path / "queue.jsonl", json.dumps(record))
    status, out, err = run("jobs", f"--mock={file}")
    assert (status, err) == (0, "")
    assert "[/x] a" in out
    assert "\x1b" not in out
    assert "asks for plugin '[/y]'" in run("plan", f"--mock={file}", "--plugin", "cloud")[1]


def test_brackets_in_a_source_are_shown(run: Run, tmp_path: Path) -> None:
    config = write(tmp_path / "c.toml", "[plugins.cloud]\nsize = 8\n")
    assert "[plugins.cloud]" in run("params", "cloud", "--config", config)[1]


def test_a_failed_deletion_after_a_failed_creation_is_said(
    run: Run, make_package: MakePackage
) -> None:
    make_package(
        "fluxburst_bad",
        CLOUD.replace('"cloud"', '"bad"')
        .replace("return replace(burst, state=BurstState.READY)", "raise OSError('half of it')")
        .replace("pass\n", "raise OSError('will not go')\n"),
    )
    status, _, err = run("run", "--mock", "--plugin", "bad")
    assert status == 1
    assert "half of it" in err
    assert "may cost money" in err
    assert "will not go" in err


def test_a_full_disk_is_one_line() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m fluxburst jobs --mock > /dev/full"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_that_cannot_show_every_letter_shows_the_rest() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fluxburst", "jobs", "--mock"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
