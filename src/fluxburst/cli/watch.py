"""The command ``watch``: the service with its signals, metrics and notifications."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from fluxburst.cli.app import OK, Command, settings_of
from fluxburst.cli.staying import what_stays
from fluxburst.client import FluxBurst
from fluxburst.errors import UnexpectedError, described
from fluxburst.formats.units import counted
from fluxburst.reports.growth import why_no_burst_begins
from fluxburst.reports.status import of_service
from fluxburst.service import systemd
from fluxburst.service.loop import Report, Service

if TYPE_CHECKING:
    from fluxburst.config.file import Config
    from fluxburst.service.metrics import Metrics

BEAT_SECONDS = 60.0

MOCK_PACE = 0.01
"""Real seconds per second of an embedded instance."""

_log = logging.getLogger(__name__)


@click.command(cls=Command)
@click.option("--drain", is_flag=True, help="On SIGTERM or SIGINT, terminate all bursts first.")
@click.pass_context
def watch(context: click.Context, drain: bool) -> int:
    """Run as a service: watch the queue, burst and unburst as needed, until SIGTERM or SIGINT.

    SIGHUP reloads the configuration; on a terminal it ends the service, as closing the terminal
    does. At the end, it logs which bursts remain and what they cost. Under systemd, it reports
    readiness and feeds the watchdog. With --mock, time passes a hundred times as fast.
    """
    settings = settings_of(context)
    settings.pace = MOCK_PACE
    client = settings.client(some_will_do=True)
    with client, _observers(client) as metrics:

        def tell(report: Report) -> None:
            systemd.status(_line(client, report))
            if metrics is not None:
                metrics.show(client, report)

        def read_config() -> Config:
            systemd.reloading()
            return settings.load_config()

        service = Service(
            client,
            read_config=read_config,
            reread_done=systemd.ready,
            tell=tell,
            beat=systemd.watchdog,
            beat_seconds=min(systemd.watchdog_interval() or BEAT_SECONDS, BEAT_SECONDS),
        )
        client.hold(without_ledger=True)
        for line in why_no_burst_begins(client):
            _log.warning("%s", line)
        try:
            with _signals(service):
                systemd.ready()
                service.run()
            systemd.stopping()
            if drain:
                _log.info("terminating all bursts")
                service.drain()
        finally:  # also if interrupted during the drain
            for line in what_stays(client, settings):
                _log.warning("%s", line)
    return OK


@contextlib.contextmanager
def _signals(service: Service) -> Iterator[None]:
    """Let signals stop the service after its current step, or reload its configuration."""

    def stop(number: int, _: object) -> None:
        service.stop()
        signal.signal(number, before[signal.Signals(number)])  # a second one ends it at once

    # Closing a terminal sends SIGHUP more than once.
    hang_up = service.stop if _ends_with_terminal() else service.reread
    handlers = {
        signal.SIGTERM: stop,
        signal.SIGINT: stop,
        signal.SIGHUP: lambda *_: hang_up(),
    }
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _ends_with_terminal() -> bool:
    """Whether the service ends with its terminal: not under systemd, nor under nohup."""
    if os.environ.get("NOTIFY_SOCKET") or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _observers(client: FluxBurst) -> Iterator[_Display | None]:
    """Register the configured notifications and metrics."""
    with contextlib.ExitStack() as stack:
        if client.config.notify:
            from fluxburst.service.notifier import Notifier

            notifier = Notifier(client.config.notify)
            client.hooks.register(notifier, "notify")
            stack.callback(notifier.close)
        metering = client.config.policy.metrics
        display = None
        if metering.port is not None or metering.textfile is not None:
            from fluxburst.service.metrics import Metrics

            metrics = Metrics()
            client.hooks.register(metrics, "metrics")
            display = _Display(metrics)
            if metering.port is not None:
                server = metrics.serve(metering.address, metering.port)
                stack.callback(server.close)
                _log.info("serving metrics on port %d of %s", server.port, metering.address)
        yield display


class _Display:
    """Updates the metrics after each pass; a failure never stops the service."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._problem = ""

    def show(self, client: FluxBurst, report: Report) -> None:
        """Update the metrics; log a failure once for as long as it stays the same."""
        try:
            self._update(client, report)
            problem = ""
        except Exception as error:  # noqa: BLE001 - logged, and no reason to stop
            problem = described(error)
            _log.debug("metrics", exc_info=error)
        if problem and problem != self._problem:
            _log.warning("metrics are not up to date: %s", problem)
        self._problem = problem

    def _update(self, client: FluxBurst, report: Report) -> None:
        self._metrics.observe_pass(report.seconds)
        if isinstance(report.error, UnexpectedError):
            self._metrics.count_unexpected()
        self._metrics.set_up(report.reachable)
        textfile = client.config.policy.metrics.textfile
        try:
            if report.reachable:
                self._metrics.feed(of_service(client))
        finally:
            if textfile is not None:
                self._metrics.write_textfile(textfile)


def _line(client: FluxBurst, report: Report) -> str:
    """Return the service's state in one line."""
    bursts = [b for plugin in client.plugins.values() for b in plugin.bursts.values()]
    live = [burst for burst in bursts if burst.state.value not in ("ended", "failed")]
    nodes = counted(sum(burst.nodes for burst in live), "node")
    text = f"{counted(len(live), 'burst')} with {nodes}"
    return f"{text}; {report.error}" if report.error is not None else text
