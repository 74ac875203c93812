"""FluxBurst: the order of the phases, and no policy of its own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from fluxburst import ordering, parameters, recordings, selectors
from fluxburst.bursts import Burst, BurstRequest, BurstState
from fluxburst.config import Config, blocked_by_environment
from fluxburst.config import find as find_config
from fluxburst.errors import (
    BurstError,
    BurstErrors,
    ConfigError,
    FluxburstError,
    OrderingError,
    RequestError,
    UnknownPluginError,
    did_you_mean,
)
from fluxburst.handles.embedded import EmbeddedInstance
from fluxburst.handles.live import LiveInstance
from fluxburst.handles.protocol import Instance
from fluxburst.hookspecs import hookimpl
from fluxburst.jobs import Job, JobState, Mark
from fluxburst.manager import Manager, Offer
from fluxburst.nodes import Node
from fluxburst.plan import Plan
from fluxburst.planner import Planner
from fluxburst.plugins import COMING_STATES, BurstPlugin, as_burst_error

T = TypeVar("T")


class _Selector:
    """A user's selector, as a hook implementation that answers first."""

    def __init__(self, function: Callable[[Job], Any]) -> None:
        self._function = function

    @hookimpl(tryfirst=True)
    def fluxburst_select_job(self, job: Job) -> bool:
        return bool(self._function(job))


class _Ordering:
    """A user's ordering, as a hook implementation that answers first."""

    def __init__(self, function: ordering.Ordering) -> None:
        self._function = function

    @hookimpl(tryfirst=True)
    def fluxburst_order_plugins(self, plugins: Mapping[str, BurstPlugin]) -> Sequence[str]:
        return [self._name(item, plugins) for item in self._function(plugins)]

    def _name(self, item: Any, plugins: Mapping[str, BurstPlugin]) -> str:
        which = f"the ordering {name_of(self._function)}"
        if not isinstance(item, tuple) or len(item) != 2 or not isinstance(item[0], str):
            raise OrderingError(f"{which} must yield (name, plugin), it yielded {item!r}")
        name = item[0]
        if name not in plugins:
            nearest = did_you_mean(name, plugins)
            raise OrderingError(f"{which} names the plugin {name!r}, which is not loaded{nearest}")
        return name


class _Votes:
    """The hooks that a plan asks, bound to a client."""

    def __init__(self, client: FluxBurst) -> None:
        self._client = client
        self._hooks = client.hooks

    def select(self, job: Job) -> bool:
        return self._hooks.select_job(job, self._client)

    def order(self, job: Job) -> Sequence[str]:
        return self._hooks.order_plugins(self._client.plugins, job, self._client)

    def schedule(self, job: Job, plugin: BurstPlugin) -> bool:
        return self._hooks.schedule_job(job, plugin, self._client)


class FluxBurst:
    """A burst client: it looks at an instance's queue and has plugins bring capacity up.

    Args:
        handle: A ``flux.Flux``, or any :class:`~fluxburst.handles.protocol.Instance`; by default
            the instance that this process runs in, connected to on first use.
        mock: Run without Flux, on an embedded instance with one node up and one burstable job
            that needs four.
        validate: Ask each plugin to validate itself when it is loaded.
        config: Selector, ordering, blocked packages and parameters; by default those of the
            configuration file in the usual places, if there is one.
        block: Names of packages that are not to take part, besides those of ``config``.

    Attributes:
        instance: The instance that jobs wait in.
        plugins: The loaded burst plugins by name, in the order they were loaded.
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
    ) -> None:
        self.config = find_config() if config is None else config
        self.validate = validate
        self.instance: Instance = _instance(handle, mock)
        self.plugins: OrderedDict[str, BurstPlugin] = OrderedDict()
        self._seen_nodes: tuple[Node, ...] | None = None
        self._selector: _Selector | None = None
        self._ordering: _Ordering | None = None
        self.hooks = Manager([*self.config.block, *blocked_by_environment(), *block])
        self.hooks.configure(self)
        self.hooks.discover()
        try:
            if self.config.selector is not None:
                self.set_selector(selectors.from_config(self.config.selector, self))
            if self.config.ordering is not None:
                self.set_ordering(ordering.from_config(self.config.ordering))
        except RequestError as error:
            raise ConfigError(self.config.source, str(error)) from error

    def __repr__(self) -> str:
        return f"<FluxBurst plugins={list(self.plugins)}>"

    # --- plugins, selector, ordering -------------------------------------------------------

    @property
    def choices(self) -> str:
        """The names of the burst plugins on offer, separated by ``|``."""
        return "|".join(self.hooks.offers)

    def load(self, name: str, dataclass: Any = None, **kwargs: Any) -> BurstPlugin:
        """Load a burst plugin.

        Args:
            name: Its name, one of :attr:`choices`.
            dataclass: An object of its parameters; by default they come from config and
                environment alone. It is not changed.
            kwargs: Passed on to the plugin's factory.

        Raises:
            UnknownPluginError: if no package that takes part offers it.
            ParameterError: if the parameters cannot be used.
            BurstError: if the plugin refuses them, or could not be made.
        """
        offer = self.hooks.offer(name)
        params = parameters.build(
            name,
            offer.parameters(dataclass),
            config=self.config.plugins.get(name),
            config_source=self.config.source_of(name),
            given=dataclass,
        )
        plugin = self._make(offer, params, kwargs)
        self._add(name, plugin, offer.package.distribution)
        return plugin

    def set_selector(self, func: Callable[[Job], Any]) -> None:
        """Select jobs by a function from a job to whether it is a candidate for bursting."""
        self.reset_selector()
        self._selector = _Selector(func)
        self.hooks.register(self._selector, name_of(func))

    def reset_selector(self) -> None:
        """Select jobs as by default: those flagged burstable."""
        self.hooks.unregister(self._selector)
        self._selector = None

    def set_ordering(self, func: ordering.Ordering) -> None:
        """Order plugins by a function from the loaded plugins to (name, plugin) in order.

        It is called for each job; names it leaves out are not offered the job.
        """
        self.hooks.unregister(self._ordering)
        self._ordering = _Ordering(func)
        self.hooks.register(self._ordering, name_of(func))

    def iter_plugins(self) -> Iterator[tuple[str, BurstPlugin]]:
        """Yield the loaded plugins by name, in the order they are offered jobs."""
        for name in self.hooks.order_plugins(self.plugins, None, self):
            yield name, self.plugins[name]

    # --- looking ---------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time of the instance's clock, in seconds since the epoch."""
        return self.instance.now()

    def nodes(self) -> tuple[Node, ...]:
        """Return the instance's nodes; while a plan is made, as they were at its start."""
        return self.instance.nodes() if self._seen_nodes is None else self._seen_nodes

    def list_jobs(self) -> list[int]:
        """Return the ids of all active jobs of the instance, of all users."""
        return self.instance.job_ids()

    def select_jobs(self) -> dict[int, Job]:
        """Return the jobs that are candidates for bursting, by id.

        Raises:
            HookError: if a package failed at selecting.
        """
        return self._planned(lambda planner, jobs: planner.selected(jobs))

    def plan(self) -> Plan:
        """Decide on every pending job, and change nothing.

        Raises:
            OrderingError: if the ordering that was set names a plugin that is not loaded.
            InstanceError: if the instance cannot be asked.
        """
        return self._planned(lambda planner, jobs: planner.plan(jobs))

    def _planned(self, make: Callable[[Planner, Sequence[Job]], T]) -> T:
        jobs = self.instance.pending_jobs()
        self._seen_nodes = self.instance.nodes()
        try:
            planner = Planner(_Votes(self), self.plugins, self.instance.name, self._seen_nodes)
            return make(planner, jobs)
        finally:
            self._seen_nodes = None

    # --- acting ----------------------------------------------------------------------------

    def apply(self, plan: Plan) -> list[Burst]:
        """Do what a plan says: mark its jobs, then have each plugin bring its capacity up.

        Returns:
            The bursts that came up or are coming.

        Raises:
            UnknownPluginError: if a plugin of the plan is not loaded; nothing was done.
            BurstErrors: for all that failed; the rest was done. The jobs of failed bursts are
                free again.
        """
        for name in plan.assignments:
            self._loaded(name)
        for failure in plan.failures:
            self.hooks.phase_failed("plan", None, failure, self)
        self._forget_ended_jobs()
        errors: list[FluxburstError] = []
        bursts: list[Burst] = []
        for name, assigned in plan.assignments.items():
            plugin = self.plugins[name]
            jobs = self._give(plugin, {jobid: plan.jobs[jobid] for jobid in assigned}, plan)
            planned = tuple(burst for burst in plan.bursts if burst.plugin == name)
            if jobs:
                bursts += self._run(plugin, BurstRequest(planned, jobs), errors)
        unmatched = [plan.jobs[jobid] for jobid in plan.unmatched]
        if unmatched:
            self.hooks.jobs_unmatched(unmatched, self)
        if errors:
            raise BurstErrors(errors, bursts)
        return bursts

    def run_burst(
        self, request_burst: bool = False, nodes: int | None = None, tasks: int | None = None
    ) -> list[Job]:
        """Run one burst cycle: plan, and apply the plan.

        Args:
            request_burst: Have each plugin bring up ``nodes`` nodes, or room for ``tasks``
                tasks, instead; jobs are looked at, but none is given away.
            nodes: How many nodes.
            tasks: How many tasks.

        Returns:
            The selected jobs that no plugin took.

        Raises:
            BurstErrors: for all that failed; the rest was done.
        """
        plan = self.plan()
        if request_burst:
            self.request_bursts(nodes, tasks)
        else:
            self.apply(plan)
        return [plan.jobs[jobid] for jobid in plan.unmatched]

    def request_burst(self, name: str, nodes: int | None, tasks: int | None) -> list[Burst]:
        """Have one plugin bring up capacity by hand.

        Raises:
            UnknownPluginError: if it is not loaded.
            BurstErrors: if it fails.
        """
        return self._request([self._loaded(name).name], nodes, tasks)

    def request_bursts(self, nodes: int | None, tasks: int | None) -> list[Burst]:
        """Have each loaded plugin bring up capacity by hand. Otherwise as :meth:`request_burst`."""
        return self._request(list(self.plugins), nodes, tasks)

    def run_unburst(self, names: Collection[str] | None = None) -> list[str]:
        """Take bursts down: all, or the named ones.

        Returns:
            The names that are gone.

        Raises:
            RequestError: if a name is not that of a burst.
            BurstErrors: for all that could not be taken down; the rest was.
        """
        errors: list[FluxburstError] = []
        chosen = self._bursts_to_take_down(names, errors)
        ended: list[Burst] = []
        for name, bursts in chosen.items():
            plugin = self.plugins[name]
            before = dict(plugin.bursts)
            try:
                gone = list(self.hooks.unburst_plugin(plugin, bursts, self))
            except FluxburstError as error:
                gone = [burst.name for burst in getattr(error, "bursts", ())]
                errors.append(error)
                self.hooks.phase_failed("unburst", plugin, error, self)
            for burst in bursts:
                if burst.name in gone:
                    ended.append(replace(burst, state=BurstState.ENDED))
                    plugin.bursts[burst.name] = ended[-1]
            self._tell_changes(plugin, before)
        self._free_jobs_of(ended)
        if errors:
            raise BurstErrors(errors, ended)
        return [burst.name for burst in ended]

    def _free_jobs_of(self, ended: Sequence[Burst]) -> None:
        """Take the marks off jobs that still wait for bursts that are gone."""
        names = {(burst.plugin, burst.name) for burst in ended}
        waiting: dict[str, list[int]] = {}
        for job in self.instance.pending_jobs() if names else ():
            mark = job.mark
            if mark is not None and (mark.plugin, mark.burst) in names:
                waiting.setdefault(mark.plugin, []).append(job.id)
        for name, jobs in waiting.items():
            self._take_back(self.plugins[name], jobs)

    def refresh_bursts(self) -> list[Burst]:
        """Look at what has become of the bursts of this client; return all of them.

        A burst is ready when all its nodes are up in the instance. A plugin that does not name
        the hosts of its bursts says itself when they are ready.
        """
        up = {node.hostname for node in self.nodes() if node.up}
        for plugin in self.plugins.values():
            before = dict(plugin.bursts)
            for name, burst in before.items():
                if burst.state in COMING_STATES:
                    plugin.bursts[name] = _joined(_refreshed(plugin, burst), up)
            self._tell_changes(plugin, before)
        return [burst for plugin in self.plugins.values() for burst in plugin.bursts.values()]

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
        wanted = JobState(0)
        for state in states or ["INACTIVE"]:
            if state.upper() not in JobState.__members__:
                known = ", ".join(JobState.__members__)
                raise RequestError(f"{state!r} is not a job state [choose from {known}]")
            wanted |= JobState[state.upper()]
        chosen = self.list_jobs() if jobids is None else list(jobids)
        self.instance.wait_for_jobs(chosen, wanted)

    # --- the steps of these ----------------------------------------------------------------

    def _make(self, offer: Offer, params: Any, kwargs: Mapping[str, Any]) -> BurstPlugin:
        name = offer.plugin_type.name
        try:
            plugin = offer.plugin_type.factory(params, **kwargs)
        except FluxburstError:
            raise
        except Exception as error:
            raise BurstError(
                f"could not be made: {type(error).__name__}: {error}", plugin=name
            ) from error
        if not isinstance(plugin, BurstPlugin) or not hasattr(plugin, "jobs"):
            raise BurstError(
                "must be a fluxburst.BurstPlugin whose __init__ calls super().__init__(), "
                f"it is a {type(plugin).__qualname__}",
                plugin=name,
            )
        plugin.name = name
        if self.validate and not plugin.validate():
            raise BurstError("its validate() refused the parameters", plugin=name)
        return plugin

    def _add(self, name: str, plugin: BurstPlugin, distribution: str) -> None:
        self.hooks.unregister(self.plugins.get(name))
        self.hooks.register(plugin, distribution)
        self.plugins[name] = plugin

    def _loaded(self, name: str) -> BurstPlugin:
        if name not in self.plugins:
            raise UnknownPluginError(name, list(self.plugins), why="not loaded")
        return self.plugins[name]

    def _give(self, plugin: BurstPlugin, jobs: Mapping[int, Job], plan: Plan) -> dict[int, Job]:
        """Mark jobs as given to a plugin, before anything is brought up for them."""
        burst_of = {job: b.name for b in plan.bursts if b.plugin == plugin.name for job in b.jobs}
        marks = {jobid: Mark(plugin.name, burst_of.get(jobid, "")) for jobid in jobs}
        ended = self.instance.set_marks(marks)
        given = {jobid: job for jobid, job in jobs.items() if jobid not in ended}
        plugin.jobs.update(given)
        for job in given.values():
            self.hooks.job_scheduled(job, plugin, self)
        return given

    def _run(
        self, plugin: BurstPlugin, request: BurstRequest, errors: list[FluxburstError]
    ) -> Sequence[Burst]:
        plugin.planned = request.bursts
        before = dict(plugin.bursts)
        failed: Iterable[Burst] = ()
        done: Sequence[Burst]
        try:
            done = self.hooks.run_plugin(plugin, request, self)
            for burst in done:
                plugin.bursts[burst.name] = burst
            return done
        except FluxburstError as error:
            done = getattr(error, "bursts", ())
            names = {burst.name for burst in done}
            failed = [burst for burst in request.bursts if burst.name not in names]
            errors.append(error)
            self.hooks.phase_failed("run", plugin, error, self)
            if not request.bursts:
                self._take_back(plugin, list(request.jobs))
            return done
        finally:
            plugin.planned = ()
            self._take_back(plugin, [job for burst in failed for job in burst.jobs])
            self._tell_changes(plugin, before)

    def _take_back(self, plugin: BurstPlugin, jobs: Collection[int]) -> None:
        """Free jobs that were given to a plugin which could not bring capacity up for them."""
        if jobs:
            self.instance.set_marks(dict.fromkeys(jobs))
        for jobid in jobs:
            plugin.jobs.pop(jobid, None)

    def _request(self, names: Sequence[str], nodes: int | None, tasks: int | None) -> list[Burst]:
        errors: list[FluxburstError] = []
        bursts: list[Burst] = []
        request = BurstRequest(request_burst=True, nodes=nodes, tasks=tasks)
        for name in names:
            bursts += self._run(self.plugins[name], request, errors)
        if errors:
            raise BurstErrors(errors, bursts)
        return bursts

    def _bursts_to_take_down(
        self, names: Collection[str] | None, errors: list[FluxburstError]
    ) -> dict[str, list[Burst]]:
        chosen: dict[str, list[Burst]] = {}
        for plugin in self.plugins.values():
            known = {
                name: burst
                for name, burst in plugin.bursts.items()
                if burst.state is not BurstState.ENDED
            }
            try:
                for name in plugin.list_bursts():
                    known.setdefault(name, Burst(name, plugin.name, "", 0))
            except Exception as error:  # noqa: BLE001 - a provider's library may raise anything
                errors.append(as_burst_error(error, plugin.name))
            chosen[plugin.name] = [
                burst for name, burst in known.items() if names is None or name in names
            ]
        found = {burst.name for bursts in chosen.values() for burst in bursts}
        unknown = sorted(set(names or ()) - found)
        if unknown:
            raise RequestError(f"there is no burst {', '.join(map(repr, unknown))}")
        return {name: bursts for name, bursts in chosen.items() if bursts or names is None}

    def _forget_ended_jobs(self) -> None:
        if any(plugin.jobs for plugin in self.plugins.values()):
            active = set(self.instance.job_ids())
            for plugin in self.plugins.values():
                for jobid in plugin.jobs.keys() - active:
                    del plugin.jobs[jobid]

    def _tell_changes(self, plugin: BurstPlugin, before: Mapping[str, Burst]) -> None:
        for name, burst in plugin.bursts.items():
            if burst != before.get(name):
                self.hooks.burst_changed(burst, before.get(name), self)


def _instance(handle: Any, mock: bool) -> Instance:
    if handle is None:
        return EmbeddedInstance(recordings.load(recordings.ONE_JOB)) if mock else LiveInstance()
    # Looked for on the class: a flux.Flux answers to every attribute, and fails when it is called.
    is_instance = hasattr(type(handle), "pending_jobs")
    return handle if is_instance else LiveInstance(handle)


def _refreshed(plugin: BurstPlugin, burst: Burst) -> Burst:
    """Return a burst as its plugin sees it; a plugin that cannot tell leaves a note on it."""
    try:
        return replace(plugin.refresh(burst), error="")
    except Exception as error:  # noqa: BLE001 - a provider's library may raise anything
        return replace(burst, error=str(as_burst_error(error, plugin.name, burst.name)))


def _joined(burst: Burst, up: Collection[str]) -> Burst:
    """Return the burst with its state as the instance's nodes show it."""
    if burst.state not in COMING_STATES or not burst.hostnames:
        return burst
    joined = sum(hostname in up for hostname in burst.hostnames)
    if joined == burst.nodes:
        return replace(burst, state=BurstState.READY)
    return replace(burst, state=BurstState.JOINING) if joined else burst


def name_of(function: Callable[..., Any]) -> str:
    """Return what to call a user's function in messages."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))
