"""Commands about the queue: ``jobs``, ``plan``, ``run``, ``unburst`` and ``record``."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fluxburst.cli.app import (
    FAILED,
    OK,
    Command,
    Settings,
    lines_of,
    settings_of,
    status_of,
)
from fluxburst.cli.complaints import complain
from fluxburst.cli.output import (
    burst_table,
    console,
    not_startable_lines,
    print_json,
    table,
    user_name,
)
from fluxburst.cli.progress import follow
from fluxburst.cli.staying import what_stays
from fluxburst.client import FluxBurst
from fluxburst.errors import (
    BurstErrors,
    FluxburstError,
    FormatError,
    HookError,
    JobspecError,
    RequestError,
)
from fluxburst.formats.fluid import format_f58
from fluxburst.formats.units import counted, format_bytes, format_duration, parse_duration
from fluxburst.model.burst import COMING_STATES, LIVE_STATES, Burst
from fluxburst.model.job import Job
from fluxburst.model.plan import Outcome, Plan
from fluxburst.model.queues import STOPPED
from fluxburst.reconcile.cycle import OnDemand, Scope
from fluxburst.reports.growth import why_no_burst_begins
from fluxburst.simulation import recordings

JOB_COLUMNS = ["job", "name", "user", "queue", "nodes#", "cores#", "GPUs#", "memory#", "limit#"]


_COUNTED = (
    "nodes",
    "tasks",
    "cores",
    "gpus",
    "memory",
    "duration",
    "exclusive",
    "burstable",
)
"""Facts from a job's jobspec: properties of :class:`Job`, and keys of ``jobs --json``."""


def _told(job: Job) -> tuple[dict[str, Any], list[JobspecError]]:
    """Return the readable facts of a job, None for the others, and the errors."""
    told = {"id": job.id, "name": job.get("name"), "user": job.user, "queue": job.queue or None}
    errors = []
    for name in _COUNTED:
        try:
            told[name] = getattr(job, name)
        except JobspecError as error:
            told[name] = None
            errors.append(error)
    if job.has_other_types and not told["cores"]:
        told["cores"] = None  # cores of a socket or processing units are not counted
    if job.has_alternatives:
        told.update(dict.fromkeys(("nodes", "cores", "gpus", "memory")))
    return told, errors


def _job_row(told: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        format_f58(told["id"]),
        told["name"] or "",
        user_name(told["user"]),
        told["queue"] or "-",
        told["nodes"] or "-",
        "-" if told["cores"] is None else told["cores"],
        told["gpus"] or "-",
        format_bytes(told["memory"]) if told["memory"] else "-",
        format_duration(told["duration"]) if told["duration"] else "-",
    )


@click.command(cls=Command)
@click.pass_context
def jobs(context: click.Context) -> int:
    """Show the jobs that are candidates for bursting."""
    settings = settings_of(context)
    made = settings.client(plugins=False).plan()
    told = [_told(job) for job in made.jobs.values()]
    if settings.json:
        print_json([facts for facts, _ in told])
    else:
        rows = [_job_row(facts) for facts, _ in told]
        console().print(table("Selected jobs", JOB_COLUMNS, rows))
    uncounted = [error for _, errors in told for error in errors]
    for line in dict.fromkeys(str(error) for error in uncounted):
        complain(line)
    return max(_report_failures(made), *map(status_of, uncounted), OK)


@click.command(cls=Command)
@click.pass_context
def plan(context: click.Context) -> int:
    """Show what a run would do, and why. Changes nothing."""
    settings = settings_of(context)
    client = settings.client()
    failures: BurstErrors | None = None
    try:
        client.adopt_bursts()
    except BurstErrors as error:
        failures = error
    made = client.plan()
    if settings.json:
        print_json(made.to_dict())
    else:
        print_plan(made)
    told = _tell(failures)
    _say_where_none_begins(client)
    status = status_of(failures) if failures else OK
    return max(status, _report_failures(made, told))


def _say_where_none_begins(client: FluxBurst) -> None:
    """Print a warning if no burst can begin in the instance."""
    for line in why_no_burst_begins(client):
        complain(line)


def _tell(failures: BurstErrors | None) -> list[str]:
    """Print failures to standard error; return the lines."""
    told = lines_of(failures) if failures else []
    for line in told:
        complain(line)
    return told


def print_plan(made: Plan) -> None:
    """Print a plan as tables."""
    out = console()
    outcomes = Counter(decision.outcome for decision in made.decisions)
    out.print(table("Decisions", ["outcome", "jobs#"], [(o.value, outcomes[o]) for o in Outcome]))
    out.print(burst_table(made.bursts, "Bursts to provision"))
    rows = [
        (format_f58(decision.id), decision.plugin or "-", "; ".join(decision.reasons))
        for decision in made.decisions
        if decision.id in made.jobs
    ]
    out.print(table("Selected jobs", ["job", "plugin", "why"], rows))
    _print_not_startable(made.not_startable)


def _print_not_startable(jobs: Mapping[str, Sequence[int]]) -> None:
    for line in not_startable_lines(jobs):
        console().print(line, markup=False)


def _report_failures(made: Plan, told: Collection[str] = ()) -> int:
    """Print failures of planning to standard error, each once, except those already printed."""
    errors = made.failures
    counted = Counter(
        f"{error.distribution}: {error.hook}: {error.problem}"
        if isinstance(error, HookError)
        else str(error)
        for error in errors
    )
    for line, count in counted.items():
        if line in told:
            continue
        complain(f"{line}{f' ({count} jobs)' if count > 1 else ''}")
    return max((status_of(error) for error in errors), default=OK)


@click.command(cls=Command)
@click.option("--nodes", type=click.IntRange(min=1), help="Provision this many nodes.")
@click.option("--tasks", type=click.IntRange(min=1), help="Provision room for this many tasks.")
@click.option(
    "--wait",
    default="10m",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for the bursts to be ready; 0 to return at once.",
)
@click.pass_context
def run(context: click.Context, nodes: int | None, tasks: int | None, wait: str) -> int:
    """Run one burst cycle: plan, assign jobs, provision capacity.

    With --nodes or --tasks, each plugin provisions that much, whatever the queue holds.
    """
    settings = settings_of(context)
    seconds = _seconds(wait)
    client = settings.client()
    on_demand = OnDemand(nodes, tasks) if nodes or tasks else None
    try:
        result = client.run_cycle(Scope(on_demand=on_demand))
    except (KeyboardInterrupt, FluxburstError):
        _name_what_may_be_there(client)
        raise
    made = result.plan
    try:
        bursts = follow(client, seconds, quiet=settings.quiet or settings.json)
    except FluxburstError:
        _name_what_may_be_there(client)
        raise
    given = {
        name: [jobid for jobid in jobs if jobid in client.plugins[name].jobs]
        for name, jobs in made.assignments.items()
    }
    failures = BurstErrors(result.errors) if result.errors else None
    _print_run(settings, made, given, bursts, failures)
    told = _tell(failures)
    _say_where_none_begins(client)
    status = OK if on_demand else _report_failures(made, told)
    if seconds and _report_bursts(bursts, wait, failures):
        status = max(status, FAILED)
    return max(status, status_of(failures) if failures else OK)


def _report_bursts(bursts: Sequence[Burst], wait: str, failures: BurstErrors | None) -> bool:
    """Print which bursts did not come up, unless already printed; return whether any did not."""
    told = {getattr(error, "burst", "") for error in failures.errors} if failures else set()
    lines = []
    for burst in bursts:
        if burst.state in COMING_STATES:
            why = f" ({burst.problem})" if burst.problem else ""
            lines.append(f"{burst.name} is not ready after {wait}{why}")
        elif burst.problem and burst.name not in told:
            lines.append(f"{burst.name} failed: {burst.problem}")
    for line in lines:
        complain(line)
    return bool(lines)


def _name_what_may_be_there(client: FluxBurst) -> None:
    """Name the bursts just requested, if the instance can no longer be asked about them."""
    for plugin in client.plugins.values():
        for burst in plugin.bursts.values():
            if burst.state in LIVE_STATES:
                complain(f"{burst.name} was requested and may exist")


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except FormatError as error:
        raise click.BadParameter(str(error), param_hint="--wait") from error


def _print_run(
    settings: Settings,
    made: Plan,
    given: Mapping[str, Sequence[int]],
    bursts: Sequence[Burst],
    failures: BurstErrors | None,
) -> None:
    """Print the plan, the assignments made, and the state of the bursts."""
    taken = {jobid for ids in given.values() for jobid in ids}
    if settings.json:
        print_json(
            {
                **made.to_dict(),
                "assignments": given,
                "unmatched": [jobid for jobid in made.selected if jobid not in taken],
                "bursts": [
                    {
                        "name": burst.name,
                        "plugin": burst.plugin,
                        "node_type": burst.node_type,
                        "nodes": burst.nodes,
                        "jobs": list(burst.jobs),
                        "state": burst.state.value,
                        "hostnames": list(burst.hostnames),
                        "error": burst.problem or None,
                    }
                    for burst in bursts
                ],
                "errors": lines_of(failures) if failures else [],
            }
        )
        return
    out = console()
    left = len(made.selected) - len(taken)
    out.print(f"{counted(len(made.selected), 'job')} selected, {len(taken)} assigned, {left} not.")
    _print_not_startable({w: jobs for w, jobs in made.not_startable.items() if STOPPED.match(w)})
    if bursts:
        out.print(burst_table(bursts))


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("--all", "everything", is_flag=True, help="Terminate all bursts.")
@click.option("--verify", is_flag=True, help="Then ask each plugin for leftovers; exit 1 if any.")
@click.pass_context
def unburst(context: click.Context, names: tuple[str, ...], everything: bool, verify: bool) -> int:
    """Terminate the named bursts, or all with --all."""
    if bool(names) == everything:
        raise click.UsageError("name the bursts to terminate, or use --all", context)
    settings = settings_of(context)
    client = settings.client(some_will_do=everything)
    chosen = None if everything else names
    failures: BurstErrors | None = None
    try:
        try:
            gone = client.run_unburst(chosen)
        except BurstErrors as error:
            failures = error
            gone = [burst.name for burst in error.bursts]
        left = client.remaining(chosen) if verify else []
    except KeyboardInterrupt:
        for line in what_stays(client, settings):
            click.echo(f"fluxburst: {line}", err=True)
        if verify:
            click.echo(f"fluxburst: {_NOT_VERIFIED}", err=True)
        raise
    there = {item.burst for item in left}
    gone = [name for name in gone if name not in there]  # despite the plugin's answer
    if settings.json:
        remaining = [dataclasses.asdict(item) for item in left] if verify else None
        errors = lines_of(failures) if failures else []
        others = client.strangers() if verify else None
        answer = {"gone": gone, "errors": errors, "remaining": remaining, "strangers": others}
        print_json(answer)
    elif not settings.quiet:
        text = f"Terminated: {', '.join(gone)}" if gone else "Nothing to terminate."
        proof = " Nothing is left." if verify and not left else ""
        console().print(text + proof, markup=False)
    _tell(failures)
    for item in left:
        complain(str(item))
    for plugin, listed in client.strangers().items() if verify else ():
        theirs = f"plugin {plugin} lists bursts of others, left alone: {', '.join(listed)}"
        complain(theirs)
    status = status_of(failures) if failures else OK
    named = set(settings.plugin_names(client))
    return max(status, FAILED if left or named - client.plugins.keys() else OK)


_NOT_VERIFIED = "verification was incomplete: run this command again"


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.pass_context
def record(context: click.Context, file: Path, force: bool) -> None:
    """Record the queue and the nodes of the instance to FILE, for --mock=FILE.

    Leaves out environments, files, command arguments and memos.
    """
    settings = settings_of(context)
    try:
        there = file.exists()
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror}") from error
    if there and not force:
        raise RequestError(f"{file} exists; overwrite it with --force")
    instance = settings.instance()
    pending = instance.pending_jobs()
    nodes = instance.nodes()
    recordings.save(file, pending, nodes)
    if not settings.quiet:
        console().print(
            f"Recorded {counted(len(pending), 'job')} and {counted(len(nodes), 'node')} to {file}.",
            markup=False,
        )
