from __future__ import annotations

import dataclasses
import doctest
import functools
import importlib.metadata
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from tests.support import Elsewhere, flux_available

from fluxburst import BurstParameters, BurstPlugin, FluxBurst, hookspecs
from fluxburst.cli.app import cli
from fluxburst.config import file as config_file
from fluxburst.config import notification, parameters, policy
from fluxburst.formats.units import format_duration
from fluxburst.ledger import Ledger
from fluxburst.ledger.entries import TRANSITIONS
from fluxburst.ledger.location import VARIABLE
from fluxburst.model.burst import DIGITS, BurstState, is_name_of
from fluxburst.plugin import orderings, selectors
from fluxburst.service import metrics
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import BUNDLED, load

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
EXAMPLE = ROOT / "docs" / "example_plugin"
GUIDE = ROOT / "docs" / "user-guide.md"
HOOKS = ROOT / "docs" / "hooks.md"
PARAMETERS = ROOT / "docs" / "parameters.md"
MOCK = ROOT / "plugins" / "mock" / "README.md"
FLUX_BURSTS_GUIDE = DATA / "flux-burst-user-guide.md"
PAGES = [*sorted((ROOT / "docs").glob("*.md")), MOCK]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HOOK_SIGNATURE = re.compile(r"def (fluxburst_\w+)(.*): \.\.\.\n", re.DOTALL)

mock_installed = any(
    entry.name == "mock" for entry in importlib.metadata.entry_points(group="fluxburst")
)
needs_mock = pytest.mark.skipif(not mock_installed, reason="fluxburst-mock is not installed")


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in FENCE.findall(page.read_text()) if kind == language]


def each_block(language: str) -> list[Any]:
    return [
        pytest.param(page, block, id=f"{page.parent.name}/{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, language))
    ]


def is_signature(block: str) -> bool:
    return HOOK_SIGNATURE.fullmatch(block) is not None


def is_shown_data(block: str) -> bool:
    """The guide shows what a job looked like when printed, which is not Python to be run."""
    return block.startswith("{")


def without_space(text: str) -> str:
    return re.sub(r"[\s'\"]", "", text).replace(",)", ")")


def write_named_files(page: Path, directory: Path) -> None:
    """Write each TOML block whose last words before it name a file to that file."""
    text = page.read_text()
    for match in FENCE.finditer(text):
        names = re.findall(r"`(\w+\.toml)`[^`]*$", text[: match.start()])
        if match[1] == "toml" and names:
            (directory / names[0]).write_text(match[2])


def run_in_order(
    page: Path, namespace: dict[str, Any], replaced: tuple[str, str] = ("", "")
) -> None:
    for number, block in enumerate(runnable(page)):
        run_python(block.replace(*replaced), f"{page.name}, block {number}", namespace)


def run_python(source: str, name: str, namespace: dict[str, Any]) -> None:
    exec(compile(source, name, "exec", dont_inherit=True), namespace)


def runnable(page: Path) -> list[str]:
    return [b for b in blocks(page, "python") if not is_signature(b) and not is_shown_data(b)]


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def example_site(tmp_path: Path) -> Path:
    """Return a directory in which the example plugin is installed."""
    site = tmp_path / "example-site"
    info = site / "fluxburst_example-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: fluxburst-example\nVersion: 0.1.0\n"
    )
    (info / "entry_points.txt").write_text("[fluxburst]\nexample = fluxburst_example\n")
    (site / "fluxburst_example.py").write_text((EXAMPLE / "fluxburst_example.py").read_text())
    return site


@pytest.fixture
def forget_modules() -> Iterator[None]:
    """Let modules that were imported from a directory of this test be imported anew."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("fluxburst_"):
            del sys.modules[name]


# --- the user guide runs -------------------------------------------------------------------


def guides_namespace() -> dict[str, Any]:
    """Return what the guide speaks of before it makes it: ``args``, and ``dc``."""
    fields = {
        "project": "my-project",
        "munge_key": "/etc/munge/munge.key",
        "munge_secret_name": "munge-key",
        "curve_cert_secret_name": "curve-cert",
        "flux_operator_yaml": "flux-operator.yaml",
        "lead_host": "lead",
        "lead_port": "30093",
        "lead_size": "4",
        "name": "burst-0",
    }
    plugin = importlib.import_module("fluxburst_guide.plugin")
    return {"args": SimpleNamespace(**fields), "dc": plugin.BurstParameters(**fields)}


def write_guides_config(directory: Path) -> None:
    write_named_files(GUIDE, directory)
    file = directory / "fluxburst.toml"
    file.write_text(file.read_text().replace("gke", "guide"))


def test_the_code_blocks_of_flux_bursts_guide_are_in_the_user_guide_unchanged_and_in_order() -> (
    None
):
    ours = iter(FENCE.findall(GUIDE.read_text()))
    for theirs in FENCE.findall(FLUX_BURSTS_GUIDE.read_text()):
        assert theirs in ours, theirs


@pytest.mark.usefixtures("forget_modules")
def test_the_user_guide_runs_on_the_embedded_instance(
    monkeypatch: pytest.MonkeyPatch, working_directory: Path
) -> None:
    monkeypatch.syspath_prepend(str(DATA))
    monkeypatch.setattr("fluxburst.client.FluxBurst", functools.partial(FluxBurst, mock=True))
    write_guides_config(working_directory)
    namespace = guides_namespace()

    run_in_order(GUIDE, namespace, ("gke", "guide"))

    assert namespace["dc"].lead_size == "4"
    assert list(namespace["plan"].assignments) == ["guide"]
    assert namespace["unmatched"] == []


LIVE_GUIDE = """
import subprocess, sys
sys.path[:0] = [{root!r}, {data!r}]
from tests.test_docs import GUIDE, guides_namespace, run_in_order

def flux(*arguments):
    return subprocess.run(["flux", *arguments], check=True, capture_output=True, text=True).stdout

flux("submit", "-N1", "--exclusive", "sleep", "inf")
job = flux("submit", "-N1", "--setattr=burstable", "hostname").strip()
namespace = guides_namespace()
run_in_order(GUIDE, namespace, ("gke", "guide"))
print(flux("jobs", "-no", "{{annotations.user.fluxburst.plugin}}", job))
"""


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_the_user_guide_runs_inside_a_live_flux(working_directory: Path) -> None:
    write_guides_config(working_directory)
    script = LIVE_GUIDE.format(root=str(ROOT), data=str(DATA))
    done = subprocess.run(
        ["flux", "start", sys.executable, "-c", script],
        cwd=working_directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["guide", ""]


# --- the other pages run -------------------------------------------------------------------


@needs_mock
@pytest.mark.usefixtures("forget_modules")
@pytest.mark.parametrize("page", [page for page in PAGES if page != GUIDE], ids=lambda p: p.name)
def test_the_python_of_a_page_runs(
    page: Path, monkeypatch: pytest.MonkeyPatch, working_directory: Path, example_site: Path
) -> None:
    monkeypatch.syspath_prepend(str(example_site))
    run_in_order(page, {"__name__": "builtins"})


@pytest.mark.parametrize(("page", "block"), each_block("toml"))
def test_toml_is_a_configuration_that_can_be_used(page: Path, block: str, tmp_path: Path) -> None:
    file = tmp_path / "fluxburst.toml"
    file.write_text(block)
    if "[project" in block:
        assert 'fluxburst = "' not in block
        return
    settings = config_file.load(file)
    FluxBurst(mock=True, config=settings)
    named = settings.selector is not None or settings.ordering is not None or settings.plugins
    described = named or settings.notify or settings.policy != policy.Policy()
    assert described, f"{page.name}: it says nothing"


@pytest.fixture
def shell_environment(example_site: Path) -> dict[str, str]:
    """Return an environment in which only the mock plugin takes part, and the example's place."""
    others = {entry.name for entry in importlib.metadata.entry_points(group="fluxburst")}
    scripts = str(Path(sys.executable).parent)
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "PYTHONPATH")}
    return {
        **kept,
        "FLUXBURST_BLOCK": ",".join(sorted(others - {"mock"})),
        "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
        "PYTHONIOENCODING": "utf-8",
        "EXAMPLE_SITE": str(example_site),
    }


def run_in_shell(commands: list[str], environment: dict[str, str]) -> list[tuple[str, int]]:
    """Run commands one after the other in one shell; return each one's output and status."""
    script = "exec 2>&1; status=0\n"
    for command in commands:
        script += f"(exit $status)\n{command}\nstatus=$?; printf '\\036%s\\036' $status\n"
    done = subprocess.run(
        ["sh", "-c", script], env=environment, capture_output=True, check=False, timeout=120
    )
    parts = done.stdout.decode().split("\036")
    return [(out, int(status)) for out, status in zip(parts[::2], parts[1::2], strict=False)]


def examples(block: str) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with the output that it shows."""
    return [
        (match[1], match[2])
        for match in re.finditer(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


def each_example() -> list[Any]:
    return [
        *[param for param in each_block("console") if "--mock" in param.values[1]],
        *[param for param in each_block("sh") if "--mock" in param.values[1]],
    ]


@needs_mock
@pytest.mark.parametrize(("page", "block"), each_example())
def test_examples_of_commands_do_what_they_show(
    page: Path, block: str, working_directory: Path, shell_environment: dict[str, str]
) -> None:
    write_named_files(page, working_directory)
    if "example" in block:
        shell_environment["PYTHONPATH"] = shell_environment["EXAMPLE_SITE"]
        blocked = shell_environment["FLUXBURST_BLOCK"].split(",")
        shell_environment["FLUXBURST_BLOCK"] = ",".join(n for n in blocked if n != "example")
    shown = examples(block) or [(line, "...") for line in block.splitlines()]

    done = run_in_shell([command for command, _ in shown], shell_environment)

    assert len(done) == len(shown)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    following = [*shown[1:], ("", "")]
    for (command, expected), after, (got, status) in zip(shown, following, done, strict=True):
        assert doctest.OutputChecker().check_output(expected, got, options), f"{command}:\n{got}"
        assert status == (int(after[1]) if after[0] == "echo $?" else 0), command


def test_every_type_is_written_in_toml_and_environment_as_documented(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "builtins"}
    run_python(blocks(PARAMETERS, "python")[0], PARAMETERS.name, namespace)
    kind = namespace["Parameters"]
    file = tmp_path / "fluxburst.toml"
    file.write_text(blocks(PARAMETERS, "toml")[0])
    table = config_file.load(file).plugins["cloud"]
    exports = [shlex.split(line)[1] for line in blocks(PARAMETERS, "sh")[0].splitlines()]
    environ = dict(export.split("=", 1) for export in exports)

    from_toml = parameters.build("cloud", kind, config=table, environ={})
    from_environment = parameters.build("cloud", kind, environ=environ)

    assert from_toml == from_environment
    for field in parameters.describe("cloud", kind, config=table, environ={}):
        assert getattr(from_toml, field.field) != field.default, f"{field.field} is not shown"


# --- nothing is missing --------------------------------------------------------------------


def test_hooks_are_documented_with_their_exact_signatures_and_no_others_are() -> None:
    documented = {}
    for block in blocks(HOOKS, "python"):
        match = HOOK_SIGNATURE.fullmatch(block)
        if match is not None:
            documented[match[1]] = without_space(match[2])
    specified = {
        name: without_space(str(inspect.signature(function)))
        for name, function in vars(hookspecs).items()
        if name.startswith("fluxburst_")
    }
    assert documented == specified


def test_each_hook_has_a_section_of_its_own() -> None:
    sections = re.findall(r"^### (fluxburst_\w+)$", HOOKS.read_text(), re.MULTILINE)
    assert sections == [name for name in vars(hookspecs) if name.startswith("fluxburst_")]


def test_what_a_burst_plugin_has_is_documented() -> None:
    names = [*vars(BurstPlugin), *vars(BurstPlugin(BurstParameters()))]
    text = HOOKS.read_text()
    for name in ["_param_dataclass", *(name for name in names if not name.startswith("_"))]:
        assert re.search(rf"`{name}[`(]", text), name


SHOWN = [*PAGES, ROOT / "README.md", *sorted((ROOT / "plugins").glob("*/README.md"))]
NAMING = ["cloud", "example", *(path.name for path in (ROOT / "plugins").iterdir())]
BURST_NAME = re.compile(rf"(?<![\w-])({'|'.join(NAMING)})-([0-9a-f]+)(?![g-zG-Z_])[\w…-]*")
"""What looks like the name of a burst: a plugin's name, and hexadecimal digits."""


@pytest.mark.parametrize(
    "page", sorted({*SHOWN}), ids=lambda page: f"{page.parent.name}/{page.name}"
)
def test_names_of_bursts_have_the_form_that_they_are_given(page: Path) -> None:
    for match in BURST_NAME.finditer(page.read_text()):
        plugin, tag = match[1], match[2]
        assert len(tag) == DIGITS, match[0]
        assert is_name_of(match[0], plugin, tag), match[0]


def test_the_pages_of_plugins_that_show_a_run_show_the_name_of_its_burst() -> None:
    for plugin in ("eks", "kubernetes", "local", "mock"):
        text = (ROOT / "plugins" / plugin / "README.md").read_text()
        assert {match[1] for match in BURST_NAME.finditer(text)} == {plugin}


def test_the_example_plugin_is_shown_as_it_is_and_has_forty_lines() -> None:
    source = (EXAMPLE / "fluxburst_example.py").read_text()
    assert source in blocks(HOOKS, "python")
    assert len(source.splitlines()) <= 40


def test_the_example_plugins_entry_point_names_its_module() -> None:
    project = (EXAMPLE / "pyproject.toml").read_text()
    assert '[project.entry-points.fluxburst]\nexample = "fluxburst_example"\n' in project


def test_commands_and_their_options_are_in_the_user_guide() -> None:
    text = GUIDE.read_text()
    context = click.Context(cli)
    for name in cli.list_commands(context):
        assert re.search(rf"^\| `{name}[ `]", text, re.MULTILINE), name
        command = cli.get_command(context, name)
        assert command is not None
        own = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        for option in own:
            assert re.search(rf"`[^`]*{option.opts[0]}\b", text), f"{name} {option.opts[0]}"


def test_global_options_are_in_the_user_guide() -> None:
    context = click.Context(cli, **cli.context_settings)
    text = GUIDE.read_text()
    for option in cli.get_params(context):
        for spelling in option.opts:
            assert re.search(rf"^\|.*`{spelling}[ `=]", text, re.MULTILINE), spelling


def test_selectors_and_orderings_are_in_the_user_guide_by_the_names_of_the_config_file() -> None:
    text = GUIDE.read_text()
    for name in selectors._BARE:
        assert f'| `"{name}"` |' in text, name
    for name in selectors._WITH_VALUE:
        assert f"| `{{ {name} = " in text, name
    for name in orderings.ORDERINGS:
        assert f"| `{name}` |" in text, name


def test_keys_of_the_config_file_are_in_the_user_guide() -> None:
    text = GUIDE.read_text()
    for key in config_file._KEYS:
        spellings = (key, f"[{key}]", f"[[{key}]]", f"[{key}.NAME]")
        assert any(f"| `{spelling}` |" in text for spelling in spellings), key
    assert config_file.VARIABLE in text
    assert config_file.BLOCK_VARIABLE in text


# --- JSON ----------------------------------------------------------------------------------


def documented_json(command: str) -> Any:
    section = GUIDE.read_text().partition(f"#### `fluxburst {command}`\n")[2]
    match = re.search(r"^```json\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert match is not None, command
    return json.loads(match[1])


OF_THE_PLUGIN = ("assignments", "default", "value")


def keys_of(value: Any) -> Any:
    """Return the keys of JSON at every depth, save what depends on the plugin."""
    if isinstance(value, dict):
        return {k: None if k in OF_THE_PLUGIN else keys_of(v) for k, v in value.items()}
    if isinstance(value, list):
        return next((keys_of(item) for item in value), None)
    return None


def test_the_json_of_a_plan_has_the_documented_keys() -> None:
    client = FluxBurst(EmbeddedInstance(load(BUNDLED)))
    client.plugins["elsewhere"] = Elsewhere("elsewhere")
    made = client.plan().to_dict()
    assert made["bursts"]
    assert keys_of(made) == keys_of(documented_json("plan --json"))


@needs_mock
@pytest.mark.parametrize(
    ("documented", "command"),
    [
        ("plan --json", "plan --mock --plugin mock --json"),
        ("run --json", "run --mock --plugin mock --json"),
        ("jobs --json", "jobs --mock --json"),
        ("plugins --json", "plugins --json"),
        ("params NAME --json", "params mock --json"),
        ("unburst --json", "unburst --mock --plugin mock --all --json"),
        ("status --json", "status --mock --plugin mock --json"),
        ("doctor --json", "doctor --mock --plugin mock --json"),
    ],
)
def test_the_json_of_a_command_has_the_documented_keys(documented: str, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fluxburst", *command.split()],
        capture_output=True,
        check=True,
    )
    assert keys_of(json.loads(done.stdout)) == keys_of(documented_json(documented))


# --- links ---------------------------------------------------------------------------------


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


# --- the administrator's page --------------------------------------------------------------

ADMINISTRATION = ROOT / "docs" / "administration.md"
EXAMPLE_CONFIG = ROOT / "docs" / "fluxburst.toml"
TABLES: dict[str, type] = {
    "[lifetimes]": policy.Lifetimes,
    "[timeouts]": policy.Timeouts,
    "[breakers]": policy.Breaking,
    "[watch]": policy.Watching,
    "[limits]": policy.Limit,
    "[metrics]": policy.Metering,
    "[policy]": policy.Deciding,
    "[placement]": policy.Placing,
    "[[notify]]": notification.Notification,
}
ONLY_TEXT = {
    "df", "install", "journalctl", "ln", "python3", "/opt/fluxburst/bin/python", "sqlite3", "sudo",
    "systemctl", "timedatectl",
}  # fmt: skip
"""Programs of which the page's commands are not run: they would change this machine, or need one
with systemd. That their files and options are right is looked at below."""


def section_of(page: Path, title: str) -> str:
    match = re.search(
        rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", page.read_text(), re.M | re.S
    )
    assert match is not None, title
    return match[2]


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of the rows of a table that begin with code, and are not of its head."""
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("|").strip() for cell in row] for row in rows]


def shown_default(item: dataclasses.Field[Any]) -> str:
    """Return a default as the page writes it."""
    value = item.default
    if item.default_factory is not dataclasses.MISSING:
        value = item.default_factory() or ""
    if value is dataclasses.MISSING:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format_duration(value)
    return str(value) or "empty"


@pytest.mark.parametrize("table", TABLES)
def test_keys_and_defaults_of_the_page_are_those_of_the_program(table: str) -> None:
    shown = {row[0].strip("`"): row[1] for row in rows_of(section_of(ADMINISTRATION, table))}
    fields = dataclasses.fields(TABLES[table])
    assert shown == {item.name: shown_default(item) for item in fields}
    assert list(shown) == [item.name for item in fields], "in the program's order"


def test_every_table_of_the_policy_is_on_the_page() -> None:
    assert [f"[{name}]" for name in policy.TABLES] == list(TABLES)[:-1]


def test_states_and_transitions_of_the_page_are_those_of_the_ledger() -> None:
    shown = {
        row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1]))
        for row in rows_of(section_of(ADMINISTRATION, "The life of a burst"))
    }
    assert list(shown) == [state.value for state in BurstState]
    assert shown == {
        state.value: {after.value for after in afters} for state, afters in TRANSITIONS.items()
    }


def test_metrics_and_events_of_the_page_are_those_of_the_program() -> None:
    rows = rows_of(section_of(ADMINISTRATION, "Metrics"))
    assert metrics.__doc__ is not None
    lines = [line.split() for line in metrics.__doc__.splitlines() if line.startswith("``fluxb")]
    assert [row[0].strip("`") for row in rows] == [line[0].strip("`") for line in lines]
    assert [row[1] for row in rows] == [line[1] for line in lines]
    events = [row[0].strip("`") for row in rows_of(section_of(ADMINISTRATION, "Notifications"))]
    assert events == list(notification.EVENTS)


def other_commands() -> list[str]:
    """Return the commands of the administrator's page that are not run as examples."""
    shown = [block for block in blocks(ADMINISTRATION, "console") if "--mock" not in block]
    return [command for block in shown for command, _ in examples(block)]


@needs_mock
def test_commands_for_a_live_instance_run_on_an_embedded_one(
    working_directory: Path, shell_environment: dict[str, str]
) -> None:
    """They are typed as on the page, where the service's state and configuration are."""
    (working_directory / "fluxburst.toml").write_text("[plugins.mock]\n")
    shell_environment |= {
        "FLUXBURST_CONFIG": str(working_directory / "fluxburst.toml"),
    }
    commands = [line for line in other_commands() if line.startswith("fluxburst ")]
    commands = [f"{command} --mock --state-dir state" for command in commands]
    assert len(commands) > 10
    done = run_in_shell(
        ["fluxburst run --mock --state-dir state --wait 0 --quiet", *commands], shell_environment
    )
    for command, (got, status) in zip(["run", *commands], done, strict=True):
        assert status == 0, f"{command}:\n{got}"
    assert (working_directory / "ledger.jsonl").read_text().startswith('{"record": "ledger"')


def test_other_commands_of_the_page_are_of_known_programs_and_name_what_is_there() -> None:
    others = [line for line in other_commands() if not line.startswith("fluxburst ")]
    unit = (ROOT / "docs" / "fluxburst.service").read_text()
    state = re.search(r"^StateDirectory=(\w+)$", unit, re.MULTILINE)
    assert state is not None
    for command in others:
        program, *arguments = shlex.split(command)
        if program == "export":
            assert arguments == [f"{VARIABLE}=/var/lib/{state[1]}"]
            continue
        assert program in ONLY_TEXT, command
        for path in arguments:
            assert not path.startswith("docs/") or (ROOT / path).is_file(), command
        if program == "systemctl" and arguments != ["daemon-reload"]:
            assert arguments[0] in ("enable", "status", "stop", "reload"), command
            assert arguments[-1] == "fluxburst", command
    assert "User=flux\n" in unit


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="there is no sqlite3")
def test_the_backup_of_a_ledger_is_a_ledger(tmp_path: Path) -> None:
    (command,) = [line for line in other_commands() if line.startswith("sqlite3 ")]
    Ledger(tmp_path / "ledger.sqlite", "here").close()
    command = re.sub(r"/var/(lib/fluxburst|backups)", str(tmp_path), command)
    subprocess.run(shlex.split(command), check=True, timeout=30)
    backup = Ledger(tmp_path / "fluxburst.sqlite", "here", read_only=True)
    assert backup.instance == "here"
    backup.close()


def test_messages_that_the_page_explains_are_the_programs() -> None:
    text = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    text = re.sub(r'"\s*f?"', "", text)  # strings that go on in the next line
    for title in ("The ledger is refused", "The service does not start"):
        for row in rows_of(section_of(ADMINISTRATION, title)):
            for message in re.findall(r"`([^`]+)`", row[0]):
                for part in re.split(r"…|\(.*\)", message):
                    assert part.strip() in text, message


def test_the_example_configuration_can_be_used() -> None:
    loaded = config_file.load(EXAMPLE_CONFIG)
    keys = tomllib.loads(EXAMPLE_CONFIG.read_text())
    assert set(keys) == {"selector", "ordering", "plugins", "notify", *policy.TABLES}
    FluxBurst(mock=True, config=loaded).close()
