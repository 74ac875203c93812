"""Each plugin: its parameters, its node types, and its list of bursts."""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from fluxburst.errors import BurstError, RequestError, UnknownPluginError
from fluxburst.formats.units import counted, format_duration
from fluxburst.model.node import check_node_types
from fluxburst.plugin.base import BurstPlugin, Finding
from fluxburst.reconcile.burst_store import is_ours
from fluxburst.reconcile.verify import install_advice, names_there
from fluxburst.reconcile.vetting import strangers_text
from fluxburst.reports.doctor.findings import REACH, advice_on, made_by, ok, warning, wrong
from fluxburst.reports.doctor.installation import Installation
from fluxburst.reports.leases import check_armed

T = TypeVar("T")


def check_plugin(installation: Installation, name: str) -> Iterator[Finding]:
    """Load a plugin and check it."""
    before = set(installation.silent)
    try:
        plugin = installation.client.load(name)
    except UnknownPluginError as error:
        yield wrong(str(error), install_advice(name))
        return
    except (BurstError, RequestError) as error:
        yield wrong(str(error), advice_on(error, name))
        return
    yield ok("its parameters are valid")
    for provider in installation.silent.keys() - before:  # which does not prevent loading it
        yield wrong(installation.silent[provider], REACH)
    checks: tuple[tuple[str, Callable[[BurstPlugin], Iterable[Finding]]], ...] = (
        ("it cannot list its node types", _check_types),
        ("it cannot list its bursts", functools.partial(_check_list, installation)),
        ("it cannot be examined", functools.partial(_diagnosed, installation)),
        ("it cannot tell whether its nodes end automatically", check_armed),
    )
    found = (one for what, check in checks for one in made_by(plugin, what, check))
    yield from dict.fromkeys(found)  # one cause may fail all checks


def _check_types(plugin: BurstPlugin) -> Iterator[Finding]:
    types = list(plugin.node_types())
    try:
        check_node_types(types)
    except ValueError as error:
        yield wrong(str(error), f"correct its parameters: 'fluxburst params {plugin.name}'")
        return
    if types:
        yield ok(f"node types: {', '.join(kind.name for kind in types)}")
    for kind in types:
        if not kind.cores or kind.max_nodes == 0:
            what = "no cores" if not kind.cores else "max_nodes 0"
            text = f"node type {kind.name} has {what}: it never gets a job"
            yield warning(text, f"correct its parameters: 'fluxburst params {plugin.name}'")


def _check_list(installation: Installation, plugin: BurstPlugin) -> Iterator[Finding]:
    seconds = installation.client.policy.timeouts.list
    names = _within(seconds, "list_bursts()", lambda: names_there(plugin))
    yield ok(f"it lists {counted(len(names), 'burst')}")
    recorded = {entry.burst.name for entry in installation.ledger.live(plugin.name)}
    ours = {name for name in names if is_ours(installation.ledger, plugin, name)}
    if ours - recorded:
        text = f"it lists bursts that no ledger has: {strangers_text(ours - recorded)}"
        yield warning(text, "the next run terminates them")
    if names - ours:
        text = f"it lists bursts that are not this instance's: {strangers_text(names - ours)}"
        advice = "fluxburst leaves them alone; the plugin must list only its own for this instance"
        yield warning(text, advice)


def _diagnosed(installation: Installation, plugin: BurstPlugin) -> Iterable[Finding]:
    def ask() -> list[Finding]:
        found = list(plugin.diagnose())
        for finding in found:
            if not isinstance(finding, Finding):
                problem = f"diagnose() returned {finding!r}, not a Finding"
                raise BurstError(problem, plugin=plugin.name)
        return found

    return _within(installation.client.policy.timeouts.list, f"{plugin.name}.diagnose()", ask)


def _within(seconds: float, what: str, ask: Callable[[], T]) -> T:
    """Return an answer that arrives in time; otherwise abandon the thread that waits for it.

    Raises:
        BurstError: on timeout.
    """
    answer: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
            answer.set_exception(error)

    here = contextvars.copy_context()
    threading.Thread(target=here.run, args=(run,), name="fluxburst-doctor", daemon=True).start()
    try:
        return answer.result(seconds)
    except concurrent.futures.TimeoutError:
        if answer.done():
            raise
        raise BurstError(f"{what} has not answered for {format_duration(seconds)}") from None
