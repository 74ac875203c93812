"""The base of burst plugins that create MiniClusters, whose brokers join the instance."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fluxburst import Burst, BurstState, ByteSize, Job, Node, NodeType
from fluxburst.errors import BurstError, ParameterError, Problem, RequestError
from fluxburst.plugin import Candidates, Finding, compiled, could_fit, only_looking
from fluxburst.provider.elastic_plugin import ElasticPlugin
from fluxburst.provider.isolation import OUTPUT_LIMIT, UNREAD, with_output
from fluxburst_kubernetes import labels
from fluxburst_kubernetes.checks import check_parameters
from fluxburst_kubernetes.connection import Connection
from fluxburst_kubernetes.errors import ExistsError, NotFoundError
from fluxburst_kubernetes.node_pools import pool_name
from fluxburst_kubernetes.parameters import MiniClusterParameters
from fluxburst_kubernetes.rounds import Rounds, Snapshot
from fluxburst_kubernetes.slots import NAME_LENGTH, Slot, SlotPool, declared_slots, slot_names
from fluxburst_kubernetes.states import Found, Patience, as_it_is

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

    from fluxburst_kubernetes.cluster import Cluster
    from fluxburst_kubernetes.creation import Maker, Pods
    from fluxburst_kubernetes.miniclusters import MiniClusters
    from fluxburst_kubernetes.outcomes import Outcome


class MiniClusterBurst(ElasticPlugin):
    """Creates MiniClusters of declared names, and deletes them again.

    Keeps no state of its own: it finds bursts by the labels in the cluster. A subclass supplies
    the connection to the cluster, and the node types.
    """

    params: MiniClusterParameters
    logs_outlive_pods = False
    """Whether the command for reading a job's output may work after its pod is gone."""

    def __init__(self, dataclass: MiniClusterParameters) -> None:
        super().__init__(dataclass)
        self._changing = threading.Lock()
        """Held while secrets and their users are created, or found to be unused."""
        self._seen: tuple[float, Sequence[Slot]] | None = None
        """When the cluster was last asked for free slots, and the answer."""
        self.rounds = Rounds(self._look)

    # --- the subclass's part ---------------------------------------------------------------

    def _configuration(self) -> SingleConfig | None:
        """Return the current access to the cluster; None if there is no cluster yet.

        Raises:
            BurstError: or a subclass, if it is unknown.
        """
        raise NotImplementedError

    def _types(self) -> list[NodeType]:
        """Return the possible kinds of pods."""
        raise NotImplementedError

    def _pod_limits(self, node_type: NodeType) -> tuple[int | None, ByteSize | None]:
        """Return the CPUs and the memory that a pod requests and is limited to."""
        return self.params.cpu_limit, self.params.memory_limit

    def _shape_of(self, node_type: str) -> str:
        """Return the shape of declared hosts for a node type."""
        return ""

    def _node_selector(self, burst: Burst) -> Mapping[str, str]:
        """Return the labels of the nodes for a burst's pods; none for any node."""
        return {}

    def _problems(self) -> Iterator[tuple[str, str]]:
        """Yield the field and the problem, for all problems of the parameters."""
        return check_parameters(self.params)

    # --- its parts -------------------------------------------------------------------------

    @functools.cached_property
    def slots(self) -> Sequence[Slot]:
        """The possible MiniClusters.

        Raises:
            RequestError: if the elastic instance declares no host for any.
        """
        found = declared_slots(slot_names(self.params.name), self.elastic.burst_hosts)
        if not found:
            raise RequestError(
                f"name is {self.params.name!r}, but {self.directory} declares no hosts of such a "
                "MiniCluster: declare them with fluxburst kubernetes init"
            )
        return found

    @functools.cached_property
    def slot_pool(self) -> SlotPool:
        """The slots, with the shapes of their hosts."""
        shapes = {slot.name: self.elastic.shape_of(slot.hosts[0]).name for slot in self.slots}
        return SlotPool(self.slots, shapes, self.name)

    @property
    def certificate_file(self) -> Path:
        """Path of the elastic instance's certificate."""
        return self.params.curve_cert or super().certificate_file

    @property
    def queue(self) -> str:
        """The queue of the burst nodes; none if they do not join this instance."""
        return "" if self.isolated else super().queue

    @functools.cached_property
    def connection(self) -> Connection:
        """Opens connections to the cluster."""
        return Connection(self._configuration, self.params, self.name)

    @functools.cached_property
    def maker(self) -> Maker:
        """Creates its MiniClusters."""
        from fluxburst_kubernetes.creation import Maker

        return Maker(self, self.params)

    def _miniclusters(self, cluster: Cluster | None) -> MiniClusters:
        """Return the instance's objects in a cluster."""
        from fluxburst_kubernetes.miniclusters import MiniClusters

        return MiniClusters(cluster, self.tag, self.name)

    def _look(self) -> Snapshot:
        with self.connection.there() as cluster:
            return self._miniclusters(cluster).snapshot()

    def validate(self) -> bool:
        """Check the parameters, the directory if it is set, and the Flux Operator.

        An unreachable cluster is not an error: a service may start before the cluster does.

        Raises:
            ParameterError: names all problems of the parameters.
            BurstError: if the cluster has no Flux Operator.
            AuthError: if it does not accept the credentials.
        """
        problems = [Problem(field, "config or environment", why) for field, why in self._problems()]
        if problems:
            raise ParameterError(self.name, problems)
        if self.params.flux_operator_yaml is not None:
            return True  # the first burst installs it
        self.connection.check_operator()
        return True

    def diagnose(self) -> Iterable[Finding]:
        """Check the cluster, this user's permissions in it, the operator, and the lead's address.

        It changes nothing.
        """
        from fluxburst_kubernetes.diagnosis import cluster_findings

        yield from cluster_findings(self.connection.opened, self.params, isolated=self.isolated)
        yield from self.findings_here("pods", self.params.lead_host, self.params.lead_port)
        if not self.isolated:
            yield self._finding_of_slots()

    def _finding_of_slots(self) -> Finding:
        try:
            slots = ", ".join(f"{slot.name} of {len(slot.hosts)}" for slot in self.slots)
        except RequestError as error:
            return Finding("error", str(error))
        return Finding("ok", f"slots for bursts, with their nodes: {slots}")

    # --- the provider's side ---------------------------------------------------------------

    def node_types(self) -> Sequence[NodeType]:
        """Return the kinds of pods, limited to the number that one slot holds.

        A pass calls this repeatedly: an answer of the cluster is valid for the poll interval.
        """
        if self.isolated:
            return self._types()
        free, used = self._seen_free(), self.in_use()
        most = {
            kind.name: max((len(slot.hosts) for slot in self._suiting(free, kind.name)), default=0)
            for kind in self._types()
        }
        return [
            replace(kind, max_nodes=used.get(kind.name, 0) + most[kind.name])
            for kind in self._types()
        ]

    def schedule(self, job: Job) -> bool:
        """Decide whether to take a job, without asking the cluster: if some pod could run it."""
        constraint = compiled(self.constraint_of(job), job.id)
        return could_fit(job.chunks, self._types(), constraint)

    def candidates(self, node_type: str) -> Candidates:
        """Return the hosts of the free slots; a burst's size determines its slot."""
        free = {h for slot in self._suiting(self._seen_free(), node_type) for h in slot.hosts}
        return Candidates([node for node in self.instance.nodes() if node.hostname in free])

    def _seen_free(self) -> Sequence[Slot]:
        """Return the slots that are free, as of a moment ago."""
        now, seen = time.monotonic(), self._seen  # creating a burst resets it meanwhile
        if seen is None or now - seen[0] > self.params.poll_interval:
            with self.connection.there() as cluster:
                seen = self._seen = now, self._free(cluster)
        return seen[1]

    def _suiting(self, slots: Sequence[Slot], node_type: str) -> Sequence[Slot]:
        return self.slot_pool.of_shape(slots, self._shape_of(node_type))

    def create(self, burst: Burst) -> Burst:
        """Create a MiniCluster, with the namespace and secrets if missing; or find it.

        Raises:
            CapacityError: if no free slot holds this many nodes.
            BurstError: or a subclass, if the API server refuses.
        """
        with contextlib.ExitStack() as opened:
            with only_looking():
                cluster = opened.enter_context(self.connection.opened())
                found = self._miniclusters(cluster).find(burst.name)
            if found is None:
                found = self._make(cluster, burst)
        return self._as_it_is(burst, found)

    def delete(self, burst: Burst) -> None:
        """Delete its MiniCluster, wait until that is gone, and remove its drained nodes.

        The instance's secrets are deleted with its last burst. The namespace stays.

        Raises:
            BurstError: if jobs still run on its nodes, or its pods do not end in time.
        """
        with self.connection.there() as cluster:
            if burst.isolated:
                self._end(cluster, burst.name)
            else:
                nodes = self._nodes_of(cluster, burst)
                self.remove_nodes(burst, nodes, lambda: self._end(cluster, burst.name))
            self._miniclusters(cluster).remove_job(burst.name)
            with self._changing:
                self._miniclusters(cluster).remove_unused_secrets()
                self._seen = None

    def list_bursts(self) -> Collection[str]:
        """Return the bursts with remains: a MiniCluster, its Job, drained nodes."""
        with self.connection.there() as cluster:
            miniclusters = self._miniclusters(cluster)
            there = {labels.read(found).name for found in miniclusters.listed()}
            there |= miniclusters.bursts_of_jobs()
        return sorted(there | set(self._draining().values()))

    def observing(self) -> contextlib.AbstractContextManager[None]:
        """Share one list of each kind of objects among the bursts of a round."""
        return self.rounds.begin()

    def adopt(self) -> Sequence[Burst]:
        """Return the bursts with remains, in their current state."""
        snapshot = self.rounds.snapshot()
        bursts = {}
        for found in snapshot.found:
            written = labels.read(found.minicluster)
            bursts[written.name] = self._as_it_is(written.burst(self.name), found, adopting=True)
        draining = self._draining()
        for name in sorted({*snapshot.with_job, *draining.values()}):
            hosts = [host for host, burst in draining.items() if burst == name]
            known = bursts.get(name) or self._remnant(name)
            bursts[name] = replace(
                known, hostnames=tuple(dict.fromkeys([*known.hostnames, *hosts]))
            )
        return list(bursts.values())

    def refresh(self, burst: Burst) -> Burst:
        """Return a burst in its state according to its pods and the instance's nodes."""
        found = self.rounds.find(burst.name)
        if found is None:
            with self.connection.there() as cluster:
                found = self._miniclusters(cluster).find(burst.name)
                if found is None and burst.isolated:
                    self._check_again(cluster, burst)
        if found is None:
            gone = "its MiniCluster no longer exists"
            return replace(burst, state=BurstState.FAILED, error=gone)
        now = self._as_it_is(burst, found)
        ready = now.isolated and now.state is BurstState.READY
        if ready and self.rounds.may_have_secret(burst.name):
            with self.connection.opened() as cluster:
                self._miniclusters(cluster).remove_job(burst.name)
        return now

    def renew(self, burst: Burst) -> Burst:
        """Set the deadline of its MiniCluster's Job to the end of the lease.

        Raises:
            BurstError: if it does not exist, or has ended.
        """
        from fluxburst_kubernetes.creation import extend

        if burst.lease_until is None:
            return burst
        with self.connection.opened() as cluster:
            found = self._miniclusters(cluster).find(burst.name)
            if found is None:
                raise BurstError("it has no MiniCluster to renew", plugin=self.name)
            extend(cluster, found, burst.lease_until)
        return burst

    # --- their steps -----------------------------------------------------------------------

    def _make(self, cluster: Cluster, burst: Burst) -> Found:
        """Create a burst's MiniCluster, and everything it needs."""
        with self._changing:
            self.maker.prepare(cluster)
            if burst.isolated:
                found = self.maker.create_isolated(cluster, burst, self._pods(burst))
            else:
                found = self._take_slot(cluster, burst)
            self._seen = None
        return found

    def _take_slot(self, cluster: Cluster, burst: Burst) -> Found:
        """Create a burst's MiniCluster in a free slot."""
        free = self._free_for(cluster, burst.node_type)
        while True:
            slot = self._choose(free, burst)
            try:
                return self.maker.create(cluster, slot, burst, self._pods(burst))
            except ExistsError:  # another user's, or another instance's
                free = [other for other in free if other != slot]
            except NotFoundError as error:
                raise BurstError(f"{error}: was the Flux Operator just removed?") from error

    def _free_for(self, cluster: Cluster, node_type: str) -> Sequence[Slot]:
        return self._suiting(self._free(cluster), node_type)

    def _choose(self, free: Sequence[Slot], burst: Burst) -> Slot:
        """Return the slot for a burst.

        Raises:
            CapacityError: if none holds it.
        """
        return self.slot_pool.choose(free, burst, self._shape_of(burst.node_type))

    def _pods(self, burst: Burst) -> Pods:
        """Return the description of a burst's pods.

        Raises:
            BurstError: if its node type is unknown.
        """
        from fluxburst_kubernetes.creation import Pods, pod_shape

        kinds = {kind.name: kind for kind in self._types()}
        kind = kinds.get(burst.node_type)
        if kind is None:
            raise BurstError(f"there is no node type {burst.node_type!r}", plugin=self.name)
        shape = pod_shape(self.params, kind, *self._pod_limits(kind))
        return Pods(shape, self._node_selector(burst))

    def _free(self, cluster: Cluster | None) -> list[Slot]:
        """Return the slots without a MiniCluster whose nodes are down and not drained."""
        from fluxburst_kubernetes.miniclusters import names_taken

        taken = names_taken(cluster)
        busy = {node.hostname for node in self.instance.nodes() if node.up or node.drained}
        return self.slot_pool.free(taken, busy)

    def _end(self, cluster: Cluster | None, name: str) -> None:
        """End a burst's pods, and wait until it is gone from the cluster.

        Raises:
            StaysError: on timeout.
        """
        self._miniclusters(cluster).end(
            name, timeout=self.params.delete_timeout, poll_interval=self.params.poll_interval
        )

    def _as_it_is(self, burst: Burst, found: Found, *, adopting: bool = False) -> Burst:
        """Return a burst in its state according to its pods and the instance."""
        written = labels.read(found.minicluster)
        if written.isolated:
            return self._isolated_as_it_is(burst, found)
        hosts = written.hostnames
        up = {node.hostname for node in self.instance.nodes() if node.up}.intersection(hosts)
        burst = replace(burst, hostnames=hosts)
        return as_it_is(burst, found, up, found.at, self._patience, adopting=adopting)

    @property
    def _patience(self) -> Patience:
        return Patience(self.params.pending_timeout, self.params.join_timeout)

    def _isolated_as_it_is(self, burst: Burst, found: Found) -> Burst:
        from fluxburst_kubernetes import outcomes

        ran = burst.state is BurstState.READY
        seen = outcomes.outcome(found, found.at, self._patience, ran=ran)
        burst = replace(burst, since=burst.since if found.since is None else found.since)
        output = self._output(seen.pod) if seen.pod else ""
        now = outcomes.as_it_is(burst, seen, output)
        if now.exit_code is None:
            return now
        # The log is deleted with the pod, and the pod with the burst.
        read = functools.partial(self._log_of, seen)
        kept = with_output(now, self.params.output_dir, read)
        if kept.output.startswith(UNREAD) and self.logs_outlive_pods:
            kept = replace(kept, output=f"{kept.output} [it may be available from: {output}]")
        return kept

    def _check_again(self, cluster: Cluster | None, burst: Burst) -> None:
        """Look for an isolated burst missing from the list by labels, since its job may run.

        Raises:
            BurstError: if its MiniCluster exists, or that is unknown.
        """
        name = pool_name(burst.name, NAME_LENGTH)
        self._miniclusters(cluster).check_absent(name, burst.name)

    def _log_of(self, seen: Outcome) -> bytes:
        with self.connection.opened() as cluster:
            return cluster.log(seen.pod, seen.container, OUTPUT_LIMIT + 1, previous=seen.restarted)

    def _output(self, pod: str) -> str:
        """Return the command for reading a job's output while its pod exists."""
        return f"kubectl logs --namespace {self.params.namespace} {pod}"

    def _remnant(self, name: str) -> Burst:
        """Return a burst of which only a Job or drained nodes are left."""
        why = "its termination began"
        return Burst(name, self.name, "", 0, state=BurstState.FAILED, error=why)

    def _draining(self) -> dict[str, str]:
        """Return the declared hosts that are drained for a burst, with its name."""
        if self.isolated:
            return {}
        return self.draining({host for slot in self.slots for host in slot.hosts})

    def _nodes_of(self, cluster: Cluster | None, burst: Burst) -> list[Node]:
        """Return the current nodes of a burst, and of no other."""
        written: list[labels.Written] = []
        with contextlib.suppress(NotFoundError):  # no Flux Operator, and so no MiniCluster
            written = [labels.read(one) for one in self._miniclusters(cluster).listed()]
        supplied = [(one.name, one.hostnames) for one in written]
        return self.nodes_of(burst, supplied, self._draining())
