"""Verifies that terminated bursts leave nothing behind."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fluxburst.errors import LedgerError
from fluxburst.ledger import Entry, Ledger
from fluxburst.ledger.location import is_full
from fluxburst.model.burst import Burst
from fluxburst.plugin.adapter import provider_of
from fluxburst.plugin.base import BurstPlugin
from fluxburst.plugin.validation import check_adopted, check_names
from fluxburst.reconcile.vetting import Ownership
from fluxburst.reconcile.workers import Answer, Call, Done, Failed, PluginWorkers, TimedOut


@dataclass(frozen=True)
class Remaining:
    """Something that exists or may exist.

    Attributes:
        plugin: Its plugin.
        burst: The burst's name; empty if unknown.
        why: The evidence.
        advice: What to do.
    """

    plugin: str
    burst: str
    why: str
    advice: str

    def __str__(self) -> str:
        what = f"burst {self.burst}" if self.burst else "any burst"
        return f"plugin {self.plugin}: {what} may exist: {self.why}; {self.advice}"


_IN_A_CHECKOUT = {
    "local": ("local",),
    "mock": ("mock",),
    "kubernetes": ("kubernetes",),
    "compute_engine": ("google", "compute-engine"),
    "gke": ("kubernetes", "google", "gke"),
    "eks": ("kubernetes", "eks"),
}
"""For each of fluxburst's own plugins, the paths to install."""


def install_advice(plugin: str) -> str:
    """Return how to get a plugin that is not installed; fluxburst's are not on PyPI."""
    folders = _IN_A_CHECKOUT.get(plugin.replace("-", "_"))
    if folders is None:
        return f"install the package that offers {plugin}, from its author"
    paths = " ".join(f"./plugins/{folder}" for folder in folders)
    return f"in a checkout of fluxburst: pip install . {paths}"


def names_there(plugin: BurstPlugin) -> frozenset[str]:
    """Return the names of all bursts in a plugin's list, of any owner.

    Raises:
        BurstError: if the answer is invalid, or it cannot tell.
    """
    plugin.instance_tag  # noqa: B018 - if this is unknown, no burst is known to be ours
    if not provider_of(plugin).lists_bursts and (adopted := plugin.adopt()) is not None:
        return frozenset(check_adopted(adopted, plugin.name)[0])
    return frozenset(check_names(plugin.list_bursts(), "list_bursts()"))


def remaining(
    plugins: Mapping[str, BurstPlugin],
    ledger: Ledger,
    ownership: Ownership,
    workers: PluginWorkers,
    timeout: float,
    names: Collection[str] | None = None,
) -> list[Remaining]:
    """Return everything that exists or may exist, of some bursts or of all.

    Args:
        plugins: The loaded plugins, by name.
        ledger: The ledger.
        ownership: Decides whose bursts plugins list, and collects those of others.
        workers: The threads of the plugins.
        timeout: The timeout of each, in seconds.
        names: The names of the bursts to look for; None for all.

    Raises:
        LedgerError: if the ledger is unreadable.
    """
    found: dict[tuple[str, str], Remaining] = {}

    def note(plugin: str, burst: str, why: str, advice: str) -> None:
        if not burst or names is None or burst in names:
            found.setdefault((plugin, burst), Remaining(plugin, burst, why, advice))

    for plugin in plugins.values():
        _ask(plugin, ownership, workers, timeout, note)
    workers.wait(math.inf)
    for entry in ledger.live():
        note(entry.burst.plugin, entry.burst.name, *_recorded(entry, plugins))
    return [found[key] for key in sorted(found)]


class _Note(Protocol):
    """The signature of a function that notes a remaining burst."""

    def __call__(self, plugin: str, burst: str, why: str, advice: str) -> None:
        """Note it."""


def _ask(
    plugin: BurstPlugin, ownership: Ownership, workers: PluginWorkers, timeout: float, note: _Note
) -> None:
    def silent(why: str) -> None:
        note(plugin.name, "", f"it cannot be asked: {why}", _LOOK)

    def on_answer(answer: Answer[Collection[str]]) -> None:
        match answer:
            case Done(listed):
                for name in ownership.ours(plugin, listed):
                    again = f"run 'fluxburst unburst {name}' again"
                    note(plugin.name, name, "its plugin lists it", again)
            case Failed():
                error = answer.error()
                silent(str(error) or type(error).__name__)
            case TimedOut(why):
                silent(why)

    if plugin.name in workers.stuck():
        silent(workers.stuck()[plugin.name])
    else:
        ask = Call(plugin.name, "list_bursts()", timeout, lambda: names_there(plugin), on_answer)
        workers.start(ask)


_LOOK = "fix that and run this again, or check the provider"


def _recorded(entry: Entry, plugins: Mapping[str, BurstPlugin]) -> tuple[str, str]:
    """Return the evidence that a burst of the ledger may exist, and what to do."""
    burst = entry.burst
    state = f"the ledger has it as {burst.state.value}"
    if burst.plugin not in plugins:
        load = f"load it (--plugin {burst.plugin}; if it is not installed: "
        return f"{state}, but its plugin is not loaded", load + install_advice(burst.plugin) + ")"
    why = f"{state}: {burst.problem}" if burst.problem else state
    return why, f"run 'fluxburst unburst {burst.name}' again"


def unrecorded(ledger: Ledger, gone: Sequence[Burst]) -> LedgerError:
    """Return the error that names the bursts whose end could not be recorded."""
    if not gone:
        return LedgerError(ledger.path, ledger.unwritable)
    names = ", ".join(burst.name for burst in gone)
    repair = "free space, then" if is_full(Path(ledger.path).parent) else "once it is writable,"
    return LedgerError(
        ledger.path,
        f"{ledger.unwritable}; gone, but not recorded as gone: {names}: {repair} run "
        "'fluxburst unburst --all' again, which records it",
    )
