"""Ready-made orderings: callables from the loaded plugins to (name, plugin) in order.

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
    """Offer in the order of loading."""
    return plugins.items()


def _lowest_price(plugin: BurstPlugin) -> float:
    """Return the price of a core hour on the plugin's cheapest node type."""
    try:
        return min(kind.price / max(kind.cores, 1) for kind in plugin.node_types())
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the planner asks again and reports it
        return math.inf


def by_price(plugins: Plugins) -> Iterable[tuple[str, BurstPlugin]]:
    """Offer to the plugin with the cheapest core hour first; plugins without prices come last."""
    return sorted(plugins.items(), key=lambda item: _lowest_price(item[1]))


def fewest_jobs(plugins: Plugins) -> Iterable[tuple[str, BurstPlugin]]:
    """Offer to the plugin with the fewest jobs first."""
    return sorted(plugins.items(), key=lambda item: len(item[1].jobs))


def round_robin(plugins: Plugins) -> Iterable[tuple[str, BurstPlugin]]:
    """Offer in turn: start one plugin further for each job assigned."""
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
    """Return the ordering named by a config file.

    Raises:
        RequestError: if the name is unknown.
    """
    if isinstance(name, str) and name in ORDERINGS:
        return ORDERINGS[name]
    raise RequestError(
        f"ordering {name!r} is not known{did_you_mean(str(name), ORDERINGS)} "
        f"[choose from {', '.join(ORDERINGS)}]"
    )
