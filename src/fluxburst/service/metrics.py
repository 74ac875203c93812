"""Metrics for Prometheus, on a port or in a file of node_exporter's textfile collector.

Needs prometheus-client, the extra ``metrics``. Costs are in the currency of the plugins' prices;
for a plugin without node types, ``node_type`` is empty.

======================================== ========= ====================== =========================
name                                     type      labels                 what
======================================== ========= ====================== =========================
``fluxburst_bursts``                     gauge     plugin, node_type,     bursts, by state
                                                   state
``fluxburst_nodes``                      gauge     plugin, node_type,     nodes of these bursts
                                                   state
``fluxburst_bursts_not_ended``           gauge     plugin                 bursts whose termination
                                                                          failed at the last
                                                                          attempt
``fluxburst_bursts_finished_total``      counter   plugin, state          bursts that ended or
                                                                          failed
``fluxburst_jobs_given_total``           counter   plugin                 jobs assigned to plugins
``fluxburst_jobs_not_started_total``     counter   plugin                 jobs released because
                                                                          they did not start on
                                                                          free nodes
``fluxburst_phase_failures_total``       counter   phase, plugin          failures; ``plugin`` is
                                                                          empty if none is to blame
``fluxburst_pass_failures_total``        counter                          passes that ended with an
                                                                          unexpected error
``fluxburst_pending_jobs``               gauge                            pending jobs
``fluxburst_selected_jobs``              gauge                            pending candidates for
                                                                          bursting
``fluxburst_given_jobs``                 gauge                            active jobs assigned to
                                                                          a plugin
``fluxburst_unmatched_jobs``             gauge                            candidates that no plugin
                                                                          takes
``fluxburst_cost_per_hour``              gauge                            current cost of bursts
                                                                          per hour
``fluxburst_cost_today``                 gauge                            spending today
``fluxburst_cost_all_time``              gauge                            spending so far
``fluxburst_cost_reserved``              gauge                            what existing bursts may
                                                                          still cost
``fluxburst_breaker_open``               gauge     plugin, node_type      1 while this node type is
                                                                          not requested, else 0
``fluxburst_pass_duration_seconds``      histogram                        duration of passes
``fluxburst_instance_up``                gauge                            1 while the instance
                                                                          answers, else 0
``fluxburst_ledger_writable``            gauge                            1 while the ledger is
                                                                          writable, else 0
======================================== ========= ====================== =========================

Gauges have no sample until they are first set; label values that no longer exist are dropped.
Counters start at 0 with each process.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from fluxburst.errors import RequestError
from fluxburst.hookspecs import hookimpl
from fluxburst.model.burst import Burst, BurstState
from fluxburst.model.job import Job
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reports.status import Status

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

FINAL_STATES = (BurstState.ENDED, BurstState.FAILED)
_PASS_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_LARGEST_PORT = 65535


def _prometheus() -> ModuleType:
    """Import prometheus-client, which only metrics need.

    Raises:
        RequestError: if it is not installed.
    """
    try:
        import prometheus_client
        import prometheus_client.core
    except ImportError as error:
        raise RequestError(
            f"metrics need prometheus-client, but importing it fails ({error}): "
            "pip install prometheus-client"
        ) from error
    return prometheus_client


class _Gauges:
    """A collector of gauges with changing label values, each replaced as a whole.

    prometheus-client's own gauges keep labels until they are removed, and a scrape between
    clear() and the new values would see neither old nor new ones.
    """

    def __init__(self, family: type[GaugeMetricFamily]) -> None:
        self._family = family
        self._values: dict[str, tuple[str, tuple[str, ...], Mapping[tuple[str, ...], float]]] = {}

    def replace(
        self, name: str, text: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]
    ) -> None:
        """Replace all values of a gauge; each is keyed by the values of the labels."""
        self._values = {**self._values, name: (text, labels, values)}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges; prometheus-client calls this."""
        for name, (text, labels, values) in self._values.items():
            family = self._family(name, text, labels=labels)
            for key, value in sorted(values.items()):
                family.add_metric(key, value)
            yield family


class MetricsServer:
    """A metrics server; :meth:`close` ends it. ``port`` is the one it listens on."""

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread
        self.port = server.server_port

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Metrics:
    """Counts and measurements for Prometheus.

    Counters are fed by hooks (``client.hooks.register(metrics, "fluxburst")``); callers set the
    gauges. Safe to use from any thread.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Make the metrics.

        Args:
            registry: Registry for the metrics; by default a new one.

        Raises:
            RequestError: if prometheus-client is not installed.
        """
        prometheus = _prometheus()
        self._prometheus = prometheus
        self.registry: CollectorRegistry = registry or prometheus.CollectorRegistry()
        self._gauges = _Gauges(prometheus.core.GaugeMetricFamily)
        self.registry.register(cast("Collector", self._gauges))
        self._breakers: dict[tuple[str, ...], float] = {}
        counter = prometheus.Counter
        self._finished = counter(
            "fluxburst_bursts_finished",
            "Bursts that ended or failed.",
            ("plugin", "state"),
            registry=self.registry,
        )
        self._given = counter(
            "fluxburst_jobs_given",
            "Jobs assigned to plugins.",
            ("plugin",),
            registry=self.registry,
        )
        self._not_started = counter(
            "fluxburst_jobs_not_started",
            "Jobs released because they did not start on free nodes.",
            ("plugin",),
            registry=self.registry,
        )
        self._failures = counter(
            "fluxburst_phase_failures",
            "Failures of a phase.",
            ("phase", "plugin"),
            registry=self.registry,
        )
        self._unexpected = counter(
            "fluxburst_pass_failures",
            "Passes that ended with an unexpected error.",
            registry=self.registry,
        )
        self._passes = prometheus.Histogram(
            "fluxburst_pass_duration_seconds",
            "Duration of passes.",
            buckets=_PASS_BUCKETS,
            registry=self.registry,
        )

    @hookimpl
    def fluxburst_burst_changed(self, burst: Burst, previous: Burst | None) -> None:
        """Count a burst that has ended or failed."""
        was_final = previous is not None and previous.state in FINAL_STATES
        if burst.state in FINAL_STATES and not was_final:
            self._finished.labels(burst.plugin, burst.state.value).inc()

    @hookimpl
    def fluxburst_job_scheduled(self, plugin: BurstPlugin) -> None:
        """Count a job assigned to a plugin."""
        self._given.labels(plugin.name).inc()

    @hookimpl
    def fluxburst_jobs_not_started(self, jobs: Sequence[Job], plugin: BurstPlugin) -> None:
        """Count jobs that did not start although their nodes were free."""
        self._not_started.labels(plugin.name).inc(len(jobs))

    @hookimpl
    def fluxburst_phase_failed(self, phase: str, plugin: BurstPlugin | None) -> None:
        """Count a failure."""
        self._failures.labels(phase, "" if plugin is None else plugin.name).inc()

    def count_unexpected(self) -> None:
        """Count a pass that ended with an unexpected error."""
        self._unexpected.inc()

    def set_bursts(self, bursts: Iterable[Burst]) -> None:
        """Set the existing bursts and their nodes; others are dropped."""
        number: Counter[tuple[str, ...]] = Counter()
        nodes: Counter[tuple[str, ...]] = Counter()
        left: Counter[tuple[str, ...]] = Counter()
        for burst in bursts:
            key = (burst.plugin, burst.node_type, burst.state.value)
            number[key] += 1
            nodes[key] += burst.nodes
            if burst.is_left:
                left[(burst.plugin,)] += 1
        labels = ("plugin", "node_type", "state")
        self._gauges.replace("fluxburst_bursts", "Bursts.", labels, number)
        self._gauges.replace("fluxburst_nodes", "Nodes of bursts.", labels, nodes)
        text = "Bursts whose termination failed at the last attempt."
        self._gauges.replace("fluxburst_bursts_not_ended", text, ("plugin",), left)

    def set_jobs(self, pending: int, selected: int, given: int, unmatched: int) -> None:
        """Set the numbers of jobs: pending, candidates, assigned, taken by no plugin."""
        self._set("fluxburst_pending_jobs", "Pending jobs.", pending)
        self._set("fluxburst_selected_jobs", "Candidates for bursting.", selected)
        self._set("fluxburst_given_jobs", "Active jobs assigned to a plugin.", given)
        self._set("fluxburst_unmatched_jobs", "Candidates that no plugin takes.", unmatched)

    def set_cost(self, per_hour: float, today: float, total: float, reserved: float) -> None:
        """Set the costs, in the currency of the plugins' prices."""
        self._set("fluxburst_cost_per_hour", "Current cost of bursts per hour.", per_hour)
        self._set("fluxburst_cost_today", "Spending today.", today)
        self._set("fluxburst_cost_all_time", "Spending so far.", total)
        self._set("fluxburst_cost_reserved", "What existing bursts may still cost.", reserved)

    def set_breaker(self, plugin: str, node_type: str, open: bool | None) -> None:
        """Set whether a breaker is open; None for a breaker that no longer exists."""
        self._breakers.pop((plugin, node_type), None)
        if open is not None:
            self._breakers[plugin, node_type] = float(open)
        self._show_breakers()

    def set_breakers(self, breakers: Mapping[tuple[str, str], bool]) -> None:
        """Set which breakers are open, by plugin and node type; others are dropped."""
        self._breakers = {key: float(is_open) for key, is_open in breakers.items()}
        self._show_breakers()

    def feed(self, status: Status) -> None:
        """Set all gauges from a status."""
        self.set_up(not status.unreachable)
        self.set_writable(not status.unwritable)
        self.set_bursts(entry.burst for entry in status.bursts)
        if status.jobs is not None:
            jobs = status.jobs
            self.set_jobs(jobs.pending, jobs.selected, jobs.given, jobs.unmatched)
        money = status.spending
        self.set_cost(money.per_hour, money.today, money.total, money.reserved)
        self.set_breakers({(b.plugin, b.node_type): status.is_open(b) for b in status.breakers})

    def set_up(self, instance_reachable: bool) -> None:
        """Set whether the instance answers."""
        self._set("fluxburst_instance_up", "1 while the instance answers.", instance_reachable)

    def set_writable(self, ledger_writable: bool) -> None:
        """Set whether the ledger is writable; while it is not, nothing is provisioned."""
        self._set("fluxburst_ledger_writable", "1 while the ledger is writable.", ledger_writable)

    def observe_pass(self, seconds: float) -> None:
        """Record the duration of a pass."""
        self._passes.observe(seconds)

    def _show_breakers(self) -> None:
        labels = ("plugin", "node_type")
        text = "1 while this node type is not requested."
        self._gauges.replace("fluxburst_breaker_open", text, labels, dict(self._breakers))

    def _set(self, name: str, text: str, value: float) -> None:
        self._gauges.replace(name, text, (), {(): float(value)})

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> MetricsServer:
        """Serve the metrics over HTTP, in a thread; port 0 picks a free one.

        Raises:
            RequestError: if listening on the address fails.
        """
        if not 0 <= port <= _LARGEST_PORT:
            raise RequestError(f"metrics: {port} is not a TCP port")
        try:
            server, thread = self._prometheus.start_http_server(port, host, self.registry)
        except OSError as error:
            reason = error.strerror or error
            raise RequestError(f"cannot serve metrics on {host}:{port}: {reason}") from error
        return MetricsServer(server, thread)

    def write_textfile(self, path: Path) -> None:
        """Write the metrics for node_exporter's textfile collector, which reads ``*.prom``.

        The file is replaced atomically and readable by all: the collector runs as another user.

        Raises:
            RequestError: if the name does not end in ``.prom``, or the file is not writable.
        """
        if path.suffix != ".prom":
            raise RequestError(f"{path} must end in .prom, or node_exporter ignores it")
        try:
            descriptor, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(self._prometheus.generate_latest(self.registry))
                    os.fchmod(file.fileno(), 0o644)
                Path(made).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(made).unlink()
                raise
        except OSError as error:
            raise RequestError(f"cannot write {path}: {error.strerror}") from error
