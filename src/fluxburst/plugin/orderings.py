"""Orderings to use as they are: callables from the loaded plugins to (name, plugin) in order.

Each can also be named in the config file: ``ordering = "by_price"``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from fluxburst.errors import RequestError, did_you_mean
from fluxburst.plugin.base import BurstPlugin

Plugins = Mapping[str, BurstPlugin]
Ordering = Callable[[Plugins], Iterable[tuple[str, BurstPlugin]]]


def as_loaded(plugins: Plugins) -> Iterable[tuple[str, BurstPlugin]]:
    """Offer in the order the plugins were loaded."""
    return plugins.items()


def _lowest_price(plugin: BurstPlugin) -> float:
    """Return the price of a core hour on the plugin's cheapest node type."""
    try:
        return min(kind.price / max(kind.cores, 1) for kind in plugin.node_types())
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it has none, or cannot be asked: the planner asks again, and says so
        return math.inf


def by_price(plugins: Plugins) -> Iterable[tuple[str, BurstPlugin]]:
    """Offer to the plugin with the cheapest core hour first; those without prices last."""
    return sorted(plugins.items(), key=lambda item: _lowest_price(item[1]))


def fewest_jobs(plugins: Plugins) -> Iterable[tuple[str, BurstPlugin]]:
    """Offer to the plugin that holds the fewest jobs first."""
    return sorted(plugins.items(), key=lambda item: len(item[1].jobs))


def round_robin(plugins: Plugins) -> Iterable[tuple[str, BurstPlugin]]:
    """Offer in turn: start one plugin further for each job that was taken."""
    items = list(plugins.items())
    turn = sum(len(plugin.jobs) for plugin in plugins.values()) % max(len(items), 1)
    return items[turn:] + items[:turn]


ORDERINGS: Mapping[str, Ordering] = {
    "as_loaded": as_loaded,
    "by_price": by_price,
    "fewest_jobs": fewest_jobs,
    "round_robin": round_robin,
}


def from_config(name: object) -> Ordering:
    """Return the ordering that a config file names.

    Raises:
        RequestError: if there is none of this name.
    """
    if isinstance(name, str) and name in ORDERINGS:
        return ORDERINGS[name]
    raise RequestError(
        f"ordering {name!r} is not known{did_you_mean(str(name), ORDERINGS)} "
        f"[choose from {', '.join(ORDERINGS)}]"
    )
