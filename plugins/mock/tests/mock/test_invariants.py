"""Whatever is done to it, in whatever order, these hold: limits, no double, no orphan, true books.

The default is a small run that is the same each time; ``FLUXBURST_SOAK=EXAMPLES`` makes it as many
examples as that, at random.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.mock.clouds import DAY, Books, Provider, Stay, WatchedInstance, orphan

from fluxburst import BurstState, Duration, FluxBurst, NodeType, PluginType
from fluxburst.config.file import Config
from fluxburst.config.policy import Breaking, Lifetimes, Limit, Limits, Policy, Timeouts, Watching
from fluxburst.errors import BurstErrors, RequestError
from fluxburst.hooks.packages import Package
from fluxburst.ledger import Assignment, Entry
from fluxburst.ledger.entries import TRANSITIONS
from fluxburst.model.burst import COMING_STATES, LIVE_STATES, prefix_of, tag_of
from fluxburst.model.job import RUNNING, Job, JobState
from fluxburst.model.plan import Outcome
from fluxburst.reconcile.workers import Call
from fluxburst_mock.failures import Failure, FailureKind, SimulatedCrash
from fluxburst_mock.plugin import BurstParameters

EXAMPLES = int(os.environ.get("FLUXBURST_SOAK", "0"))
ROUNDING = 1e-6
USERS, QUEUES = (1000, 1001), ("day", "night")
TAG = tag_of("embedded")
TYPES = {
    "full": [NodeType("a", 4, price=1.0, max_nodes=8)],
    "flaky": [NodeType("b", 4, price=2.0, max_nodes=6), NodeType("big", 16, price=7.0)],
    "mute": [NodeType("c", 4, price=3.0, max_nodes=6)],
}
SECONDS = st.sampled_from((1.0, 25.0, 40.0, 60.0, 90.0, 290.0, 1800.0, 4 * 3600.0))
METHODS = ("set_marks", "move_jobs", "drain", "undrain", "cancel_jobs")
QUEUE_OF = {"mute": "night"}
"""Clouds whose nodes are those of a queue, to which jobs are moved."""
CLOUDS = st.sampled_from(tuple(TYPES))


def _limit() -> st.SearchStrategy[Limit]:
    def make(nodes: Any, bursts: Any, hours: Any, rate: Any, day: Any, cost: Any) -> Limit:
        if day is not None and cost is not None:
            day = min(day, cost)
        return Limit(nodes, bursts, hours, rate, day, cost)

    def some(*values: float) -> st.SearchStrategy[Any]:
        return st.sampled_from((None, None, None, *values))

    return st.builds(
        make,
        some(2, 5, 9),
        some(0, 1, 2),
        some(3.0, 20.0),
        some(4.0, 9.0),
        some(2.0, 10.0),
        some(5.0, 30.0),
    )


def _below(limit: Limit, top: Limit) -> Limit:
    """Return a limit that is not above that of the instance."""
    most = dict(top.values())
    values: dict[str, Any] = {w: min(v, most.get(w, math.inf)) for w, v in limit.values()}
    if "cost_per_day" in values:
        values["cost_per_day"] = min(values["cost_per_day"], values.get("cost", math.inf))
    return Limit(**values)


def _spec(nodes: int, seconds: float, queue: str, burstable: object) -> dict[str, Any]:
    slot = {"type": "slot", "count": 1, "label": "task", "with": [{"type": "core", "count": 4}]}
    system = {"duration": seconds, "burstable": burstable, "queue": queue}
    return {
        "version": 1,
        "resources": [{"type": "node", "count": nodes, "with": [slot]}],
        "tasks": [{"command": ["x"], "slot": "task", "count": {"per_slot": 1}}],
        "attributes": {"system": system},
    }


Jobs = list[tuple[dict[str, Any], int, int]]
JOBS = st.tuples(
    st.builds(
        _spec,
        st.sampled_from((1, 1, 2, 3, 5, 40)),
        st.sampled_from((10.0, 40.0, 200.0, 1000.0)),
        st.sampled_from(QUEUES),
        st.sampled_from((True, True, True, True, False, "mute", "nobody")),
    ),
    st.sampled_from(USERS),
    st.sampled_from((16, 16, 16, 16, 0)),
)
"""The jobspecs of jobs, with whose they are and how urgent."""


class Bursting(RuleBasedStateMachine):
    """A client on an instance, with three clouds that do what clouds do."""

    client: FluxBurst

    def __init__(self) -> None:
        super().__init__()
        fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.state_dir = Path(tempfile.mkdtemp(prefix="fluxburst-", dir=fast))
        self.instance = WatchedInstance()
        self.gates = {name: threading.Event() for name in TYPES}
        self._open_all()
        self.books = {name: Books(name, self.instance.true_now) for name in TYPES}
        self.policy = Policy(
            lifetimes=Lifetimes(
                lease=Duration(300.0), teardown=Duration(60.0), idle_timeout=Duration(50.0)
            ),
            timeouts=Timeouts(join=Duration(100.0)),
            breakers=Breaking(backoff=Duration(60.0), max_backoff=Duration(120.0)),
            watch=Watching(poll=Duration(1e9)),
        )
        self.submitted: list[int] = []
        self.floors: dict[tuple[str, str, str, float], float] = {}
        self.clock_was_set = False
        self.unwatched: set[str] = set()
        self.orphans = 0
        self.others: set[tuple[str, str]] = set()
        self.queues: dict[int, str] = {}
        self.urgencies: dict[int, int] = {}
        self.looked_at = math.nan
        self.wanted_at: dict[str, float] = {}
        self.client = self._new_client()

    def teardown(self) -> None:
        try:
            if not getattr(self, "broken", False):
                self._end()
        finally:
            self._open_all()
            self.client.close()
            shutil.rmtree(self.state_dir)

    def _new_client(self) -> FluxBurst:
        client = FluxBurst(
            self.instance,
            config=Config(policy=self.policy),
            state_dir=self.state_dir,
            block=["mock"],
        )
        for name in TYPES:
            kind: PluginType[BurstParameters] = PluginType(
                name, BurstParameters, self._factory(name)
            )
            client.hooks.add(Package(name, name), object(), [kind])
            client.load(name, BurstParameters(TYPES[name], Duration(20.0)))
        workers = client._controller.workers
        setattr(workers, "start", self._one_by_one(workers.start))  # noqa: B010 - it is a method
        return client

    def _one_by_one(self, start: Callable[[Call[Any]], None]) -> Callable[[Call[Any]], None]:
        """Have a call return before the next one starts, if its cloud answers at all.

        Otherwise the order in which the clouds act would be chance, and no failure would come
        again.
        """

        def start_and_wait(call: Call[Any]) -> None:
            start(call)
            if self.gates[call.plugin].is_set():
                concurrent.futures.wait([call.future])

        return start_and_wait

    def _factory(self, name: str) -> Callable[[BurstParameters], Provider]:
        def make(_: BurstParameters) -> Provider:
            parameters = BurstParameters(TYPES[name], Duration(20.0))
            return Provider(
                parameters,
                self.books[name],
                self.gates[name],
                adopts=name == "flaky",
                queue=QUEUE_OF.get(name, ""),
            )

        return make

    # --- what happens ----------------------------------------------------------------------

    @initialize(
        clock_may_jump=st.sampled_from((False, False, True)),
        jobs=st.lists(JOBS, min_size=1, max_size=5),
        top=st.none() | _limit(),
    )
    def begin(self, clock_may_jump: bool, jobs: Jobs, top: Limit | None) -> None:
        self.clock_may_jump = clock_may_jump
        if top is not None:
            self.limit(top, None, None, each=False)
        self.submit(jobs)

    @rule(jobs=st.lists(JOBS, min_size=1, max_size=4))
    def submit(self, jobs: Jobs) -> None:
        for spec, user, urgency in jobs:
            if not self.instance.queues()[spec["attributes"]["system"]["queue"]].enabled:
                continue
            job = self.instance.submit(spec, userid=user, urgency=urgency)
            self.submitted.append(job)
            self.queues[job] = self.instance.job(job).queue
            self.urgencies[job] = urgency

    @precondition(lambda self: self.submitted)
    @rule(data=st.data(), urgency=st.sampled_from((None, 0, 16, 20)))
    def change_a_job(self, data: st.DataObject, urgency: int | None) -> None:
        """Cancel a job, or hold or release it."""
        job = data.draw(st.sampled_from(self.submitted))
        if urgency is None:
            self.instance.dies_in = None
            self.instance.cancel_jobs([job], "not wanted")
        elif self.instance.job(job).state is not JobState.INACTIVE:
            self.instance.set_urgencies({job: urgency})
            self.urgencies[job] = self.instance.job(job).urgency

    @rule(seconds=SECONDS)
    def pass_time(self, seconds: float) -> None:
        self.instance.advance(seconds)

    @precondition(lambda self: self.clock_may_jump)
    @rule(seconds=st.sampled_from((-600.0, -30.0, 30.0, 600.0)))
    def set_the_clock(self, seconds: float) -> None:
        self.instance.skew += seconds
        self.clock_was_set = True

    @rule(
        jobs=st.lists(JOBS, max_size=2),
        how=st.sampled_from(("run", "serve", "serve what changed")),
        seconds=SECONDS,
    )
    def run(self, jobs: Jobs, how: str, seconds: float) -> None:
        """Submit jobs, run a pass, and let time pass."""
        self.submit(jobs)
        if how == "run":
            self._act(self.client.run_burst, looks=True)
        else:
            everything = how == "serve"
            self._act(
                lambda: self.client.run_pass(everything=everything, patience=math.inf),
                looks=everything,
            )
        self.instance.advance(seconds)

    @rule(jobs=st.lists(JOBS, max_size=2), passes=st.integers(2, 6), seconds=SECONDS)
    def run_for_long(self, jobs: Jobs, passes: int, seconds: float) -> None:
        """Submit jobs, and run passes for as long as bursts need to come and to go."""
        self.submit(jobs)
        for _ in range(passes):
            self.run([], "serve", seconds)
            self.check_invariants_now()

    @rule(
        passes=st.lists(st.booleans(), min_size=1, max_size=3),
        seconds=st.sampled_from((0.0, 30.0, 1800.0)),
        leaves=st.sampled_from((False, False, True)),
    )
    def serve_while_nobody_answers(self, passes: list[bool], seconds: float, leaves: bool) -> None:
        """Run passes while all clouds are slow; the client may be gone when they answer."""
        for gate in self.gates.values():
            gate.clear()
        for everything in passes:
            self._act(lambda e=everything: self.client.run_pass(everything=e, patience=0.0))  # type: ignore[misc]
            if self._all_answer():
                return  # it died
            self.instance.advance(seconds)
        self._answer()
        if leaves:
            self.restart()

    @rule(what=st.sampled_from(("reconcile", "refresh", "restart")))
    def do_a_part_of_it(self, what: str) -> None:
        if what == "reconcile":
            self._act(self.client.reconcile, looks=True)
        elif what == "refresh":
            self._act(self.client.refresh_bursts)
        else:
            self.restart()

    @rule(which=st.integers(0, 9))
    def terminate(self, which: int) -> None:
        """Take one burst down, or all."""
        live = [entry.burst.name for entry in self._live()]
        name = live[which] if which < len(live) else None

        def act() -> None:
            try:
                self.client.run_unburst(None if name is None else [name])
            except RequestError:  # its end was answered, and not taken in yet
                assert all(name not in books.machines for books in self.books.values())

        self._act(act)

    @rule(cloud=CLOUDS, nodes=st.integers(1, 4))
    def ask_by_hand(self, cloud: str, nodes: int) -> None:
        self._act(lambda: self.client.request_burst(cloud, nodes, None))

    def restart(self) -> None:
        self.client.close()
        self.client = self._new_client()

    # --- what goes wrong -------------------------------------------------------------------

    @rule(
        cloud=CLOUDS, kind=st.sampled_from(tuple(FailureKind)), times=st.sampled_from((1, 1, 2, 4))
    )
    def have_it_fail(self, cloud: str, kind: FailureKind, times: int) -> None:
        self._provider(cloud).injector.add(Failure(kind, times))

    @rule(method=st.sampled_from(METHODS), before=st.booleans())
    def have_it_die(self, method: str, before: bool) -> None:
        self.instance.dies_in = (method, before)

    @rule(queue=st.sampled_from(QUEUES), started=st.booleans(), enabled=st.booleans())
    def stop_or_start_a_queue(self, queue: str, started: bool, enabled: bool) -> None:
        self.instance.set_queue(queue, started=started, enabled=enabled)

    @rule(refuses=st.booleans())
    def have_moves_refused(self, refuses: bool) -> None:
        self.instance.refuses_moves = refuses

    @precondition(lambda self: any(books.machines for books in self.books.values()))
    @rule(data=st.data())
    def lose_machines(self, data: st.DataObject) -> None:
        """Have a provider delete machines behind our back."""
        there = [(name, m) for name, books in self.books.items() for m in books.machines]
        cloud, machines = data.draw(st.sampled_from(there))
        hostnames = self.books[cloud].take(machines, 0.0)
        self.instance.remove_nodes(hostnames)

    @rule(cloud=CLOUDS, nodes=st.integers(1, 3), joined=st.booleans(), old=st.booleans())
    def find_machines(self, cloud: str, nodes: int, joined: bool, old: bool) -> None:
        """Have machines under our name that nobody asked for, perhaps of a burst that ended."""
        self.orphans += 1
        books, name = self.books[cloud], f"{prefix_of(cloud, TAG)}{self.orphans}"
        ended = [e.burst.name for e in self.client.ledger.entries() if not e.live]
        ended = [n for n in ended if n.startswith(cloud) and n not in books.machines]
        if name in books.machines or self.client.ledger.entry(name) is not None:
            return  # one by hand has that name
        if old and ended:
            name = ended[-1]
        machines = orphan(name, TYPES[cloud][0], nodes, self.instance.now())
        books.note(name, machines, asked=False)
        if joined:
            self.instance.add_nodes(machines.hostnames, machines.node_type)

    @rule(cloud=CLOUDS, name=st.sampled_from(("prod-db-1", "flaky-1", "mute-0a1b2c3d4e5f")))
    def list_what_is_not_ours(self, cloud: str, name: str) -> None:
        """Have a plugin list what others have at its provider."""
        self.books[cloud].others.add(name)
        self.others.add((cloud, name))

    @precondition(lambda self: self.submitted)
    @rule(data=st.data(), cloud=CLOUDS, urgency=st.sampled_from((None, 0, 31)))
    def forge_a_memo(self, data: st.DataObject, cloud: str, urgency: int | None) -> None:
        """Have a user write a memo on a job of his, or take it off."""
        job = data.draw(st.sampled_from(self.submitted))
        live = [entry.burst.name for entry in self._live()]
        burst = data.draw(st.sampled_from(["", "nosuch", *live]))
        memo = {"plugin": cloud, "burst": burst, "queue": QUEUES[1], "urgency": urgency}
        taken_off = data.draw(st.booleans())
        if self.instance.job(job).state is not JobState.INACTIVE:
            self.instance.set_memo(job, "fluxburst", None if taken_off else memo)

    # --- what is settled -------------------------------------------------------------------

    @rule(top=_limit(), plugin=st.none() | _limit(), user=st.none() | _limit(), each=st.booleans())
    def limit(self, top: Limit, plugin: Limit | None, user: Limit | None, each: bool) -> None:
        plugins = {} if plugin is None else {"flaky": _below(plugin, top)}
        users = {} if user is None else {"*" if each else str(USERS[0]): _below(user, top)}
        values: dict[str, Any] = dict(top.values())
        limits = Limits(plugins=plugins, users=users, **values)
        self._settle(replace(self.policy, limits=limits))
        self.floors = {key: used for key, used, _ in self._used()}

    @rule(
        limit=st.sampled_from(
            (Limit(nodes=3), Limit(bursts=1), Limit(node_hours=1.0), Limit(cost_per_hour=6.0))
        ),
        sizes=st.lists(st.integers(1, 3), min_size=2, max_size=4),
        passes=st.integers(2, 4),
    )
    def press_on_a_limit(self, limit: Limit, sizes: list[int], passes: int) -> None:
        """Have one narrow limit, and pass by pass a job more than it has room for."""
        self.limit(limit, None, None, each=False)
        for size, _ in zip(itertools.cycle(sizes), range(passes), strict=False):
            self.submit([(_spec(size, 1000.0, QUEUES[0], True), USERS[0], 16)])
            self.run([], "serve", 25.0)
            self.check_invariants_now()

    @rule(
        lease=st.sampled_from((120.0, 300.0, 7200.0, 2 * DAY)),
        idle=st.sampled_from((10.0, 50.0, 1000.0)),
        least=st.sampled_from((0.0, 0.0, 400.0)),
        most=st.sampled_from((math.inf, math.inf, 900.0)),
        cool_down=st.sampled_from((0.0, 0.0, 300.0)),
        join=st.sampled_from((15.0, 100.0)),
    )
    def live(
        self, lease: float, idle: float, least: float, most: float, cool_down: float, join: float
    ) -> None:
        lifetimes = Lifetimes(
            Duration(lease),
            Duration(idle),
            Duration(least),
            Duration(most),
            Duration(cool_down),
            Duration(60.0),
        )
        timeouts = Timeouts(join=Duration(join))
        self._settle(replace(self.policy, lifetimes=lifetimes, timeouts=timeouts))

    def _settle(self, policy: Policy) -> None:
        self.policy = policy
        self.client.reconfigure(Config(policy=policy))
        self.looked_at = math.nan

    # --- the steps of these ----------------------------------------------------------------

    def _act(self, act: Callable[[], Any], *, looks: bool = False) -> None:
        """Do something; if the client dies of it, another comes."""
        failed: set[str] = set()
        try:
            act()
        except BurstErrors as errors:
            failed = {getattr(error, "plugin", "") for error in errors.errors}
        except SimulatedCrash:
            self.unwatched |= {entry.burst.name for entry in self._live()}
            if not self._all_answer():
                self._answer()
            self.restart()
            return
        if looks:
            self._check_look(failed)

    def _answer(self) -> None:
        """Have all clouds answer what they were asked; nobody takes the answers in."""
        for books in self.books.values():
            books.unwatched = True
        calls = list(self.client._controller.workers._calls)
        for name, gate in self.gates.items():  # one after another, so that it is no chance
            gate.set()
            concurrent.futures.wait([call.future for call in calls if call.plugin == name])
        for books in self.books.values():
            books.unwatched = False
        self.unwatched |= {entry.burst.name for entry in self._live()}

    def _open_all(self) -> None:
        for gate in self.gates.values():
            gate.set()

    def _all_answer(self) -> bool:
        return all(gate.is_set() for gate in self.gates.values())

    def _provider(self, name: str) -> Provider:
        plugin = self.client.plugins[name]
        assert isinstance(plugin, Provider)
        return plugin

    def _live(self) -> list[Entry]:
        return self.client.ledger.live()

    def _stays(self) -> Iterator[Stay]:
        return (stay for books in self.books.values() for stay in books.stays)

    def _used(self) -> Iterator[tuple[tuple[str, str, str, float], float, float]]:
        """Yield what is limited, by whom and (for a day) when; what is used of it; the limit."""
        limits = self.policy.limits
        ours = [stay for stay in self._stays() if stay.asked]
        yield from self._used_by("instance", "", ours, limits)
        for name, limit in limits.plugins.items():
            theirs = [stay for stay in ours if stay.plugin == name]
            yield from self._used_by("plugin", name, theirs, limit)
        for user in USERS:
            of_user = limits.of_user(user)
            if of_user is not None:
                theirs = [stay for stay in ours if stay.user == user]
                yield from self._used_by("user", str(user), theirs, of_user)

    def _used_by(
        self, kind: str, name: str, stays: list[Stay], limit: Limit
    ) -> Iterator[tuple[tuple[str, str, str, float], float, float]]:
        there = [stay for stay in stays if stay.until is None and stay.nodes]
        ends = {id(stay): self._end_of(stay) for stay in stays}
        for what, most in limit.values():
            if what == "nodes":
                used = float(sum(stay.nodes for stay in there))
            elif what == "bursts":
                used = float(len(there))
            elif what == "cost_per_hour":
                used = sum(stay.nodes * stay.price for stay in there)
            elif self.clock_was_set:
                continue  # leases, and days, are not what the clouds take them for
            elif what == "node_hours":
                used = sum(stay.hours(ends[id(stay)]) for stay in stays)
            elif what == "cost":
                used = sum(stay.cost(ends[id(stay)]) for stay in stays)
            else:
                yield from self._used_by_day(kind, name, stays, most)
                continue
            yield (kind, name, what, 0.0), used, most

    def _used_by_day(
        self, kind: str, name: str, stays: list[Stay], most: float
    ) -> Iterator[tuple[tuple[str, str, str, float], float, float]]:
        start = self.instance.true_now()
        last = max((self._end_of(stay) for stay in stays), default=start)
        day = start - start % DAY
        while day <= last:
            used = sum(s.cost(min(day + DAY, self._end_of(s)), day) for s in stays)
            yield (kind, name, "cost_per_day", day), used, most
            day += DAY

    def _end_of(self, stay: Stay) -> float:
        """Return when machines end at the latest, by what is armed in the cloud."""
        if stay.until is not None:
            return stay.until
        lease = self.books[stay.plugin].machines[stay.name].lease_until
        return max(self.instance.true_now(), lease or 0.0)

    # --- what must hold --------------------------------------------------------------------

    @invariant()
    def no_limit_is_passed(self) -> None:
        """What exceeded a limit when it was set may go on, but nothing may come to it."""
        for key, used, most in self._used():
            allowed = max(most, self.floors.get(key, 0.0))
            assert used <= allowed + ROUNDING, f"{key}: {used} of {allowed}"

    @invariant()
    def nothing_is_made_twice(self) -> None:
        for books in self.books.values():
            assert len(books.made) == len(set(books.made))

    @invariant()
    def no_job_is_given_twice(self) -> None:
        assert not self.instance.twice
        assignments = self.client.ledger.assignments()
        given = [assignment.job for assignment in assignments if assignment.released is None]
        assert len(given) == len(set(given)), assignments

    @invariant()
    def what_was_asked_for_was_recorded_first(self) -> None:
        known = {entry.burst.name for entry in self.client.ledger.entries()}
        for stay in self._stays():
            assert stay.name in known or not stay.asked, stay

    @invariant()
    def what_is_there_is_in_the_ledger_with_money_set_aside_for_all_of_its_lease(self) -> None:
        live = {entry.burst.name: entry.burst for entry in self._live()}
        for books in self.books.values():
            for stay in books.there():
                if not stay.asked:
                    continue
                assert stay.name in live, stay
                armed = books.machines[stay.name].lease_until
                recorded = live[stay.name].lease_until
                assert armed is not None
                assert recorded is not None
                assert armed <= recorded, (stay, armed, recorded)

    @invariant()
    def bursts_only_go_forward(self) -> None:
        state: dict[int, BurstState | None] = {}
        for step in self.client.ledger.transitions():
            assert step.previous is state.get(step.entry)
            if step.previous is not None and step.state is not step.previous:  # or a remark
                still_listed = step.previous not in LIVE_STATES and step.state is BurstState.ENDING
                assert still_listed or step.state in TRANSITIONS[step.previous]
            state[step.entry] = step.state
        for entry in self.client.ledger.entries():
            assert state[entry.id] is entry.burst.state
            assert entry.live is (entry.burst.state not in (BurstState.ENDED, BurstState.FAILED))

    @invariant()
    def note_what_is_wanted(self) -> None:
        """Note when each burst was last wanted: a job waits for it, or ran on it."""
        now = self.instance.now()
        for assignment in self._assigned().values():
            job = self.instance.job(assignment.job)
            if assignment.burst and not job.not_startable and not self._is_closed(job):
                self.wanted_at[assignment.burst] = now

    @invariant()
    def what_is_not_ours_is_left_alone(self) -> None:
        there = {(cloud, name) for cloud, books in self.books.items() for name in books.others}
        assert there == self.others
        known = {entry.burst.name for entry in self.client.ledger.entries()}
        assert known.isdisjoint(name for _, name in self.others)

    @invariant()
    def no_memo_moves_a_job_or_changes_its_urgency(self) -> None:
        assigned = self._assigned()
        for job in self.instance.pending_jobs():
            allowed = {self.queues[job.id]}
            if job.id in assigned:
                allowed.add(QUEUE_OF.get(assigned[job.id].plugin, ""))
            if job.id in self.instance.refused:
                allowed.add("night")  # it could not be moved back
            assert job.queue in allowed
            assert job.urgency == self.urgencies[job.id]

    def _assigned(self) -> dict[int, Assignment]:
        """Return where the pending jobs are that the ledger has as assigned."""
        return self.client.ledger.assigned([job.id for job in self.instance.pending_jobs()])

    def _check_look(self, failed: set[str]) -> None:
        """Check what must hold after all plugins were asked and all was mended and planned."""
        live = {entry.burst.name for entry in self._live()}
        for job in self._assigned().values():
            if job.burst and job.plugin not in failed:
                assert job.burst in live, f"{job} waits for what is not there"
                closed = self._is_closed(self.instance.job(job.job))
                assert not closed, f"{job} keeps a burst, though its queue is closed"
        self._check_idle()

    def _check_idle(self) -> None:
        now, before = self.instance.now(), self.looked_at
        self.looked_at = math.nan if self.clock_was_set else now
        lifetimes = self.policy.lifetimes
        for entry in self._live():
            burst = entry.burst
            if burst.state not in COMING_STATES | {BurstState.READY}:
                continue
            if not burst.hostnames:
                continue  # whoever knew its hostnames died: it is busy while its jobs are active
            runs = self.instance.runs(self.submitted)
            on_it = [run for run in runs if not set(run.hostnames).isdisjoint(burst.hostnames)]
            ends = [now if run.ended is None else run.ended for run in on_it]
            if not burst.jobs:  # on demand: it is wanted until it is up
                ends.append(now if entry.ready is None else entry.ready)
            wanted = max([self.wanted_at.get(burst.name, 0.0), entry.requested, *ends])
            idle_since = before if before > wanted else now
            young = now < entry.requested + lifetimes.min_lifetime
            idle = now - idle_since >= lifetimes.idle_timeout
            assert young or not idle, f"{burst} has been idle since {wanted}"

    @invariant()
    def every_burstable_job_is_placed_or_has_a_reason(self) -> None:
        pending = [job for job in self.instance.pending_jobs() if self._may_burst(job)]
        decisions = {d.id: d for d in self.client.plan().decisions}
        assigned = self._assigned()
        for job in pending:
            decision = decisions[job.id]
            assert decision.reasons, decision
            assert decision.outcome is not Outcome.NOT_SELECTED
            assert (decision.outcome is Outcome.ALREADY_ASSIGNED) <= (job.id in assigned)

    def _is_closed(self, job: Job) -> bool:
        return bool(self.instance.queues()[job.queue].why_closed)

    def _may_burst(self, job: Job) -> bool:
        return bool(job.burstable) and not job.not_startable

    # --- the end ---------------------------------------------------------------------------

    def _end(self) -> None:
        """Let all of it come to an end, and look at what is left."""
        self.instance.dies_in = None
        self.instance.refuses_moves = False
        for queue in QUEUES:
            self.instance.set_queue(queue, started=True, enabled=True)
        for name in TYPES:
            self._provider(name).injector.clear()
        for _ in range(12):
            self._act(self.client.run_burst, looks=True)
            self.check_invariants_now()
            self.instance.advance(150.0)
        self._check_reasons()
        with suppress(BurstErrors):
            self.client.reconcile()
        self.instance.cancel_jobs(self.instance.job_ids(RUNNING), "the end")
        self.client.run_unburst()
        self.client.reconcile()
        self.check_invariants_now()
        assert not self.client.remaining()
        assert not [name for books in self.books.values() for name in books.machines]
        assert not self._live()
        assert not [node for node in self.instance.nodes() if node.drained]
        assert not self._assigned()
        self._check_costs()

    def check_invariants_now(self) -> None:
        """Check what holds at all times, between two steps of the end, too."""
        self.no_limit_is_passed()
        self.nothing_is_made_twice()
        self.no_job_is_given_twice()
        self.what_was_asked_for_was_recorded_first()
        self.what_is_there_is_in_the_ledger_with_money_set_aside_for_all_of_its_lease()
        self.bursts_only_go_forward()
        self.note_what_is_wanted()
        self.what_is_not_ours_is_left_alone()
        self.no_memo_moves_a_job_or_changes_its_urgency()

    def _check_reasons(self) -> None:
        """Check that the ledger says of each job that could burst, and waits, why it does."""
        assigned = self._assigned()
        for job in self.instance.pending_jobs():
            if self._may_burst(job):
                decisions = self.client.ledger.decisions(job.id)
                assert decisions, job.id
                _, last = decisions[-1]
                assert last.reasons
                placed = last.outcome in (Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED)
                assert placed <= (job.id in assigned), (job, last)

    def _check_costs(self) -> None:
        """Compare the ledger's costs with the clouds' bills, burst by burst.

        They are equal. The ledger says more, and never less, where nobody could know when the
        cloud ended machines: by itself, or after the client that had asked for them died or left.
        Nor could anyone know since when machines are there whose burst had ended: it counts as
        if they had been there all the time, with the nodes and the price of that burst.
        """
        if self.clock_was_set:
            return
        now = self.instance.true_now()
        stays: dict[str, list[Stay]] = {}
        for stay in self._stays():
            stays.setdefault(stay.name, []).append(stay)
        for entry in self.client.ledger.entries():
            all_of_it = stays.get(entry.burst.name, [])
            of_it = [stay for stay in all_of_it if stay.asked]
            came_back = [stay for stay in all_of_it if not stay.asked]
            billed = sum(stay.cost(now) for stay in of_it)
            cost = entry.cost(now)
            if not of_it and came_back:
                continue  # an orphan: what it costs is known only if its plugin says so
            seen = [_as_recorded(stay, entry) for stay in came_back if not stay.by_itself]
            least = billed + sum(stay.cost(now) for stay in seen)
            assert cost >= least - ROUNDING, (entry, all_of_it)
            unknown = came_back or entry.burst.name in self.unwatched
            if not unknown and not any(stay.by_itself or stay.answered_late for stay in of_it):
                assert cost <= billed + ROUNDING, (entry, of_it)


def _as_recorded(stay: Stay, entry: Entry) -> Stay:
    """Return machines that came back with what the ledger can know of them: the burst's own."""
    burst = entry.burst
    return replace(stay, nodes=min(stay.nodes, burst.nodes), price=min(stay.price, burst.price))


TestInvariants = pytest.mark.long(Bursting.TestCase)
TestInvariants.settings = settings(
    max_examples=EXAMPLES or 60,
    stateful_step_count=50 if EXAMPLES else 25,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
