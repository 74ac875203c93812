"""The burst plugin ``local``: brokers on more nodes of this site join the instance."""

from __future__ import annotations

import functools
import math
import shutil
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from fluxburst import Burst, BurstState, Node, NodeType
from fluxburst.config.validators import run_checks
from fluxburst.errors import (
    BurstError,
    CapacityError,
    ParameterError,
    Problem,
)
from fluxburst.formats import flux_configuration
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.formats.units import Duration, counted, format_duration
from fluxburst.plugin import Candidates, Finding
from fluxburst.provider import drains
from fluxburst.provider.elastic import find_flux
from fluxburst.provider.elastic_plugin import ElasticPlugin
from fluxburst.provider.isolation import output_finding, remote_jobspec
from fluxburst.provider.node_removal import burst_left_by
from fluxburst_local.brokers import Brokers
from fluxburst_local.declared import DeclaredNodes, type_name
from fluxburst_local.diagnosis import explain_all
from fluxburst_local.isolated import IsolatedBursts
from fluxburst_local.launchers import Launched, Launcher, SlurmLauncher
from fluxburst_local.launchers.choice import chosen_launcher
from fluxburst_local.parameter_checks import CHECKS
from fluxburst_local.parameters import AS_JOBS, ON_THIS_HOST, BurstParameters

LOOPBACK = "127.0.0.1"
ENDING_SECONDS = 15.0
POLL_SECONDS = 0.1


class LocalBurst(ElasticPlugin):
    """Starts brokers for declared nodes that are down, and ends them again.

    Keeps no state of its own: the launcher finds bursts by their names, and the drain reason of a
    node tells that its termination is under way.
    """

    _param_dataclass = BurstParameters
    name = "local"

    params: BurstParameters

    # --- its parts -------------------------------------------------------------------------

    @functools.cached_property
    def brokers(self) -> Brokers:
        """Commands for starting brokers."""
        flux = find_flux(self.params.flux_root) if self.params.flux_root else self.elastic.flux
        return Brokers(
            flux,
            self.directory,
            self.params.run_dir,
            self.params.log_level,
            self.params.join_timeout,
            "" if self.is_its_own else self.instance.name,
            LOOPBACK if self.params.launcher in ON_THIS_HOST else "",
            flux_configuration.allows_guests(flux_configuration.read(self.directory / "config")),
        )

    @functools.cached_property
    def declared(self) -> DeclaredNodes:
        """The nodes it may start or has started."""
        return DeclaredNodes(self, self.params.hostnames)

    @functools.cached_property
    def launcher(self) -> Launcher:
        """The launcher.

        Raises:
            BurstError: if a requirement is missing.
        """
        made = chosen_launcher(self.params, self.elastic, self.brokers, self.directory)
        made.check()
        return made

    @property
    def queue(self) -> str:
        """The queue of the burst nodes; none if they do not join this instance."""
        return "" if self.isolated else super().queue

    def validate(self) -> bool:
        """Check the parameters, and the directory if it is set.

        Raises:
            ParameterError: names all problems.
        """
        wrong = run_checks(CHECKS, self)
        problems = [Problem(field, "config or environment", why) for field, why in wrong]
        if problems:
            raise ParameterError(self.name, problems)
        return True

    def diagnose(self) -> Iterable[Finding]:
        """Check that the output directory is usable, and that Slurm allows the time limit."""
        if self.isolated:
            yield output_finding(self.params.output_dir)
        if self.params.launcher == "slurm" and isinstance(self.launcher, SlurmLauncher):
            try:
                self.launcher.check_time()
            except ParameterError as error:
                yield Finding("error", str(error), "shorten it, or choose another partition")

    # --- the provider's side ---------------------------------------------------------------

    def node_types(self) -> Sequence[NodeType]:
        """Return a node type for each shape of the declared burst nodes."""
        shapes: dict[tuple[int, int, frozenset[str]], int] = {}
        for node in self.declared.nodes():
            if not node.drained or burst_left_by(node):
                shape = (node.cores, node.gpus, node.properties)
                shapes[shape] = shapes.get(shape, 0) + 1
        most = self.params.max_nodes
        return [
            NodeType(
                type_name(cores, gpus),
                cores=cores,
                gpus=gpus,
                price=self.params.price,
                max_nodes=count if most is None else min(count, most),
                properties=tuple(sorted(properties)),
                max_lifetime=self._max_lifetime,
            )
            for (cores, gpus, properties), count in shapes.items()
        ]

    def lacking(self) -> Iterable[str]:
        """Return which of its burst nodes somebody else has drained."""
        return drains.lines(drains.drained_by_others(self.declared.nodes(), self.declared.hosts))

    def in_use(self) -> dict[str, int]:
        """Return how many nodes of each type are up, or belong to a burst."""
        free = {node.hostname for node in self.declared.available(self.launcher.launched())}
        counts: dict[str, int] = {}
        for node in self.declared.nodes():
            if node.hostname not in free and (not node.drained or burst_left_by(node)):
                name = type_name(node.cores, node.gpus)
                counts[name] = counts.get(name, 0) + 1
        return counts

    def candidates(self, node_type: str) -> Candidates:
        """Return the free declared nodes of a type, by name."""
        available = self.declared.available(self.launcher.launched())
        return Candidates(
            [node for node in available if type_name(node.cores, node.gpus) == node_type],
            chosen=True,
        )

    def create(self, burst: Burst) -> Burst:
        """Start brokers for the nodes that the burst lacks.

        Raises:
            CapacityError: if too few nodes are declared, down, and not drained by somebody else.
            BurstError: if starting them fails.
        """
        with self.brokers.starting():
            if burst.isolated and self._isolated.has_begun(burst.name):
                return self.refresh(burst)  # its job must not run twice
            hosts = self._chosen_hosts(burst)
            if burst.isolated:
                self._prepare_isolated(burst, hosts)
            lease = None if burst.lease_until is None else burst.lease_until - time.time()
            self.launcher.launch(burst.name, hosts, lease)
            burst = self._with_lease_that_holds(burst)
        if burst.isolated:
            return self.refresh(burst)
        # In a queue it costs nothing yet, and the time for joining has not begun.
        state = BurstState.REQUESTED if self.launcher.queues else BurstState.STARTING
        return replace(burst, state=state, hostnames=tuple(hosts))

    @property
    def _max_lifetime(self) -> Duration | None:
        longest = self.launcher.max_lifetime
        return Duration(longest) if longest < math.inf else None

    @property
    def not_renewable(self) -> str:
        """Why the launcher cannot extend the life of brokers; empty if it can."""
        return self.launcher.not_renewable

    def _with_lease_that_holds(self, burst: Burst) -> Burst:
        """Return a burst with its lease cut to the launcher's time limit."""
        longest = self._max_lifetime
        if burst.lease_until is None or longest is None:
            return burst
        return replace(burst, lease_until=min(burst.lease_until, time.time() + longest))

    @property
    def arms_leases(self) -> bool:
        """Whether brokers are started in a job, which has a time limit."""
        return self.params.launcher in AS_JOBS

    def renew(self, burst: Burst) -> Burst:
        """Extend the time limit of the brokers' job, if the launcher uses jobs."""
        if burst.lease_until is None:
            return burst
        until = self.launcher.renew(burst.name, burst.lease_until)
        return replace(burst, lease_until=min(until, burst.lease_until))

    def delete(self, burst: Burst) -> None:
        """End the brokers of its drained nodes, disconnect and undrain the nodes.

        Raises:
            BurstError: if jobs still run on them, or they do not end.
        """
        end = functools.partial(self.launcher.end, burst.name)
        directory = self.brokers.isolated(burst.name)
        if directory.exists():
            self._let_end(burst.name)
            end()
            shutil.rmtree(directory)
        else:
            self.remove_nodes(burst, self._nodes_of(burst), end)
        kept = self._isolated.set_aside(burst.name).exists()
        if burst.state is not BurstState.FAILED and not burst.error and not kept:
            shutil.rmtree(self.brokers.logs(burst.name), ignore_errors=True)

    def list_bursts(self) -> Collection[str]:
        """Return the bursts with remains: brokers, or nodes drained for them."""
        draining = {name for node in self.declared.nodes() if (name := burst_left_by(node))}
        there = {launched.name for launched in self.launcher.launched()}
        return sorted(there | draining | self._isolated.names())

    def adopt(self) -> Sequence[Burst]:
        """Return the bursts with remains, in their current state."""
        with self.brokers.starting():  # a half-started burst has not lost its other nodes
            launched = {one.name: one for one in self.launcher.launched()}
            isolated_bursts = self._isolated.names()
        nodes = {node.hostname: node for node in self.declared.nodes()}
        bursts = {
            name: self._as_it_is(Burst(name, self.name, "", 0), one, nodes, adopting=True)
            for name, one in launched.items()
            if name not in isolated_bursts
        }
        for name in isolated_bursts:
            hosts = launched[name].hosts if name in launched else ()
            known = Burst(name, self.name, "", max(1, len(hosts)), isolated=True)
            try:
                bursts[name] = self._as_told(known, launched.get(name))
            except BurstError as error:  # only this one's state is unknown
                bursts[name] = replace(known, state=BurstState.STARTING, error=str(error))
        for node in nodes.values():
            name = burst_left_by(node)
            if name:
                known = bursts.get(name) or Burst(name, self.name, "", 0)
                bursts[name] = replace(
                    known,
                    state=BurstState.FAILED,
                    hostnames=tuple(dict.fromkeys([*known.hostnames, node.hostname])),
                    error=known.error or "its termination is incomplete",
                )
        return [self._with_shape(burst, nodes) for burst in bursts.values()]

    def refresh(self, burst: Burst) -> Burst:
        """Return the current state of a burst; failed if nodes did not join in time.

        Raises:
            BurstError: a final one, if its job will never start in Slurm's queue.
        """
        there = {launched.name: launched for launched in self.launcher.launched()}
        refused = there[burst.name].refused if burst.name in there else None
        if refused is not None:
            raise refused
        if burst.isolated:
            return self._as_told(burst, there.get(burst.name))
        nodes = {node.hostname: node for node in self.declared.nodes()}
        gone = Launched(burst.name, burst.hostnames, lost=frozenset(burst.hostnames), since=0.0)
        return self._as_it_is(burst, there.get(burst.name, gone), nodes)

    # --- their steps -----------------------------------------------------------------------

    def _chosen_hosts(self, burst: Burst) -> list[str]:
        """Return the hosts of a burst: its own, and free ones for the rest."""
        launched = self.launcher.launched()
        own = [host for one in launched if one.name == burst.name for host in one.hosts]
        free = [
            node.hostname
            for node in self.declared.available(launched)
            if burst.node_type in ("", type_name(node.cores, node.gpus))
            and (not burst.hosts or node.hostname in burst.hosts)
        ]
        missing = max(0, burst.nodes - len(own))
        if missing > len(free):
            which = f" of {format_hostlist(burst.hosts)}" if burst.hosts else ""
            raise CapacityError(
                f"{counted(missing, 'node')}{which} requested, but only {len(free)} declared "
                "nodes are down and free",
                plugin=self.name,
                burst=burst.name,
            )
        return own + free[:missing]

    def _as_it_is(
        self,
        burst: Burst,
        launched: Launched,
        nodes: Mapping[str, Node],
        *,
        adopting: bool = False,
    ) -> Burst:
        """Return a burst in its state according to the launcher and the instance."""
        hosts = launched.hosts if adopting else burst.hostnames or launched.hosts
        up = {host for host in hosts if host in nodes and nodes[host].up}
        missing = [host for host in hosts if host in launched.lost or host not in up]
        late = self._late(burst.name, launched)
        lost = [host for host in missing if host in launched.lost or late]
        burst = replace(burst, hostnames=hosts, since=launched.since or burst.since)
        if lost:
            logs = [(host, self.brokers.log(burst.name, host)) for host in lost]
            ended = launched.lost.issuperset(lost)
            problem = "is gone" if ended else late
            problem = f"{format_hostlist(lost)} {problem}: {explain_all(logs)}"
            left = tuple(host for host in hosts if host not in lost) if adopting else hosts
            return replace(burst, state=BurstState.FAILED, hostnames=left, error=problem)
        if launched.since is None:
            return replace(burst, state=BurstState.REQUESTED, waiting_for=launched.waiting)
        if not missing:
            return replace(burst, state=BurstState.READY)
        return replace(burst, state=BurstState.STARTING)

    # --- isolated bursts -------------------------------------------------------------------

    @functools.cached_property
    def _isolated(self) -> IsolatedBursts:
        return IsolatedBursts(self.brokers, self.params.output_dir)

    def _prepare_isolated(self, burst: Burst, hosts: Sequence[str]) -> None:
        """Write the files for starting the brokers of a burst, unless some run."""
        if all(one.name != burst.name for one in self.launcher.launched()):
            jobspec = remote_jobspec(self.instance, burst.jobs[0], self.params.environment)
            shape = self.elastic.shape_of(hosts[0])
            self._isolated.prepare(burst.name, hosts, shape.cores, shape.gpus, jobspec)

    def _let_end(self, name: str) -> None:
        """Let brokers whose job has ended exit by themselves: a killed one leaves files behind."""
        until = time.monotonic() + ENDING_SECONDS
        while self._isolated.has_ended(name) and time.monotonic() < until:
            there = (one for one in self.launcher.launched() if one.name == name)
            if all(one.lost.issuperset(one.hosts) for one in there):
                return
            time.sleep(POLL_SECONDS)

    def _as_told(self, burst: Burst, launched: Launched | None) -> Burst:
        """Return an isolated burst, from its lead's reports and its former state."""
        late = "" if launched is None else self._late(burst.name, launched)
        return self._isolated.as_it_is(burst, launched, late)

    def _late(self, name: str, launched: Launched) -> str:
        """Return which step took too long, or empty."""
        if launched.since is None:
            first = self._waiting_since.setdefault(name, time.time())
            limit = self.params.queue_timeout
            waited = f"waited longer than {format_duration(limit)} for its nodes"
            return waited if time.time() - first > limit else ""
        self._waiting_since.pop(name, None)
        limit = self.params.join_timeout
        did_not = f"did not join within {format_duration(limit)}"
        return did_not if time.time() - launched.since > limit else ""

    @functools.cached_property
    def _waiting_since(self) -> dict[str, float]:
        return {}

    def _with_shape(self, burst: Burst, nodes: Mapping[str, Node]) -> Burst:
        """Return an adopted burst with its type and size."""
        known = [nodes[host] for host in burst.hostnames if host in nodes]
        node_type = type_name(known[0].cores, known[0].gpus) if known else ""
        size = len(burst.hostnames) or burst.nodes  # isolated bursts do not list their hosts
        return replace(burst, node_type=node_type, nodes=size, price=self.params.price)

    def _nodes_of(self, burst: Burst) -> list[Node]:
        """Return the current nodes of a burst, and of no other."""
        supplied = [(one.name, one.hosts) for one in self.launcher.launched()]
        declared = {node.hostname for node in self.declared.nodes()}
        found = self.nodes_of(burst, supplied, self.draining(declared))
        return [node for node in found if node.hostname in declared]
