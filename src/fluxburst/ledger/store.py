"""The ledger: writes its tables. Every change is one transaction."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fluxburst.errors import LedgerError
from fluxburst.ledger.entries import (
    TRANSITIONS,
    Assignment,
    Breaker,
    Entry,
    SetbackKind,
    Transition,
    Usage,
    assignment_of,
    columns_of,
    entry_of,
    ids_of,
)
from fluxburst.ledger.file import LedgerFile
from fluxburst.model.burst import LIVE_STATES, Burst, BurstState, EndReason
from fluxburst.model.plan import Decision, Outcome

_AT_ONCE = 500
"""How many values one statement may have: before 3.32, SQLite's maximum is 999."""

_CAME_UP = frozenset({BurstState.STARTING, BurstState.JOINING, BurstState.READY})


class Ledger(LedgerFile):
    """The record of one instance's bursts, in a :class:`LedgerFile`."""

    def __init__(
        self,
        path: Path | None,
        instance: str,
        *,
        read_only: bool = False,
        goes_on: bool = False,
        starts_without: bool = False,
    ) -> None:
        self._live: tuple[object, list[Entry]] | None = None
        self._reassigned: set[int] = set()
        super().__init__(
            path,
            instance,
            read_only=read_only,
            goes_on=goes_on,
            starts_without=starts_without,
        )

    def last_recorded(self) -> float | None:
        """Return the latest time at which anything was recorded; None for an empty ledger."""
        row = self._one(
            "SELECT MAX(at) AS at FROM (SELECT MAX(at) AS at FROM transitions "
            "UNION ALL SELECT MAX(at) FROM placements UNION ALL SELECT MAX(at) FROM decisions)"
        )
        return None if row is None else row["at"]

    # --- bursts ----------------------------------------------------------------------------

    def free_name(self, name: str) -> str:
        """Return a name for a burst that is unique over time: the name, or with a number."""
        numbered = f"{name}-"
        asked = "SELECT name FROM bursts WHERE name = ? OR substr(name, 1, ?) = ?"
        taken = {row["name"] for row in self._all(asked, name, len(numbered), numbered)}
        if name not in taken:
            return name
        number = 2
        while f"{name}-{number}" in taken:
            number += 1
        return f"{name}-{number}"

    def request(self, burst: Burst, at: float, user: int | None, queue: str) -> Entry:
        """Record the intent to provision a burst; always in the file, never only in memory.

        Raises:
            LedgerError: if the file is not writable.
        """
        values = {**columns_of(burst), "user": user, "queue": queue, "requested": at, "reason": ""}
        values["state"] = BurstState.REQUESTED.value
        with self.transaction(durable=True):
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            self._change_bursts(f"INSERT INTO bursts ({names}) VALUES ({marks})", values)  # noqa: S608
            entry = self._one("SELECT * FROM bursts WHERE name = ?", burst.name)
            assert entry is not None
            self._note(entry["id"], at, None, BurstState.REQUESTED, "")
        return entry_of(entry)

    def record(self, burst: Burst, at: float, reason: str = "") -> Entry:
        """Record the new state of a requested burst.

        It never goes back in its life: an earlier state than the recorded one is ignored.
        """
        with self.transaction():
            before = self.entry(burst.name)
            if before is None:
                raise LedgerError(self.path, f"there is no burst {burst.name!r}")
            was = before.burst.state
            state = burst.state if burst.state in TRANSITIONS[was] else was
            values = {**columns_of(replace(burst, state=state)), "id": before.id}
            came = state in _CAME_UP
            values["started"] = at if before.started is None and came else before.started
            up = state is BurstState.READY
            values["ready"] = at if before.ready is None and up else before.ready
            ended = at if state not in LIVE_STATES else None
            values["ended"] = before.ended if before.ended is not None else ended
            values["reason"] = reason or burst.error if state is not was else before.reason
            if before.ended is None:
                changes = ", ".join(f"{name} = :{name}" for name in values if name != "id")
                self._change_bursts(f"UPDATE bursts SET {changes} WHERE id = :id", values)  # noqa: S608
                if state is not was:
                    self._note(before.id, at, was, state, values["reason"])
            after = self.entry(burst.name)
            assert after is not None
        return after

    def reopen(self, burst: Burst, at: float, reason: str) -> Entry:
        """Record that a burst recorded as gone still exists: it is being terminated again.

        It is the only step back in a life: what exists costs money, whatever was reported.

        Args:
            burst: The burst, whatever its state.
            at: Time, in seconds since the epoch.
            reason: The evidence that it exists.

        Raises:
            LedgerError: if there is no such burst, or it is not writable.
        """
        with self.transaction():
            before = self.entry(burst.name)
            if before is None:
                raise LedgerError(self.path, f"there is no burst {burst.name!r}")
            ending = replace(burst, state=BurstState.ENDING)
            values = {**columns_of(ending), "id": before.id, "ended": None, "reason": reason}
            changes = ", ".join(f"{name} = :{name}" for name in values if name != "id")
            self._change_bursts(f"UPDATE bursts SET {changes} WHERE id = :id", values)  # noqa: S608
            self._note(before.id, at, before.burst.state, BurstState.ENDING, reason)
            after = self.entry(burst.name)
            assert after is not None
        return after

    def times_deleted(self, name: str) -> int:
        """Return how often a burst was recorded as gone after its plugin deleted it."""
        asked = (
            "SELECT COUNT(*) AS times FROM bursts JOIN transitions ON burst = bursts.id "
            "WHERE name = ? AND previous = ? AND transitions.state IN (?, ?)"
        )
        final = BurstState.ENDED.value, BurstState.FAILED.value
        row = self._one(asked, name, BurstState.ENDING.value, *final)
        assert row is not None
        return int(row["times"])

    def remark(self, name: str, at: float, text: str) -> Entry:
        """Record details of a burst without changing its state; return the burst.

        Raises:
            LedgerError: if there is no such burst, or it is not writable.
        """
        with self.transaction():
            entry = self.entry(name)
            if entry is None:
                raise LedgerError(self.path, f"there is no burst {name!r}")
            self._note(entry.id, at, entry.burst.state, entry.burst.state, text)
        return entry

    def set_created(self, name: str, at: float) -> None:
        """Record that a plugin has answered for a burst."""
        asked = "UPDATE bursts SET created = coalesce(created, ?) WHERE name = ?"
        self._change_bursts(asked, (at, name))

    def set_idle(self, name: str, since: float | None) -> None:
        """Record since when a burst is idle; None if it is not."""
        self._change_bursts("UPDATE bursts SET idle = ? WHERE name = ?", (since, name))

    def entry(self, name: str) -> Entry | None:
        """Return a burst by its name; None if there is none."""
        row = self._one("SELECT * FROM bursts WHERE name = ?", name)
        return None if row is None else entry_of(row)

    def live(self, plugin: str | None = None) -> list[Entry]:
        """Return the bursts that exist or may exist: all, or those of one plugin."""
        written = self.written_by_others, self._undone
        if self._live is None or self._live[0] != written:
            rows = self._all("SELECT * FROM bursts WHERE ended IS NULL ORDER BY id")
            self._live = written, [entry_of(row) for row in rows]
        return [e for e in self._live[1] if plugin in (None, e.burst.plugin)]

    def entries(self, since: float | None = None) -> list[Entry]:
        """Return all bursts in the order of their requests, or those that lived since a time."""
        asked = "SELECT * FROM bursts WHERE ended IS NULL OR ended >= ? ORDER BY id"
        return [entry_of(row) for row in self._all(asked, -1e300 if since is None else since)]

    def ended_sums(self) -> list[tuple[str, int | None, str, float, float]]:
        """Return the usage of ended bursts: (plugin, user, queue, node-hours, cost), summed up."""
        rows = self._all(
            "SELECT plugin, user, queue, SUM(nodes * MAX(0, ended - since)) / 3600 AS hours, "
            "SUM(price * nodes * MAX(0, ended - since)) / 3600 AS cost FROM bursts "
            "WHERE ended IS NOT NULL AND since IS NOT NULL GROUP BY plugin, user, queue"
        )
        return [(r["plugin"], r["user"], r["queue"], r["hours"], r["cost"]) for r in rows]

    def transitions(self, entry: int | None = None) -> list[Transition]:
        """Return the steps of one burst, or of all, in order."""
        rows = self._all(
            "SELECT * FROM transitions WHERE ? IS NULL OR burst = ? ORDER BY rowid", entry, entry
        )
        return [
            Transition(
                row["burst"],
                row["at"],
                None if row["previous"] is None else BurstState(row["previous"]),
                BurstState(row["state"]),
                row["reason"],
            )
            for row in rows
        ]

    def lost_starts(self) -> Mapping[int, int]:
        """Return how often each job ran in an isolated burst that was lost before it ended.

        A burst that was terminated on demand does not count.
        """
        rows = self._all(
            "SELECT jobs FROM bursts WHERE isolated AND ready IS NOT NULL AND ended IS NOT NULL "
            "AND exit_code IS NULL AND (error != '' OR end_reason != '') AND end_reason != ?",
            EndReason.ON_DEMAND.value,
        )
        return Counter(job for row in rows for job in ids_of(row["jobs"]))

    # --- jobs ------------------------------------------------------------------------------

    def assign(self, assignments: Iterable[Assignment]) -> None:
        """Record the assignment of jobs; it replaces any earlier one."""
        rows = [(p.job, p.plugin, p.burst, p.at, p.queue, p.urgency) for p in assignments]
        self._reassigned.update(row[0] for row in rows)
        with self.transaction():
            self._run_many(
                "UPDATE placements SET freed = ?, reason = 'it was given anew' "
                "WHERE job = ? AND freed IS NULL",
                [(row[3], row[0]) for row in rows],
            )
            self._run_many(
                "INSERT INTO placements (job, plugin, burst, at, queue, urgency) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )

    def name_bursts(self, bursts: Mapping[int, str]) -> None:
        """Record which bursts assigned jobs wait for, by id, if it became known later."""
        self._reassigned.update(bursts)
        with self.transaction():
            self._run_many(
                "UPDATE placements SET burst = ? WHERE job = ? AND freed IS NULL",
                [(burst, job) for job, burst in bursts.items()],
            )

    def release(
        self,
        jobs: Collection[int],
        at: float,
        reason: str,
        setback: SetbackKind | None = None,
    ) -> None:
        """Record that jobs were released.

        Args:
            jobs: Their ids.
            at: Time, in seconds since the epoch.
            reason: Why, for a person.
            setback: What came to nothing; None if it is no setback.
        """
        self._reassigned.update(jobs)
        kind = "" if setback is None else setback.value
        with self.transaction():
            self._run_many(
                "UPDATE placements SET freed = ?, reason = ?, setback = ? "
                "WHERE job = ? AND freed IS NULL",
                [(at, reason, kind, job) for job in jobs],
            )

    def assigned(self, jobs: Collection[int]) -> dict[int, Assignment]:
        """Return the current assignments of those of the jobs that have one."""
        wanted = sorted(jobs)
        found: dict[int, Assignment] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            asked = f"SELECT * FROM placements WHERE freed IS NULL AND job IN ({marks})"  # noqa: S608
            found.update((row["job"], assignment_of(row)) for row in self._all(asked, *some))
        return found

    def reassigned(self) -> set[int]:
        """Return the jobs assigned or released through this object since the last call."""
        jobs, self._reassigned = self._reassigned, set()
        return jobs

    def assignments(self, job: int | None = None) -> list[Assignment]:
        """Return the assignments of a job, or of all jobs, in order."""
        rows = self._all(
            "SELECT * FROM placements WHERE ? IS NULL OR job = ? ORDER BY rowid", job, job
        )
        return [assignment_of(row) for row in rows]

    def set_back(self, since: float) -> list[int]:
        """Return the jobs released since a time because of a setback."""
        asked = "SELECT DISTINCT job FROM placements WHERE freed >= ? AND setback != ''"
        return [row["job"] for row in self._all(asked, since)]

    def decide(self, decisions: Iterable[Decision], at: float) -> None:
        """Record decisions on jobs."""
        rows = [(d.id, at, d.outcome.value, d.plugin, json.dumps(d.reasons)) for d in decisions]
        with self.transaction():
            self._run_many("INSERT INTO decisions VALUES (?, ?, ?, ?, ?)", rows)

    def decisions(self, job: int | None = None) -> list[tuple[float, Decision]]:
        """Return the decisions on a job, or on all jobs, with their times, in order."""
        rows = self._all(
            "SELECT * FROM decisions WHERE ? IS NULL OR job = ? ORDER BY rowid", job, job
        )
        return [
            (
                row["at"],
                Decision(
                    row["job"],
                    Outcome(row["outcome"]),
                    row["plugin"],
                    tuple(json.loads(row["reasons"])),
                ),
            )
            for row in rows
        ]

    def forget_decisions(self, before: float) -> None:
        """Delete decisions before a time."""
        self._run("DELETE FROM decisions WHERE at < ?", (before,))

    # --- what jobs used --------------------------------------------------------------------

    def use(self, usages: Iterable[Usage]) -> None:
        """Record jobs' use of bursts; a new record of the same job and burst replaces the old."""
        with self.transaction():
            self._run_many(
                "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (burst, job) DO UPDATE "
                "SET nodes = excluded.nodes, started = excluded.started, ended = excluded.ended",
                [(u.entry, u.job, u.user, u.nodes, u.started, u.ended) for u in usages],
            )

    def usages(self, *, running: bool = False) -> list[Usage]:
        """Return jobs' use of bursts: all, or only of running jobs."""
        where = "WHERE ended IS NULL" if running else ""
        return [Usage(*row) for row in self._all(f"SELECT * FROM usage {where} ORDER BY rowid")]  # noqa: S608

    def usages_of(self, entry: int) -> list[Usage]:
        """Return jobs' use of one burst, by the number of its entry."""
        rows = self._all("SELECT * FROM usage WHERE burst = ? ORDER BY rowid", entry)
        return [Usage(*row) for row in rows]

    # --- breakers --------------------------------------------------------------------------

    def breakers(self) -> dict[tuple[str, str], Breaker]:
        """Return the breakers of the node types that failed, by plugin and node type."""
        rows = self._all("SELECT * FROM breakers ORDER BY plugin, node_type")
        return {(row["plugin"], row["node_type"]): Breaker(*row) for row in rows}

    def set_breaker(self, breaker: Breaker) -> None:
        """Record a breaker; one without failures is forgotten."""
        key = breaker.plugin, breaker.node_type
        with self.transaction():
            self._run("DELETE FROM breakers WHERE plugin = ? AND node_type = ?", key)
            if breaker.failures:
                values = (*key, breaker.failures, breaker.retry_at, breaker.error)
                self._run("INSERT INTO breakers VALUES (?, ?, ?, ?, ?)", values)

    def _note(
        self, entry: int, at: float, was: BurstState | None, state: BurstState, reason: str
    ) -> None:
        values = entry, at, was and was.value, state.value, reason
        self._run("INSERT INTO transitions VALUES (?, ?, ?, ?, ?)", values)

    def _change_bursts(self, statement: str, values: Sequence[Any] | Mapping[str, Any]) -> None:
        self._live = None
        self._run(statement, values)
