"""Runs a broker of an isolated burst on its host: executed as a file, by any Python 3.

usage: boot_isolated.py DIRECTORY ADDRESS SECONDS HOST COMMAND...

The lead chooses a port and publishes it; the others wait up to SECONDS. They reach it at
ADDRESS, or by its host's name if that is empty. Each broker has its own configuration file.

However a broker ends, its remaining processes are killed: the job may run elsewhere then, and must
not run twice. Two processes ensure this, since ending a job kills its whole process group: this
one, and a child in its own session, whose child is the broker. Each of them kills the rest when
the other is killed.
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
"""Tells the process in between that its parent was killed, and everything must end now."""

# prctl(2), <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Write the broker's configuration, run the broker, and kill what it leaves behind."""
    directory, address, seconds, host, *command = sys.argv[1:]
    configure(Path(directory), address, float(seconds), host)
    code = run(lambda: run_apart(command), ORPHANED)
    remove_run_directory(command)
    sys.exit(code)


def configure(folder: Path, address: str, seconds: float, host: str) -> None:
    """Write the broker's configuration, once the lead's address is known."""
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
    """Return a free TCP port."""
    with socket.socket() as free:
        free.bind((address, 0))
        return int(free.getsockname()[1])


def told(path: Path, seconds: float) -> str:
    """Return the line the lead writes there, once it is complete."""
    until = time.monotonic() + seconds
    while not (text := path.read_text()).endswith("\n"):
        if time.monotonic() > until:
            sys.exit(f"fluxburst: the lead did not write {path} within {seconds:g} s")
        time.sleep(POLL_SECONDS)
    return text.strip()


def run_apart(command: "list[str]") -> None:
    """Run the broker in its own session; killed at once if this process is orphaned."""
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
    """Run something in a child, pass each signal on to it once, and return its exit code.

    After it ends, kill everything it left behind. If this process is killed, the kernel sends
    the child the signal ``orphaned``.
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
    """Remove the files of a killed broker."""
    for argument in command:
        if argument.startswith("-Srundir="):
            shutil.rmtree(argument.partition("=")[2], ignore_errors=True)


def end_children() -> None:
    """Kill all descendants: orphans become children of this process."""
    while True:
        for child in children():
            with contextlib.suppress(PermissionError):  # of another user: wait for it
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
    """Set an attribute of this process (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


if __name__ == "__main__":
    main()
