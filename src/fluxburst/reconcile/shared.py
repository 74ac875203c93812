"""What the parts that act for one client have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fluxburst.config.policy import Policy
from fluxburst.flux.protocol import Instance
from fluxburst.hooks.manager import Manager
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.burst_store import BurstStore
from fluxburst.reconcile.queue_mirror import PendingQueue
from fluxburst.reconcile.workers import PluginWorkers


@dataclass
class Shared:
    """What the parts of one client share.

    Attributes:
        hooks: The client's hooks.
        plugins: The loaded plugins, by name; the client's own mapping, not a copy.
        instance: The instance of the jobs.
        pending_queue: The client's mirror of its pending jobs.
        store: The record of bursts, and what plugins and hooks know of them.
        workers: The threads in which plugins are called.
        policy: Lifetimes, timeouts, retries and limits. It alone may be set anew.
    """

    hooks: Manager
    plugins: Mapping[str, BurstPlugin]
    instance: Instance
    pending_queue: PendingQueue
    store: BurstStore
    workers: PluginWorkers
    policy: Policy
