"""Registration, calls and blame: the only module that talks to pluggy.

Every hook has one typed method here, so that no other module touches pluggy. Each
implementation is registered behind a guard (:mod:`fluxburst.hooks.guards`) that knows its
distribution.
"""

from __future__ import annotations

import logging
import threading
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pluggy

from fluxburst import hookspecs
from fluxburst.errors import (
    FluxburstError,
    HookAnswerError,
    HookError,
    UnknownPluginError,
    described,
    did_you_mean,
)
from fluxburst.formats.spelling import known_name, plain_name
from fluxburst.hooks import defaults
from fluxburst.hooks.implementations import Guarded, Guards
from fluxburst.hooks.packages import (
    LEGACY_PREFIX,
    Found,
    Offer,
    Package,
    installed_packages,
    is_plugin_type,
    legacy_type,
)
from fluxburst.hookspecs import PROJECT
from fluxburst.model.burst import Burst, BurstRequest
from fluxburst.model.job import Job
from fluxburst.plugin.base import BurstPlugin, PluginType

if TYPE_CHECKING:
    import click

    from fluxburst.plugin.client_view import ClientView

CORE = "fluxburst"

_log = logging.getLogger(__name__)


class Manager:
    """The hooks of one client.

    Attributes:
        observer_errors: The latest errors of observers, newest last.
    """

    def __init__(self, block: Iterable[str] = ()) -> None:
        self._pm = pluggy.PluginManager(PROJECT)
        self._pm.add_hookspecs(hookspecs)
        self._hook: Any = self._pm.hook
        self._guards = Guards(self._pm.parse_hookimpl_opts, self._note, self._record)
        self._registered: dict[int, Guarded] = {}
        self._answered_by = CORE
        self._calls = threading.local()
        self._client: ClientView | None = None
        self._blocked = {plain_name(name) for name in block}
        self._packages: list[Package] = []
        self._offers: dict[str, Offer] = {}
        self.observer_errors: deque[HookError] = deque(maxlen=100)
        self.register(defaults, CORE, trusted=True)

    @property
    def packages(self) -> Sequence[Package]:
        """Every package found, including those that do not take part, with the reason."""
        return tuple(self._packages)

    @property
    def offers(self) -> Mapping[str, Offer]:
        """The available burst plugins, by name."""
        return types.MappingProxyType(self._offers)

    # --- discovery --------------------------------------------------------------------------

    def discover(self) -> None:
        """Find and register every installed package; a failure affects only that package."""
        for found in installed_packages():
            self._admit(found)

    def _admit(self, found: Found) -> None:
        package = found.package
        self._packages.append(package)
        names = {package.name, package.distribution, found.module}
        if {plain_name(name) for name in names} & self._blocked:
            package.blocked, package.problem = True, "blocked by name"
            return
        try:
            loaded = found.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a package may raise anything when imported
            package.problem = f"cannot be imported: {described(error)}"
            _log.info("%s %s", package.distribution, package.problem)
            _log.debug("%s", package.distribution, exc_info=error)
            return
        try:
            offered = [legacy_type(loaded, found.module)] if found.legacy else None
            self.add(package, loaded, offered, module=found.module)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a package may contain anything
            package.problem = described(error)
            _log.info("%s %s", package.distribution, package.problem)

    def add(
        self,
        package: Package,
        plugin: object,
        offered: Sequence[PluginType[Any]] | None = None,
        *,
        module: str = "",
    ) -> None:
        """Register a package's hooks and burst plugins.

        Raises:
            HookError: if a hook is unknown or has unknown arguments, or a plugin's name is taken;
                then nothing of the package is registered.
        """
        guarded = self._guards.of(plugin, package.distribution)
        if offered is None:
            offered = list(guarded.collected("fluxburst_register_plugins"))
        for kind in offered:
            if not is_plugin_type(kind):
                raise HookError(
                    "fluxburst_register_plugins",
                    package.distribution,
                    f"{kind!r} needs a name of letters, digits, - and _, and a factory",
                )
            taken = self.offers.get(kind.name)
            if taken is not None:
                raise HookError(
                    "fluxburst_register_plugins",
                    package.distribution,
                    f"the plugin name {kind.name!r} is already taken by "
                    f"{taken.package.distribution}; uninstall or block one of the two",
                )
        self._register(plugin, guarded)
        package.hooks = tuple(sorted(guarded.functions))
        package.plugins = tuple(kind.name for kind in offered)
        for kind in offered:
            self._offers[kind.name] = Offer(kind, package, module)

    def offer(self, name: str) -> Offer:
        """Return the burst plugin of this name, in any spelling, such as ``Compute-Engine``.

        Raises:
            UnknownPluginError: if no package taking part offers it; with the reason if a package
                that offers it does not take part.
        """
        name = known_name(name, self.offers)
        if name in self.offers:
            return self.offers[name]
        like_it = (name, f"{LEGACY_PREFIX}{name}")
        problems = [
            f"{package.distribution}: {package.problem}"
            for package in self.packages
            if package.problem and package.name in like_it
        ]
        raise UnknownPluginError(name, list(self.offers), why="; ".join(problems))

    # --- registration and blame -------------------------------------------------------------

    def register(self, plugin: object, distribution: str, *, trusted: bool = False) -> None:
        """Register an object's hook implementations on behalf of a distribution.

        Args:
            plugin: The object.
            distribution: The distribution to blame for its errors.
            trusted: It belongs to fluxburst and does not modify its arguments.

        Raises:
            HookError: if a hook is unknown or has unknown arguments.
        """
        self._register(plugin, self._guards.of(plugin, distribution, trusted=trusted))

    def unregister(self, plugin: object) -> None:
        """Unregister an object's hook implementations; an unknown object is ignored."""
        guarded = self._registered.pop(id(plugin), None)
        if guarded is not None:
            self._pm.unregister(guarded.proxy)

    def _register(self, plugin: object, guarded: Guarded) -> None:
        try:
            with self._in_hook():  # of fluxburst_configure
                self._pm.register(guarded.proxy, name=f"{guarded.distribution}:{id(plugin)}")
        except pluggy.PluginValidationError as error:
            if self._pm.is_registered(guarded.proxy):
                self._pm.unregister(guarded.proxy)
            hint = str(error).splitlines()[-1]
            raise HookError(
                "registration", guarded.distribution, f"does not fit a hook: {hint}"
            ) from error
        self._registered[id(plugin)] = guarded

    def _note(self, distribution: str) -> None:
        self._answered_by = distribution

    # --- one typed method for each hook -----------------------------------------------------

    def configure(self, client: ClientView) -> None:
        """Set the client that hooks serve, and announce it to every package.

        Packages registered later receive it, too.
        """
        self._client = client
        with self._in_hook():
            self._hook.fluxburst_configure.call_historic(kwargs={"client": client})

    def commands(self) -> list[click.Command]:
        """Return the subcommands that packages add; a package that fails adds none."""
        commands: list[click.Command] = []
        for guarded in self._registered.values():
            try:
                commands += guarded.collected("fluxburst_register_commands")
            except FluxburstError as error:
                _log.warning("%s", error)
        return commands

    def select_job(self, job: Job) -> bool:
        """Ask whether a job is a candidate for bursting.

        Raises:
            HookError: if a package fails, or returns something else.
        """
        return bool(self._ask("select_job", f"job {job.id}", job=job))

    def order_plugins(self, plugins: Mapping[str, BurstPlugin], job: Job | None) -> Sequence[str]:
        """Ask to which burst plugins a job is offered, in order.

        Raises:
            HookError: if a package fails, returns something else, or names a plugin that is not
                loaded.
        """
        subject = f"job {job.id}" if job else ""
        names: Sequence[str] = self._ask("order_plugins", subject, plugins=plugins, job=job) or ()
        for name in names:
            if name not in plugins:
                raise HookAnswerError(
                    "fluxburst_order_plugins",
                    self._answered_by,
                    f"named the plugin {name!r}, which is not loaded{did_you_mean(name, plugins)}",
                    subject=subject,
                )
        return names

    def schedule_job(self, job: Job, plugin: BurstPlugin) -> bool:
        """Ask whether a burst plugin takes a job.

        Raises:
            HookError: if a package fails, or returns something else.
        """
        subject = f"job {job.id}, plugin {plugin.name}"
        return bool(self._ask("schedule_job", subject, job=job, plugin=plugin))

    def run_plugin(self, plugin: BurstPlugin, request: BurstRequest) -> Sequence[Burst]:
        """Have a plugin provision its capacity.

        Raises:
            BurstErrors: for nodes that could not be provisioned.
            HookError: if a package fails in another way.
        """
        subject = f"plugin {plugin.name}"
        return self._ask("run_plugin", subject, plugin=plugin, request=request) or ()

    def unburst_plugin(self, plugin: BurstPlugin, bursts: Sequence[Burst]) -> Sequence[str]:
        """Have a plugin terminate bursts; return the names of those that are gone.

        Raises:
            BurstErrors: for bursts whose termination failed.
            HookError: if a package fails in another way.
        """
        subject = f"plugin {plugin.name}"
        return self._ask("unburst_plugin", subject, plugin=plugin, bursts=bursts) or ()

    def _ask(self, hook: str, subject: str, **arguments: Any) -> Any:
        """Call a first-result hook; errors name the subject of the question."""
        name = f"fluxburst_{hook}"
        try:
            with self._in_hook():
                return getattr(self._hook, name)(client=self._client, **arguments)
        except HookError as error:
            # The default answer asks the plugin itself: then the plugin's package is to blame.
            asked = self._registered.get(id(arguments.get("plugin")))
            core = error.distribution == CORE and asked is not None
            whose = asked.distribution if core and asked else error.distribution
            raise type(error)(name, whose, error.problem, subject=subject) from error.__cause__

    def job_scheduled(self, job: Job, plugin: BurstPlugin) -> None:
        """Announce a job's assignment to a plugin."""
        self._tell("job_scheduled", job=job, plugin=plugin)

    def jobs_unmatched(self, jobs: Sequence[Job]) -> None:
        """Announce the selected jobs that no plugin took."""
        self._tell("jobs_unmatched", jobs=jobs)

    def jobs_not_started(
        self, jobs: Sequence[Job], plugin: BurstPlugin, burst: str, reason: str
    ) -> None:
        """Announce jobs that did not start although their nodes were free."""
        self._tell("jobs_not_started", jobs=jobs, plugin=plugin, burst=burst, reason=reason)

    def burst_changed(self, burst: Burst, previous: Burst | None) -> None:
        """Announce a new or changed burst."""
        self._tell("burst_changed", burst=burst, previous=previous)

    def phase_failed(self, phase: str, plugin: BurstPlugin | None, error: Exception) -> None:
        """Announce a failure."""
        self._tell("phase_failed", phase=phase, plugin=plugin, error=error)

    @property
    def in_hook(self) -> bool:
        """Whether this thread is inside a hook."""
        return getattr(self._calls, "depth", 0) > 0

    @contextmanager
    def _in_hook(self) -> Iterator[None]:
        self._calls.depth = getattr(self._calls, "depth", 0) + 1
        try:
            yield
        finally:
            self._calls.depth -= 1

    def _tell(self, hook: str, **arguments: object) -> None:
        """Call observers; record errors of observers and of their wrappers."""
        with self._in_hook():
            getattr(self._hook, f"fluxburst_{hook}")(client=self._client, **arguments)

    def _record(self, error: HookError) -> None:
        self.observer_errors.append(error)
        _log.warning("%s", error)
        _log.debug("%s", error.distribution, exc_info=error)
