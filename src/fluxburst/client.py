"""FluxBurst: the interface for users, without policy of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from fluxburst.config.file import Config
from fluxburst.config.file import find as find_config
from fluxburst.errors import BurstErrors
from fluxburst.hooks.turns import not_from_within, takes_turn
from fluxburst.model.burst import Burst
from fluxburst.model.job import Job, JobState
from fluxburst.model.plan import Plan, still_valid
from fluxburst.plugin import orderings
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.cycle import OnDemand, Scope, run_cycle
from fluxburst.reconcile.readable_client import instance_of
from fluxburst.reconcile.served_client import ServedClient
from fluxburst.reconcile.verify import Remaining


class FluxBurst(ServedClient):
    """A burst client: it reads an instance's queue and has plugins provision capacity.

    Args:
        handle: A ``flux.Flux``, or any :class:`~fluxburst.flux.protocol.Instance`; by default
            the instance of this process, connected to on first use.
        mock: Run without Flux, on an embedded instance with one node up and one burstable job
            that needs four.
        validate: Ask each plugin to validate itself on loading.
        config: Selector, ordering, blocked packages and parameters; by default those of the
            configuration file in the usual places, if it exists.
        block: Names of packages to ignore, besides those of ``config``.
        state_dir: Directory of the ledger; by default ``FLUXBURST_STATE_DIR``, or one for
            each instance in the user's state directory. An embedded instance's ledger is in memory
            unless this is set.

    Raises:
        ConfigError: if the configuration is invalid, or names an unknown selector or
            ordering.
    """

    def __init__(
        self,
        handle: Any = None,
        mock: bool = False,
        validate: bool = True,
        *,
        config: Config | None = None,
        block: Iterable[str] = (),
        state_dir: Path | None = None,
    ) -> None:
        chosen = find_config() if config is None else config
        super().__init__(instance_of(handle, mock), chosen, block, state_dir, validate=validate)
        self.hooks.configure(self)
        self.hooks.discover()
        self._configure(self.config)

    def __enter__(self) -> FluxBurst:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @not_from_within
    def close(self) -> None:
        """Release the instance, close the ledger, and end the threads."""
        self._controller.close()

    # --- plugins, selector, ordering -------------------------------------------------------

    @not_from_within
    def load(self, name: str, dataclass: Any = None, **kwargs: Any) -> BurstPlugin:
        """Load a burst plugin.

        Args:
            name: Its name, one of :attr:`choices`; ``compute-engine`` is ``compute_engine``.
            dataclass: An object of its parameters; by default they come from configuration and
                environment only. It is not changed.
            kwargs: Further arguments for the plugin's factory.

        Raises:
            UnknownPluginError: if no package taking part offers it.
            ParameterError: if the parameters are invalid.
            BurstError: if the plugin refuses them, or its construction fails.
        """
        return self._loader.load(name, dataclass, kwargs, self.config, validate=self.validate)

    @not_from_within
    def set_selector(self, func: Callable[[Job], Any]) -> None:
        """Select jobs with a function of the job: true if it is a candidate for bursting.

        Raises:
            RequestError: if it is not a function.
        """
        self._functions.set_selector(func)

    @not_from_within
    def reset_selector(self) -> None:
        """Select jobs as by default: those flagged burstable."""
        self._functions.reset_selector()

    @not_from_within
    def set_ordering(self, func: orderings.Ordering) -> None:
        """Order plugins with a function of the loaded plugins that yields (name, plugin) in order.

        It is called for each job; plugins it leaves out are not offered the job.

        Raises:
            RequestError: if it is not a function.
        """
        self._functions.set_ordering(func)

    # --- reading ---------------------------------------------------------------------------

    @takes_turn
    def select_jobs(self) -> dict[int, Job]:
        """Return the jobs that are candidates for bursting, by id.

        Jobs that cannot be judged are left out; :meth:`plan` gives the reason.

        Raises:
            InstanceError: if the instance cannot be reached.
        """
        jobs = self._controller.pending()
        with self._controller.parts.planners.planner() as planner:
            return planner.selected(jobs)

    @takes_turn
    def plan(self) -> Plan:
        """Decide on every pending job, without changing anything.

        Raises:
            OrderingError: if the ordering names a plugin that is not loaded.
            InstanceError: if the instance cannot be reached.
            LedgerError: if the ledger is unreadable.
        """
        jobs = self._controller.pending()
        with self._controller.parts.planners.planner() as planner:
            return planner.plan(jobs)

    # --- acting ----------------------------------------------------------------------------

    @takes_turn
    def reconcile(self) -> None:
        """Compare reality with the ledger, repair differences, and do what is due.

        Adopts bursts whose creation was never confirmed; continues terminations; terminates
        bursts that carry this instance's name but are in no record, and bursts that lost nodes,
        once no job runs on the rest; releases jobs that wait for a burst that failed or does not
        exist. A plugin that cannot be asked is left alone, and none of its bursts is presumed
        gone. Renews leases, and ends idle bursts.

        Raises:
            HeldError: if another client holds the instance.
            LedgerError: if the ledger is not writable; nothing was provisioned.
            BurstErrors: for everything that failed; the rest was done.
        """
        self._controller.store.hold()
        self._controller.read_queue()
        if errors := self._controller.reconcile():
            raise BurstErrors(errors)

    @takes_turn
    def apply(self, plan: Plan) -> list[Burst]:
        """Apply a plan: mark its jobs, then have each plugin provision its capacity.

        Leaves out jobs that were started, assigned or held since the plan was made. If a plugin
        lacks capacity or quota, its jobs are offered to the next.

        Returns:
            The bursts that are up or on their way.

        Raises:
            UnknownPluginError: if a plugin of the plan is not loaded; nothing was done.
            HeldError: if another client holds the instance; nothing was done.
            LedgerError: if the ledger is not writable; nothing more was provisioned.
            BurstErrors: for everything that failed; the rest was done. Jobs of failed bursts are
                released.
        """
        for name in plan.assignments:
            self._loader.loaded(name)
        self._controller.store.hold()
        self._controller.read_queue()
        self._controller.forget_ended()
        return self._controller.apply(still_valid(plan, self._controller.pending_queue.jobs))

    @takes_turn
    def run_burst(
        self, request_burst: bool = False, nodes: int | None = None, tasks: int | None = None
    ) -> list[Job]:
        """Run one burst cycle: reconcile, plan, and apply the plan.

        Args:
            request_burst: Instead, have each plugin provision ``nodes`` nodes, or room for
                ``tasks`` tasks; jobs are planned, but none is assigned.
            nodes: How many nodes.
            tasks: How many tasks.

        Returns:
            The selected jobs that no plugin took.

        Raises:
            HeldError: if another client holds the instance; nothing was done.
            LedgerError: if the ledger is not writable; nothing more was provisioned.
            BurstErrors: for everything that failed; the rest was done.
        """
        on_demand = OnDemand(nodes, tasks) if request_burst else None
        result = run_cycle(self._controller, Scope(on_demand=on_demand))
        result.raise_errors()
        return [result.plan.jobs[jobid] for jobid in result.plan.unmatched]

    @takes_turn
    def request_burst(self, name: str, nodes: int | None, tasks: int | None) -> list[Burst]:
        """Have one plugin provision capacity on demand.

        Raises:
            UnknownPluginError: if it is not loaded.
            BurstErrors: if it fails.
        """
        plugin = self._loader.loaded(name)
        self._controller.store.hold()
        return self._controller.request(nodes, tasks, plugin)

    @takes_turn
    def request_bursts(self, nodes: int | None, tasks: int | None) -> list[Burst]:
        """Have each loaded plugin provision capacity on demand, as :meth:`request_burst` does."""
        self._controller.store.hold()
        return self._controller.request(nodes, tasks)

    @takes_turn
    def run_unburst(self, names: Collection[str] | None = None) -> list[str]:
        """Terminate bursts: all, or the named ones, even if the ledger is not writable.

        Returns:
            The names of those that are gone.

        Raises:
            RequestError: if a name belongs to no burst.
            BurstErrors: for all terminations that failed (the rest was done), and for the ledger if
                it does not have all changes.
        """
        self._controller.store.hold(starts_without=True, without_lock=True)
        self._controller.read_queue()
        return self._controller.terminate([names] if isinstance(names, str) else names)

    @takes_turn
    def remaining(self, names: Collection[str] | None = None) -> list[Remaining]:
        """Verify that nothing is left: ask each plugin, and read the ledger.

        If this client holds the instance, a burst that is still listed although the ledger has its
        end is recorded as existing again: it costs money.

        Args:
            names: The bursts to look for; by default all.

        Returns:
            Everything that exists or may exist, including each plugin that cannot be asked.

        Raises:
            LedgerError: if the ledger is unreadable.
        """
        return self._controller.remaining(names)

    @not_from_within
    def wait_for_jobs(
        self, jobids: Iterable[int] | None = None, states: Iterable[str] | None = None
    ) -> None:
        """Wait until jobs reach one of the states, or have ended.

        Args:
            jobids: The jobs; by default all active jobs. Ids unknown to the instance count
                as ended.
            states: Names of states (RFC 21), by default ``INACTIVE``.

        Raises:
            RequestError: if a state is unknown.
        """
        wanted = JobState.named([states] if isinstance(states, str) else states or ["INACTIVE"])
        chosen = self.list_jobs() if jobids is None else list(jobids)
        self.instance.wait_for_jobs(chosen, wanted)
