"""The ledger of --mock goes by the clock of its own instance, and is where it is said to be."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.test_reports import MOCK, MakePackage, Run, run

from fluxburst.ledger import Ledger
from fluxburst.ledger.clock import time_of
from fluxburst.ledger.location import FILE

__all__ = ["MakePackage", "run"]


@pytest.fixture
def left(run: Run, tmp_path: Path) -> Path:
    """Return a directory with the ledger of a run that left bursts, once their nodes joined."""
    status, _, err = run("run", *MOCK, "--quiet", "--wait=5m", f"--state-dir={tmp_path}")
    assert status == 0, err
    return tmp_path


def answer(run: Run, *arguments: str) -> Any:
    status, out, err = run(*arguments, "--json")
    assert status == 0, err
    return json.loads(out)


@pytest.mark.parametrize("mock", [(), MOCK], ids=["alone", "--mock"])
def test_what_it_cost_is_counted_until_its_last_record(
    mock: tuple[str, ...], run: Run, left: Path
) -> None:
    with closing(Ledger(left / FILE, "", read_only=True)) as ledger:
        last = time_of(ledger)
        assert last == ledger.last_recorded()
        expected = sum(entry.cost(last) for entry in ledger.entries())
    cost = answer(run, "cost", *mock, f"--state-dir={left}")
    assert cost["until"] == last
    assert cost["total"]["cost"] == pytest.approx(expected)
    now = answer(run, "status", *mock, "--plugin=cloud", f"--state-dir={left}")
    assert now["at"] == last
    assert now["spending"]["total"] == now["spending"]["today"] == pytest.approx(expected)
    assert {burst["cost"] for burst in now["bursts"]} == {
        burst["cost"] for burst in answer(run, "ledger", *mock, f"--state-dir={left}")
    }
    day = datetime.fromtimestamp(last, timezone.utc).date().isoformat()
    by_day = answer(run, "cost", "--by=day", *mock, f"--state-dir={left}")
    assert {line["key"] for line in by_day["lines"]} <= {day}


def test_the_clock_goes_on_where_it_was_left_and_no_day_is_counted_twice(
    run: Run, left: Path, tmp_path: Path
) -> None:
    with closing(Ledger(left / FILE, "", read_only=True)) as ledger:
        last = time_of(ledger)
    status, _, err = run("unburst", "--all", *MOCK, "--quiet", f"--state-dir={left}")
    assert status == 0, err
    with closing(Ledger(left / FILE, "", read_only=True)) as ledger:
        assert all(e.ended is not None and e.ended >= last for e in ledger.entries())
        times = [step.at for step in ledger.transitions()]
    assert times == sorted(times)


def test_doctor_does_not_hold_todays_clock_against_it(run: Run, left: Path) -> None:
    for mock in ((), MOCK):
        _, out, _ = run("doctor", *mock, f"--state-dir={left}", "--json")
        clock = [one for one in json.loads(out) if one["check"] == "clock"]
        assert [one["level"] for one in clock] == ["ok"]


def test_the_variable_is_heeded_with_mock_as_the_option_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUXBURST_STATE_DIR", str(tmp_path / "by-variable"))
    assert run("run", *MOCK, "--quiet")[0] == 0
    assert (tmp_path / "by-variable" / FILE).exists()
    by_variable = answer(run, "ledger", *MOCK)
    assert by_variable
    assert answer(run, "ledger", *MOCK, f"--state-dir={tmp_path / 'by-option'}") == []
    assert answer(run, "ledger") == by_variable
    _, out, _ = run("doctor", *MOCK, "--json")
    assert str(tmp_path / "by-variable") in out


def test_the_demo_warns_of_nothing_and_leaves_nothing_in_a_state_directory(tmp_path: Path) -> None:
    pytest.importorskip("fluxburst_mock")
    done = subprocess.run(
        [sys.executable, "-m", "fluxburst", "demo", "--json"],
        env={"FLUXBURST_STATE_DIR": str(tmp_path), "PATH": ""},
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    assert list(tmp_path.iterdir()) == []
