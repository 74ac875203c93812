"""First process of an elastic instance: starts the queues, then becomes the user's command.

usage: python -m fluxburst_local.initial_program FLUX COMMAND...
"""

import os
import subprocess
import sys


def main() -> None:
    """Start the queues, since Flux leaves named ones stopped, and run the command."""
    flux, *command = sys.argv[1:]
    subprocess.run([flux, "queue", "start", "--all", "--quiet"], check=True)  # noqa: S603
    try:
        os.execvp(command[0], command)  # noqa: S606 - a list, and no shell
    except OSError as error:
        sys.exit(f"fluxburst: {command[0]} cannot be run: {error.strerror}")


if __name__ == "__main__":
    main()
