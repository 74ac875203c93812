"""What places the jobs of each owner, and which new nodes it may open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fluxburst.model.node import NodeType
from fluxburst.packing.limits import Owner
from fluxburst.packing.packer import Packer
from fluxburst.packing.pool import Candidates, Pool
from fluxburst.planning.plan_context import PlanContext
from fluxburst.planning.planned_bursts import PlannedBursts
from fluxburst.plugin.base import as_burst_error


class OwnerPackers:
    """One packer for each owner. They share existing nodes, and the budget.

    Args:
        context: What the plan knows.
        bursts: Which bursts are planned.
        existing: The nodes that are free or coming; may be set anew before jobs are placed.

    Attributes:
        existing: The same.
        by_owner: The packers.
    """

    def __init__(self, context: PlanContext, bursts: PlannedBursts, existing: Pool) -> None:
        self.existing = existing
        self.by_owner: dict[Owner, Packer] = {}
        self._plugins = context.plugins
        self._facts = context.facts
        self._limits = context.limits
        self._budget = context.limits.allowance.copy()
        self._lives = context.lives
        self._requests = context.requests
        self._bursts = bursts

    def of(self, owner: Owner) -> Packer:
        """Return what packs an owner's jobs, with the nodes that others have opened in use."""
        name = owner.plugin
        if owner not in self.by_owner:
            self.by_owner[owner] = self.new(owner, self.existing)
        in_use = Counter(self._facts.in_use[name])
        hosts: set[str] = set()
        for other, packer in self.by_owner.items():
            if other.plugin == name and other != owner:
                in_use.update(packer.new_nodes)
                hosts.update(*packer.hosts.values())
        self.by_owner[owner].in_use = in_use
        self.by_owner[owner].keep_off(hosts)
        return self.by_owner[owner]

    def new(self, owner: Owner, existing: Pool) -> Packer:
        """Return what packs an owner's jobs on what exists, and on new nodes it may have."""
        name, closed = owner.plugin, self.closed_to(owner)
        open_types = [t for t in self._facts.types[name] if (name, t.name) not in closed]
        return Packer(
            open_types,
            existing,
            self._facts.in_use[name],
            self._lives.of_new(name, self._requests.bits),
            self._budget,
            owner,
            self._candidates_of(name, open_types),
        )

    def closed_to(self, owner: Owner) -> Mapping[tuple[str, str], str]:
        """Return what an owner's bursts are not to be of: also what another's is to try."""
        opened = {
            (other.plugin, node_type)
            for other, packer in self.by_owner.items()
            if other != owner
            for node_type in packer.new_nodes
        } | {(alone.owner.plugin, alone.node_type) for alone in self._bursts.isolated}
        tried = {which: why for which, why in self._limits.tried.items() if which in opened}
        return {**self._limits.closed, **tried}

    def leftover(self) -> Pool:
        """Return what existing and new nodes have left, once all jobs are placed."""
        for packer in self.by_owner.values():
            self.existing.absorb(packer.leftover())
        return self.existing

    def _candidates_of(self, name: str, types: Sequence[NodeType]) -> Mapping[str, Candidates]:
        """Return the declared nodes that new nodes may come as, where that matters and is known.

        The hosts of an isolated burst are not those of this instance.
        """
        if self._facts.of[name].isolated or not self._requests.bits.names_nodes:
            return {}
        plugin = self._plugins[name]
        try:
            answers = {one.name: plugin.candidates(one.name) for one in types}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
            self._facts.unusable.setdefault(name, as_burst_error(error, name))
            return {}
        return {node_type: known for node_type, known in answers.items() if known is not None}
