from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from tests.support import Elsewhere, client_with, job

from fluxburst import Burst, BurstState
from fluxburst.errors import BurstErrors, CapacityError, RequestError
from fluxburst.service import metrics
from fluxburst.service.metrics import Metrics

BURST = Burst("p-1", "p", "small", 2, state=BurstState.STARTING)
READY = replace(BURST, state=BurstState.READY)

Samples = dict[tuple[str, ...], float]


def parsed(text: str) -> Samples:
    """Return the samples of ours by name and the values of their labels, in order of the labels."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def unused_histogram() -> Samples:
    """Return what there is of the passes before the first one."""
    return {
        (sample.name, *sample.labels.values()): 0.0
        for family in Metrics().registry.collect()
        for sample in family.samples
        if family.name.startswith("fluxburst_pass_") and not sample.name.endswith("_created")
    }


def samples(of: Metrics, tmp_path: Path) -> Samples:
    path = tmp_path / "now.prom"
    of.write_textfile(path)
    return parsed(path.read_text())


def everything() -> Metrics:
    """Return metrics of which each has a sample."""
    made = Metrics()
    left = replace(READY, state=BurstState.ENDING, leftover="access denied")
    made.set_bursts([READY, left])
    made.set_jobs(4, 3, 2, 1)
    made.set_cost(1.5, 2.5, 3.5, 4.5)
    made.set_breaker("p", "small", open=True)
    made.set_up(True)
    made.set_writable(True)
    made.observe_pass(0.3)
    made.count_unexpected()
    made.fluxburst_burst_changed(replace(READY, state=BurstState.ENDED), READY)
    made.fluxburst_job_scheduled(Elsewhere("p"))
    made.fluxburst_jobs_not_started([job(1), job(2)], Elsewhere("p"))
    made.fluxburst_phase_failed("plan", None)
    return made


def test_each_metric_is_documented_with_its_type_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "all.prom"
    everything().write_textfile(path)
    exposed: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(path.read_text()):
        if not family.name.endswith("_created"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            exposed[name] = (family.type, labels)
    assert metrics.__doc__ is not None
    documented: dict[str, tuple[str, set[str]]] = {}
    name = ""
    for line in metrics.__doc__.splitlines():
        row = re.match(r"``(\w+)``\s+(\w+)", line)
        if row is not None:
            name = row[1]
            documented[name] = (row[2], set())
        elif line.startswith("="):
            name = ""
        if name:
            documented[name][1].update(re.findall(r"\w+", line[51:73]))
    assert exposed == documented


def test_names_follow_the_conventions(tmp_path: Path) -> None:
    for name, *_ in samples(everything(), tmp_path):
        assert re.fullmatch(r"fluxburst_[a-z_]+", name)


def test_bursts_and_nodes_are_counted_by_plugin_node_type_and_state(tmp_path: Path) -> None:
    made = Metrics()
    other = replace(BURST, name="q-1", plugin="q", node_type="", nodes=5)
    made.set_bursts([READY, replace(READY, name="p-2", nodes=3), BURST, other])
    # The labels are node_type, plugin, state.
    assert (
        samples(made, tmp_path)
        == {
            ("fluxburst_bursts", "small", "p", "ready"): 2,
            ("fluxburst_bursts", "small", "p", "starting"): 1,
            ("fluxburst_bursts", "", "q", "starting"): 1,
            ("fluxburst_nodes", "small", "p", "ready"): 5,
            ("fluxburst_nodes", "small", "p", "starting"): 2,
            ("fluxburst_nodes", "", "q", "starting"): 5,
        }
        | unused_histogram()
    )


def test_a_state_that_no_burst_is_in_any_more_is_gone(tmp_path: Path) -> None:
    made = Metrics()
    made.set_bursts([BURST])
    made.set_bursts([READY])
    assert ("fluxburst_bursts", "small", "p", "starting") not in samples(made, tmp_path)
    made.set_bursts([])
    assert samples(made, tmp_path) == unused_histogram()


def test_a_breaker_is_1_while_open_and_gone_when_it_is_no_more(tmp_path: Path) -> None:
    made = Metrics()
    small, large = (
        ("fluxburst_breaker_open", "small", "p"),
        ("fluxburst_breaker_open", "large", "p"),
    )
    made.set_breaker("p", "small", open=True)
    made.set_breaker("p", "large", open=False)
    now = samples(made, tmp_path)
    assert (now[small], now[large]) == (1, 0)
    made.set_breaker("p", "small", open=False)
    made.set_breaker("p", "large", open=None)
    now = samples(made, tmp_path)
    assert now[small] == 0
    assert large not in now


def test_jobs_costs_and_the_instance_are_as_they_were_set_last(tmp_path: Path) -> None:
    made = everything()
    made.set_jobs(40, 30, 20, 10)
    made.set_cost(10.5, 20.5, 30.5, 40.5)
    made.set_up(False)
    now = samples(made, tmp_path)
    jobs = ("pending", "selected", "given", "unmatched")
    assert [now[f"fluxburst_{name}_jobs",] for name in jobs] == [40, 30, 20, 10]
    costs = ("per_hour", "today", "all_time", "reserved")
    assert [now[f"fluxburst_cost_{name}",] for name in costs] == [10.5, 20.5, 30.5, 40.5]
    assert now["fluxburst_instance_up",] == 0


def test_what_was_not_set_is_not_there(tmp_path: Path) -> None:
    assert samples(Metrics(), tmp_path) == unused_histogram()


def test_passes_are_counted_by_how_long_they_took(tmp_path: Path) -> None:
    made = Metrics()
    for seconds in (0.02, 0.2, 400.0):
        made.observe_pass(seconds)
    now = samples(made, tmp_path)
    name = "fluxburst_pass_duration_seconds"
    assert now[f"{name}_count",] == 3
    assert now[f"{name}_sum",] == pytest.approx(400.22)
    assert [now[f"{name}_bucket", le] for le in ("0.01", "0.025", "300.0", "+Inf")] == [0, 1, 2, 3]


def test_a_burst_cycle_is_counted(tmp_path: Path) -> None:
    client = client_with(Elsewhere("p"), jobs=(job(1), job(2)))
    made = Metrics()
    client.hooks.register(made, "fluxburst")
    client.run_burst()
    client.run_unburst()
    now = samples(made, tmp_path)
    assert now["fluxburst_jobs_given_total", "p"] == 2
    assert now["fluxburst_bursts_finished_total", "p", "ended"] == 1
    assert list(client.hooks.observer_errors) == []


def test_failures_are_counted_by_phase_and_plugin(tmp_path: Path) -> None:
    client = client_with(Elsewhere("p", fails=CapacityError("none left")), jobs=(job(1),))
    made = Metrics()
    client.hooks.register(made, "fluxburst")
    with pytest.raises(BurstErrors):
        client.run_burst()
    made.fluxburst_phase_failed("plan", None)
    now = samples(made, tmp_path)
    # The labels are phase, plugin; and plugin, state.
    assert now["fluxburst_phase_failures_total", "run", "p"] == 1
    assert now["fluxburst_phase_failures_total", "plan", ""] == 1
    assert now["fluxburst_bursts_finished_total", "p", "failed"] == 1


def test_a_burst_that_has_ended_is_counted_once(tmp_path: Path) -> None:
    made = Metrics()
    failed = replace(BURST, state=BurstState.FAILED)
    made.fluxburst_burst_changed(failed, BURST)
    made.fluxburst_burst_changed(replace(failed, error="said later"), failed)
    made.fluxburst_burst_changed(READY, BURST)
    finished = {key: v for key, v in samples(made, tmp_path).items() if "finished" in key[0]}
    assert finished == {("fluxburst_bursts_finished_total", "p", "failed"): 1}


def test_odd_names_are_escaped(tmp_path: Path) -> None:
    made = Metrics()
    made.set_breaker('a"b\\c\nd', "é", open=True)
    assert samples(made, tmp_path)["fluxburst_breaker_open", "é", 'a"b\\c\nd'] == 1


# --- where they are shown ------------------------------------------------------------------


def test_they_are_served_on_loopback_until_the_server_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    made = everything()
    server = made.serve()
    try:
        url = f"http://127.0.0.1:{server.port}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert parsed(answer.read().decode())["fluxburst_pending_jobs",] == 4
        made.set_jobs(5, 3, 2, 1)
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert parsed(answer.read().decode())["fluxburst_pending_jobs",] == 5
    finally:
        server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=30)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(RequestError, match=f"{port} is not a TCP port"):
        Metrics().serve(port=port)


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RequestError, match=f"127.0.0.1:{port}: Address already in use"):
            Metrics().serve(port=port)


def test_an_address_that_is_not_this_hosts_is_named() -> None:
    with pytest.raises(RequestError, match=r"cannot serve metrics on 192\.0\.2\.1:0"):
        Metrics().serve("192.0.2.1")  # of TEST-NET-1, RFC 5737


def test_the_textfile_is_replaced_as_a_whole_and_readable_by_the_collector(tmp_path: Path) -> None:
    path = tmp_path / "fluxburst.prom"
    before = os.umask(0o077)
    try:
        everything().write_textfile(path)
        first = path.stat()
        everything().write_textfile(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.stat().st_ino != first.st_ino, "whoever has the old one open reads it to its end"
    assert list(tmp_path.iterdir()) == [path]


def test_a_textfile_that_the_collector_would_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"must end in \.prom"):
        Metrics().write_textfile(tmp_path / "metrics.txt")


def test_a_textfile_that_can_not_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot write .*x\.prom: No such file"):
        Metrics().write_textfile(tmp_path / "nowhere" / "x.prom")
    taken = tmp_path / "taken.prom"
    taken.mkdir()
    with pytest.raises(RequestError, match="cannot write "):
        Metrics().write_textfile(taken)
    assert list(tmp_path.iterdir()) == [taken]


# --- prometheus-client itself --------------------------------------------------------------


def test_they_can_be_kept_in_a_registry_of_the_users_choice() -> None:
    registry = CollectorRegistry()
    Metrics(registry).set_up(True)
    assert registry.get_sample_value("fluxburst_instance_up") == 1


def test_without_prometheus_client_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(RequestError, match=r"pip install prometheus-client"):
        Metrics()


def test_importing_the_module_does_not_import_prometheus_client() -> None:
    source = "import fluxburst.service.metrics, sys; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0


def test_metrics_are_fed_from_how_things_stand(tmp_path: Path) -> None:
    from fluxburst.config.policy import Policy
    from fluxburst.ledger import Breaker, Ledger
    from fluxburst.reports import status

    ledger = Ledger(None, "here")
    burst = Burst("b", "cloud", "node", 2, price=3.0, since=0.0, state=BurstState.READY)
    ledger.request(burst, 0.0, None, "")
    ledger.record(burst, 0.0)
    ledger.set_breaker(Breaker("cloud", "node", 3, 9000.0, "no"))
    metrics = Metrics()
    jobs = status.Jobs(4, 3, 2, 1)
    now = status.of_ledger(ledger, Policy(), 3600.0, installed=["cloud"], jobs=jobs)
    metrics.feed(now)
    sample = metrics.registry.get_sample_value
    labels = {"plugin": "cloud", "node_type": "node"}
    assert sample("fluxburst_nodes", {**labels, "state": "ready"}) == 2
    assert sample("fluxburst_unmatched_jobs") == 1
    assert sample("fluxburst_cost_all_time") == 6.0
    assert sample("fluxburst_breaker_open", labels) == 1
    assert sample("fluxburst_instance_up") == 1

    ledger.set_breaker(Breaker("cloud", "node"))
    later = status.of_ledger(ledger, Policy(), 7200.0, installed=[], unreachable="away")
    metrics.feed(later)
    assert sample("fluxburst_breaker_open", labels) is None
    assert sample("fluxburst_instance_up") == 0
    assert later.missing == {"cloud": ("b",)}
    ledger.close()
