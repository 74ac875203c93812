"""Every phase as a typed specification; no logic.

A package takes part by defining functions with these names, marked with
:data:`fluxburst.hookimpl`, in a module that the entry-point group ``fluxburst`` names. A
function may omit arguments that it does not need. ``@hookimpl(wrapper=True)`` runs before and
after a phase; ``tryfirst=True`` and ``trylast=True`` move an implementation
forward and back among the others.

First-result hooks ask one implementation after another until one returns something other than
None; the one registered last is asked first, and fluxburst's own answer comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from fluxburst.model.burst import Burst, BurstRequest
from fluxburst.model.job import Job
from fluxburst.plugin.base import BurstPlugin, PluginType

if TYPE_CHECKING:
    import click

    from fluxburst.plugin.client_view import ClientView

PROJECT = "fluxburst"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def fluxburst_register_plugins() -> Iterable[PluginType[Any]] | None:
    """Offer burst plugins.

    Collected: every package is asked once, when it is registered. If two packages offer the
    same name, an error names both; the first keeps it.

    Returns:
        The burst plugins this package offers; None for none.
    """


@hookspec
def fluxburst_register_commands() -> Iterable[click.Command] | None:
    """Add subcommands to the command line.

    Collected: every package is asked when a user types a command that is not built in.

    Returns:
        The commands this package adds; None for none.
    """


@hookspec(historic=True)
def fluxburst_configure(client: ClientView) -> None:
    """Receive a client.

    Called once for each client and package, also for packages registered later.
    """


@hookspec(firstresult=True)
def fluxburst_select_job(job: Job, client: ClientView) -> bool | None:
    """Decide whether a job is a candidate for bursting.

    Asked for each pending job that waits for nothing but capacity. Built in: the job is flagged
    ``burstable``.

    Returns:
        True to burst it, False not to; either ends the vote. None for no opinion.
    """


@hookspec(firstresult=True)
def fluxburst_order_plugins(
    plugins: Mapping[str, BurstPlugin], job: Job | None, client: ClientView
) -> Sequence[str] | None:
    """Decide to which burst plugins a job is offered, and in which order.

    Default: all of them, in the order of loading. ``job`` is None if the caller asks without a
    job (``client.iter_plugins()``).

    Returns:
        Names of loaded burst plugins; a plugin left out is not offered the job. None for no
        opinion.
    """


@hookspec(firstresult=True)
def fluxburst_schedule_job(job: Job, plugin: BurstPlugin, client: ClientView) -> bool | None:
    """Decide whether a burst plugin takes a job. Must not provision anything.

    Default: ``plugin.schedule(job)``.

    Returns:
        True: it takes the job. False: it does not, and the next plugin is offered it. None for
        no opinion.
    """


@hookspec(firstresult=True)
def fluxburst_run_plugin(
    plugin: BurstPlugin, request: BurstRequest, client: ClientView
) -> Sequence[Burst] | None:
    """Provision a plugin's capacity.

    Default: ``plugin.run(request_burst=…, nodes=…, tasks=…)``.

    Returns:
        The bursts that are up or on their way. None for no opinion.

    Raises:
        BurstErrors: for nodes that could not be provisioned; its ``bursts`` are those that came up.
    """


@hookspec(firstresult=True)
def fluxburst_unburst_plugin(
    plugin: BurstPlugin, bursts: Sequence[Burst], client: ClientView
) -> Sequence[str] | None:
    """Terminate bursts of a plugin.

    Default: ``plugin.unburst()``, or ``plugin.cleanup(name)`` for each if only some of the
    plugin's bursts are meant.

    Returns:
        The names of those that are gone. None for no opinion.

    Raises:
        BurstErrors: for terminations that failed; its ``bursts`` are those that are gone.
    """


@hookspec
def fluxburst_job_scheduled(job: Job, plugin: BurstPlugin, client: ClientView) -> None:
    """Observe a job's assignment to a plugin. Called when a plan is applied, not when made."""


@hookspec
def fluxburst_jobs_unmatched(jobs: Sequence[Job], client: ClientView) -> None:
    """Observe the selected jobs that no plugin took. Called when a plan is applied."""


@hookspec
def fluxburst_jobs_not_started(
    jobs: Sequence[Job], plugin: BurstPlugin, burst: str, reason: str, client: ClientView
) -> None:
    """Observe that jobs did not start although their nodes were ready and free.

    They were released, and wait before a retry. ``burst`` is the burst whose nodes they were
    assigned to, empty for nodes that were free before.
    """


@hookspec
def fluxburst_burst_changed(burst: Burst, previous: Burst | None, client: ClientView) -> None:
    """Observe a new burst (``previous`` is None) or a change of one, usually of its state."""


@hookspec
def fluxburst_phase_failed(
    phase: str, plugin: BurstPlugin | None, error: Exception, client: ClientView
) -> None:
    """Observe a failure.

    ``phase`` is ``plan``, ``run``, ``unburst``, ``adopt``, ``renew``, or ``record`` if the
    ledger is not writable; ``plugin`` is None if no single plugin failed. Failures of planning
    are reported when the plan is applied.
    """
