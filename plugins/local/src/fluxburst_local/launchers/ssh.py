"""The launcher ``ssh``: brokers on named hosts."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence

from fluxburst.errors import BurstError
from fluxburst_local.brokers import Brokers, broker_environment
from fluxburst_local.launchers.process import ProcessLauncher


class SshLauncher(ProcessLauncher):
    """Keeps a connection to each host, in which its broker runs, and ends with it.

    The host must be known (its key is checked), must let this user in without a question, and must
    see the instance's directory and Flux under the same paths. The terminal that ssh asks for
    (``-tt``) is what makes the remote broker end when the connection does.

    Args:
        brokers: How brokers are started.
        arguments: More arguments for ssh; its host-key checking and its silence stay on.
        user: User to log in as; empty for the same as here.
    """

    def __init__(self, brokers: Brokers, arguments: Sequence[str] = (), user: str = "") -> None:
        super().__init__(brokers)
        self._arguments = [*arguments, *(["-l", user] if user else [])]

    def check(self) -> None:
        """Check that there is an ssh.

        Raises:
            BurstError: if there is none.
        """
        if shutil.which("ssh") is None:
            raise BurstError("there is no ssh on PATH")

    def command(self, name: str, host: str) -> list[str]:
        """Return the ssh command that runs one broker.

        sshd hands its command to the user's shell, so it is quoted for one. ssh takes the first
        value that an option is given, so those that come first cannot be undone.
        """
        checked = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        environment = broker_environment(self._brokers.marks(name, host, host))
        marks = [f"{key}={value}" for key, value in environment.items()]
        remote = shlex.join(["env", *marks, *self._brokers.command(name, host)])
        ssh = shutil.which("ssh") or "ssh"
        return [ssh, *checked, "-tt", *self._arguments, "--", host, remote]
