"""The ledger: what is written is there whatever happens, and nothing else is touched."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.full_disks import fill, make_read_only, small_disk
from tests.support import Elsewhere, client_on, job

from fluxburst import Burst, BurstState
from fluxburst.errors import LedgerError
from fluxburst.ledger import Assignment, Breaker, Ledger, Usage, schema
from fluxburst.ledger.entries import TRANSITIONS
from fluxburst.ledger.location import state_directory
from fluxburst.model.burst import LIVE_STATES
from fluxburst.model.plan import Decision, Outcome
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

STATES = list(BurstState)


def burst(name: str = "cloud-1", **values: object) -> Burst:
    return replace(Burst(name, "cloud", "node", 2, (1, 2), price=0.5), **values)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(Ledger(path, "here")) as opened:
        yield opened


def files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


# --- bursts ------------------------------------------------------------------------------------


def test_an_intent_is_recorded_before_anything_is_known_of_it(ledger: Ledger) -> None:
    entry = ledger.request(burst(), 100.0, 1000, "batch")
    assert entry.burst == burst()
    assert (entry.id, entry.user, entry.queue, entry.requested) == (1, 1000, "batch", 100.0)
    assert (entry.created, entry.started, entry.ready, entry.ended) == (None,) * 4
    assert entry.live
    (step,) = ledger.transitions(entry.id)
    assert (step.at, step.previous, step.state) == (100.0, None, BurstState.REQUESTED)


def test_whatever_state_a_burst_is_requested_in_it_is_recorded_as_requested(ledger: Ledger) -> None:
    entry = ledger.request(burst(state=BurstState.READY), 1.0, None, "")
    assert entry.burst.state is BurstState.REQUESTED


def test_the_intent_is_on_the_disk_when_the_plugin_is_asked(tmp_path: Path) -> None:
    seen: list[tuple[str, BurstState, float | None]] = []

    class Looks(Elsewhere):
        def create(self, burst: Burst) -> Burst:
            with closing(Ledger(tmp_path / "ledger.sqlite", "", read_only=True)) as written:
                seen.extend((e.burst.name, e.burst.state, e.created) for e in written.live())
            return super().create(burst)

    plugin = Looks("cloud")
    with client_on(EmbeddedInstance(Recording((job(1),))), plugin, state_dir=tmp_path) as client:
        client.run_burst()
        assert seen == [(plugin.created[0], BurstState.REQUESTED, None)]
        assert client.ledger.live()[0].created is not None


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("then", STATES)
def test_a_burst_only_goes_where_the_table_says(
    ledger: Ledger, state: BurstState, then: BurstState
) -> None:
    ledger.request(burst(), 1.0, None, "")
    ledger.record(burst(state=state), 2.0)
    before = ledger.transitions()
    entry = ledger.record(burst(state=then), 3.0, "because")
    if then in TRANSITIONS[state]:
        assert entry.burst.state is then
        assert [(t.previous, t.state, t.at, t.reason) for t in ledger.transitions()][-1] == (
            state,
            then,
            3.0,
            "because",
        )
    else:
        assert entry.burst.state is state
        assert ledger.transitions() == before
    assert (entry.ended is None) is (entry.burst.state in LIVE_STATES)


def test_the_table_leads_down_the_list_and_nowhere_from_the_end() -> None:
    for state, following in TRANSITIONS.items():
        assert all(STATES.index(then) > STATES.index(state) for then in following)
        assert bool(following) is (state in LIVE_STATES)


def test_what_has_ended_does_not_change_any_more(ledger: Ledger) -> None:
    ledger.request(burst(), 1.0, None, "")
    ledger.record(burst(state=BurstState.ENDED, since=1.0), 5.0, "done")
    entry = ledger.record(burst(state=BurstState.READY, nodes=9, error="back?"), 9.0)
    assert (entry.ended, entry.reason, entry.burst.nodes, entry.burst.error) == (5.0, "done", 2, "")
    assert ledger.live() == []


def test_what_is_there_after_it_ended_is_ending_again_and_costs_from_when_it_did(
    ledger: Ledger,
) -> None:
    up = burst(state=BurstState.READY, since=1.0, price=1.0)
    ledger.request(up, 1.0, None, "")
    for state, at in ((BurstState.READY, 2.0), (BurstState.ENDING, 4.0), (BurstState.ENDED, 5.0)):
        ledger.record(replace(up, state=state), at)
    assert ledger.times_deleted(up.name) == 1
    entry = ledger.reopen(replace(up, error="still there"), 9.0, "it is listed")
    assert (entry.burst.state, entry.ended, entry.reason) == (
        BurstState.ENDING,
        None,
        "it is listed",
    )
    assert entry.cost(10.0) == pytest.approx(2 * 9.0 / 3600)
    assert ledger.live() == [entry]
    last = ledger.transitions()[-1]
    assert (last.previous, last.state, last.at) == (BurstState.ENDED, BurstState.ENDING, 9.0)
    gone = ledger.record(replace(up, state=BurstState.ENDED), 12.0)
    assert (gone.ended, ledger.live(), ledger.times_deleted(up.name)) == (12.0, [], 2)


def test_a_burst_that_was_never_to_be_deleted_was_not_and_another_is_not_known(
    ledger: Ledger,
) -> None:
    ledger.request(burst(), 1.0, None, "")
    ledger.record(burst(state=BurstState.FAILED, error="refused"), 2.0)
    assert ledger.times_deleted(burst().name) == 0
    with pytest.raises(LedgerError, match="there is no burst 'nosuch'"):
        ledger.reopen(replace(burst(), name="nosuch"), 3.0, "")


def test_the_times_of_a_life_are_kept_from_when_they_were_first_seen(ledger: Ledger) -> None:
    ledger.request(burst(), 1.0, None, "")
    for at, state in enumerate(STATES[1:4], start=2):
        ledger.record(burst(state=state), float(at))
        ledger.record(burst(state=state, joined=1), at + 0.5)
    ledger.set_created("cloud-1", 2.5)
    ledger.set_created("cloud-1", 7.0)
    entry = ledger.entry("cloud-1")
    assert entry is not None
    assert (entry.requested, entry.created, entry.started, entry.ready) == (1.0, 2.5, 2.0, 4.0)


def test_what_was_never_requested_cannot_be_recorded(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="there is no burst 'cloud-1'"):
        ledger.record(burst(), 1.0)


def test_a_name_is_given_once_also_after_its_burst_has_ended(ledger: Ledger) -> None:
    assert ledger.free_name("cloud-1") == "cloud-1"
    ledger.request(burst(), 1.0, None, "")
    ledger.record(burst(state=BurstState.ENDED), 2.0)
    assert ledger.free_name("cloud-1") == "cloud-1-2"
    ledger.request(burst("cloud-1-2"), 3.0, None, "")
    assert ledger.free_name("cloud-1") == "cloud-1-3"
    assert ledger.free_name("cloud") == "cloud"
    with pytest.raises(LedgerError, match="UNIQUE"):
        ledger.request(burst(), 4.0, None, "")


@settings(deadline=None)
@given(st.lists(st.text("ab-%_", min_size=1, max_size=4), max_size=12))
def test_free_names_never_clash(wanted: list[str]) -> None:
    with closing(Ledger(None, "here")) as ledger:
        for name in wanted:
            ledger.request(burst(ledger.free_name(name)), 1.0, None, "")
        assert len(ledger.entries()) == len(wanted)


# --- jobs, use, breakers -----------------------------------------------------------------------


def test_assignments_decisions_usages_and_breakers_come_back_as_they_were(ledger: Ledger) -> None:
    ledger.assign([Assignment(1, "cloud", "cloud-1", 1.0), Assignment(2, "cloud", "", 1.0)])
    ledger.release([1], 2.0, "it failed")
    assert ledger.assignments(1) == [Assignment(1, "cloud", "cloud-1", 1.0, 2.0, "it failed")]
    assert len(ledger.assignments()) == 2

    said = Decision(1, Outcome.UNMATCHED, "", ("cloud declined", "too large"))
    ledger.decide([said], 3.0)
    assert ledger.decisions(1) == [(3.0, said)]
    ledger.forget_decisions(4.0)
    assert ledger.decisions(1) == []

    ledger.request(burst(), 1.0, None, "")
    ledger.use([Usage(1, 7, 1000, 0.5, 10.0)])
    assert ledger.usages(running=True) == [Usage(1, 7, 1000, 0.5, 10.0)]
    ledger.use([Usage(1, 7, 1000, 0.5, 10.0, 20.0)])
    assert (ledger.usages(running=True), len(ledger.usages())) == ([], 1)

    breaker = Breaker("cloud", "node", 3, 60.0, "no capacity")
    ledger.set_breaker(breaker)
    assert ledger.breakers() == {("cloud", "node"): breaker}
    ledger.set_breaker(Breaker("cloud", "node"))
    assert ledger.breakers() == {}


lives = st.lists(
    st.tuples(
        st.sampled_from(["one", "two"]),
        st.sampled_from([None, 1, 2]),
        st.sampled_from(["", "batch"]),
        st.integers(0, 5),
        st.floats(0, 10),
        st.one_of(st.none(), st.floats(0, 1e5)),
        st.floats(0, 1e5),
        st.sampled_from([BurstState.READY, BurstState.ENDED, BurstState.FAILED]),
    ),
    max_size=12,
)


@given(lives)
def test_the_sums_of_what_has_ended_are_those_of_its_entries(rows: list[tuple]) -> None:  # type: ignore[type-arg]
    with closing(Ledger(None, "here")) as ledger:
        for number, (plugin, user, queue, nodes, price, since, ended, state) in enumerate(rows):
            one = Burst(f"b{number}", plugin, "node", nodes, price=price, since=since)
            ledger.request(one, 0.0, user, queue)
            ledger.record(replace(one, state=state), ended)
        expected: dict[tuple[object, ...], list[float]] = {}
        for e in ledger.entries():
            if e.ended is not None:
                sums = expected.setdefault((e.burst.plugin, e.user, e.queue), [0.0, 0.0])
                sums[0] += e.node_hours(e.billed_from, e.billed_to(2e5))
                sums[1] += e.cost(2e5)
        found: dict[tuple[object, ...], list[float]] = {
            (p, u, q): [hours, cost] for p, u, q, hours, cost in ledger.ended_sums()
        }
        for owner, sums in expected.items():
            assert found.pop(owner, [0.0, 0.0]) == pytest.approx(sums)
        assert found == {}


# --- the file ----------------------------------------------------------------------------------


def test_what_is_written_outlasts_the_machine(ledger: Ledger, path: Path) -> None:
    ledger.request(burst(), 1.0, None, "")
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    full = 2
    assert ledger._connection.execute("PRAGMA synchronous").fetchone()[0] == full


def test_a_ledger_that_is_opened_again_has_what_was_written(path: Path) -> None:
    with closing(Ledger(path, "here")) as first:
        entry = first.request(burst(), 1.0, 1000, "batch")
    with closing(Ledger(path, "here")) as second:
        assert second.entry("cloud-1") == entry
        assert second.instance == "here"


WRITER = """
import sys
from pathlib import Path
from fluxburst import Burst
from fluxburst.ledger import Assignment, Ledger
ledger = Ledger(Path(sys.argv[1]), "here")
for number in range(100_000):
    with ledger.transaction():
        ledger.request(Burst(f"b{number}", "cloud", "node", 1), float(number), None, "")
        ledger.assign([Assignment(number, "cloud", f"b{number}", float(number))])
    print(number, flush=True)
"""


def test_what_was_committed_is_there_after_a_kill_and_the_rest_is_not_by_halves(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        try:
            for _ in range(20):
                told = int(child.stdout.readline())
        finally:
            child.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in child.stdout if line.endswith("\n"))])
    with closing(Ledger(path, "here")) as ledger:
        names = [entry.burst.name for entry in ledger.entries()]
        assert names[: told + 1] == [f"b{number}" for number in range(told + 1)]
        assert [p.burst for p in ledger.assignments()] == names
        assert len(ledger.transitions()) == len(names)
        ledger.request(burst(), 1.0, None, "")


def _two_of_a_name(ledger: Ledger) -> None:
    ledger.request(burst("cloud-2"), 2.0, None, "")
    ledger.request(burst("cloud-2"), 3.0, None, "")


def test_a_transaction_that_fails_leaves_nothing(ledger: Ledger) -> None:
    ledger.request(burst(), 1.0, None, "")
    with pytest.raises(LedgerError, match="UNIQUE"), ledger.transaction():
        _two_of_a_name(ledger)
    assert (len(ledger.entries()), len(ledger.transitions())) == (1, 1)


def test_a_reader_sees_what_was_committed_while_another_writes(ledger: Ledger, path: Path) -> None:
    ledger.request(burst(), 1.0, None, "")
    with closing(Ledger(path, "here", read_only=True)) as reader, ledger.transaction():
        ledger.request(burst("cloud-2"), 2.0, None, "")
        assert [entry.burst.name for entry in reader.live()] == ["cloud-1"]
    with closing(Ledger(path, "", read_only=True)) as reader:
        assert [entry.burst.name for entry in reader.live()] == ["cloud-1", "cloud-2"]


def test_a_reader_cannot_write(ledger: Ledger, path: Path) -> None:
    with (
        closing(Ledger(path, "here", read_only=True)) as reader,
        pytest.raises(LedgerError, match="opened for reading only"),
    ):
        reader.request(burst(), 1.0, None, "")


def test_to_look_at_a_ledger_that_is_not_there_makes_none(path: Path) -> None:
    with closing(Ledger(path, "here", read_only=True)) as reader:
        assert reader.entries() == []
    assert not path.exists()


def test_a_ledger_whose_making_was_interrupted_is_empty_to_who_looks(path: Path) -> None:
    path.touch()
    with closing(Ledger(path, "here", read_only=True)) as reader:
        assert (reader.entries(), reader.ended_sums()) == ([], [])
    assert path.read_bytes() == b""
    with closing(Ledger(path, "here")) as writer:
        assert writer.instance == "here"


# --- versions ----------------------------------------------------------------------------------


def _adds_colour(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE bursts ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")


def _breaks_off(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE bursts ADD COLUMN colour TEXT")
    raise RuntimeError("broke off")


def columns(connection: sqlite3.Connection) -> set[str]:
    return {row[1] for row in connection.execute("PRAGMA table_info(bursts)")}


def test_an_older_ledger_is_brought_up_to_date_with_what_is_in_it(path: Path) -> None:
    with closing(Ledger(path, "here")) as before:
        before.request(burst(), 1.0, None, "")
    steps = (*schema.STEPS, _adds_colour)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        version = schema.version_of(connection, str(path), steps)
        assert version == schema.VERSION
        schema.migrate(connection, version, steps)
        assert schema.version_of(connection, str(path), steps) == len(steps)
        assert connection.execute("SELECT name, colour FROM bursts").fetchall() == [
            ("cloud-1", "blue")
        ]


@pytest.mark.parametrize("version", range(1, 3))
def test_what_an_older_ledger_has_assigned_can_be_released_without_believing_memos(
    path: Path, version: int
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection, 0, schema.STEPS[:version])
        connection.execute("INSERT INTO instance VALUES ('here')")
        for name, jobs in ("shared", "[1]"), ("apart", "[3]"):
            connection.execute(
                "INSERT INTO bursts (name, plugin, node_type, nodes, jobs, queue, state, hostnames,"
                " price, error, joined, requested, reason) VALUES"
                " (?, 'p', 'n', 1, ?, 'batch', 'ready', '[]', 1, '', 0, 1, '')",
                (name, jobs),
            )
        if version == 2:
            connection.execute("UPDATE bursts SET isolated = 1 WHERE name = 'apart'")
        for job, burst, freed in (1, "shared", None), (2, "shared", None), (3, "apart", None), (
            4, "shared", 9.0,
        ):  # fmt: skip
            connection.execute(
                "INSERT INTO placements (job, plugin, burst, at, freed) VALUES (?, 'p', ?, 1, ?)",
                (job, burst, freed),
            )
    with closing(Ledger(path, "here")) as ledger:
        found = ledger.assigned(range(1, 5))
    assert {job: (p.queue, p.urgency) for job, p in found.items()} == {
        1: ("batch", None),
        2: ("", None),  # it was given to it later, from a queue that nobody recorded
        3: ("batch", 16 if version == 2 else None),
    }


def test_a_step_that_fails_leaves_the_ledger_as_it_was(path: Path) -> None:
    Ledger(path, "here").close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(RuntimeError, match="broke off"):
            schema.migrate(connection, schema.VERSION, (*schema.STEPS, _breaks_off))
        assert "colour" not in columns(connection)
        assert schema.version_of(connection, str(path)) == schema.VERSION
    Ledger(path, "here").close()


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("killed", [True, False])
def test_a_newer_ledger_is_refused_and_not_touched(
    tmp_path: Path, path: Path, read_only: bool, killed: bool
) -> None:
    steps = (*schema.STEPS, _adds_colour)
    newer = tmp_path / "newer.sqlite"
    Ledger(newer, "here").close()
    with closing(sqlite3.connect(newer, isolation_level=None)) as connection:
        schema.migrate(connection, schema.VERSION, steps)
        if killed:  # what it had written last is in the file beside it
            for suffix in ("", "-wal"):
                shutil.copy(f"{newer}{suffix}", f"{path}{suffix}")
    if not killed:
        shutil.copy(newer, path)
    before = files(tmp_path)
    with pytest.raises(LedgerError) as caught:
        Ledger(path, "here", read_only=read_only)
    known, found = schema.VERSION, len(steps)
    assert f"newer fluxburst (schema {found}, this one knows {known})" in str(caught.value)
    assert str(path) in str(caught.value)
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("read_only", [True, False])
def test_what_is_no_database_is_refused_and_not_touched(path: Path, read_only: bool) -> None:
    content = b"Dear diary, " * 1000
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"not a database.*it is left unchanged"):
        Ledger(path, "here", read_only=read_only)
    assert path.read_bytes() == content


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    "statement", ["CREATE TABLE t (a)", "PRAGMA user_version = 3", "PRAGMA application_id = 7"]
)
def test_the_database_of_another_program_is_refused_and_not_touched(
    path: Path, statement: str, read_only: bool
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
    before = files(path.parent)
    with pytest.raises(LedgerError, match="but not fluxburst's; it is left unchanged"):
        Ledger(path, "here", read_only=read_only)
    assert files(path.parent) == before


@pytest.mark.parametrize("read_only", [True, False])
def test_the_ledger_of_another_instance_is_refused_and_not_touched(
    path: Path, read_only: bool
) -> None:
    Ledger(path, "there").close()
    before = path.read_bytes()
    with pytest.raises(LedgerError) as caught:
        Ledger(path, "here", read_only=read_only)
    assert "the instance there, not to here" in str(caught.value)
    assert "--state-dir" in str(caught.value)
    assert path.read_bytes() == before


# --- places where nothing can be written -------------------------------------------------------

not_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


@not_root
def test_a_directory_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LedgerError, match=r"cannot be written.*does its directory exist"):
        Ledger(tmp_path / "ledger.sqlite", "here")


@not_root
def test_a_file_that_cannot_be_written_to_is_said(path: Path) -> None:
    Ledger(path, "here").close()
    path.chmod(0o400)
    with (
        pytest.raises(LedgerError, match="cannot be written"),
        closing(Ledger(path, "here")) as opened,
    ):
        opened.request(burst(), 1.0, None, "")


def mounted(directory: Path, options: str) -> bool:
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "fluxburst-test", str(directory)]
    return (
        os.geteuid() == 0
        and shutil.which("mount") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small") as directory:
        yield directory


def test_on_a_read_only_file_system_nothing_is_brought_up(small: Path) -> None:
    plugin = Elsewhere("cloud")
    client = client_on(EmbeddedInstance(Recording((job(1),))), plugin, state_dir=small / "state")
    make_read_only(small)
    with client, pytest.raises(LedgerError, match="Read-only file system"):
        client.run_burst()
    assert plugin.created == []


def test_a_ledger_on_a_file_system_that_became_read_only_cannot_be_opened(small: Path) -> None:
    Ledger(small / "ledger.sqlite", "here").close()
    make_read_only(small)
    with pytest.raises(LedgerError, match="cannot be written"):
        Ledger(small / "ledger.sqlite", "here")


def test_with_a_full_disk_a_pass_stops_before_it_spends(small: Path) -> None:
    plugin = Elsewhere("cloud")
    instance = EmbeddedInstance(Recording((job(1),)))
    with client_on(instance, plugin, state_dir=small) as client:
        client.reconcile()
        filler = fill(small)
        with pytest.raises(LedgerError, match=r"the disk is full.*nothing is provisioned"):
            client.run_burst()
        assert plugin.created == []
        assert [pending.mark for pending in instance.pending_jobs()] == [None]
        filler.unlink()
        client.run_burst()
        assert len(plugin.created) == 1


def test_with_a_disk_that_is_full_from_the_start_nothing_is_brought_up(small: Path) -> None:
    plugin = Elsewhere("cloud")
    fill(small)
    with (
        client_on(EmbeddedInstance(Recording((job(1),))), plugin, state_dir=small) as client,
        pytest.raises(LedgerError, match=r"full|disk I/O error"),
    ):
        client.run_burst()
    assert plugin.created == []


def test_a_state_directory_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    plugin = Elsewhere("cloud")
    instance = EmbeddedInstance(Recording((job(1),)))
    with (
        client_on(instance, plugin, state_dir=tmp_path / "state") as client,
        pytest.raises(LedgerError, match="cannot create its directory"),
    ):
        client.run_burst()
    assert plugin.created == []


def test_each_instance_has_a_state_directory_of_its_own(tmp_path: Path) -> None:
    home = {"XDG_STATE_HOME": str(tmp_path)}
    names = ["local:///run/a b", "local:///run/a-b", "ssh://héé/run", "x" * 300]
    places = [state_directory(None, name, home) for name in names]
    assert len(set(places)) == len(names)
    assert {place.parent for place in places} == {tmp_path / "fluxburst"}
    assert all(len(place.name) < 60 and place.name.isascii() for place in places)
    assert state_directory(None, "n", {"HOME": "/h"}).is_relative_to("/h/.local/state/fluxburst")
    both = {**home, "FLUXBURST_STATE_DIR": "/elsewhere"}
    assert state_directory(None, "n", both) == Path("/elsewhere")
    assert state_directory(Path("/named"), "n", both) == Path("/named")
