"""The read-only part of a client, available at any time, even to hooks."""

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
    """The read-only interface of a client. Nothing here changes anything, or takes a turn.

    Args:
        instance: The instance of the jobs.
        config: The configuration.
        block: Names of packages to ignore, besides those of ``config``.
        state_dir: The named directory of the ledger; None for the usual one.
        validate: Ask each plugin to validate itself on loading.

    Attributes:
        instance: The instance of the jobs.
        config: The current configuration.
        hooks: The hooks of this client.
        validate: Whether each plugin is asked to validate itself on loading.
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
            raise TypeError("a hook cannot change the client")
        super().__setattr__(attribute, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} plugins={list(self.plugins)}>"

    @property
    def plugins(self) -> OrderedDict[str, BurstPlugin]:
        """The loaded burst plugins by name, in the order of loading."""
        return self._loader.plugins

    @property
    def choices(self) -> str:
        """The names of the available burst plugins, separated by ``|``."""
        return "|".join(self.hooks.offers)

    def iter_plugins(self) -> Iterator[tuple[str, BurstPlugin]]:
        """Yield the loaded plugins by name, in the order in which they are offered jobs."""
        for name in self.hooks.order_plugins(self.plugins, None):
            yield name, self.plugins[name]

    def now(self) -> float:
        """Return the time of the instance's clock, in seconds since the epoch."""
        return self.instance.now()

    def nodes(self) -> tuple[Node, ...]:
        """Return the instance's nodes; during planning, as of its start."""
        return self._controller.parts.planners.nodes()

    def list_jobs(self) -> list[int]:
        """Return the ids of all active jobs of the instance, of all users."""
        return self.instance.job_ids()

    @property
    def ledger(self) -> Ledger:
        """The ledger of this instance's bursts.

        Raises:
            LedgerError: if opening it fails.
        """
        return self._place.ledger

    @property
    def state_dir(self) -> Path | None:
        """Path of the ledger; None if in memory."""
        return self._place.directory

    def why_unwritable(self) -> str:
        """Return why the ledger is not writable now; empty if it is. Changes nothing."""
        return self._place.why_unwritable()

    @property
    def policy(self) -> Policy:
        """Current lifetimes, timeouts, retries and limits."""
        return self._controller.policy

    def holder(self) -> str:
        """Return the holder of the instance, for people; empty for none. Changes nothing.

        Raises:
            LedgerError: if that is unknown.
        """
        return self._place.holder()

    def queue_counts(self) -> tuple[int, int, int]:
        """Return how many jobs the passes know as pending, assigned, and unmatched."""
        pending_queue = self._controller.pending_queue
        return len(pending_queue.jobs), len(pending_queue.marks), self._controller.scan.waiting

    def next_due(self) -> float:
        """Return the next time a lease or an idle timer is due; seconds since the epoch."""
        return self._controller.next_due()

    def strangers(self) -> dict[str, list[str]]:
        """Return names in plugins' last lists that are not of this instance.

        By plugin. They are left alone, whatever is terminated.
        """
        found = self._controller.parts.ownership.strangers
        return {plugin: sorted(names) for plugin, names in found.items() if names}


def _close(workers: PluginWorkers, place: LedgerPlace) -> None:
    """Close a client's resources; neither refers to the client, which could not be freed then."""
    workers.close()
    place.close()


def instance_of(handle: Any, mock: bool) -> Instance:
    """Return the user's instance: from a handle, any instance, a mock, or the default."""
    if handle is None:
        return EmbeddedInstance(recordings.load(recordings.ONE_JOB)) if mock else LiveInstance()
    # Looked up on the class: a flux.Flux accepts every attribute, and fails when it is called.
    is_instance = hasattr(type(handle), "pending_jobs")
    return handle if is_instance else LiveInstance(handle)
