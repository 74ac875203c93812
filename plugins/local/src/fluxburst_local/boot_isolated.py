"""Runs a broker of an isolated burst on its host: run as a file, with any Python 3.

usage: boot_isolated.py DIRECTORY ADDRESS SECONDS HOST COMMAND...

The lead chooses a port and tells the others, who wait for SECONDS at most. It is reached at
ADDRESS, or by its host's name where that is empty. Each broker has a configuration file of its own.

What a broker leaves behind is ended with it, however it ended: its job runs elsewhere then, and is
not to run twice. Signals are meant for the process group, in which the broker is.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from pathlib import Path

LEAD = "lead"
TEMPLATE = "broker.toml"
BOUND, ENDPOINT = "bound", "endpoint"
POLL_SECONDS = 0.1

# prctl(2), <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Write the broker's configuration, run the broker, and end what it leaves behind."""
    directory, address, seconds, host, *command = sys.argv[1:]
    configure(Path(directory), address, float(seconds), host)
    control(PR_SET_CHILD_SUBREAPER, 1)
    status = run(command)
    end_children()
    sys.exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


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


def run(command: "list[str]") -> int:
    """Run a command that is told to end should this process be killed; return its status."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            control(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() == parent:
                os.execvp(command[0], command)  # noqa: S606 - a list, and no shell
        except OSError as error:
            sys.stderr.write(f"fluxburst: {command[0]} cannot be run: {error.strerror}\n")
        os._exit(127)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # the child has it too, and ends when it is done
    return os.waitpid(child, 0)[1]


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
