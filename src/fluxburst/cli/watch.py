"""The command ``watch``: the service, with what goes around it."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from fluxburst import systemd
from fluxburst.cli.app import OK, Command, settings_of
from fluxburst.client import FluxBurst
from fluxburst.service import Report, Service

if TYPE_CHECKING:
    from fluxburst.metrics import Metrics

BEAT_SECONDS = 60.0

_log = logging.getLogger(__name__)


@click.command(cls=Command)
@click.option("--drain", is_flag=True, help="On SIGTERM or SIGINT, take all bursts down first.")
@click.pass_context
def watch(context: click.Context, drain: bool) -> int:
    """Watch the queue, and burst and unburst as there is cause, until SIGTERM or SIGINT.

    SIGHUP has the configuration read again. Run by systemd, it tells when it is ready, and feeds
    the watchdog.
    """
    settings = settings_of(context)
    client = settings.client()
    with client, _observers(client) as metrics:

        def tell(report: Report) -> None:
            systemd.status(_line(client, report))
            if metrics is not None:
                _show(metrics, client, report)

        service = Service(
            client,
            read_config=settings.load_config,
            tell=tell,
            beat=systemd.watchdog,
            beat_seconds=min(systemd.watchdog_interval() or BEAT_SECONDS, BEAT_SECONDS),
        )
        with _signals(service):
            client.hold()
            systemd.ready()
            service.run()
        systemd.stopping()
        if drain:
            _log.info("all bursts are taken down")
            service.drain()
    return OK


@contextlib.contextmanager
def _signals(service: Service) -> Iterator[None]:
    """Let signals stop the service after its step, or have it read its configuration."""

    def reread(*_: object) -> None:
        systemd.reloading()
        service.reread()
        systemd.ready()

    handlers = {
        signal.SIGTERM: lambda *_: service.stop(),
        signal.SIGINT: lambda *_: service.stop(),
        signal.SIGHUP: reread,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _observers(client: FluxBurst) -> Iterator[Metrics | None]:
    """Have told whom the configuration names, and metrics shown where it says."""
    with contextlib.ExitStack() as stack:
        if client.config.notify:
            from fluxburst.notify import Notifier

            notifier = Notifier(client.config.notify)
            client.hooks.register(notifier, "notify")
            stack.callback(notifier.close)
        metering = client.config.policy.metrics
        metrics = None
        if metering.port is not None or metering.textfile is not None:
            from fluxburst.metrics import Metrics

            metrics = Metrics()
            client.hooks.register(metrics, "metrics")
        if metrics is not None and metering.port is not None:
            server = metrics.serve(metering.address, metering.port)
            stack.callback(server.close)
            _log.info("metrics are on port %d of %s", server.port, metering.address)
        yield metrics


def _show(metrics: Metrics, client: FluxBurst, report: Report) -> None:
    """Bring the metrics up to date after a pass."""
    from fluxburst import status

    metrics.observe_pass(report.seconds)
    if report.reachable:
        status.feed(metrics, status.of_service(client))
    else:
        metrics.set_up(False)
    textfile = client.config.policy.metrics.textfile
    if textfile is not None:
        try:
            metrics.write_textfile(textfile)
        except OSError as error:
            _log.warning("metrics cannot be written to %s: %s", textfile, error.strerror)


def _line(client: FluxBurst, report: Report) -> str:
    """Return what to say of the service in one line."""
    bursts = [b for plugin in client.plugins.values() for b in plugin.bursts.values()]
    live = [burst for burst in bursts if burst.state.value not in ("ended", "failed")]
    text = f"{len(live)} bursts with {sum(burst.nodes for burst in live)} nodes"
    return f"{text}; {report.error}" if report.error is not None else text
