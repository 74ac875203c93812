"""What a client consists of, and what may be asked of it at any time, hooks included."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fluxburst.config.file import Config, blocked_by_environment
from fluxburst.config.policy import Policy
from fluxburst.flux.live import LiveInstance
from fluxburst.flux.protocol import Instance
from fluxburst.hooks.loading import Loader
from fluxburst.hooks.manager import Manager
from fluxburst.hooks.turns import Turn
from fluxburst.hooks.user_functions import UserFunctions
from fluxburst.ledger import Ledger, LedgerPlace
from fluxburst.model.node import Node
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.controller import Controller
from fluxburst.reconcile.workers import PluginWorkers
from fluxburst.simulation import recordings
from fluxburst.simulation.embedded import EmbeddedInstance


class ReadableClient:
    """A client that can only be looked at. None of this changes anything, or takes a turn.

    Args:
        instance: The instance that jobs wait in.
        config: The configuration.
        block: Names of packages that are not to take part, besides those of ``config``.
        state_dir: The directory of the ledger that was named; None for the usual one.
        validate: Ask each plugin to validate itself when it is loaded.

    Attributes:
        instance: The instance that jobs wait in.
        config: The configuration, as it is now.
        hooks: The hooks of this client.
        validate: Whether each plugin is asked to validate itself when it is loaded.
    """

    def __init__(
        self,
        instance: Instance,
        config: Config,
        block: Iterable[str],
        state_dir: Path | None,
        *,
        validate: bool,
    ) -> None:
        self.instance = instance
        self.config = config
        self.validate = validate
        hooks = Manager([*config.block, *blocked_by_environment(), *block])
        self.hooks = hooks
        self._functions = UserFunctions(hooks)
        self._loader = Loader(hooks, instance)
        in_memory = isinstance(instance, EmbeddedInstance)
        self._place = LedgerPlace(instance, state_dir, in_memory=in_memory)
        self._controller = Controller(hooks, self.plugins, instance, self._place, config.policy)
        workers = self._controller.workers
        self._turn = Turn(lambda: hooks.in_hook, lambda: workers.here)
        self._closing = weakref.finalize(self, _close, workers, self._place)

    def __setattr__(self, attribute: str, value: Any) -> None:
        if "hooks" in vars(self) and self.hooks.in_hook:
            raise TypeError("a hook may look at the client, and cannot change it")
        super().__setattr__(attribute, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} plugins={list(self.plugins)}>"

    @property
    def plugins(self) -> OrderedDict[str, BurstPlugin]:
        """The loaded burst plugins by name, in the order they were loaded."""
        return self._loader.plugins

    @property
    def choices(self) -> str:
        """The names of the burst plugins on offer, separated by ``|``."""
        return "|".join(self.hooks.offers)

    def iter_plugins(self) -> Iterator[tuple[str, BurstPlugin]]:
        """Yield the loaded plugins by name, in the order they are offered jobs."""
        for name in self.hooks.order_plugins(self.plugins, None):
            yield name, self.plugins[name]

    def now(self) -> float:
        """Return the time of the instance's clock, in seconds since the epoch."""
        return self.instance.now()

    def nodes(self) -> tuple[Node, ...]:
        """Return the instance's nodes; while a plan is made, as they were at its start."""
        return self._controller.parts.planners.nodes()

    def list_jobs(self) -> list[int]:
        """Return the ids of all active jobs of the instance, of all users."""
        return self.instance.job_ids()

    @property
    def ledger(self) -> Ledger:
        """The record of this instance's bursts.

        Raises:
            LedgerError: if it cannot be opened.
        """
        return self._place.ledger

    @property
    def state_dir(self) -> Path | None:
        """Where the ledger is kept; None for memory."""
        return self._place.directory

    def why_unwritable(self) -> str:
        """Return why the ledger cannot be written now; empty where it can be. Changes nothing."""
        return self._place.why_unwritable()

    @property
    def policy(self) -> Policy:
        """Lifetimes, timeouts, retries and limits, as they are now."""
        return self._controller.policy

    def holder(self) -> str:
        """Return who holds the instance, for a person; empty for nobody. Changes nothing.

        Raises:
            LedgerError: if that cannot be told.
        """
        return self._place.holder()

    def queue_counts(self) -> tuple[int, int, int]:
        """Return how many jobs the passes know to be pending, given away, and without a place."""
        pending_queue = self._controller.pending_queue
        return len(pending_queue.jobs), len(pending_queue.marks), self._controller.scan.waiting

    def next_due(self) -> float:
        """Return when a lease or an idle timer is due at the earliest; seconds since the epoch."""
        return self._controller.next_due()

    def strangers(self) -> dict[str, list[str]]:
        """Return what plugins listed, when they were last asked, that is not of this instance.

        By plugin, with the names. It is left alone, whatever is taken down.
        """
        found = self._controller.parts.ownership.strangers
        return {plugin: sorted(names) for plugin, names in found.items() if names}


def _close(workers: PluginWorkers, place: LedgerPlace) -> None:
    """Close what a client has; neither of these knows the client, which would never be let go."""
    workers.close()
    place.close()


def instance_of(handle: Any, mock: bool) -> Instance:
    """Return the instance that a user has named: a handle, any instance, a mock, or the usual."""
    if handle is None:
        return EmbeddedInstance(recordings.load(recordings.ONE_JOB)) if mock else LiveInstance()
    # Looked for on the class: a flux.Flux answers to every attribute, and fails when it is called.
    is_instance = hasattr(type(handle), "pending_jobs")
    return handle if is_instance else LiveInstance(handle)
