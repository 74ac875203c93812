"""The default answer of each phase, as ordinary hook implementations that are asked last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fluxburst.hookspecs import hookimpl
from fluxburst.model.burst import Burst, BurstRequest
from fluxburst.model.job import Job
from fluxburst.plugin.adapter import provider_of
from fluxburst.plugin.base import BurstPlugin
from fluxburst.plugin.selectors import is_burstable


@hookimpl(trylast=True)
def fluxburst_select_job(job: Job) -> bool:
    """Select jobs flagged burstable."""
    return is_burstable(job)


@hookimpl(trylast=True)
def fluxburst_order_plugins(plugins: Mapping[str, BurstPlugin]) -> Sequence[str]:
    """Offer jobs to all plugins, in the order of loading."""
    return list(plugins)


@hookimpl(trylast=True)
def fluxburst_schedule_job(job: Job, plugin: BurstPlugin) -> bool:
    """Ask the plugin."""
    return provider_of(plugin).schedule(job)


@hookimpl(trylast=True)
def fluxburst_run_plugin(plugin: BurstPlugin, request: BurstRequest) -> Sequence[Burst]:
    """Have the plugin run."""
    return provider_of(plugin).run(request)


@hookimpl(trylast=True)
def fluxburst_unburst_plugin(plugin: BurstPlugin, bursts: Sequence[Burst]) -> Sequence[str]:
    """Let the plugin terminate them."""
    return provider_of(plugin).terminate([burst.name for burst in bursts])
