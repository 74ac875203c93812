"""The launcher ``ssh``: brokers on named hosts."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence

from fluxburst.errors import BurstError
from fluxburst_local.brokers import Brokers, broker_environment
from fluxburst_local.launchers.process import ProcessLauncher


class SshLauncher(ProcessLauncher):
    """Keeps a connection to each host; its broker runs in it, and ends with it.

    The host's key must be known; it must let this user in without a prompt, and have the
    instance's directory and Flux under the same paths. The terminal that ssh requests
    (``-tt``) makes the remote broker end with the connection.

    Args:
        brokers: Commands for starting brokers.
        arguments: Further arguments for ssh; they cannot disable host-key checking or batch mode.
        user: User to log in as; empty for the current one.
    """

    def __init__(self, brokers: Brokers, arguments: Sequence[str] = (), user: str = "") -> None:
        super().__init__(brokers)
        self._arguments = [*arguments, *(["-l", user] if user else [])]

    def check(self) -> None:
        """Check that ssh is installed.

        Raises:
            BurstError: if it is not.
        """
        if shutil.which("ssh") is None:
            raise BurstError("there is no ssh on PATH")

    def command(self, name: str, host: str) -> list[str]:
        """Return the ssh command that runs one broker.

        sshd passes its command to the user's shell, so it is quoted for one. ssh uses the first
        value of an option, so the leading options cannot be overridden.
        """
        checked = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        environment = broker_environment(self._brokers.marks(name, host, host))
        marks = [f"{key}={value}" for key, value in environment.items()]
        remote = shlex.join(["env", *marks, *self._brokers.command(name, host)])
        ssh = shutil.which("ssh") or "ssh"
        return [ssh, *checked, "-tt", *self._arguments, "--", host, remote]
