"""Becomes a broker that guests can reach: executed as a file on its node, by any Python 3.

usage: open_rundir.py COMMAND...

Flux creates a broker's run directory for its owner alone. Processes of guests' jobs reach their
broker through it, so this script creates it beforehand, accessible to all.
"""

import os
import stat
import sys
from pathlib import Path

PREFIX = "-Srundir="


def main() -> None:
    """Create the command's run directory, and become the command."""
    command = sys.argv[1:]
    try:
        for argument in command:
            if argument.startswith(PREFIX):
                open_to_all(Path(argument[len(PREFIX) :]))
        os.execvp(command[0], command)  # noqa: S606 - a list, and no shell
    except OSError as error:
        sys.exit(f"fluxburst: {error.filename}: {error.strerror}")


def open_to_all(directory: Path) -> None:
    """Create a directory that all can enter; an existing one of this user is fine."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        there = directory.lstat()
        if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid():
            sys.exit(f"fluxburst: {directory} exists, and belongs to another user")
    directory.chmod(0o755)


if __name__ == "__main__":
    main()
