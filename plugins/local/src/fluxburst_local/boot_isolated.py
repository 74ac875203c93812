"""Becomes a broker of an isolated burst: run as a file on its host, with any Python 3.

usage: boot_isolated.py DIRECTORY ADDRESS SECONDS HOST COMMAND...

The lead chooses a port and tells the others, who wait for SECONDS at most. It is reached at
ADDRESS, or by its host's name where that is empty. Each broker has a configuration file of its own.
"""

import os
import socket
import sys
import time
from pathlib import Path

LEAD = "lead"
TEMPLATE = "broker.toml"
BOUND, ENDPOINT = "bound", "endpoint"
POLL_SECONDS = 0.1


def main() -> None:
    """Write the broker's configuration, and become the broker."""
    directory, address, seconds, host, *command = sys.argv[1:]
    folder = Path(directory)
    bound = ""
    if host == (folder / LEAD).read_text():
        port = free_port(address)
        bound = f"tcp://{address or '*'}:{port}"
        (folder / ENDPOINT).write_text(f"tcp://{address or socket.gethostname()}:{port}\n")
    endpoint = told(folder / ENDPOINT, float(seconds))
    text = (folder / TEMPLATE).read_text()
    text = text.replace(f"@{BOUND}@", bound or endpoint).replace(f"@{ENDPOINT}@", endpoint)
    (folder / f"{host}.toml").write_text(text)
    os.execvp(command[0], command)  # noqa: S606 - a list, and no shell


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


if __name__ == "__main__":
    main()
