"""A plugin's answer about its bursts, before it is vetted."""

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
    """A plugin's answer.

    Attributes:
        there: The existing bursts, by name, with the plugin's description (None: only that
            they exist); None if it cannot tell.
        refreshed: Bursts that were starting, in their current state.
        refused: Why some of these will not come up after all, by name.
        complete: Whether missing bursts are known to be gone, not only missing from the list.
        changed: Bursts that have changed since the question: the answer does not count for them.
        wrong: Impossible answers about bursts.
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
        coming: The bursts to refresh.
        all_of_it: Whether to ask which bursts exist, too.

    Raises:
        BurstError: if its answer is invalid.
    """
    with plugin.observing():
        seen = _what_is_there(plugin) if all_of_it else Inventory(None, ())
        refused: dict[str, BurstError] = {}
        refreshed = [_refreshed(plugin, burst, refused) for burst in coming]
        return replace(seen, refreshed=refreshed, refused=refused)


def _what_is_there(plugin: BurstPlugin) -> Inventory:
    """Return the existing bursts, as far as the plugin can tell.

    Raises:
        BurstError: if its answer is invalid.
    """
    plugin.instance_tag  # noqa: B018 - if this is unknown, no burst is known to be ours
    adopted = plugin.adopt()
    if adopted is not None:
        found, wrong = check_adopted(adopted, plugin.name)
        return Inventory(found, (), complete=True, wrong=wrong)
    if not provider_of(plugin).lists_bursts:
        return Inventory(None, ())  # it only remembers its own
    return Inventory(dict.fromkeys(check_names(plugin.list_bursts(), "list_bursts()")), ())


def _refreshed(plugin: BurstPlugin, burst: Burst, refused: dict[str, BurstError]) -> Burst:
    """Return a burst according to its plugin; if that fails, with a note about the failure.

    A burst that its provider will not supply is noted as refused.
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
    """Return the names of our bursts in a plugin's list; waits for the answer.

    Args:
        plugin: The plugin.
        ownership: Decides whose bursts it lists.
        workers: The threads of the plugins.
        timeout: The timeout, in seconds.
        cannot_tell: Called with the reason if it cannot tell; then None is returned.
    """
    listed: list[str] | None = None

    def run() -> Collection[str]:
        plugin.instance_tag  # noqa: B018 - if this is unknown, no burst is known ours
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
