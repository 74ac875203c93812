"""Processes of this machine, found by their environment through psutil."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

_spawned: set[int] = set()
"""Children started by this process: only it can reap them."""

_without: set[tuple[int, float]] = set()
"""Processes whose environment stayed hidden for a while, by id and start: not waited for again."""

POLL_SECONDS = 0.02
STARTING_SECONDS = 1.0
DOUBT_SECONDS = 0.5
TERM_SECONDS = 15.0
KILL_SECONDS = 15.0


def spawn(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Start a command in its own session, with its output in ``log``; return its process id.

    It outlives this process.

    Raises:
        OSError: if it fails to start.
    """
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    opened = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    pid = os.posix_spawn(
        command[0],
        [*command],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), opened, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    _spawned.add(pid)
    return pid


def environments() -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    """Yield the live processes with readable environments, except this one and its ancestors."""
    reap()
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        if process.pid in own:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            environment = _environment(process)
            if environment and is_alive(process):
                yield process, environment


def _environment(process: psutil.Process) -> dict[str, str]:
    """Return a process's environment; empty if it has none or it is unreadable.

    During execve(2) it is empty for a moment, and the process would count as gone. On a busy
    machine that may be long after its start.
    """
    doubted_until = time.monotonic() + DOUBT_SECONDS
    while True:
        try:
            environment: dict[str, str] = process.environ()
        except psutil.AccessDenied:
            environment = {}
        if environment or not _may_have_one(process, doubted_until):
            return environment
        time.sleep(POLL_SECONDS)


def _may_have_one(process: psutil.Process, doubted_until: float) -> bool:
    """Whether a process may still be between :func:`spawn` and execve(2)."""
    own = os.getuid() in (0, process.uids().real)
    if not (own and leads_its_session(process) and is_alive(process)):
        return False
    started = process.create_time()
    if time.time() - started < STARTING_SECONDS:
        return True
    if (process.pid, started) in _without:
        return False
    if time.monotonic() < doubted_until:
        return True
    _without.add((process.pid, started))
    return False


def reap() -> None:
    """Reap ended processes spawned here, which are zombies otherwise."""
    for pid in list(_spawned):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:  # another thread was faster
            ended = True
        if ended:
            _spawned.discard(pid)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; a zombie does not."""
    reap()
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def leads_its_session(process: psutil.Process) -> bool:
    """Whether :func:`spawn` started a process itself, rather than one of its descendants."""
    try:
        return os.getsid(process.pid) == process.pid
    except ProcessLookupError:
        return False


def end(find: Callable[[], Sequence[psutil.Process]]) -> list[int]:
    """End processes, session leaders first, with SIGTERM first; return the ids of survivors.

    Args:
        find: Finds the remaining ones: processes may start others while they end.
    """
    _signal([p for p in find() if leads_its_session(p)], signal.SIGTERM)
    _wait(lambda: [p for p in find() if leads_its_session(p)], TERM_SECONDS)
    others = [p for p in find() if not leads_its_session(p)]
    if others:  # first, since a leader may end the rest of them
        _signal(others, signal.SIGKILL)
        _wait(find, 1.0)
    until = time.monotonic() + KILL_SECONDS
    while (left := find()) and time.monotonic() < until:
        _signal(left, signal.SIGKILL)
        _wait(find, 1.0)
    return [process.pid for process in find()]


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _wait(find: Callable[[], Sequence[psutil.Process]], seconds: float) -> None:
    until = time.monotonic() + seconds
    while find() and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
