"""One client at a time holds an instance; who comes second is told who has it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.live import running_flux
from tests.support import Elsewhere, client_on, flux_available, job

from fluxburst import FluxBurst
from fluxburst.errors import HeldError, LedgerError
from fluxburst.flux.live import LiveInstance
from fluxburst.ledger.lock import InstanceLock
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

HOLDER = """
import sys
from pathlib import Path
from fluxburst.ledger.lock import InstanceLock
sys.argv = ["/usr/bin/fluxburst", "watch", "--drain"]
lock = InstanceLock([Path(path) for path in PATHS])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process_holds(*paths: Path) -> Iterator[subprocess.Popen[str]]:
    program = f"PATHS = {[str(path) for path in paths]!r}\n{HOLDER}"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.kill()


def instance() -> EmbeddedInstance:
    return EmbeddedInstance(Recording((job(1),)))


def test_who_comes_second_is_told_who_has_it(tmp_path: Path) -> None:
    plugin = Elsewhere("cloud")
    with (
        another_process_holds(tmp_path / "lock") as child,
        client_on(instance(), plugin, state_dir=tmp_path) as client,
    ):
        with pytest.raises(HeldError) as caught:
            client.run_burst()
        assert caught.value.holder == (
            f"fluxburst watch --drain, process {child.pid} on {socket.gethostname()}"
        )
        assert caught.value.holder in str(caught.value)
        assert str(tmp_path / "lock") in str(caught.value)
    assert plugin.created == []


def test_a_holder_that_is_killed_holds_no_longer(tmp_path: Path) -> None:
    plugin = Elsewhere("cloud")
    with (
        another_process_holds(tmp_path / "lock") as child,
        client_on(instance(), plugin, state_dir=tmp_path) as client,
    ):
        child.send_signal(signal.SIGKILL)
        child.wait()
        client.run_burst()
        assert len(plugin.created) == 1


def test_two_clients_of_one_process_do_not_both_hold_it(tmp_path: Path) -> None:
    here = instance()
    with client_on(here, state_dir=tmp_path) as first, client_on(here, state_dir=tmp_path) as other:
        first.hold()
        first.hold()
        with pytest.raises(HeldError, match=f"process {os.getpid()} on"):
            other.hold()
        first.close()
        other.hold()
        with pytest.raises(HeldError):
            first.hold()


@pytest.mark.parametrize(
    "act",
    [
        FluxBurst.run_burst,
        FluxBurst.reconcile,
        FluxBurst.run_unburst,
        FluxBurst.refresh_bursts,
        lambda client: client.apply(client.plan()),
        lambda client: client.request_bursts(1, None),
        lambda client: client.request_burst("cloud", 1, None),
        lambda client: client.run_pass(everything=True, patience=1.0),
    ],
)
def test_whatever_acts_needs_the_instance(tmp_path: Path, act: object) -> None:
    plugin = Elsewhere("cloud")
    here = instance()
    with (
        client_on(here, state_dir=tmp_path) as holder,
        client_on(here, plugin, state_dir=tmp_path) as client,
    ):
        holder.hold()
        with pytest.raises(HeldError):
            act(client)  # type: ignore[operator]
    assert (plugin.created, plugin.deleted) == ([], [])


def test_to_look_needs_no_lock(tmp_path: Path) -> None:
    here, plugin = instance(), Elsewhere("cloud")
    with (
        client_on(here, plugin, state_dir=tmp_path) as holder,
        client_on(here, Elsewhere("cloud"), state_dir=tmp_path) as client,
    ):
        holder.run_burst()
        (decision,) = client.plan().decisions
        assert decision.reasons == (f"was assigned to cloud in burst {plugin.created[0]}",)
        client.adopt_bursts()
        assert list(client.select_jobs()) == []
        assert [entry.burst.name for entry in client.ledger.live()] == plugin.created


def test_to_look_makes_nothing(tmp_path: Path) -> None:
    with client_on(instance(), Elsewhere("cloud"), state_dir=tmp_path / "state") as client:
        client.plan()
        client.adopt_bursts()
    assert list(tmp_path.iterdir()) == []


def test_all_locks_are_taken_or_none(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with another_process_holds(two):
        both = InstanceLock([one, two])
        with pytest.raises(HeldError, match="two"):
            both.acquire()
        assert not both.held
        free = InstanceLock([one])
        free.acquire()
        free.release()


def test_a_lock_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot create the lock: No such file"):
        InstanceLock([tmp_path / "gone" / "lock"]).acquire()


def test_a_lock_whose_ledger_is_refused_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("not a database, and more than a page of it" * 100)
    with client_on(instance(), state_dir=tmp_path) as client, pytest.raises(LedgerError):
        client.hold()
    lock = InstanceLock([tmp_path / "lock"])
    lock.acquire()
    lock.release()


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no Flux here")
def test_two_state_directories_do_not_make_two_holders_of_a_live_instance(tmp_path: Path) -> None:
    import flux

    with running_flux() as running:
        handle = flux.Flux(running.uri)
        lock_file = LiveInstance(handle).lock_file
        assert lock_file is not None
        with (
            another_process_holds(lock_file),
            FluxBurst(handle, state_dir=tmp_path) as client,
            pytest.raises(HeldError, match=r"fluxburst watch --drain, process \d+"),
        ):
            client.hold()
        with FluxBurst(handle, state_dir=tmp_path) as client:
            client.hold()
        del handle, client
