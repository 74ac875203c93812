"""``fluxburst demo``: one burst from start to finish, without Flux or a cloud."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fluxburst.cli.app import Command, settings_of
from fluxburst.cli.output import burst_table, console, print_json, table
from fluxburst.client import FluxBurst
from fluxburst.config.file import Config
from fluxburst.config.policy import Policy, Timeouts
from fluxburst.errors import InstanceError, UnknownPluginError
from fluxburst.formats.units import Duration, counted
from fluxburst.hookspecs import hookimpl
from fluxburst.model.burst import Burst, BurstState
from fluxburst.model.job import JobState
from fluxburst.model.plan import Outcome, Plan
from fluxburst.simulation import recordings
from fluxburst.simulation.embedded import EmbeddedInstance

PLUGIN = "mock"
STEP_SECONDS = 120
FRAME_SECONDS = 0.04
LONGEST_SECONDS = 2 * 86400


class CostMeter:
    """Adds up the cost of bursts, as an observer of their changes."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._cost: dict[str, float] = {}

    @hookimpl
    def fluxburst_burst_changed(self, burst: Burst, client: FluxBurst) -> None:
        """Note when a burst starts and stops to cost money."""
        now = client.now()
        if burst.state is BurstState.ENDED:
            started = self._since.pop(burst.name, now)
            self._cost[burst.name] = _cost(burst, now - started)
        else:
            self._since.setdefault(burst.name, now)

    def cost(self, burst: Burst, now: float) -> float:
        """Return the cost of a burst so far."""
        if burst.name in self._cost:
            return self._cost[burst.name]
        return _cost(burst, now - self._since.get(burst.name, now))


def _cost(burst: Burst, seconds: float) -> float:
    return burst.nodes * burst.price * seconds / 3600


@click.command(cls=Command)
@click.pass_context
def demo(context: click.Context) -> None:
    """Show one burst from start to finish, on this machine alone.

    A recorded queue of 300 jobs waits in an embedded instance with one node. The mock plugin
    provides more nodes, for simulated money, on a virtual clock.
    """
    settings = settings_of(context)
    if settings.json:
        print_json(run_silently(settings.block))
    else:
        show(console(), settings.block)


def _client(meter: CostMeter, block: Sequence[str]) -> FluxBurst:
    instance = EmbeddedInstance(recordings.load(recordings.BUNDLED))
    # Some of its jobs wait for hours behind a reservation; that is no fault to report.
    policy = Policy(timeouts=Timeouts(start=Duration(math.inf)))
    client = FluxBurst(instance, config=Config(policy=policy), block=block)
    try:
        client.load(PLUGIN)
    except UnknownPluginError as error:
        raise click.UsageError(f"the demo needs the mock plugin: {error}") from error
    client.hooks.register(meter, "demo")
    return client


def run_silently(block: Sequence[str] = ()) -> dict[str, Any]:
    """Run the demo without output; return its summary."""
    meter = CostMeter()
    client = _client(meter, block)
    made = client.plan()
    _act(client, made, lambda: None)
    return _summary(client, made, meter)


def _act(client: FluxBurst, made: Plan, frame: Callable[[], None]) -> None:
    """Burst, run all jobs to their end, and terminate all bursts."""
    instance = client.instance
    assert isinstance(instance, EmbeddedInstance)
    given = [jobid for jobs in made.assignments.values() for jobid in jobs]
    client.apply(made)
    frame()
    until = client.now() + LONGEST_SECONDS
    while any(instance.job(jobid).state is not JobState.INACTIVE for jobid in given):
        if client.now() > until:
            raise InstanceError(
                "the demo's jobs do not end: is a FLUXBURST_ variable set for the mock plugin?"
            )
        instance.advance(STEP_SECONDS)
        client.reconcile()  # renews leases, ends idle bursts
        frame()
    client.run_unburst()
    frame()


def show(out: Console, block: Sequence[str] = ()) -> None:
    """Run and show the demo, live on a terminal."""
    meter = CostMeter()
    client = _client(meter, block)
    started = client.now()
    made = client.plan()
    out.print(_phases(made))
    out.print()
    if out.is_terminal:
        with Live(console=out, auto_refresh=False) as live:

            def frame() -> None:
                live.update(_picture(client, made, meter, started), refresh=True)
                time.sleep(FRAME_SECONDS)

            _act(client, made, frame)
    else:
        _act(client, made, lambda: None)
        out.print(_picture(client, made, meter, started))
    summary = _summary(client, made, meter)
    out.print(
        f"\n[bold]{counted(summary['finished'], 'job')}[/] without room here finished on "
        f"[bold]{counted(summary['nodes'], 'node')}[/] provisioned for them, for "
        f"[bold]${summary['cost']:.2f}[/] of simulated money. All nodes are terminated."
    )
    out.print("Why each job was or was not assigned: [bold]fluxburst plan --mock --plugin mock[/]")


def _phases(made: Plan) -> Table:
    """Show the result of each phase."""
    outcomes = Counter(decision.outcome for decision in made.decisions)
    nodes = sum(burst.nodes for burst in made.bursts)
    rows = [
        ("instance", f"{counted(len(made.decisions), 'job')} pending on a Flux with one node"),
        (
            "select",
            f"{len(made.selected)} flagged burstable and short of nodes only "
            f"({outcomes[Outcome.NOT_STARTABLE]} are held or wait for another job)",
        ),
        ("order", "offered to the plugins in the order of loading: mock"),
        (
            "schedule",
            f"{outcomes[Outcome.ASSIGNED]} assigned, {len(made.unmatched)} not: they ask for "
            "another plugin, or exceed the limits",
        ),
        ("run", f"{counted(nodes, 'node')} in {counted(len(made.bursts), 'burst')}"),
    ]
    return table("A burst, phase by phase", ["phase", "outcome"], rows)


def _picture(client: FluxBurst, made: Plan, meter: CostMeter, started: float) -> RenderableType:
    bursts = client.refresh_bursts()
    now = client.now()
    cost = sum(meter.cost(burst, now) for burst in bursts)
    elapsed = timedelta(seconds=round(now - started))
    return Group(
        burst_table(bursts, "Bursts"),
        *_bars(client, made),
        Text(f"\nclock {elapsed}    cost ${cost:.2f}", style="bold"),
    )


def _bars(client: FluxBurst, made: Plan) -> list[RenderableType]:
    instance = client.instance
    assert isinstance(instance, EmbeddedInstance)
    bars = Table.grid(padding=(0, 2))
    for burst in made.bursts:
        states = Counter(instance.job(jobid).state for jobid in burst.jobs)
        done, running = states[JobState.INACTIVE], states[JobState.RUN]
        bars.add_row(
            burst.node_type,
            ProgressBar(total=len(burst.jobs), completed=done, width=40),
            f"{done} of {counted(len(burst.jobs), 'job')} done, {running} running",
        )
    return [bars]


def _summary(client: FluxBurst, made: Plan, meter: CostMeter) -> dict[str, Any]:
    instance = client.instance
    assert isinstance(instance, EmbeddedInstance)
    now = client.now()
    given = [jobid for jobs in made.assignments.values() for jobid in jobs]
    return {
        "selected": len(made.selected),
        "given": len(given),
        "finished": sum(instance.job(jobid).state is JobState.INACTIVE for jobid in given),
        "nodes": sum(burst.nodes for burst in made.bursts),
        "bursts": len(made.bursts),
        "cost": round(sum(meter.cost(burst, now) for burst in client.refresh_bursts()), 2),
    }
