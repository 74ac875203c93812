"""What may be wrong, and what to do about it. Looks at everything, and changes nothing.

Each check stands alone: one that fails is a finding of its own, and the others are made.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import importlib
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from fluxburst.client import FluxBurst
from fluxburst.config.file import Config
from fluxburst.errors import (
    AuthError,
    BurstError,
    ConfigError,
    FluxburstError,
    FluxUnavailableError,
    InstanceError,
    NotOwnerError,
    RequestError,
    UnknownPluginError,
    UnreachableError,
    described,
)
from fluxburst.flux.live import binding_version
from fluxburst.flux.protocol import Instance
from fluxburst.formats.spelling import known_name
from fluxburst.formats.units import counted, format_duration
from fluxburst.ledger import Ledger
from fluxburst.ledger.clock import is_virtual, time_of
from fluxburst.ledger.location import FILE, LOCK
from fluxburst.ledger.lock import holder_of
from fluxburst.model.job import Job
from fluxburst.model.node import NodeType, check_node_types
from fluxburst.model.queues import Queue
from fluxburst.packing.limits import Budget, BudgetLine, Spent
from fluxburst.planning.lifespans import Lifespans
from fluxburst.plugin.base import BurstPlugin, Finding
from fluxburst.provider import drains
from fluxburst.provider.fluxion import findings as scheduler_findings
from fluxburst.provider.probe import NotAskedError, at_a_glance
from fluxburst.reconcile.burst_store import is_ours
from fluxburst.reconcile.ownership import strangers_text
from fluxburst.reconcile.verify import install_advice, names_there
from fluxburst.reports.growth import HOW_TO_GROW, why_it_cannot_grow
from fluxburst.reports.leases import check_armed, overdue, unarmed
from fluxburst.reports.lifetime_findings import LifetimeFindings, knows_leases
from fluxburst.reports.state_checks import check_absent, check_directory
from fluxburst.reports.user_findings import findings as user_findings
from fluxburst.simulation.embedded import EmbeddedInstance

T = TypeVar("T")

CLOCK_SECONDS = 60.0
"""By how much clocks may differ without that being said."""

_MONEY = ("cost_per_hour", "cost_per_day", "cost")


@dataclass(frozen=True)
class Checked:
    """A finding, and the check that it is from."""

    check: str
    finding: Finding


def ok(what: str) -> Finding:
    """Return that something is as it should be."""
    return Finding("ok", what)


def warning(what: str, advice: str) -> Finding:
    """Return that something works, but perhaps not as it is meant."""
    return Finding("warning", what, advice)


def wrong(what: str, advice: str) -> Finding:
    """Return that something does not work."""
    return Finding("error", what, advice)


class Doctor:
    """Examines one installation.

    Args:
        find_config: Finds and reads the configuration.
        instance: The instance; it may be that it cannot be reached.
        plugins: The names of the plugins to load; by default those of the configuration.
        block: Names of packages that are not to take part.
        state_dir: Where the ledger is kept; by default the usual place.
    """

    def __init__(
        self,
        find_config: Callable[[], Config],
        instance: Instance,
        plugins: Sequence[str] = (),
        block: Sequence[str] = (),
        state_dir: Path | None = None,
    ) -> None:
        self._find_config = find_config
        self._instance = instance
        self._named = tuple(plugins)
        self._block = tuple(block)
        self._state_dir = state_dir
        self._config = Config()
        self._client: FluxBurst | None = None
        self._alone: Ledger | None = None
        self._silent: Mapping[str, str] = {}
        self._reached = isinstance(instance, EmbeddedInstance)
        self._guest = False

    def examine(self) -> list[Checked]:
        """Make all checks, and return what they found, in order."""
        found: list[Checked] = []
        try:
            with at_a_glance() as self._silent:
                for name, check in self._checks():
                    found += [Checked(name, finding) for finding in _made(check)]
        finally:
            if self._client is not None:
                self._client.close()
            if self._alone is not None:
                self._alone.close()
        return found

    def _checks(self) -> Iterator[tuple[str, Callable[[], Iterable[Finding]]]]:
        yield "config", self._check_config
        yield "client", self._check_client
        yield "flux", self._check_flux
        if self._client is None or self._guest:
            return  # of nothing else a guest could be told
        yield "packages", self._check_packages
        yield "state directory", self._check_state_directory
        yield "ledger", self._check_ledger
        yield "instance", self._check_holder
        yield "clock", self._check_clock
        for name in self._plugin_names():
            yield f"plugin {name}", functools.partial(self._check_plugin, name)
        yield "scheduler", self._check_scheduler
        yield "users", self._check_users
        yield "lifetimes", self._check_lifetimes
        yield "limits", self._check_limits
        yield "metrics", self._check_metrics
        yield "bursts", self._check_bursts
        yield "drained nodes", self._check_drained
        yield "breakers", self._check_breakers

    def _plugin_names(self) -> list[str]:
        named = (known_name(name, self._there.hooks.offers) for name in self._named)
        return list(dict.fromkeys(named)) or list(self._there.config.plugins)

    @property
    def _there(self) -> FluxBurst:
        assert self._client is not None
        return self._client

    @property
    def _ledger(self) -> Ledger:
        """The ledger, also where only its directory is known."""
        if self._reached:
            return self._there.ledger
        directory = self._there.state_dir
        if self._alone is None and directory is not None:
            self._alone = Ledger(directory / FILE, "", read_only=True)
        assert self._alone is not None
        return self._alone

    # --- the installation ------------------------------------------------------------------

    def _check_config(self) -> Iterator[Finding]:
        try:
            self._config = self._find_config()
        except ConfigError as error:
            yield wrong(str(error), "correct it; what follows is checked without it")
            return
        if self._config.source:
            yield ok(f"{self._config.source} is read")
        else:
            yield ok("there is no configuration file, which is as if it were empty")
        if not (self._named or self._config.plugins):
            advice = "name one with --plugin NAME, or give it a table [plugins.NAME] in the config"
            yield warning("no burst plugin is named: nothing can be brought up", advice)

    def _check_client(self) -> Iterator[Finding]:
        config = self._config
        try:
            self._client = FluxBurst(
                self._instance, config=config, block=self._block, state_dir=self._state_dir
            )
        except ConfigError as error:
            yield wrong(str(error), "correct it; what follows is checked without the config")
            self._config = Config()
            self._client = FluxBurst(
                self._instance, config=self._config, block=self._block, state_dir=self._state_dir
            )

    def _check_packages(self) -> Iterator[Finding]:
        packages = self._there.hooks.packages
        for package in packages:
            if package.problem and not package.blocked:
                advice = "mend or uninstall it, or block it (block = [...] in the config)"
                yield wrong(f"{package.distribution} {package.problem}", advice)
        taking_part = [p.distribution for p in packages if not p.problem]
        yield ok(f"packages that take part: {', '.join(taking_part) or 'none'}")

    def _check_flux(self) -> Iterator[Finding]:
        if isinstance(self._instance, EmbeddedInstance):
            yield ok("an embedded instance is used, no Flux")
            return
        binding = binding_version()
        if binding:
            yield ok(f"the Python binding is that of Flux {binding}")
        else:
            yield wrong("Flux's Python binding is not found", _BINDING)
        try:
            version = self._instance.attribute("version")
            name = self._instance.name
        except FluxburstError as error:
            yield wrong(str(error), "run this where the service runs, inside the Flux instance")
            return
        self._reached = True
        yield ok(f"the instance {name} answers, it is Flux {version}")
        try:
            self._instance.check_owner()
        except NotOwnerError as error:
            self._guest = True
            yield wrong(str(error), "run fluxburst as the instance's owner")

    # --- state -----------------------------------------------------------------------------

    def _check_state_directory(self) -> Iterator[Finding]:
        directory = self._there.state_dir
        if directory is None:
            yield ok("the ledger is kept in memory, and ends with this process")
        elif directory.is_dir():
            yield from check_directory(directory)
        elif directory.exists():
            yield wrong(f"{directory} is not a directory", "name another --state-dir")
        else:
            yield from check_absent(directory)

    def _check_ledger(self) -> Iterator[Finding]:
        directory = self._there.state_dir
        if directory is not None and not (directory / FILE).exists():
            yield ok(f"{directory / FILE} is not there yet: nothing was brought up")
            return
        ledger = self._ledger
        entries = ledger.entries()
        live = sum(entry.live for entry in entries)
        where = ledger.path or "in memory"
        bursts = counted(len(entries), "burst")
        yield ok(f"{where} is read: schema {ledger.schema}, {bursts}, {live} live")

    def _check_holder(self) -> Iterator[Finding]:
        directory = self._there.state_dir
        if self._reached or directory is None:
            holder = self._there.holder()
        else:
            holder = holder_of([directory / LOCK])
        yield ok(f"it is held by {holder}" if holder else "nobody holds it")

    def _check_clock(self) -> Iterator[Finding]:
        client = self._there
        if not self._reached and is_virtual(self._ledger):
            yield ok(f"the ledger is of an embedded instance: {_time(time_of(self._ledger))} there")
            return
        now = client.now()
        advice = "set the clock right (NTP): leases, limits and idleness are counted by it"
        last = self._ledger.last_recorded()
        ahead = 0.0 if last is None else last - now
        if ahead > CLOCK_SECONDS:
            text = f"the ledger's last record is {format_duration(ahead)} in the future"
            yield wrong(f"{text}: this clock went back, or that one was ahead", advice)
        times = [step.at for step in self._ledger.transitions()]
        back = [a for a, b in itertools.pairwise(times) if a - b > CLOCK_SECONDS]
        if back:
            text = f"the clock went back {counted(len(back), 'time')}, last at {_time(back[-1])}"
            yield warning(f"as the ledger shows, {text}", advice)
        yield ok(f"it is {_time(now)}")
        if not self._reached:
            return
        submitted = [float(job.get("t_submit", 0.0)) for job in client.instance.pending_jobs()]
        ahead = max(submitted, default=now) - now
        if ahead > CLOCK_SECONDS:
            text = f"a job was submitted {format_duration(ahead)} in the future"
            yield warning(f"{text}: this clock is behind the broker's", advice)

    # --- plugins ---------------------------------------------------------------------------

    def _check_plugin(self, name: str) -> Iterator[Finding]:
        before = set(self._silent)
        try:
            plugin = self._there.load(name)
        except UnknownPluginError as error:
            yield wrong(str(error), install_advice(name))
            return
        except (BurstError, RequestError) as error:
            yield wrong(str(error), _advice(error, name))
            return
        yield ok("its parameters are accepted")
        for provider in self._silent.keys() - before:  # which does not keep it from being loaded
            yield wrong(self._silent[provider], _REACH)
        checks: tuple[tuple[str, Callable[[BurstPlugin], Iterable[Finding]]], ...] = (
            ("it cannot say what it can supply", _check_types),
            ("it cannot say which bursts exist", self._check_list),
            ("it cannot be examined", self._diagnosed),
            ("it cannot say whether its nodes end by themselves", check_armed),
        )
        found = (one for what, check in checks for one in _made_by(plugin, what, check))
        yield from dict.fromkeys(found)  # what stops one check may stop them all

    def _check_list(self, plugin: BurstPlugin) -> Iterator[Finding]:
        seconds = self._there.policy.timeouts.list
        names = _within(seconds, "list_bursts()", lambda: names_there(plugin))
        yield ok(f"it lists {counted(len(names), 'burst')}")
        recorded = {entry.burst.name for entry in self._ledger.live(plugin.name)}
        ours = {name for name in names if is_ours(self._ledger, plugin, name)}
        if ours - recorded:
            text = f"it lists bursts that are in no record: {strangers_text(ours - recorded)}"
            yield warning(text, "the next run takes them down")
        if names - ours:
            text = f"it lists what is not of this instance: {strangers_text(names - ours)}"
            advice = "it is left alone; the plugin is to list only what it made for this instance"
            yield warning(text, advice)

    def _diagnosed(self, plugin: BurstPlugin) -> Iterable[Finding]:
        def ask() -> list[Finding]:
            found = list(plugin.diagnose())
            for finding in found:
                if not isinstance(finding, Finding):
                    problem = f"diagnose() answered {finding!r}, not a Finding"
                    raise BurstError(problem, plugin=plugin.name)
            return found

        return _within(self._there.policy.timeouts.list, f"{plugin.name}.diagnose()", ask)

    def _check_users(self) -> Iterable[Finding]:
        if not self._reached:
            return ()
        return user_findings(self._there.instance.users(), self._there.plugins.values())

    def _check_scheduler(self) -> Iterable[Finding]:
        client = self._there
        plugins = client.plugins.values()
        joining = not plugins or any(not plugin.isolated for plugin in plugins)
        return scheduler_findings(client.instance.scheduler(), joining) if self._reached else ()

    def _check_lifetimes(self) -> Iterator[Finding]:
        client = self._there
        jobs: list[Job] = []
        queues: Mapping[str, Queue] = {}
        plugins = {name: one for name, one in client.plugins.items() if knows_leases(one)}
        if client.plugins and not plugins:
            return
        live = self._reached and not isinstance(self._instance, EmbeddedInstance)
        if self._reached:
            jobs = [job for job in client.instance.pending_jobs() if job.burstable]
            queues = client.instance.queues()
        yield from LifetimeFindings(
            Lifespans(client.policy.lifetimes),
            plugins,
            jobs,
            queues,
            served=not live or bool(client.holder()),
        ).all()

    # --- limits and money ------------------------------------------------------------------

    def _check_limits(self) -> Iterator[Finding]:
        client = self._there
        policy, limits = client.policy, client.policy.limits
        if not limits.is_set:
            yield ok("none is set")
            return
        types = {name: list(plugin.node_types()) for name, plugin in client.plugins.items()}
        yield from self._check_unpriced(types)
        for name in limits.plugins:
            if name not in client.plugins:
                text = f"limits.plugins.{name} is of a plugin that is not loaded"
                yield warning(text, "correct its name, or take the table out")
        lease = min(policy.lifetimes.lease, policy.lifetimes.max_lifetime)
        for ceiling in Budget(limits, Spent(client.now()), lease).ceilings():
            yield from _check_ceiling(ceiling, types, lease)
        yield ok("they were checked against the node types and the lease")

    def _check_metrics(self) -> Iterator[Finding]:
        """Check what a service would not start with, or not show."""
        metering = self._there.policy.metrics
        if metering.port is None and metering.textfile is None:
            yield ok("they are off")
            return
        try:
            importlib.import_module("prometheus_client")
        except ImportError:
            yield wrong("metrics need prometheus-client", "pip install prometheus-client")
            return
        if metering.port is not None:
            try:
                socket.getaddrinfo(metering.address, metering.port)
            except (OSError, UnicodeError):
                text = f"metrics.address {metering.address!r} is not an address of this host"
                yield wrong(text, "give an IP address, such as 127.0.0.1")
        directory = None if metering.textfile is None else metering.textfile.parent
        if directory is not None and not os.access(directory, os.W_OK):
            text = f"metrics.textfile: {directory} is not there, or cannot be written"
            yield wrong(text, "make it, or correct the path")
        yield ok("prometheus-client is installed")

    def _check_unpriced(self, types: dict[str, list[NodeType]]) -> Iterator[Finding]:
        limits = self._there.policy.limits
        tables = [limits, *limits.plugins.values(), *limits.users.values(), *limits.queues.values()]
        of_money = any(name in _MONEY for table in tables for name, _ in table.values())
        for plugin, kinds in types.items():
            free = [kind.name for kind in kinds if not kind.price]
            if free and of_money:
                text = f"costs are limited, but these node types of {plugin} have no price"
                yield warning(f"{text}: {', '.join(free)}", "set their prices in its parameters")
            if not kinds:
                text = f"{plugin} sizes its bursts itself: no limit holds them back"
                yield warning(text, "set limits where its capacity comes from")

    def _check_bursts(self) -> Iterator[Finding]:
        client = self._there
        live = self._ledger.live()
        cannot_grow = why_it_cannot_grow(client) if self._reached else ""
        if cannot_grow:
            yield warning(cannot_grow, HOW_TO_GROW)
        for plugin in sorted({entry.burst.plugin for entry in live} - client.plugins.keys()):
            names = ", ".join(e.burst.name for e in live if e.burst.plugin == plugin)
            if plugin in client.hooks.offers:
                text = f"{plugin} is not loaded, and has bursts, which nobody looks after: {names}"
                yield wrong(
                    text, f"load it: --plugin {plugin}, or [plugins.{plugin}] in the config"
                )
            else:
                text = f"{plugin} is not installed, and has bursts: {names}"
                yield wrong(text, f"{install_advice(plugin)}; until then look at its provider")
        for text in overdue(live, unarmed(live, client.plugins), client.now()):
            yield warning(text, "do that")
        for entry in live:
            if entry.burst.error:
                again = f"see 'fluxburst ledger --burst {entry.burst.name}'"
                yield warning(f"{entry.burst.name}: {entry.burst.error}", again)
        yield ok(f"{len(live)} are there, or may be")

    def _check_drained(self) -> Iterator[Finding]:
        hosts = {host for entry in self._ledger.live() for host in entry.burst.hostnames}
        yield from drains.findings(self._instance.nodes(), hosts)

    def _check_breakers(self) -> Iterator[Finding]:
        now = self._there.now()
        breakers = self._ledger.breakers().values()
        closed_until = [b for b in breakers if b.retry_at is not None and now < b.retry_at]
        for breaker in closed_until:
            times = counted(breaker.failures, "time")
            what = f"{breaker.plugin}/{breaker.node_type} failed {times} in a row"
            again = f"it is tried again by itself from {_time(breaker.retry_at or now)}"
            yield warning(f"{what}, last with: {breaker.error}", f"mend the cause; {again}")
        if not closed_until:
            yield ok("none is open")


_BINDING = "pip install ply flux-python==VERSION, with that of the running Flux ('flux --version')"
_REACH = "check the way to its provider: network, proxy, name, and that it is up"

AWAY = (FluxUnavailableError, InstanceError)
"""What is raised where the instance cannot be asked."""


def _made(check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what a check finds; if it fails, that too."""
    found: list[Finding] = []
    try:
        for finding in check():
            found.append(finding)
    except AWAY:
        advice = "run this inside the instance, or name the --state-dir that the ledger is in"
        found.append(warning("it cannot be checked without the instance", advice))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - what it looks at is foreign, or broken
        found.append(wrong(described(error), "mend that, and run 'fluxburst doctor' again"))
    return found


def _made_by(
    plugin: BurstPlugin, otherwise: str, check: Callable[[BurstPlugin], Iterable[Finding]]
) -> list[Finding]:
    """Return what a check of a plugin finds; if it fails, that too, with what it means."""
    found: list[Finding] = []
    try:
        for finding in check(plugin):
            found.append(finding)
    except AWAY:
        advice = "run this inside the Flux instance that it supplies"
        found.append(warning(f"{otherwise} without the instance", advice))
    except NotAskedError:
        pass  # that was said where it was asked
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
        text = f"{otherwise}: {described(error)}"
        found.append(wrong(text, _advice(error, plugin.name)))
    return found


def _advice(error: BaseException, plugin: str) -> str:
    """Return what to do about what a plugin fails with."""
    if isinstance(error, AuthError):
        return "check its credentials and their permissions"
    if isinstance(error, UnreachableError):
        return _REACH
    if isinstance(error, RequestError):
        return f"see 'fluxburst params {plugin}', and correct the config"
    return "check its credentials, its permissions, and the way to its provider"


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S}Z"


def _within(seconds: float, what: str, ask: Callable[[], T]) -> T:
    """Return what is answered in time, asked in a thread that is left to itself if it is not.

    Raises:
        BurstError: if it is not answered in time.
    """
    answer: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            answer.set_exception(error)

    here = contextvars.copy_context()
    threading.Thread(target=here.run, args=(run,), name="fluxburst-doctor", daemon=True).start()
    try:
        return answer.result(seconds)
    except concurrent.futures.TimeoutError:
        if answer.done():
            raise
        raise BurstError(f"{what} has not answered for {format_duration(seconds)}") from None


def _check_types(plugin: BurstPlugin) -> Iterator[Finding]:
    types = list(plugin.node_types())
    try:
        check_node_types(types)
    except ValueError as error:
        yield wrong(str(error), f"correct its parameters: 'fluxburst params {plugin.name}'")
        return
    if types:
        yield ok(f"its node types: {', '.join(kind.name for kind in types)}")
    for kind in types:
        if not kind.cores or kind.max_nodes == 0:
            what = "no cores" if not kind.cores else "max_nodes 0"
            text = f"node type {kind.name} has {what}: no job is ever given to it"
            yield warning(text, f"correct its parameters: 'fluxburst params {plugin.name}'")


def _check_ceiling(
    ceiling: BudgetLine, types: dict[str, list[NodeType]], lease: float
) -> Iterator[Finding]:
    """Check that a limit, with nothing used, leaves room for one node."""
    scope = ceiling.scope
    those = (
        types.get(scope.name, []) if scope.kind == "plugin" else [*itertools.chain(*types.values())]
    )
    if not those:
        return
    cheapest = min(those, key=lambda kind: kind.price)
    if ceiling.room(cheapest.price, opens=True) >= 1:
        return
    text = f"the limit {ceiling.what} of {scope} is {ceiling.limit:g}: nothing is ever brought up"
    advice = "raise it"
    if ceiling.what not in ("nodes", "bursts"):
        needs = ceiling.weight(cheapest.price)
        text += f", as one node of the cheapest type ({cheapest.name}) takes {needs:g}"
    if ceiling.share and ceiling.limit:
        text += f" until its lease of {format_duration(lease)} ends"
        advice += ", or shorten lifetimes.lease"
    yield warning(text, advice)
