from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.support import named
from tests.test_reports import CLOUD, MOCK, MakePackage, Run, run, state

from fluxburst import Burst, BurstParameters, BurstPlugin
from fluxburst.config.file import Config
from fluxburst.errors import AuthError, RequestError, UnreachableError
from fluxburst.ledger import Ledger
from fluxburst.ledger.entries import HOUR
from fluxburst.plugin.base import Finding
from fluxburst.reports.doctor import Doctor
from fluxburst.simulation.embedded import EmbeddedInstance

__all__ = ["run", "state"]

Findings = dict[str, list[dict[str, str]]]


@pytest.fixture
def examine(run: Run) -> Callable[..., tuple[int, Findings]]:
    """Have the doctor examine, and return its status and its findings by check."""

    def examine_it(*arguments: str) -> tuple[int, Findings]:
        status, out, _ = run("doctor", "--json", *arguments)
        found: Findings = {}
        for finding in json.loads(out):
            found.setdefault(finding.pop("check"), []).append(finding)
        assert all(f["advice"] for fs in found.values() for f in fs if f["level"] != "ok")
        return status, found

    return examine_it


Examine = Callable[..., tuple[int, Findings]]


def levels(findings: list[dict[str, str]]) -> set[str]:
    return {finding["level"] for finding in findings}


def said(findings: list[dict[str, str]]) -> str:
    return "\n".join(f"{f['level']}: {f['what']} -> {f['advice']}" for f in findings)


def config(path: Path, text: str) -> str:
    file = path / "c.toml"
    file.write_text(text)
    return f"--config={file}"


def cloud() -> Any:
    return sys.modules["fluxburst_cloud"]


def test_where_nothing_is_wrong_each_check_is_ok(examine: Examine, tmp_path: Path) -> None:
    status, found = examine(*MOCK, "--state-dir", str(tmp_path / "state"))
    assert status == 0
    assert {level for findings in found.values() for level in levels(findings)} == {"ok"}
    assert list(found) == [
        "config", "flux", "packages", "state directory", "ledger", "instance", "clock",
        "plugin cloud", "scheduler", "users", "lifetimes", "limits", "metrics", "bursts",
        "drained nodes", "breakers",
    ]  # fmt: skip
    assert not (tmp_path / "state").exists()


def test_a_table_is_printed_for_people(run: Run) -> None:
    status, out, _ = run("doctor", "--mock")
    assert (status, "→ use --plugin NAME" in out) == (0, True)


def test_no_flux_is_an_error_and_the_rest_is_checked_all_the_same(
    examine: Examine, state: Path
) -> None:
    status, found = examine("--plugin=cloud", "--state-dir", str(state))
    assert status == 1
    assert "error" in levels(found["flux"])
    assert "2 bursts, 1 live" in said(found["ledger"])
    # Whose the bursts are that it lists, only the instance can tell.
    assert levels(found["plugin cloud"]) == {"ok", "warning"}
    assert "it cannot list its bursts without the instance" in said(found["plugin cloud"])


def test_without_the_instance_and_a_directory_the_ledger_is_not_checked(examine: Examine) -> None:
    status, found = examine("--plugin=cloud")
    assert status == 1
    assert "cannot be checked without the instance" in said(found["ledger"])


def test_a_config_that_cannot_be_read_does_not_stop_the_checks(
    examine: Examine, tmp_path: Path
) -> None:
    status, found = examine(*MOCK, config(tmp_path, "not toml"))
    assert status == 1
    assert "is not TOML" in said(found["config"])
    assert levels(found["plugin cloud"]) == {"ok"}
    status, found = examine(*MOCK, config(tmp_path, 'selector = "burstible"'))
    assert (status, "did you mean 'burstable'" in said(found["client"])) == (1, True)


def test_a_plugin_that_is_not_installed_is_named_with_how_to_get_it(
    examine: Examine, state: Path
) -> None:
    status, found = examine(*MOCK, "--plugin=clod", "--state-dir", str(state))
    assert status == 1
    assert "install the package that offers clod" in said(found["plugin clod"])
    assert "gone is not installed, but has bursts: gone-1" in said(found["bursts"])
    assert "install the package that offers gone" in said(found["bursts"])


def test_a_breaker_that_is_open_is_a_warning(examine: Examine, state: Path) -> None:
    _, found = examine(*MOCK, "--state-dir", str(state))
    assert "cloud/node failed 3 times in a row, last with: no such zone" in said(found["breakers"])


def test_a_state_directory_that_others_may_use_is_a_warning(examine: Examine, state: Path) -> None:
    state.chmod(0o755)
    _, found = examine(*MOCK, "--state-dir", str(state))
    assert f"chmod 0700 {state}" in said(found["state directory"])


def test_a_state_directory_that_cannot_be_made_is_an_error(
    examine: Examine, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    status, found = examine(*MOCK, "--state-dir", str(tmp_path / "file"))
    assert (status, levels(found["state directory"])) == (1, {"error"})
    status, found = examine(*MOCK, "--state-dir", str(tmp_path / "file" / "below"))
    assert (status, levels(found["state directory"])) == (1, {"error"})


def test_a_ledger_that_cannot_be_read_is_an_error_of_its_own(
    examine: Examine, tmp_path: Path
) -> None:
    (tmp_path / "ledger.sqlite").write_text("not a database, that is plain to see" * 30)
    status, found = examine(*MOCK, "--state-dir", str(tmp_path))
    assert status == 1
    assert "cannot be read" in said(found["ledger"])
    assert "it accepts" not in said(found["plugin cloud"])
    assert "its parameters are valid" in said(found["plugin cloud"])


def test_a_clock_behind_the_ledger_is_an_error(tmp_path: Path) -> None:
    instance = EmbeddedInstance(name="lead")
    with closing(Ledger(tmp_path / "ledger.sqlite", "lead")) as ledger:
        ledger.request(Burst("cloud-1", "cloud", "node", 1), instance.now() + HOUR, None, "")
    found = Doctor(Config, instance, state_dir=tmp_path).examine()
    (clock, *_) = [one.finding for one in found if one.check == "clock"]
    assert (clock.level, "in the future" in clock.what, "NTP" in clock.advice) == (
        "error",
        True,
        True,
    )


def test_what_a_plugin_finds_itself_is_shown(examine: Examine) -> None:
    examine(*MOCK)
    cloud().FINDINGS.append(Finding("error", "the token expired", "make another"))
    status, found = examine(*MOCK)
    assert status == 1
    assert "error: the token expired -> make another" in said(found["plugin cloud"])


def test_a_plugin_whose_checks_fail_stops_no_others(examine: Examine) -> None:
    examine(*MOCK)
    cloud().FINDINGS.append(OSError("no route"))
    cloud().FAILS.append(OSError("no list"))
    status, found = examine(*MOCK)
    assert status == 1
    assert "OSError: no route" in said(found["plugin cloud"])
    assert "it cannot list its bursts: OSError: no list" in said(found["plugin cloud"])
    assert levels(found["breakers"]) == {"ok"}


def test_a_plugin_that_does_not_answer_is_not_waited_for(
    run: Run, make_package: MakePackage, tmp_path: Path
) -> None:
    make_package(
        "fluxburst_slow",
        CLOUD.replace('"cloud"', '"slow"').replace(
            "for error in FAILS:\n            raise error", "EVENT.wait()"
        )
        + "\nimport threading\nEVENT = threading.Event()\n",
    )
    file = config(tmp_path, '[timeouts]\nlist = "20ms"\n[plugins.slow]\n')
    status, out, _ = run("doctor", MOCK[0], file, "--json")
    sys.modules["fluxburst_slow"].EVENT.set()
    assert (status, "list_bursts() has not answered for" in out) == (1, True)
    for thread in threading.enumerate():
        if thread.name == "fluxburst-doctor":
            thread.join()


def test_bursts_that_are_in_no_record_are_a_warning(examine: Examine) -> None:
    examine(*MOCK)
    ours = named("cloud", 9, "embedded")
    cloud().LISTED.append(ours)
    _, found = examine(*MOCK)
    assert f"bursts that no ledger has: {ours}" in said(found["plugin cloud"])


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ("cost_per_hour = 0.5", "the limit cost_per_hour of the instance is 0.5"),
        ("plugins.cloud.nodes = 0", "the limit nodes of plugin cloud is 0"),
        ("cost = 0.5", "until its lease of 1h ends"),
        ("plugins.clod.nodes = 3", "limits.plugins.clod names a plugin that is not loaded"),
    ],
)
def test_limits_that_can_never_be_met_are_warnings(
    examine: Examine, tmp_path: Path, limits: str, expected: str
) -> None:
    status, found = examine(*MOCK, config(tmp_path, f"[limits]\n{limits}\n"))
    assert (status, expected in said(found["limits"])) == (0, True)


def test_costs_that_are_limited_without_prices_are_a_warning(
    examine: Examine, make_package: MakePackage, tmp_path: Path
) -> None:
    source = CLOUD.replace('"cloud"', '"free"').replace("price=1.0", "price=0.0")
    make_package("fluxburst_free", source)
    file = config(tmp_path, "[limits]\ncost = 10\n")
    _, found = examine(MOCK[0], "--plugin=free", file)
    assert "these node types of free have no price: node" in said(found["limits"])


def test_a_package_that_cannot_be_imported_is_an_error(
    examine: Examine, make_package: MakePackage
) -> None:
    make_package("fluxburst_broken", "import a_module_that_is_not_there")
    status, found = examine(*MOCK)
    assert status == 1
    assert "fluxburst-broken cannot be imported" in said(found["packages"])


def test_a_plugin_finds_nothing_by_default() -> None:
    assert list(BurstPlugin(BurstParameters()).diagnose()) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_an_error(examine: Examine, state: Path) -> None:
    state.chmod(0o500)
    status, found = examine(*MOCK, "--state-dir", str(state))
    assert (status, levels(found["state directory"])) == (1, {"error"})


def test_without_the_instance_a_plugin_that_needs_it_is_not_told_to_have_wrong_credentials(
    examine: Examine, make_package: MakePackage, state: Path
) -> None:
    source = CLOUD.replace('"cloud"', '"near"').replace(
        "for error in FAILS:\n            raise error", "raise FluxUnavailableError('no Flux')"
    )
    source = source.replace(
        "from dataclasses", "from fluxburst.errors import FluxUnavailableError\nfrom dataclasses"
    )
    make_package("fluxburst_near", source)
    _, found = examine("--plugin=near", "--state-dir", str(state))
    text = said(found["plugin near"])
    assert "warning: it cannot list its bursts without the instance" in text
    assert "credentials" not in text


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (AuthError("who?"), "credentials"),
        (UnreachableError("no route"), "the connection to its provider"),
        (RequestError("no such zone"), "fluxburst params cloud"),
    ],
)
def test_advice_is_on_what_went_wrong(examine: Examine, error: Exception, advice: str) -> None:
    examine(*MOCK)
    cloud().FAILS.append(error)
    _, found = examine(*MOCK)
    (wrong,) = [one for one in found["plugin cloud"] if one["level"] == "error"]
    assert advice in wrong["advice"]


def test_a_check_of_a_plugin_that_fails_stops_none_of_its_others(
    examine: Examine, make_package: MakePackage
) -> None:
    source = CLOUD.replace('"cloud"', '"odd"').replace(
        "return [NodeType", "raise OSError('no table')\n        return [NodeType"
    )
    make_package("fluxburst_odd", source)
    _, found = examine(MOCK[0], "--plugin=odd")
    text = said(found["plugin odd"])
    assert "it cannot list its node types: OSError: no table" in text
    assert "it lists 0 bursts" in text
