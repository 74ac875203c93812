"""Becomes a broker that guests can reach: run as a file on its node, with any Python 3.

usage: open_rundir.py COMMAND...

Flux makes a broker's run directory for its owner alone. The processes of guests' jobs reach their
broker in it, so it is made beforehand, for all to enter.
"""

import os
import stat
import sys
from pathlib import Path

PREFIX = "-Srundir="


def main() -> None:
    """Make the run directory that the command names, and become the command."""
    command = sys.argv[1:]
    try:
        for argument in command:
            if argument.startswith(PREFIX):
                open_to_all(Path(argument[len(PREFIX) :]))
        os.execvp(command[0], command)  # noqa: S606 - a list, and no shell
    except OSError as error:
        sys.exit(f"fluxburst: {error.filename}: {error.strerror}")


def open_to_all(directory: Path) -> None:
    """Make a directory that all can enter; one of ours that is there already will do."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        there = directory.lstat()
        if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid():
            sys.exit(f"fluxburst: {directory} is there already, and not this user's")
    directory.chmod(0o755)


if __name__ == "__main__":
    main()
