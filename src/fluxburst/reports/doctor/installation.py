"""The installation under examination, as far as it is known so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fluxburst.client import FluxBurst
from fluxburst.config.file import Config
from fluxburst.flux.protocol import Instance
from fluxburst.formats.spelling import known_name
from fluxburst.ledger import Ledger
from fluxburst.ledger.location import FILE
from fluxburst.simulation.embedded import EmbeddedInstance


class Installation:
    """One installation.

    Args:
        find_config: Finds and reads the configuration.
        instance: The instance; it may be unreachable.
        named: Names of the plugins to load; by default those of the configuration.
        block: Names of packages to ignore.
        state_dir: Directory of the ledger; by default the usual place.

    Attributes:
        config: The configuration; empty until it is read, and if it is invalid.
        reached: Whether the instance has answered.
        guest: Whether the instance belongs to another user.
        silent: Providers that could not be reached, with the reason.
    """

    def __init__(
        self,
        find_config: Callable[[], Config],
        instance: Instance,
        named: Sequence[str],
        block: Sequence[str],
        state_dir: Path | None,
    ) -> None:
        self.find_config = find_config
        self.instance = instance
        self.named = tuple(named)
        self._block = tuple(block)
        self._state_dir = state_dir
        self.config = Config()
        self.reached = isinstance(instance, EmbeddedInstance)
        self.guest = False
        self.silent: Mapping[str, str] = {}
        self._client: FluxBurst | None = None
        self._alone: Ledger | None = None

    @property
    def has_client(self) -> bool:
        """Whether a client exists; other checks need one."""
        return self._client is not None

    @property
    def client(self) -> FluxBurst:
        """The client, made by an earlier check."""
        assert self._client is not None
        return self._client

    def make_client(self) -> None:
        """Make the client, with the configuration known so far.

        Raises:
            ConfigError: if the configuration is invalid.
        """
        self._client = FluxBurst(
            self.instance, config=self.config, block=self._block, state_dir=self._state_dir
        )

    @property
    def ledger(self) -> Ledger:
        """The ledger, even if only its directory is known."""
        if self.reached:
            return self.client.ledger
        directory = self.client.state_dir
        if self._alone is None and directory is not None:
            self._alone = Ledger(directory / FILE, "", read_only=True)
        assert self._alone is not None
        return self._alone

    def plugin_names(self) -> list[str]:
        """Return the names of the plugins to examine, in order."""
        named = (known_name(name, self.client.hooks.offers) for name in self.named)
        return list(dict.fromkeys(named)) or list(self.client.config.plugins)

    def close(self) -> None:
        """Close everything that was opened."""
        if self._client is not None:
            self._client.close()
        if self._alone is not None:
            self._alone.close()
