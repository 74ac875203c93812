"""The built-in answer of each phase, as ordinary hook implementations that are asked last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fluxburst.hookspecs import hookimpl
from fluxburst.model.burst import Burst, BurstRequest, BurstState
from fluxburst.model.job import Job
from fluxburst.plugin.adapter import provider_of
from fluxburst.plugin.base import BurstPlugin
from fluxburst.plugin.selectors import is_burstable


@hookimpl(trylast=True)
def fluxburst_select_job(job: Job) -> bool:
    """Select what is flagged burstable."""
    return is_burstable(job)


@hookimpl(trylast=True)
def fluxburst_order_plugins(plugins: Mapping[str, BurstPlugin]) -> Sequence[str]:
    """Offer to all plugins, as loaded."""
    return list(plugins)


@hookimpl(trylast=True)
def fluxburst_schedule_job(job: Job, plugin: BurstPlugin) -> bool:
    """Let the plugin say."""
    return provider_of(plugin).schedule(job)


@hookimpl(trylast=True)
def fluxburst_run_plugin(plugin: BurstPlugin, request: BurstRequest) -> Sequence[Burst]:
    """Let the plugin run."""
    return provider_of(plugin).run(request)


def _has_others(plugin: BurstPlugin, names: Sequence[str]) -> bool:
    """Whether a plugin has, or may have, bursts besides these: also those of other processes."""
    known = {n for n, burst in plugin.bursts.items() if burst.state is not BurstState.ENDED}
    try:
        return not known.union(plugin.list_bursts()).issubset(names)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it cannot be told; the one who takes down says so
        return True


@hookimpl(trylast=True)
def fluxburst_unburst_plugin(plugin: BurstPlugin, bursts: Sequence[Burst]) -> Sequence[str]:
    """Let the plugin take all of it down, or burst by burst where only some are meant.

    A plugin of flux-burst's kind returns nothing, which is taken for all of them.
    """
    names = [burst.name for burst in bursts]
    if not _has_others(plugin, names):
        gone = plugin.unburst()
        return names if gone is None else gone
    ended: list[str] = []
    for name in names:
        gone = plugin.cleanup(name)
        ended += [name] if gone is None else gone
    return ended
