"""Bases of burst plugins whose nodes join their client's instance."""

from __future__ import annotations

import functools
import secrets
import socket
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from fluxburst.errors import BurstError, RequestError
from fluxburst.flux.protocol import Instance
from fluxburst.formats.units import Duration
from fluxburst.hookspecs import hookimpl
from fluxburst.model.burst import Burst, drain_reason, prefix_of
from fluxburst.model.identity import RUN_AS_HELP, RunAs
from fluxburst.model.job import Job
from fluxburst.model.node import Node
from fluxburst.plugin.base import BurstPlugin, Finding
from fluxburst.provider import drains
from fluxburst.provider.elastic import (
    BURST_PROPERTY,
    Elastic,
    check_certificate,
    instance_tag,
    is_loopback,
    load,
)
from fluxburst.provider.isolation import output_finding
from fluxburst.provider.node_removal import burst_left_by, remove_nodes

if TYPE_CHECKING:
    from fluxburst.plugin.client_view import ClientView

CONNECT_SECONDS = 3.0


@dataclass
class ElasticParameters:
    """Parameters of every plugin whose nodes are declared in an elastic instance."""

    config_dir: Optional[Path] = field(  # noqa: UP045 - as written in the documentation
        default=None,
        metadata={
            "help": "the elastic instance's directory; by default the running instance's",
        },
    )
    log_level: int = field(default=7, metadata={"help": "severity up to which brokers log, 0 to 7"})
    grace: Optional[Duration] = field(  # noqa: UP045
        default=None,
        metadata={"help": "deprecated: overrides grace in [lifetimes] for its bursts"},
    )
    cancel_jobs: Optional[bool] = field(  # noqa: UP045
        default=None,
        metadata={"help": "deprecated: overrides cancel_jobs in [lifetimes] for its bursts"},
    )
    isolated_burst: bool = field(
        default=False, metadata={"help": "run each job in its own Flux instance"}
    )
    run_as: RunAs = field(default="submitter", metadata={"help": RUN_AS_HELP})
    output_dir: Path = field(
        default=Path("~/.local/state/fluxburst/output"),
        metadata={
            "help": "directory for the output of jobs in isolated bursts, a file for each burst"
        },
    )


class JoiningPlugin(BurstPlugin):
    """A burst plugin that knows its nodes' instance."""

    def __init__(self, dataclass: Any) -> None:
        super().__init__(dataclass)
        self._instance: Instance | None = None

    @hookimpl
    def fluxburst_configure(self, client: ClientView) -> None:
        """Receive the instance to supply."""
        self._instance = client.instance
        self.belongs_to(lambda: self.instance.name)

    @property
    def instance(self) -> Instance:
        """The instance that its nodes join.

        Raises:
            BurstError: if no client has loaded it, so that it has none.
        """
        if self._instance is None:
            raise BurstError("has no instance, since no client has loaded it", plugin=self.name)
        return self._instance


class ElasticPlugin(JoiningPlugin):
    """A burst plugin whose nodes are declared in an elastic instance.

    See :mod:`fluxburst.provider.elastic`.

    Its command ``fluxburst NAME init`` creates such a directory.
    """

    params: ElasticParameters

    @functools.cached_property
    def directory(self) -> Path:
        """The elastic instance's directory.

        Raises:
            RequestError: if it is not set and the running instance has none.
        """
        if self.params.config_dir is not None:
            return self.params.config_dir.resolve()
        config = self.instance.attribute("config.path")
        if not config:
            raise RequestError(
                "config_dir is not set, and the running instance was not started from an elastic "
                f"instance's directory: use fluxburst {self.name.replace('_', '-')} init"
            )
        return Path(config).parent.resolve()

    @functools.cached_property
    def elastic(self) -> Elastic:
        """The elastic instance's description."""
        return load(self.directory)

    @property
    def certificate_file(self) -> Path:
        """Path of the elastic instance's certificate."""
        return self.directory / "curve.cert"

    @functools.cached_property
    def certificate(self) -> bytes:
        """The elastic instance's certificate.

        Raises:
            RequestError: if it is unreadable, or others can read it.
        """
        check_certificate(self.certificate_file)
        return self.certificate_file.read_bytes()

    @functools.cached_property
    def tag(self) -> str:
        """Distinguishes this instance's resources from those of others, 16 characters.

        Isolated bursts may belong to any instance, even to several that share a directory.
        """
        if not self.isolated or (self.params.config_dir is not None and self.is_its_own):
            return instance_tag(self.certificate)
        return instance_tag(self.instance.name.encode())

    @property
    def instance_tag(self) -> str:
        """Identifies this instance in the names of bursts; survives restarts."""
        return self.tag

    @functools.cached_property
    def is_its_own(self) -> bool:
        """Whether the instance was started from this directory."""
        config = self.instance.attribute("config.path")
        return bool(config) and Path(config).parent.resolve() == self.directory

    @property
    def queue(self) -> str:
        """The queue of the burst nodes, to which jobs move; empty if there is none."""
        return self.elastic.queue

    def draining(self, hosts: Collection[str]) -> dict[str, str]:
        """Return the hosts that are drained for a burst, with its name."""
        return {
            node.hostname: name
            for node in self.instance.nodes()
            if node.hostname in hosts and (name := burst_left_by(node))
        }

    def nodes_of(
        self,
        burst: Burst,
        supplied: Iterable[tuple[str, Collection[str]]],
        draining: Mapping[str, str],
    ) -> list[Node]:
        """Return the current nodes of a burst, and of no other.

        Args:
            burst: The burst, with its last known hosts.
            supplied: The provider's current bursts: names, and hosts of each.
            draining: The hosts that are drained for a burst, with its name.
        """
        own, others = set(burst.hostnames), set[str]()
        for name, hosts in (*supplied, *((name, {host}) for host, name in draining.items())):
            (own if name == burst.name else others).update(hosts)
        return [node for node in self.instance.nodes() if node.hostname in own - others]

    def remove_nodes(self, burst: Burst, nodes: Iterable[Node], end: Callable[[], None]) -> None:
        """Remove a burst's nodes from the instance. See :func:`node_removal.remove_nodes`.

        Args:
            burst: The burst.
            nodes: Its nodes.
            end: Ends their brokers, and returns once they have ended.

        Raises:
            BurstError: if something still runs on them, or they stay up.
        """
        ranks = [node.rank for node in nodes]
        remove_nodes(self.instance, ranks, reason=drain_reason(burst.name), end=end)

    def have_leave(self, burst: Burst, nodes: Iterable[Node], end: Callable[[], None]) -> None:
        """Remove a burst's nodes: the former name of :meth:`remove_nodes`, for one release."""
        warnings.warn("have_leave() is remove_nodes() now", DeprecationWarning, stacklevel=2)
        self.remove_nodes(burst, nodes, end)

    def lacking(self) -> Iterable[str]:
        """Return which of the declared burst nodes somebody else has drained."""
        hosts = frozenset(self.elastic.burst_hosts)
        nodes = [node for node in self.instance.nodes() if node.hostname in hosts]
        return drains.lines(drains.drained_by_others(nodes, hosts))

    def findings_here(self, who: str, host: str | None, port: int | None) -> Iterable[Finding]:
        """Check whether something listens at the lead's address for nodes, as seen from here.

        Isolated bursts never connect back: for them, check whether output can be kept.

        Args:
            who: Description of the nodes, such as ``pods``.
            host: The lead's address for them; None for the declared one.
            port: The port; None for the declared one.
        """
        if self.isolated:
            yield output_finding(self.params.output_dir)
            return
        try:
            host = host or self.elastic.address
            port = port or self.elastic.port
        except RequestError as error:
            yield Finding("error", str(error), "check the parameter config_dir")
            return
        if is_loopback(host):
            yield Finding(
                "warning",
                f"the lead's address for {who} is {host}, which is themselves",
                f"set lead_host to an address that {who} can reach",
            )
        try:
            with socket.create_connection((host, port), CONNECT_SECONDS):
                what = f"something listens at {host}:{port}, where {who} reach the lead"
                yield Finding("ok", what)
        except OSError as error:
            yield Finding(
                "warning",
                f"nothing answers at {host}:{port}, the lead's address for {who}: "
                f"{error.strerror or error}",
                f"start the instance; if only {who} can reach it, this cannot be checked here",
            )

    def constraint_of(self, job: Job) -> Mapping[str, Any] | None:
        """Return the requirement of the burst nodes' queue, if jobs move to one."""
        if self.queue and job.queue != self.queue:
            return {"properties": [BURST_PROPERTY]}
        return super().constraint_of(job)

    def by_hand(self, nodes: int | None, tasks: int | None) -> Burst:
        """Size a burst requested on demand; two processes produce two names."""
        burst = super().by_hand(nodes, tasks)
        return replace(burst, name=prefix_of(self.name, self.tag) + secrets.token_hex(4))
