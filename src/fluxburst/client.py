"""FluxBurst: the order of the phases, and no policy of its own."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fluxburst.config.file import Config, blocked_by_environment
from fluxburst.config.file import find as find_config
from fluxburst.config.policy import Policy
from fluxburst.errors import (
    BurstErrors,
    FluxburstError,
)
from fluxburst.flux.live import LiveInstance
from fluxburst.flux.protocol import Instance
from fluxburst.hooks.loading import Loader
from fluxburst.hooks.manager import Manager
from fluxburst.hooks.turns import Turn, not_from_within, takes_turn
from fluxburst.hooks.user_functions import UserFunctions
from fluxburst.ledger import Ledger, LedgerPlace
from fluxburst.model.burst import Burst
from fluxburst.model.job import Job, JobState
from fluxburst.model.node import Node
from fluxburst.model.plan import Plan, still_valid
from fluxburst.plugin import orderings
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.controller import Controller
from fluxburst.reconcile.cycle import ALL_THE_WAY, CycleResult, OnDemand, Scope, run_cycle
from fluxburst.reconcile.verify import Remaining
from fluxburst.reconcile.workers import PluginWorkers
from fluxburst.simulation import recordings
from fluxburst.simulation.embedded import EmbeddedInstance

T = TypeVar("T")


class FluxBurst:
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

    Attributes:
        instance: The instance that jobs wait in.
        hooks: The hooks of this client.

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
        self.config = find_config() if config is None else config
        self.validate = validate
        self.instance: Instance = _instance(handle, mock)
        hooks = Manager([*self.config.block, *blocked_by_environment(), *block])
        self.hooks = hooks
        self._functions = UserFunctions(hooks)
        self._loader = Loader(hooks, self.instance)
        in_memory = isinstance(self.instance, EmbeddedInstance)
        self._place = LedgerPlace(self.instance, state_dir, in_memory=in_memory)
        self._controller = Controller(
            self.hooks,
            self.plugins,
            self.instance,
            self._place,
            self.config.policy,
        )
        workers = self._controller.workers
        self._turn = Turn(lambda: hooks.in_hook, lambda: workers.here)
        self._closing = weakref.finalize(self, _close, workers, self._place)
        self.hooks.configure(self)
        self.hooks.discover()
        self._configure(self.config)

    def __setattr__(self, attribute: str, value: Any) -> None:
        if "hooks" in vars(self) and self.hooks.in_hook:
            raise TypeError("a hook may look at the client, and cannot change it")
        super().__setattr__(attribute, value)

    def __repr__(self) -> str:
        return f"<FluxBurst plugins={list(self.plugins)}>"

    def __enter__(self) -> FluxBurst:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @not_from_within
    def close(self) -> None:
        """Let others hold the instance, close the ledger, and end the threads."""
        _close(self._controller.workers, self._place)

    # --- plugins, selector, ordering -------------------------------------------------------

    @property
    def plugins(self) -> OrderedDict[str, BurstPlugin]:
        """The loaded burst plugins by name, in the order they were loaded."""
        return self._loader.plugins

    @property
    def choices(self) -> str:
        """The names of the burst plugins on offer, separated by ``|``."""
        return "|".join(self.hooks.offers)

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

    def iter_plugins(self) -> Iterator[tuple[str, BurstPlugin]]:
        """Yield the loaded plugins by name, in the order they are offered jobs."""
        for name in self.hooks.order_plugins(self.plugins, None):
            yield name, self.plugins[name]

    # --- looking ---------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time of the instance's clock, in seconds since the epoch."""
        return self.instance.now()

    def nodes(self) -> tuple[Node, ...]:
        """Return the instance's nodes; while a plan is made, as they were at its start."""
        return self._controller.parts.planners.nodes()

    def list_jobs(self) -> list[int]:
        """Return the ids of all active jobs of the instance, of all users."""
        return self.instance.job_ids()

    @property
    def ledger(self) -> Ledger:
        """The record of this instance's bursts.

        Raises:
            LedgerError: if it cannot be opened.
        """
        return self._place.ledger

    @property
    def state_dir(self) -> Path | None:
        """Where the ledger is kept; None for memory."""
        return self._place.directory

    def why_unwritable(self) -> str:
        """Return why the ledger cannot be written now; empty where it can be. Changes nothing."""
        return self._place.why_unwritable()

    @property
    def policy(self) -> Policy:
        """Lifetimes, timeouts, retries and limits, as they are now."""
        return self._controller.policy

    def holder(self) -> str:
        """Return who holds the instance, for a person; empty for nobody. Changes nothing.

        Raises:
            LedgerError: if that cannot be told.
        """
        return self._place.holder()

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

    @takes_turn
    def adopt_bursts(self) -> None:
        """Learn of the bursts that other processes brought up; changes nothing else.

        Raises:
            BurstErrors: for the plugins that could not be asked; those of the others are known.
        """
        self._controller.store.load()
        self._controller.read_queue()
        _raise(self._controller.adopt())

    # --- acting ----------------------------------------------------------------------------

    @takes_turn
    def reconfigure(self, config: Config) -> None:
        """Take another configuration: its policy, selector, ordering, and plugins' parameters.

        Plugins that are loaded are loaded anew; others are loaded, too, if the configuration has
        them. Which packages are blocked does not change.

        Raises:
            FluxburstError: if it cannot be used; the former is used further.
        """
        before = self.config
        loaded = dict(self.plugins)
        try:
            self._configure(config)
            for name in dict.fromkeys([*loaded, *self.config.plugins]):
                self.load(name)
            self._controller.scan.start_over()
        except FluxburstError:
            self._configure(before)
            self._loader.put_back(loaded)
            raise

    def _configure(self, config: Config) -> None:
        self.config = config = config.spelled(self.hooks.offers)
        self._controller.policy = config.policy
        self._functions.configure(config, self)

    def queue_counts(self) -> tuple[int, int, int]:
        """Return how many jobs the passes know to be pending, given away, and without a place."""
        backlog = self._controller.backlog
        return len(backlog.jobs), len(backlog.marks), self._controller.scan.waiting

    def next_due(self) -> float:
        """Return when a lease or an idle timer is due at the earliest; seconds since the epoch."""
        return self._controller.next_due()

    @takes_turn
    def hold(self, *, without_ledger: bool = False) -> None:
        """Hold the instance: one client at a time may act. Whatever acts does so by itself.

        Args:
            without_ledger: Also where its ledger cannot be written now. Then bursts are ended as
                they are due, which is recorded once it can be, and nothing is brought up.

        Raises:
            HeldError: if another client holds it, saying which.
            LedgerError: if the ledger cannot be written.
        """
        self._controller.store.hold(starts_without=without_ledger)

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
        _raise(self._controller.reconcile())

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
        return self._controller.apply(still_valid(plan, self._controller.backlog.jobs))

    @takes_turn
    def run_cycle(self, scope: Scope = ALL_THE_WAY) -> CycleResult:
        """Run one burst cycle, and return what failed in it rather than raise that.

        Args:
            scope: How far it goes: :meth:`run_burst` and :meth:`run_pass` have one each.

        Raises:
            HeldError: if another client holds the instance; nothing was done.
            LedgerError: if the ledger cannot be written; nothing more was brought up.
            BurstErrors: if it cannot, and something had failed before.
        """
        return run_cycle(self._controller, scope)

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
    def run_pass(self, *, everything: bool, patience: float) -> Plan:
        """Run one pass of a service: like :meth:`run_burst`, but only as far as there is cause.

        Args:
            everything: Ask plugins what is there, and mend the difference. Otherwise only what
                was answered, what changed and what is due is taken in.
            patience: How long to wait for plugins, in seconds; what is not answered by then is
                taken in by a later pass.

        Returns:
            The plan for the jobs that were looked at.

        Raises:
            HeldError: if another client holds the instance; nothing was done.
            LedgerError: if the ledger cannot be written; nothing more was brought up.
            BurstErrors: for all that failed; the rest was done.
        """
        scope = Scope(everything=everything, whole_queue=False, patience=patience)
        result = run_cycle(self._controller, scope)
        result.raise_errors()
        return result.plan

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
        return self._controller.take_down([names] if isinstance(names, str) else names)

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

    def strangers(self) -> dict[str, list[str]]:
        """Return what plugins listed, when they were last asked, that is not of this instance.

        By plugin, with the names. It is left alone, whatever is taken down.
        """
        found = self._controller.parts.ownership.strangers
        return {plugin: sorted(names) for plugin, names in found.items() if names}

    @takes_turn
    def refresh_bursts(self) -> list[Burst]:
        """Look at what has become of the bursts of this client; return all of them.

        A burst is ready when all its nodes are up in the instance. A plugin that does not name
        the hosts of its bursts says itself when they are ready.
        """
        self._controller.store.hold()
        self._controller.read_queue()
        return self._controller.refresh()

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


def _close(workers: PluginWorkers, place: LedgerPlace) -> None:
    """Close what a client has; neither of these knows the client, which would never be let go."""
    workers.close()
    place.close()


def _raise(errors: Sequence[FluxburstError]) -> None:
    if errors:
        raise BurstErrors(errors)


def _instance(handle: Any, mock: bool) -> Instance:
    if handle is None:
        return EmbeddedInstance(recordings.load(recordings.ONE_JOB)) if mock else LiveInstance()
    # Looked for on the class: a flux.Flux answers to every attribute, and fails when it is called.
    is_instance = hasattr(type(handle), "pending_jobs")
    return handle if is_instance else LiveInstance(handle)
