"""The planner's and the reconciler's view of a burst plugin, whether or not it sizes its bursts.

The planner and the reconciler check here, and nowhere else, which methods a plugin implements:
:func:`provider_of` decides.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from fluxburst.model.burst import Burst, BurstRequest, BurstState, burst_name
from fluxburst.model.job import Job
from fluxburst.plugin.base import BurstPlugin
from fluxburst.plugin.defaults import not_ours, terminate
from fluxburst.plugin.validation import check_burst, check_name


class Provider(Protocol):
    """What the planner and the reconciler need from any plugin."""

    @property
    def sizes_bursts(self) -> bool:
        """Whether jobs wait for whatever the plugin decides to provision for them."""

    @property
    def changes_constraints(self) -> bool:
        """Whether the plugin may change the constraints of jobs that it accepts."""

    @property
    def lists_bursts(self) -> bool:
        """Whether it asks its provider which bursts exist, rather than only remembering its own."""

    @property
    def refreshes_bursts(self) -> bool:
        """Whether it asks its provider for the state of a burst."""

    def schedule(self, job: Job) -> bool:
        """Decide whether to take a job."""

    def run(self, request: BurstRequest) -> Sequence[Burst]:
        """Provision what is requested; return the bursts that it names."""

    def size(self, nodes: int | None, tasks: int | None) -> Burst | None:
        """Size a burst on demand; None if the plugin does so once it runs.

        Raises:
            RequestError: if the size is invalid.
            CapacityError: if nothing can supply it.
            BurstError: if the plugin returns something else.
        """

    def terminate(self, names: Collection[str]) -> Sequence[str]:
        """Have bursts terminated; return the names that are gone.

        Raises:
            BurstErrors: for those that may still be there, once all have been tried.
        """

    def placeholder(self, jobs: Collection[int]) -> Burst | None:
        """Return the placeholder for the bursts of jobs until the plugin names them, or None."""

    def is_placeholder(self, burst: Burst) -> bool:
        """Whether a burst is such a placeholder, unknown to the plugin."""


@dataclass(frozen=True)
class SizedProvider:
    """A plugin that provisions exactly what fluxburst requests.

    Attributes:
        plugin: The plugin.
    """

    plugin: BurstPlugin

    @property
    def sizes_bursts(self) -> bool:
        """False."""
        return False

    @property
    def changes_constraints(self) -> bool:
        """Whether it implements ``constraint_of``."""
        implemented = getattr(self.plugin.constraint_of, "__func__", None)
        return implemented is not BurstPlugin.constraint_of

    @property
    def lists_bursts(self) -> bool:
        """Whether it implements ``list_bursts``."""
        return type(self.plugin).list_bursts is not BurstPlugin.list_bursts

    @property
    def refreshes_bursts(self) -> bool:
        """Whether it implements ``refresh``."""
        return type(self.plugin).refresh is not BurstPlugin.refresh

    def schedule(self, job: Job) -> bool:
        """Ask the plugin, with its own copy of the job if it might change it.

        As in flux-burst, any true value counts.
        """
        inherited = type(self.plugin).schedule is BurstPlugin.schedule
        return bool(self.plugin.schedule(job if inherited else job.private()))

    def run(self, request: BurstRequest) -> Sequence[Burst]:
        """Have the plugin run; one that returns nothing does not name its bursts."""
        bursts = self.plugin.run(
            request_burst=request.request_burst, nodes=request.nodes, tasks=request.tasks
        )
        return bursts or ()

    def size(self, nodes: int | None, tasks: int | None) -> Burst | None:
        """Call the plugin's ``by_hand``, which must return a burst."""
        burst = self.plugin.by_hand(nodes, tasks)
        check_burst(burst, burst, "by_hand()")
        check_name(burst.name, "by_hand()")
        return burst

    def terminate(self, names: Collection[str]) -> Sequence[str]:
        """Have these deleted and no others: what exists has been listed before.

        A plugin that implements ``unburst`` or ``cleanup`` does it there.
        """
        own = type(self.plugin)
        if own.unburst is not BurstPlugin.unburst or own.cleanup is not BurstPlugin.cleanup:
            return self._terminate_by_itself(names)
        plugin = self.plugin
        strange = [name for name in names if name not in plugin.bursts and not plugin.owns(name)]
        refused = [not_ours(plugin.name, name) for name in strange]
        return terminate(plugin, {*names} - {*strange}, refused)

    def _terminate_by_itself(self, names: Collection[str]) -> Sequence[str]:
        """Have all terminated at once if there are no others, or else one by one.

        A plugin of flux-burst's kind returns nothing, which is taken for all of them.
        """
        if not self._has_others(names):
            gone = self.plugin.unburst()
            return list(names) if gone is None else gone
        ended: list[str] = []
        for name in names:
            gone = self.plugin.cleanup(name)
            ended += [name] if gone is None else gone
        return ended

    def _has_others(self, names: Collection[str]) -> bool:
        """Whether it has, or may have, other bursts: also those of other processes."""
        bursts = self.plugin.bursts
        known = {name for name, burst in bursts.items() if burst.state is not BurstState.ENDED}
        try:
            return not known.union(self.plugin.list_bursts()).issubset(names)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - it cannot be told; whoever terminates says so
            return True

    def placeholder(self, jobs: Collection[int]) -> Burst | None:
        """Return None: its bursts are known before they are requested."""
        return None

    def is_placeholder(self, burst: Burst) -> bool:
        """False."""
        return False


@dataclass(frozen=True)
class LegacyAdapter(SizedProvider):
    """A plugin that implements ``run``, as in flux-burst, and sizes its bursts itself there.

    It names its bursts once it has run, or never. If it has node types, fluxburst plans with
    them nevertheless.
    """

    @property
    def sizes_bursts(self) -> bool:
        """True, unless it has node types; False if it cannot tell."""
        try:
            return not self.plugin.node_types()
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - planning with it reports this
            return False

    def size(self, nodes: int | None, tasks: int | None) -> Burst | None:
        """Return None: it sizes the burst once it runs."""
        return None

    def placeholder(self, jobs: Collection[int]) -> Burst | None:
        """Return a burst without nodes and type."""
        name = burst_name(self.plugin.name, self.plugin.instance_tag, "", jobs)
        return Burst(name, self.plugin.name, "", 0, tuple(jobs))

    def is_placeholder(self, burst: Burst) -> bool:
        """Whether neither its nodes nor its type are known.

        This also applies to a burst that others list and that was never requested.
        """
        return not (burst.nodes or burst.node_type)


def provider_of(plugin: BurstPlugin) -> Provider:
    """Return the view of a plugin: a :class:`LegacyAdapter` if it implements ``run``."""
    inherited = type(plugin).run is BurstPlugin.run
    return SizedProvider(plugin) if inherited else LegacyAdapter(plugin)
