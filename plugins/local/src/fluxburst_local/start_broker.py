"""Becomes the broker of one task of a job: executed as a file on the node, by any Python 3.

usage: start_broker.py HOSTS LOGS COMMAND...

HOSTS are the hostnames of the job's tasks, comma-separated. A task takes its own node's name if
it is listed, else the one at its rank. The name replaces ``@HOST@`` in COMMAND; LOGS is the
directory for COMMAND's output.
"""

import os
import shutil
import socket
import sys
from pathlib import Path


def main() -> None:
    """Choose the hostname, open the log, and become the broker."""
    hosts, logs, *command = sys.argv[1:]
    names = hosts.split(",")
    rank = int(os.environ.get("FLUX_TASK_RANK") or os.environ.get("SLURM_PROCID") or 0)
    own = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    host = own if own in names else names[rank]
    command = [argument.replace("@HOST@", host) for argument in command]
    Path(logs).mkdir(mode=0o700, parents=True, exist_ok=True)
    log = os.open(Path(logs) / f"{host}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for argument in command:
        if argument.startswith("-Srundir="):  # remains of a broker killed here
            shutil.rmtree(argument.partition("=")[2], ignore_errors=True)
    inherited = ("FLUX_", "PMI_", "PMI2_", "PMIX_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(inherited)}
    environment["SHELL"] = "/bin/sh"  # for the broker's own commands: skips users' startup files
    os.execvpe(command[0], command, environment)  # noqa: S606 - a list, and no shell


if __name__ == "__main__":
    main()
