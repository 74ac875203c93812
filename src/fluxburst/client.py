"""FluxBurst: what users call, and no policy of its own."""

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
    """A burst client: it looks at an instance's queue and has plugins bring capacity up.

    Args:
        handle: A ``flux.Flux``, or any :class:`~fluxburst.flux.protocol.Instance`; by default
            the instance that this process runs in, connected to on first use.
        mock: Run without Flux, on an embedded instance with one node up and one burstable job
            that needs four.
        validate: Ask each plugin to validate itself when it is loaded.
        config: Selector, ordering, blocked packages and parameters; by default those of the
            configuration file in the usual places, if there is one.
        block: Names of packages that are not to take part, besides those of ``config``.
        state_dir: Where the ledger is kept; by default that of ``FLUXBURST_STATE_DIR``, or one for
            each instance in the user's state directory. The ledger of an embedded instance is
            kept in memory unless this is given.

    Raises:
        ConfigError: if the configuration cannot be read, or names a selector or an ordering that
            there is not.
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
        """Let others hold the instance, close the ledger, and end the threads."""
        self._controller.close()

    # --- plugins, selector, ordering -------------------------------------------------------

    @not_from_within
    def load(self, name: str, dataclass: Any = None, **kwargs: Any) -> BurstPlugin:
        """Load a burst plugin.

        Args:
            name: Its name, one of :attr:`choices`; ``compute-engine`` is ``compute_engine``.
            dataclass: An object of its parameters; by default they come from config and
                environment alone. It is not changed.
            kwargs: Passed on to the plugin's factory.

        Raises:
            UnknownPluginError: if no package that takes part offers it.
            ParameterError: if the parameters cannot be used.
            BurstError: if the plugin refuses them, or could not be made.
        """
        return self._loader.load(name, dataclass, kwargs, self.config, validate=self.validate)

    @not_from_within
    def set_selector(self, func: Callable[[Job], Any]) -> None:
        """Select jobs by a function from a job to whether it is a candidate for bursting.

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
        """Order plugins by a function from the loaded plugins to (name, plugin) in order.

        It is called for each job; names it leaves out are not offered the job.

        Raises:
            RequestError: if it is not a function.
        """
        self._functions.set_ordering(func)

    # --- looking ---------------------------------------------------------------------------

    @takes_turn
    def select_jobs(self) -> dict[int, Job]:
        """Return the jobs that are candidates for bursting, by id.

        Jobs that cannot be judged are left out; :meth:`plan` says why.

        Raises:
            InstanceError: if the instance cannot be asked.
        """
        jobs = self._controller.pending()
        with self._controller.parts.planners.planner() as planner:
            return planner.selected(jobs)

    @takes_turn
    def plan(self) -> Plan:
        """Decide on every pending job, and change nothing.

        Raises:
            OrderingError: if the ordering that was set names a plugin that is not loaded.
            InstanceError: if the instance cannot be asked.
            LedgerError: if the ledger cannot be read.
        """
        jobs = self._controller.pending()
        with self._controller.parts.planners.planner() as planner:
            return planner.plan(jobs)

    # --- acting ----------------------------------------------------------------------------

    @takes_turn
    def reconcile(self) -> None:
        """Compare what is there with the ledger, and mend the difference; do what is due.

        Bursts that were created but not recorded as such are adopted; those that were being taken
        down go on to the end; what carries this instance's name and is in no record is taken down,
        as is what lost nodes, once no job runs on what is left of it; jobs that wait for a burst
        that failed or is not there are free again. A plugin that cannot be asked is left alone,
        and nothing of its is presumed gone. Leases are renewed, idle bursts are ended.

        Raises:
            HeldError: if another client holds the instance.
            LedgerError: if the ledger cannot be written; nothing was brought up.
            BurstErrors: for all that failed; the rest was done.
        """
        self._controller.store.hold()
        self._controller.read_queue()
        if errors := self._controller.reconcile():
            raise BurstErrors(errors)

    @takes_turn
    def apply(self, plan: Plan) -> list[Burst]:
        """Do what a plan says: mark its jobs, then have each plugin bring its capacity up.

        Jobs that have started, were given away or were held since the plan was made are left out.
        What a plugin has no capacity or quota for is offered to the next.

        Returns:
            The bursts that came up or are coming.

        Raises:
            UnknownPluginError: if a plugin of the plan is not loaded; nothing was done.
            HeldError: if another client holds the instance; nothing was done.
            LedgerError: if the ledger cannot be written; nothing more was brought up.
            BurstErrors: for all that failed; the rest was done. The jobs of failed bursts are
                free again.
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
            request_burst: Have each plugin bring up ``nodes`` nodes, or room for ``tasks``
                tasks, instead; jobs are looked at, but none is given away.
            nodes: How many nodes.
            tasks: How many tasks.

        Returns:
            The selected jobs that no plugin took.

        Raises:
            HeldError: if another client holds the instance; nothing was done.
            LedgerError: if the ledger cannot be written; nothing more was brought up.
            BurstErrors: for all that failed; the rest was done.
        """
        on_demand = OnDemand(nodes, tasks) if request_burst else None
        result = run_cycle(self._controller, Scope(on_demand=on_demand))
        result.raise_errors()
        return [result.plan.jobs[jobid] for jobid in result.plan.unmatched]

    @takes_turn
    def request_burst(self, name: str, nodes: int | None, tasks: int | None) -> list[Burst]:
        """Have one plugin bring up capacity by hand.

        Raises:
            UnknownPluginError: if it is not loaded.
            BurstErrors: if it fails.
        """
        plugin = self._loader.loaded(name)
        self._controller.store.hold()
        return self._controller.request(nodes, tasks, plugin)

    @takes_turn
    def request_bursts(self, nodes: int | None, tasks: int | None) -> list[Burst]:
        """Have each loaded plugin bring up capacity by hand. Otherwise as :meth:`request_burst`."""
        self._controller.store.hold()
        return self._controller.request(nodes, tasks)

    @takes_turn
    def run_unburst(self, names: Collection[str] | None = None) -> list[str]:
        """Take bursts down: all, or the named ones; also where the ledger cannot be written.

        Returns:
            The names that are gone.

        Raises:
            RequestError: if a name is not that of a burst.
            BurstErrors: for all that could not be taken down, the rest was; and for the ledger, if
                it does not have all that was.
        """
        self._controller.store.hold(starts_without=True, without_lock=True)
        self._controller.read_queue()
        return self._controller.terminate([names] if isinstance(names, str) else names)

    @takes_turn
    def remaining(self, names: Collection[str] | None = None) -> list[Remaining]:
        """Prove that nothing is left: ask each plugin what there is, and the ledger.

        While this client holds the instance, a burst that is listed although the ledger has its
        end is recorded as being there again: it costs.

        Args:
            names: The bursts to look for; by default all.

        Returns:
            All that is there, or may be: also each plugin that cannot be asked.

        Raises:
            LedgerError: if the ledger cannot be read.
        """
        return self._controller.remaining(names)

    @not_from_within
    def wait_for_jobs(
        self, jobids: Iterable[int] | None = None, states: Iterable[str] | None = None
    ) -> None:
        """Wait until jobs are in one of the states, or have ended.

        Args:
            jobids: Which; by default all active jobs. Ids that the instance does not know count
                as ended.
            states: Names of states (RFC 21), by default ``INACTIVE``.

        Raises:
            RequestError: if a state is not one.
        """
        wanted = JobState.named([states] if isinstance(states, str) else states or ["INACTIVE"])
        chosen = self.list_jobs() if jobids is None else list(jobids)
        self.instance.wait_for_jobs(chosen, wanted)
