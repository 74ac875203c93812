"""Tasks of a job that become brokers, one on each of its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fluxburst_local import start_broker
from fluxburst_local.brokers import Brokers

PLACEHOLDER = "@HOST@"


def task_command(brokers: Brokers, python: str, burst: str, hosts: Sequence[str]) -> list[str]:
    """Return the command of each task of a burst's job; each task determines its own host."""
    script = Path(start_broker.__file__)
    logs = str(brokers.logs(burst))
    command = brokers.command(burst, PLACEHOLDER)
    return [python, str(script), ",".join(hosts), logs, *command]
