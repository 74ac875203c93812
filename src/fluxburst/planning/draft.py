"""A plan in the making: the decisions on jobs, and which jobs share which new burst."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fluxburst.errors import FluxburstError, writable
from fluxburst.formats.fluid import format_f58
from fluxburst.model.burst import Burst, burst_name
from fluxburst.model.job import Job
from fluxburst.model.jobspec import Chunk
from fluxburst.model.plan import Decision, Outcome
from fluxburst.packing.limits import Owner
from fluxburst.packing.packer import Packer
from fluxburst.packing.rehearsal import Outlook
from fluxburst.planning.facts import PluginFacts


@dataclass(slots=True)
class Candidate:
    """A job on its way through the plugins.

    Attributes:
        job: The job.
        id: Its id.
        turn: Its position among the jobs of the plan.
        chunks: Its request, as the scheduler interprets it, once it is selected.
        offers: The plugins still to be offered it; None before they are known.
        reasons: Why earlier plugins did not get it.
    """

    job: Job
    id: int
    turn: int
    chunks: tuple[Chunk, ...] = ()
    offers: Iterator[str] | None = None
    reasons: list[str] = field(default_factory=list)


class Draft:
    """The decision on each job, and its assignment to a plugin.

    Args:
        plugins: The names of the plugins.

    Attributes:
        decisions: The last decision, by job.
        owners: The owners of the nodes of assigned jobs; jobs on uncounted nodes are left
            out.
        shares_burst: The coming burst whose nodes a job will use, by job.
    """

    def __init__(self, plugins: Iterable[str]) -> None:
        self.decisions: dict[int, Decision] = {}
        self.owners: dict[int, Owner] = {}
        self.shares_burst: dict[int, str] = {}
        self._assigned: dict[str, dict[int, int]] = {name: {} for name in plugins}
        self._candidates: dict[int, Candidate] = {}

    def decide(self, jobid: int, outcome: Outcome, *reasons: str, plugin: str = "") -> None:
        """Decide on a job."""
        self.decisions[jobid] = Decision(jobid, outcome, plugin, tuple(map(writable, reasons)))

    def fail(self, jobid: int, error: FluxburstError) -> None:
        """Record that a job cannot be judged."""
        self.decisions[jobid] = Decision(jobid, Outcome.FAILED, "", (str(error),), error)

    def assign(
        self, candidate: Candidate, plugin: str, why: str, owner: Owner | None = None
    ) -> None:
        """Assign a job to a plugin, and to an owner's nodes if the plan counts them."""
        jobid = candidate.id
        if owner is not None:
            self.owners[jobid] = owner
        self._assigned[plugin][candidate.turn] = jobid
        self._candidates[jobid] = candidate
        self.decide(jobid, Outcome.ASSIGNED, *candidate.reasons, why, plugin=plugin)

    def explain(self, jobid: int, why: str) -> None:
        """Replace the reason for an assignment."""
        self.assign(self._candidates[jobid], self.decisions[jobid].plugin, why)

    def withdraw(self, jobid: int, held_up_by: int) -> Candidate:
        """Withdraw the assignment of a job that would wait for another, or for nodes; return it."""
        candidate = self._candidates[jobid]
        name = self.decisions[jobid].plugin
        del self._assigned[name][candidate.turn]
        self.shares_burst.pop(jobid, None)
        why = "the scheduler would not start it beside the jobs before it"
        if held_up_by != jobid:
            other = format_f58(held_up_by)
            why = f"job {other}, before it in the queue, cannot start and blocks all behind it"
        candidate.reasons.append(f"{name}: {why}")
        return candidate

    def plugin_of(self, jobid: int) -> str:
        """Return the plugin that a job is assigned to; empty for none."""
        decision = self.decisions.get(jobid)
        assigned = decision is not None and decision.outcome is Outcome.ASSIGNED
        return decision.plugin if decision is not None and assigned else ""

    def any_job_of(self, owner: Owner) -> Sequence[int]:
        """Return a job of an owner: nodes used by others are provisioned for its sake."""
        theirs = self._assigned[owner.plugin].values()
        return next(([jobid] for jobid in theirs if self.owners.get(jobid) == owner), [])

    def assignments(self) -> Mapping[str, tuple[int, ...]]:
        """Return the jobs that are assigned to each plugin, in the order of the queue."""
        return {
            name: tuple(ids for _, ids in sorted(jobs.items()))
            for name, jobs in self._assigned.items()
        }


class IsolatedJob(NamedTuple):
    """A job that gets its own burst: its owner, its node type, and the number of nodes."""

    owner: Owner
    node_type: str
    nodes: int
    job: int


class PlannedBursts:
    """The bursts of a plan, one for each owner and node type, and those of isolated jobs.

    Args:
        facts: The plugins' facts about themselves.
        name_of: Makes the name of a burst unique over time.

    Attributes:
        isolated: The jobs that get a burst each.
    """

    def __init__(self, facts: PluginFacts, name_of: Callable[[str], str]) -> None:
        self._facts = facts
        self._name_of = name_of
        self._jobs: dict[tuple[Owner, str], list[int]] = {}
        self.isolated: list[IsolatedJob] = []

    def add(self, owner: Owner, node_type: str, jobid: int) -> None:
        """Have a burst provisioned for a job, beside others."""
        self._jobs.setdefault((owner, node_type), []).append(jobid)

    def regroup(self, outlook: Outlook, owners: Mapping[int, Owner]) -> None:
        """Note which jobs nodes were added for, and who uses nodes that no job requested."""
        for where, jobs in self._jobs.items():
            self._jobs[where] = [jobid for jobid in jobs if jobid not in outlook.waiting]
        where_of = {jobid: where for where, jobs in self._jobs.items() for jobid in jobs}

        def move(jobid: int, where: tuple[Owner, str]) -> None:
            """Stop provisioning a burst for a job, unless it is the burst's only one."""
            now = self._jobs.get(where_of.get(jobid, where), [])
            if jobid not in where_of or len(now) > 1:
                if jobid in where_of:
                    now.remove(jobid)
                self._jobs.setdefault(where, []).append(jobid)
                where_of[jobid] = where

        for jobid, node_type in outlook.opened.items():
            move(jobid, (owners[jobid], node_type))
        for where, users in outlook.users.items():
            if not self._jobs.get(where):
                for jobid in users:
                    move(jobid, where)

    def all(
        self, packers: Mapping[Owner, Packer], any_job_of: Callable[[Owner], Sequence[int]]
    ) -> list[Burst]:
        """Return the bursts.

        Args:
            packers: The packers that opened their nodes, by owner.
            any_job_of: Returns a job of an owner, for nodes used only by others' jobs.
        """
        opened = [(owner, t) for owner, packer in packers.items() for t in packer.new_nodes]
        bursts = []
        for where in dict.fromkeys([*self._jobs, *opened]):
            owner, node_type = where
            packer, jobs = packers[owner], self._jobs.get(where) or any_job_of(owner)
            if where in opened and jobs:  # otherwise the scheduler starts its jobs elsewhere
                nodes, hosts = packer.new_nodes[node_type], packer.hosts.get(node_type, ())
                bursts.append(self._burst(owner.plugin, node_type, nodes, jobs, hosts))
        for owner, node_type, nodes, job in self.isolated:
            burst = self._burst(owner.plugin, node_type, nodes, [job])
            bursts.append(replace(burst, isolated=True))
        return bursts

    def _burst(
        self,
        plugin: str,
        node_type: str,
        nodes: int,
        jobs: Sequence[int],
        hosts: Sequence[str] = (),
    ) -> Burst:
        tag = self._facts.of[plugin].tag
        return Burst(
            name=self._name_of(burst_name(plugin, tag, node_type, jobs)),
            plugin=plugin,
            node_type=node_type,
            nodes=nodes,
            jobs=tuple(jobs),
            price=next(t.price for t in self._facts.types[plugin] if t.name == node_type),
            hosts=tuple(hosts),
        )
