"""Whatever only looks reads the ledger of every schema there ever was, and changes nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.ledgers import DUMPS, ENDED, INSTANCE, JOB, LIVES, make_ledger
from tests.support import Elsewhere, client_on

from fluxburst.cli import main
from fluxburst.errors import LedgerError
from fluxburst.ledger import Ledger, SetbackKind, schema
from fluxburst.reports import status
from fluxburst.simulation.embedded import EmbeddedInstance

SCHEMAS = sorted(DUMPS)


def test_a_ledger_of_each_schema_is_kept() -> None:
    """A new schema comes with a dump of its own in tests/data/ledgers."""
    assert list(range(1, schema.VERSION + 1)) == SCHEMAS


COMMANDS = [
    ["status"],
    ["cost"],
    ["cost", "--by", "job"],
    ["cost", "--by", "day", "--since", "2026-01-01"],
    ["why", str(JOB)],
    ["ledger"],
    ["ledger", "--all"],
    ["ledger", "--all", "--format", "csv"],
    ["ledger", "--burst", ENDED],
    ["ledger", "--burst", LIVES, "--json"],
    ["ledger", "--export", "-"],
    ["doctor"],
]


@pytest.mark.parametrize("version", SCHEMAS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_that_looks_reads_it(
    version: int,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FLUX_URI", "local:///nowhere")
    monkeypatch.setitem(sys.modules, "flux", None)
    path = make_ledger(version, tmp_path / "ledger.sqlite")
    before = path.read_bytes()
    with pytest.raises(SystemExit) as exited:
        main([*command, "--state-dir", str(tmp_path)])
    out, err = capsys.readouterr()
    assert "Error" not in err
    assert "no such column" not in out + err
    if command != ["doctor"]:  # which finds fault with the Flux that is not there
        assert exited.value.code in (0, None), err
        assert any(name in out for name in (ENDED, LIVES, "ƒ", "2026-")), out
    else:
        assert f"schema {version}" in out
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", SCHEMAS)
def test_plans_status_and_metrics_are_made_from_it(version: int, tmp_path: Path) -> None:
    path = make_ledger(version, tmp_path / "ledger.sqlite")
    before = path.read_bytes()
    instance = EmbeddedInstance(name=INSTANCE)
    with client_on(instance, Elsewhere("mock"), state_dir=tmp_path) as client:
        client.plan()
        assert [e.burst.name for e in status.of_client(client).bursts] == [LIVES]
        of_service = status.of_service(client)
        assert of_service.spending.per_hour == pytest.approx(1.0)
        prometheus = pytest.importorskip("prometheus_client")
        assert prometheus
        from fluxburst.service.metrics import Metrics

        Metrics().feed(of_service)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", SCHEMAS)
def test_it_is_brought_up_to_date_by_who_acts_while_another_looks(
    version: int, tmp_path: Path
) -> None:
    path = make_ledger(version, tmp_path / "ledger.sqlite")
    with closing(Ledger(path, INSTANCE, read_only=True)) as reader:
        assert (reader.schema, [e.burst.name for e in reader.live()]) == (version, [LIVES])
        with closing(Ledger(path, INSTANCE)) as writer:
            before = writer.entry(LIVES)
            assert before is not None
            writer.set_idle(LIVES, 1_790_020_000.0)
        (entry,) = reader.live()
        assert entry.idle == 1_790_020_000.0
        assert reader.schema == schema.VERSION
        assert reader.entries() == [reader.entry(e.burst.name) for e in reader.entries()]


_LEFT = "what is left of it could not be taken down, it may cost money: "
_LEFT_NOW = "terminating it failed, so it may still cost money: "
_TOLD = {
    "idle": ("ended", "no job has been on it, or waited for it, for 5m", ""),
    "lifetime": ("draining", "it may live 30m at most", ""),
    "lease": ("ending", "its lease ends: it was not renewed in time", f"{_LEFT}access denied"),
    "failed": ("ending", "no such image", f"no such image; {_LEFT}access denied"),
    "on_demand": ("ended", "", ""),
}


def test_what_texts_told_before_has_fields_of_its_own(tmp_path: Path) -> None:
    path = make_ledger(3, tmp_path / "ledger.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(bursts)")]
        row = connection.execute("SELECT * FROM bursts WHERE name = ?", [ENDED]).fetchone()
        for number, (name, (state, reason, error)) in enumerate(_TOLD.items()):
            told = {"id": 100 + number, "name": name, "state": state, "reason": reason}
            values = {**dict(zip(columns, row, strict=True)), **told, "error": error}
            marks = ", ".join("?" * len(columns))
            connection.execute(f"INSERT INTO bursts VALUES ({marks})", list(values.values()))
        setbacks = "it could not be moved to queue 'q': no", "it did not start within 5m", "else"
        for job, reason in enumerate(setbacks):
            connection.execute(
                "INSERT INTO placements (job, plugin, burst, at, freed, reason) "
                "VALUES (?, 'mock', '', 1.0, 2.0, ?)",
                (job, reason),
            )
        connection.commit()
    with closing(Ledger(path, INSTANCE)) as ledger:
        entries = {name: ledger.entry(name) for name in _TOLD}
        bursts = {name: entry.burst for name, entry in entries.items() if entry is not None}
        assert {n: b.end_reason and b.end_reason.value for n, b in bursts.items()} == {
            name: name for name in _TOLD
        }
        assert {n: (b.error, b.leftover) for n, b in bursts.items() if b.leftover} == {
            "lease": ("", "access denied"),
            "failed": ("no such image", "access denied"),
        }
        assert {n: b.problem for n, b in bursts.items()} == {
            name: error.replace(_LEFT, _LEFT_NOW) for name, (_, _, error) in _TOLD.items()
        }
        kinds = [ledger.assignments(job)[-1].setback for job in range(3)]
        assert kinds == [SetbackKind.NOT_MOVED, SetbackKind.NOT_STARTED, None]
        assert sorted(ledger.set_back(0.0)) == [0, 1]


# --- media that cannot be written ----------------------------------------------------------------


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user who may write nowhere."""
    if os.getuid():
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def live_in(path: Path) -> list[str]:
    with closing(Ledger(path, "", read_only=True)) as ledger:
        return [entry.burst.name for entry in ledger.live()]


@pytest.fixture
def archive() -> Iterator[Path]:
    """Return a directory that all may enter, and in which nobody may write once it is sealed."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


def seal(directory: Path) -> None:
    for file in directory.iterdir():
        file.chmod(0o444)
    directory.chmod(0o555)


@pytest.mark.parametrize("version", SCHEMAS)
def test_it_is_read_where_nothing_may_be_written(version: int, archive: Path) -> None:
    path = make_ledger(version, archive / "ledger.sqlite")
    seal(archive)

    with as_nobody():
        assert live_in(path) == [LIVES]
    assert [file.name for file in archive.iterdir()] == ["ledger.sqlite"]


@pytest.mark.parametrize("index", [True, False])
def test_what_a_crash_left_in_the_log_is_read_there_too(
    index: bool, archive: Path, tmp_path: Path
) -> None:
    source = make_ledger(schema.VERSION, tmp_path / "ledger.sqlite")
    with closing(Ledger(source, INSTANCE)) as writer:
        writer.set_idle(LIVES, 5.0)
        for ending in ("", "-wal", *(["-shm"] if index else [])):
            shutil.copy(f"{source}{ending}", archive / f"ledger.sqlite{ending}")
    seal(archive)
    before = sorted(archive.iterdir())

    with as_nobody(), closing(Ledger(archive / "ledger.sqlite", "", read_only=True)) as ledger:
        assert [entry.idle for entry in ledger.live()] == [5.0]
    assert sorted(archive.iterdir()) == before


@pytest.mark.skipif(os.getuid() != 0, reason="who writes and who may not are one user here")
def test_a_reader_who_may_not_write_sees_what_the_owner_writes_later(archive: Path) -> None:
    path = make_ledger(schema.VERSION, archive / "ledger.sqlite")
    archive.chmod(0o555)
    with as_nobody():
        reader = Ledger(path, INSTANCE, read_only=True)
    with closing(reader):
        with as_nobody():
            assert [entry.idle for entry in reader.live()] == [None]
        with closing(Ledger(path, INSTANCE)) as writer:
            writer.set_idle(LIVES, 5.0)
        with as_nobody():
            assert [entry.idle for entry in reader.live()] == [5.0]


def test_a_ledger_that_may_not_be_read_is_said_in_one_line(archive: Path) -> None:
    path = make_ledger(schema.VERSION, archive / "ledger.sqlite")
    path.chmod(stat.S_IWUSR)
    refused = f"ledger {path}: cannot be read: Permission denied"
    with as_nobody(), pytest.raises(LedgerError, match=refused):
        live_in(path)


def test_the_dumps_are_sql_that_anyone_can_load() -> None:
    for version, dump in DUMPS.items():
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(dump.read_text())
            assert connection.execute("PRAGMA user_version").fetchone() == (version,)
