"""Runs a broker of an isolated burst on its host: run as a file, with any Python 3.

usage: boot_isolated.py DIRECTORY ADDRESS SECONDS HOST COMMAND...

The lead chooses a port and tells the others, who wait for SECONDS at most. It is reached at
ADDRESS, or by its host's name where that is empty. Each broker has a configuration file of its own.

What a broker leaves behind is ended with it, however it ended: its job runs elsewhere then, and is
not to run twice. Two processes see to it, since who ends a job kills all of its process group: this
one, and a child that is in a group and a session of its own, whose child is the broker. Either ends
all that is left when the other is killed.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LEAD = "lead"
TEMPLATE = "broker.toml"
BOUND, ENDPOINT = "bound", "endpoint"
POLL_SECONDS = 0.1

ORPHANED = signal.SIGUSR1
"""What the process between tells by: its parent has been killed, and all is to end at once."""

# prctl(2), <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Write the broker's configuration, run the broker, and end what it leaves behind."""
    directory, address, seconds, host, *command = sys.argv[1:]
    configure(Path(directory), address, float(seconds), host)
    code = run(lambda: run_apart(command), ORPHANED)
    remove_run_directory(command)
    sys.exit(code)


def configure(folder: Path, address: str, seconds: float, host: str) -> None:
    """Write the broker's configuration, once it is known where the lead is."""
    bound = ""
    if host == (folder / LEAD).read_text():
        port = free_port(address)
        bound = f"tcp://{address or '*'}:{port}"
        (folder / ENDPOINT).write_text(f"tcp://{address or socket.gethostname()}:{port}\n")
    endpoint = told(folder / ENDPOINT, seconds)
    text = (folder / TEMPLATE).read_text()
    text = text.replace(f"@{BOUND}@", bound or endpoint).replace(f"@{ENDPOINT}@", endpoint)
    (folder / f"{host}.toml").write_text(text)


def free_port(address: str) -> int:
    """Return a TCP port that nobody has."""
    with socket.socket() as free:
        free.bind((address, 0))
        return int(free.getsockname()[1])


def told(path: Path, seconds: float) -> str:
    """Return the line that the lead writes there, once it is whole."""
    until = time.monotonic() + seconds
    while not (text := path.read_text()).endswith("\n"):
        if time.monotonic() > until:
            sys.exit(f"fluxburst: the lead did not write {path} within {seconds:g} s")
        time.sleep(POLL_SECONDS)
    return text.strip()


def run_apart(command: "list[str]") -> None:
    """Run the broker in a session of its own; it is ended at once where this is orphaned."""
    os.setsid()
    code = run(lambda: become(command), signal.SIGTERM)
    remove_run_directory(command)
    os._exit(code)


def become(command: "list[str]") -> None:
    """Become the broker."""
    try:
        os.execvp(command[0], command)  # noqa: S606 - a list, and no shell
    except OSError as error:
        sys.stderr.write(f"fluxburst: {command[0]} cannot be run: {error.strerror}\n")


def run(start: "Callable[[], None]", orphaned: signal.Signals) -> int:
    """Run something in a child, which each signal is passed on to, once; return its exit code.

    When it has ended, so has all that it left behind. Should this process be killed, the kernel
    sends the child the signal ``orphaned``.
    """
    control(PR_SET_CHILD_SUBREAPER, 1)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            control(PR_SET_PDEATHSIG, orphaned)
            if os.getppid() == parent:
                start()
        except OSError as error:
            sys.stderr.write(f"fluxburst: {error}\n")
        finally:
            os._exit(127)
    passed_on = set()

    def pass_on(number: int, _frame: object) -> None:
        if number not in passed_on:
            passed_on.add(number)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL if number == ORPHANED else number)

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, ORPHANED):
        signal.signal(number, pass_on)
    status = os.waitpid(child, 0)[1]
    end_children()
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def remove_run_directory(command: "list[str]") -> None:
    """Remove what a broker that was killed leaves in files."""
    for argument in command:
        if argument.startswith("-Srundir="):
            shutil.rmtree(argument.partition("=")[2], ignore_errors=True)


def end_children() -> None:
    """End all descendants: those whose parents have ended become children of this process."""
    while True:
        for child in children():
            with contextlib.suppress(PermissionError):  # of another user: it is waited for
                os.kill(child, signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def children() -> "list[int]":
    """Return the process ids of this process's children (proc_pid_stat(5))."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                found.append(int(path.parent.name))
    return found


def control(option: int, value: int) -> None:
    """Set something of this process (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


if __name__ == "__main__":
    main()
