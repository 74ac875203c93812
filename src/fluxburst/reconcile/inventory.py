"""What a plugin says of its bursts when it is asked. It is not vetted yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fluxburst.errors import BurstError, PatienceError
from fluxburst.model.burst import Burst
from fluxburst.plugin.adapter import provider_of
from fluxburst.plugin.base import BurstPlugin, as_burst_error
from fluxburst.plugin.validation import check_adopted, check_burst, check_names
from fluxburst.provider.isolation import UNREAD
from fluxburst.reconcile.vetting import Ownership
from fluxburst.reconcile.workers import Answer, Call, Done, Failed, PluginWorkers, TimedOut


@dataclass(frozen=True)
class Inventory:
    """What a plugin answered.

    Attributes:
        there: The bursts that exist, by name, with what the plugin says of them (None: only that
            they exist); None where it cannot tell.
        refreshed: Bursts that were coming, as they are now.
        refused: Why bursts among these will not come after all, by name.
        complete: Whether what is not there is known to be gone, and not only not listed yet.
        changed: The bursts that have changed since it was asked: the answer says nothing of them.
        wrong: What was answered of bursts that cannot be.
    """

    there: Mapping[str, Burst | None] | None
    refreshed: Sequence[Burst]
    complete: bool = False
    changed: frozenset[str] = frozenset()
    wrong: Sequence[BurstError] = ()
    refused: Mapping[str, BurstError] = field(default_factory=dict)


def take_inventory(plugin: BurstPlugin, coming: Sequence[Burst], *, all_of_it: bool) -> Inventory:
    """Ask a plugin for its bursts, in its own thread.

    Args:
        plugin: The plugin.
        coming: The bursts that it is to refresh.
        all_of_it: Whether it is asked which bursts exist, too.

    Raises:
        BurstError: if it answers with something else.
    """
    seen = _what_is_there(plugin) if all_of_it else Inventory(None, ())
    refused: dict[str, BurstError] = {}
    refreshed = [_refreshed(plugin, burst, refused) for burst in coming]
    return replace(seen, refreshed=refreshed, refused=refused)


def _what_is_there(plugin: BurstPlugin) -> Inventory:
    """Return the bursts that exist, as far as the plugin can tell.

    Raises:
        BurstError: if it answers with something else.
    """
    plugin.instance_tag  # noqa: B018 - where that cannot be told, nothing is known to be ours
    adopted = plugin.adopt()
    if adopted is not None:
        found, wrong = check_adopted(adopted, plugin.name)
        return Inventory(found, (), complete=True, wrong=wrong)
    if not provider_of(plugin).lists_bursts:
        return Inventory(None, ())  # it only remembers its own
    return Inventory(dict.fromkeys(check_names(plugin.list_bursts(), "list_bursts()")), ())


def _refreshed(plugin: BurstPlugin, burst: Burst, refused: dict[str, BurstError]) -> Burst:
    """Return a burst as its plugin sees it; a plugin that cannot tell leaves a note on it.

    One that its provider will not supply after all is noted as refused.
    """
    try:
        return check_burst(
            plugin.refresh(replace(burst, error="", waiting_for="")), burst, "refresh()"
        )
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
        failure = as_burst_error(error, plugin.name, burst.name)
        if burst.exit_code is not None:
            return replace(burst, output=f"{UNREAD}{failure}")
        if failure.final:
            refused[burst.name] = failure
        return replace(burst, error=str(failure))


def listed_by(
    plugin: BurstPlugin,
    ownership: Ownership,
    workers: PluginWorkers,
    timeout: float,
    cannot_tell: Callable[[BurstError], None],
) -> list[str] | None:
    """Return the names of the bursts of ours that a plugin lists, and wait for that.

    Args:
        plugin: The plugin.
        ownership: What tells whose the bursts are that it lists.
        workers: The threads in which plugins are asked.
        timeout: How long it may take, in seconds.
        cannot_tell: Told why it cannot tell; then None is returned.
    """
    listed: list[str] | None = None

    def run() -> Collection[str]:
        plugin.instance_tag  # noqa: B018 - where that cannot be told, nothing is known ours
        return plugin.list_bursts()

    def on_answer(answer: Answer[Collection[str]]) -> None:
        nonlocal listed
        match answer:
            case Done(answered):
                try:
                    names = check_names(answered, "list_bursts()")
                    listed = sorted(ownership.ours(plugin, names))
                except BurstError as wrong:
                    cannot_tell(as_burst_error(wrong, plugin.name))
            case Failed():
                cannot_tell(as_burst_error(answer.error(), plugin.name))
            case TimedOut(why):
                cannot_tell(PatienceError(why, plugin=plugin.name))

    workers.start(Call(plugin.name, "list_bursts()", timeout, run, on_answer))
    workers.wait(math.inf)
    return listed
