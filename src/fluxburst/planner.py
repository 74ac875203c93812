"""Making a plan: offer each selected job to the plugins in order, and count the nodes they need.

A job that a plugin accepts but has no room for, because of its limits, is offered to the next.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from fluxburst.bursts import Burst
from fluxburst.errors import (
    FAILURES,
    BurstError,
    FluxburstError,
    InstanceError,
    JobspecError,
    OrderingError,
)
from fluxburst.jobs import Job
from fluxburst.nodes import Node, NodeType, check_node_types
from fluxburst.packing import Demand, Packer, Pool, could_fit, fits_now, pool_of
from fluxburst.plan import Decision, Outcome, Plan
from fluxburst.plugins import COMING_STATES, BurstPlugin, as_burst_error, burst_name


class Votes(Protocol):
    """The hooks that a plan asks."""

    def select_job(self, job: Job) -> bool:
        """Whether a job is a candidate for bursting."""
        ...

    def order_plugins(self, plugins: Mapping[str, BurstPlugin], job: Job | None) -> Sequence[str]:
        """To which plugins a job is offered, in order."""
        ...

    def schedule_job(self, job: Job, plugin: BurstPlugin) -> bool:
        """Whether a plugin takes a job."""
        ...


@dataclass(slots=True)
class _Candidate:
    """A selected job on its way through the plugins."""

    job: Job
    turn: int
    offers: Iterator[str] | None = None
    reasons: list[str] = field(default_factory=list)


@contextmanager
def _jobs_unchanged(plugins: Mapping[str, BurstPlugin]) -> Iterator[None]:
    """Let plugins collect jobs, as those of flux-burst do, and take them out again."""
    before = {name: dict(plugin.jobs) for name, plugin in plugins.items()}
    try:
        yield
    finally:
        for name, plugin in plugins.items():
            plugin.jobs.clear()
            plugin.jobs.update(before[name])


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from walking all jobs again and again while a plan is made.

    A plan allocates much and nearly all of it stays: with 15 000 jobs the collector took a third
    of the time and freed nothing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Planner:
    """Makes one plan.

    Args:
        votes: The hooks to ask.
        plugins: The loaded plugins, by name.
        instance: The instance's name, which the names of bursts depend on.
        nodes: The instance's nodes.
    """

    def __init__(
        self,
        votes: Votes,
        plugins: Mapping[str, BurstPlugin],
        instance: str,
        nodes: Sequence[Node],
    ) -> None:
        self._votes = votes
        self._plugins = plugins
        self._instance = instance
        self._unusable: dict[str, BurstError] = {}
        self._in_use: dict[str, dict[str, int]] = {}
        self._types = {name: self._types_of(plugin) for name, plugin in plugins.items()}
        self._nodes = tuple(nodes)
        self._coming = [
            burst.name
            for plugin in plugins.values()
            for burst in plugin.bursts.values()
            if burst.state in COMING_STATES
        ]
        self._riding: dict[int, str] = {}
        self._existing = _existing(nodes, plugins, self._types)
        self._packers = {
            name: Packer(types, self._existing, self._in_use[name])
            for name, types in self._types.items()
            if types
        }
        self._decisions: dict[int, Decision] = {}
        self._accepted: dict[str, dict[int, int]] = {name: {} for name in plugins}
        self._bursting: dict[tuple[str, str], list[int]] = {}

    def plan(self, jobs: Sequence[Job]) -> Plan:
        """Decide on each job. Plugins are as before afterwards.

        Raises:
            OrderingError: if the ordering that was set names a plugin that is not loaded.
            InstanceError: if the instance goes away meanwhile.
        """
        with _jobs_unchanged(self._plugins), _collector_paused():
            free = self._set_aside_given(jobs)
            found = [self._select(turn, job) for turn, job in enumerate(free)]
            candidates = [candidate for candidate in found if candidate is not None]
            selected = {candidate.job.id: candidate.job for candidate in candidates}
            while candidates:
                candidates = self._pack(self._offer(candidates))
        return Plan(
            decisions=tuple(self._decisions[job.id] for job in jobs),
            bursts=tuple(self._bursts()),
            assignments={
                name: tuple(ids for _, ids in sorted(jobs.items()))
                for name, jobs in self._accepted.items()
            },
            jobs=selected,
            errors=tuple(self._unusable.values()),
            riding=self._riding,
        )

    def selected(self, jobs: Sequence[Job]) -> dict[int, Job]:
        """Return the jobs that would be selected, by id; those that cannot be judged are not.

        Raises:
            InstanceError: if the instance goes away meanwhile.
        """
        found = [self._select(turn, job) for turn, job in enumerate(self._set_aside_given(jobs))]
        return {candidate.job.id: candidate.job for candidate in found if candidate is not None}

    def _decide(self, job: Job, outcome: Outcome, *reasons: str, plugin: str = "") -> None:
        self._decisions[job.id] = Decision(job.id, outcome, plugin, reasons)

    def _fail(self, job: Job, error: FluxburstError) -> None:
        self._decisions[job.id] = Decision(job.id, Outcome.FAILED, "", (str(error),), error)

    def _types_of(self, plugin: BurstPlugin) -> tuple[NodeType, ...]:
        try:
            types = tuple(plugin.node_types())
            check_node_types(types)
            self._in_use[plugin.name] = plugin.in_use()
        except FAILURES as error:  # a provider's library may raise anything
            self._unusable[plugin.name] = as_burst_error(error, plugin.name)
            return ()
        return types

    # --- the steps -------------------------------------------------------------------------

    def _set_aside_given(self, jobs: Sequence[Job]) -> list[Job]:
        """Take out what was given earlier, and keep the nodes free that it will use."""
        rest: list[Job] = []
        packer = Packer((), self._existing, {})
        for job in jobs:
            mark = job.mark
            if mark is None:
                rest.append(job)
                continue
            fits = _packs(packer, job)
            if mark.burst or fits or mark.plugin not in self._packers:
                where = f" in burst {mark.burst}" if mark.burst else ""
                self._decide(
                    job, Outcome.GIVEN, f"was given to {mark.plugin}{where}", plugin=mark.plugin
                )
            else:
                rest.append(job)
        return rest

    def _select(self, turn: int, job: Job) -> _Candidate | None:
        if job.not_startable:
            self._decide(job, Outcome.NOT_STARTABLE, job.not_startable)
            return None
        try:
            wanted = self._votes.select_job(job)
            if not wanted:
                flagged = bool(job.burstable)
                why = "the selector said no" if flagged else "is not flagged burstable"
                self._decide(job, Outcome.NOT_SELECTED, why)
                return None
            job.chunks  # noqa: B018 - a jobspec that cannot be counted fails here, alone
        except InstanceError:
            raise
        except FluxburstError as error:
            self._fail(job, error)
            return None
        return _Candidate(job, turn)

    def _names_for(self, candidate: _Candidate) -> list[str]:
        """Return the plugins a job is offered to, in order."""
        names = self._votes.order_plugins(self._plugins, candidate.job)
        wanted = candidate.job.burstable
        if not isinstance(wanted, str):
            return list(names)
        if wanted not in self._plugins:
            candidate.reasons.append(f"asks for plugin {wanted!r}, which is not loaded")
        return [name for name in names if name == wanted]

    def _offer(self, candidates: Sequence[_Candidate]) -> dict[str, list[_Candidate]]:
        """Offer each candidate on until a plugin accepts it; return who accepted what."""
        accepted: dict[str, list[_Candidate]] = {}
        for candidate in candidates:
            try:
                if candidate.offers is None:
                    candidate.offers = iter(self._names_for(candidate))
                taker = self._first_taker(candidate, candidate.offers)
            except (OrderingError, InstanceError):
                raise
            except FluxburstError as error:
                self._fail(candidate.job, error)
                continue
            if taker:
                accepted.setdefault(taker, []).append(candidate)
            else:
                reasons = candidate.reasons or ["no burst plugin is offered it"]
                self._decide(candidate.job, Outcome.UNMATCHED, *reasons)
        return accepted

    def _first_taker(self, candidate: _Candidate, offers: Iterator[str]) -> str:
        job = candidate.job
        for name in offers:
            plugin = self._plugins[name]
            if name in self._unusable:
                candidate.reasons.append(f"{name} cannot be asked: {self._unusable[name]}")
                continue
            if self._votes.schedule_job(job, plugin):
                plugin.jobs[job.id] = job
                return name
            candidate.reasons.append(self._why_declined(job, name))
        return ""

    def _why_declined(self, job: Job, name: str) -> str:
        types = self._types[name]
        if types and not could_fit(job.chunks, types):
            return f"{name} declined: no node type has room for it"
        return f"{name} declined"

    def _pack(self, accepted: Mapping[str, Sequence[_Candidate]]) -> list[_Candidate]:
        """Count the nodes for what was accepted; return what there is no room for."""
        left_over: list[_Candidate] = []
        for name, candidates in accepted.items():
            packer = self._packers.get(name)
            if packer is None:
                for candidate in candidates:
                    self._assign(candidate, name, f"{name} accepts it")
                continue
            packing = packer.pack([_demand(c.job, c.turn) for c in candidates])
            for candidate in candidates:
                job = candidate.job.id
                if job in packing.unplaced:
                    candidate.reasons.append(f"{name}: {packing.unplaced[job]}")
                    del self._plugins[name].jobs[job]
                    left_over.append(candidate)
                elif job in packing.placed:
                    node_type = packing.placed[job]
                    self._bursting.setdefault((name, node_type), []).append(job)
                    self._assign(candidate, name, f"{name} accepts it on new {node_type!r} nodes")
                else:
                    self._note_ride(candidate.job)
                    why = f"{name} accepts it; it fits on nodes that are free or coming"
                    self._assign(candidate, name, why)
        return sorted(left_over, key=lambda candidate: candidate.turn)

    def _note_ride(self, job: Job) -> None:
        """Note on which burst a job rides that fits, but not on what is free by now."""
        if self._coming and not fits_now(job.chunks, self._nodes):
            self._riding[job.id] = self._coming[-1]

    def _assign(self, candidate: _Candidate, name: str, why: str) -> None:
        self._accepted[name][candidate.turn] = candidate.job.id
        self._decide(candidate.job, Outcome.ASSIGNED, *candidate.reasons, why, plugin=name)

    def _bursts(self) -> Iterator[Burst]:
        for (name, node_type), jobs in self._bursting.items():
            price = next(t.price for t in self._types[name] if t.name == node_type)
            yield Burst(
                name=burst_name(self._instance, name, node_type, jobs),
                plugin=name,
                node_type=node_type,
                nodes=self._packers[name].new_nodes[node_type],
                jobs=tuple(jobs),
                price=price,
            )


def _demand(job: Job, turn: int = 0) -> Demand:
    return Demand(job.id, job.chunks, turn, job.constrained)


def _packs(packer: Packer, job: Job) -> bool:
    """Whether a job fits on existing nodes, which then are taken."""
    try:
        return not packer.pack([_demand(job)]).unplaced
    except JobspecError:
        return False


def _existing(
    nodes: Sequence[Node],
    plugins: Mapping[str, BurstPlugin],
    types: Mapping[str, Sequence[NodeType]],
) -> Pool:
    """Return what is free in the instance, or coming in a burst."""
    pool = pool_of(nodes)
    up = {node.hostname for node in nodes if node.up}
    for name, plugin in plugins.items():
        by_name = {node_type.name: node_type for node_type in types[name]}
        for burst in plugin.bursts.values():
            if burst.state in COMING_STATES and burst.node_type in by_name:
                missing = burst.nodes - len(up.intersection(burst.hostnames))
                pool.add_type(by_name[burst.node_type], missing)
    return pool
