"""The first process of an elastic instance: starts its queues, and becomes the user's command.

usage: python -m fluxburst_local.initial_program FLUX COMMAND...
"""

import os
import subprocess
import sys


def main() -> None:
    """Start the queues, which Flux leaves stopped where they have names, and run the command."""
    flux, *command = sys.argv[1:]
    subprocess.run([flux, "queue", "start", "--all", "--quiet"], check=True)  # noqa: S603
    os.execvp(command[0], command)  # noqa: S606 - a list, and no shell


if __name__ == "__main__":
    main()
