"""``fluxburst why``: the decisions and events of one job."""

from __future__ import annotations

import dataclasses

import click

from fluxburst import Burst, BurstState
from fluxburst.cli.app import Command, Settings, settings_of
from fluxburst.cli.complaints import complain
from fluxburst.cli.ledger import event_table
from fluxburst.cli.output import console, print_json, time_ago
from fluxburst.cli.sources import AWAY, ledger_in, loaded_where_possible
from fluxburst.client import FluxBurst
from fluxburst.errors import UnknownJobError
from fluxburst.formats.fluid import format_f58, parse_fluid
from fluxburst.ledger.clock import time_of
from fluxburst.ledger.export import of_decision, of_entry
from fluxburst.ledger.location import LOCK
from fluxburst.ledger.lock import holder_of
from fluxburst.model.burst import LIVE_STATES
from fluxburst.model.plan import Decision
from fluxburst.provider import fluxion
from fluxburst.provider.isolation import UNREAD, end_note, output_note
from fluxburst.reports import timeline
from fluxburst.reports.growth import why_no_burst_begins


@click.command(cls=Command)
@click.argument("jobid")
@click.pass_context
def why(context: click.Context, jobid: str) -> None:
    """Show the decisions and events of the job JOBID, in order of time.

    JOBID may be in F58, decimal or hexadecimal (RFC 19). Includes the current decision if the
    job is pending and the instance can be reached.
    """
    settings = settings_of(context)
    job = parse_fluid(jobid)
    client, problems = loaded_where_possible(settings)
    with client:
        told, now, problem = _tell(settings, client, job)
        looked_after = bool(_holder(settings, client, asked=not problem))
        if fluxion.UNSATISFIABLE in told.exception:
            problems += why_no_burst_begins(client)
    for line in problems + ([problem] if problem else []):
        complain(line)
    if settings.json:
        print_json(
            {
                "id": told.job,
                "events": [dataclasses.asdict(event) for event in told.events],
                "bursts": [of_entry(entry, now) for entry in told.bursts],
                "cost": told.cost,
                "node_hours": told.node_hours,
                "present": None if told.present is None else of_decision(told.present),
                "exception": told.exception,
            }
        )
        return
    _print(told, now, asked=not problem, looked_after=looked_after)


def _holder(settings: Settings, client: FluxBurst, *, asked: bool) -> str:
    """Return the instance's holder; if it cannot be asked, from the ledger's directory."""
    directory = settings.directory
    if asked or directory is None:
        return client.holder()
    return holder_of([directory / LOCK])


def _tell(
    settings: Settings, client: FluxBurst, job: int
) -> tuple[timeline.JobTimeline, float, str]:
    """Return the history, its time, and why the instance could not be asked (empty if it was)."""
    directory = settings.directory
    try:
        present = _present(client, job)
        exception = "" if present else client.instance.exception_of(job)
        told = timeline.of_job(client.ledger, job, client.now(), present, exception)
        return told, client.now(), ""
    except AWAY as error:
        if directory is None:
            raise
        ledger = ledger_in(directory)
        try:
            now = time_of(ledger)
            return timeline.of_job(ledger, job, now), now, str(error)
        except UnknownJobError as unknown:
            raise unknown from error
        finally:
            ledger.close()


def _elsewhere(
    told: timeline.JobTimeline, burst: Burst, reason: str, now: float, *, looked_after: bool
) -> str:
    """Describe a job in an isolated burst, and how old that knowledge is."""
    if burst.exit_code is not None:
        unread = burst.output.startswith(UNREAD) and burst.state in LIVE_STATES
        again = "; its burst is kept, and reading is retried" if unread else ""
        return f"There: {reason or end_note(burst)}{again}."
    if not looked_after:
        changes = (one.at for one in told.events if (one.kind, one.burst) == ("burst", burst.name))
        since = time_ago(max(changes, default=now), now)
        return (
            f"There: burst {burst.name} was {burst.state.value} when last recorded, "
            f"{since}; no service runs that would update it."
        )
    doing = "runs" if burst.state is BurstState.READY else "does not run"
    where = output_note(burst.output)
    return f"There: it {doing} in burst {burst.name}, which is {burst.state.value}{where}."


def _present(client: FluxBurst, job: int) -> Decision | None:
    return next((d for d in client.plan().decisions if d.id == job), None)


def _print(told: timeline.JobTimeline, now: float, *, asked: bool, looked_after: bool) -> None:
    out = console()
    name = format_f58(told.job)
    if told.events:
        out.print(event_table(told.events, f"Job {name}"))
    else:
        out.print(f"No record of job {name} yet.", markup=False)
    for entry in [e for e in told.bursts if e.burst.isolated]:
        burst, reason = entry.burst, "" if entry.live else entry.reason
        if burst.exit_code is not None or burst.state in LIVE_STATES:
            said = _elsewhere(told, burst, reason, now, looked_after=looked_after)
            out.print(said, markup=False)
    out.print(f"It cost {told.cost:.2f}, for {told.node_hours:.2f} node hours.", markup=False)
    if told.present is None:
        if asked:
            ended = f" Flux ended it: {told.exception}" if told.exception else ""
            out.print(f"It is not pending now.{ended}", markup=False)
        return
    plugin = f" ({told.present.plugin})" if told.present.plugin else ""
    reasons = "; ".join(told.present.reasons)
    out.print(f"Now: {told.present.outcome.value}{plugin}: {reasons}", markup=False)
