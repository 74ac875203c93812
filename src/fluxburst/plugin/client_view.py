"""The client as hooks see it; every answer is current."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from fluxburst.config.file import Config
from fluxburst.config.policy import Policy
from fluxburst.flux.protocol import Instance
from fluxburst.ledger import Ledger
from fluxburst.model.node import Node
from fluxburst.plugin.base import BurstPlugin


class ClientView(Protocol):
    """A client as hooks see it; :class:`~fluxburst.client.FluxBurst` is one.

    Attributes:
        config: The configuration.
        instance: The Flux instance.
    """

    config: Config
    instance: Instance

    @property
    def plugins(self) -> Mapping[str, BurstPlugin]:
        """The loaded burst plugins by name."""

    @property
    def policy(self) -> Policy:
        """The configuration's settings for bursts."""

    @property
    def ledger(self) -> Ledger:
        """The ledger of all bursts."""

    @property
    def state_dir(self) -> Path | None:
        """Path of the ledger; None if it is in memory."""

    def now(self) -> float:
        """Return the time of the instance, in seconds since the epoch."""

    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes of the instance."""

    def list_jobs(self) -> list[int]:
        """Return the ids of the pending jobs."""

    def iter_plugins(self) -> Iterator[tuple[str, BurstPlugin]]:
        """Yield the loaded plugins in the order in which jobs are offered to them."""
