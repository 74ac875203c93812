"""Which jobs share which new burst."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from fluxburst.model.burst import Burst, burst_name
from fluxburst.packing.limits import Owner
from fluxburst.packing.packer import Packer
from fluxburst.packing.rehearsal import Outlook
from fluxburst.planning.facts import PluginFacts


class IsolatedJob(NamedTuple):
    """A job that gets a burst of its own: whose, the type of its nodes, and how many."""

    owner: Owner
    node_type: str
    nodes: int
    job: int


class PlannedBursts:
    """The bursts of a plan, one for each owner and node type, and those of isolated jobs.

    Args:
        facts: What the plugins say of themselves.
        name_of: Makes the name of a burst one that no burst before had.

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
        """Note for which jobs nodes were added, and who is on those that no job asked for."""
        for where, jobs in self._jobs.items():
            self._jobs[where] = [jobid for jobid in jobs if jobid not in outlook.waiting]
        where_of = {jobid: where for where, jobs in self._jobs.items() for jobid in jobs}

        def move(jobid: int, where: tuple[Owner, str]) -> None:
            """Have a burst provisioned for a job, and no other, unless that has no other job."""
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
            packers: What opened their nodes, by owner.
            any_job_of: Returns a job of an owner, for nodes that only others' jobs are on.
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
