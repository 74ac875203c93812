"""Bases of the burst plugins whose nodes join the instance that their client works on."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluxburst.bursts import Burst
from fluxburst.elastic import BURST_PROPERTY, Elastic, load
from fluxburst.errors import BurstError, RequestError
from fluxburst.handles.protocol import Instance
from fluxburst.hookspecs import hookimpl
from fluxburst.jobs import Job
from fluxburst.plugins import BurstPlugin

if TYPE_CHECKING:
    from fluxburst.client import FluxBurst


class JoiningPlugin(BurstPlugin):
    """A burst plugin that knows which instance its nodes join."""

    def __init__(self, dataclass: Any) -> None:
        super().__init__(dataclass)
        self._instance: Instance | None = None

    @hookimpl
    def fluxburst_configure(self, client: FluxBurst) -> None:
        """Learn which instance to supply."""
        self._instance = client.instance

    @property
    def instance(self) -> Instance:
        """The instance that its nodes join.

        Raises:
            BurstError: if it was not loaded by a client, and so has none.
        """
        if self._instance is None:
            raise BurstError("is not loaded by a client, so has no instance", plugin=self.name)
        return self._instance


class ElasticPlugin(JoiningPlugin):
    """A burst plugin whose nodes are declared in an elastic instance (:mod:`fluxburst.elastic`).

    Its parameters have a ``config_dir``, the elastic instance's directory or None for the running
    one's, and its command ``fluxburst NAME init`` makes such a directory.
    """

    @functools.cached_property
    def directory(self) -> Path:
        """The elastic instance's directory.

        Raises:
            RequestError: if none is given and the running instance has none.
        """
        given: Path | None = self.params.config_dir
        if given is not None:
            return given.resolve()
        config = self.instance.attribute("config.path")
        if not config:
            raise RequestError(
                "config_dir is not set, and the running instance was not started from an elastic "
                f"instance's directory: fluxburst {self.name.replace('_', '-')} init makes one"
            )
        return Path(config).parent.resolve()

    @functools.cached_property
    def elastic(self) -> Elastic:
        """What the elastic instance is made of."""
        return load(self.directory)

    @property
    def queue(self) -> str:
        """The queue of the burst nodes, to which jobs are moved; empty where there is none."""
        return self.elastic.queue

    def constraint_of(self, job: Job) -> Mapping[str, Any] | None:
        """Return what the burst nodes' queue requires, where jobs are moved to one."""
        if self.queue and job.queue != self.queue:
            return {"properties": [BURST_PROPERTY]}
        return super().constraint_of(job)

    def by_hand(self, nodes: int | None, tasks: int | None) -> Burst:
        """Size a burst that was asked for by hand; two processes give two names."""
        burst = super().by_hand(nodes, tasks)
        return replace(burst, name=f"{self.name}-{secrets.token_hex(4)}")
