"""The base of burst plugins that make MiniClusters, whose brokers join the instance."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluxburst import Burst, BurstState, ByteSize, Job, Node, NodeType
from fluxburst.errors import (
    AuthError,
    BurstError,
    CapacityError,
    ParameterError,
    Problem,
    RequestError,
)
from fluxburst.formats.flux_configuration import with_others_of
from fluxburst.formats.units import counted, format_duration
from fluxburst.plugin import Candidates, Finding, compiled, could_fit, only_looking
from fluxburst.provider.elastic_plugin import ElasticPlugin
from fluxburst.provider.isolation import OUTPUT_LIMIT, UNREAD, remote_jobspec, with_output
from fluxburst_kubernetes import labels, manifests
from fluxburst_kubernetes.checks import check_parameters
from fluxburst_kubernetes.errors import (
    ExistsError,
    NotFoundError,
    StaysError,
)
from fluxburst_kubernetes.node_pools import pool_name
from fluxburst_kubernetes.parameters import MiniClusterParameters
from fluxburst_kubernetes.slots import NAME_LENGTH, Slot, choose, declared_slots, slot_names
from fluxburst_kubernetes.states import Found, Patience, health

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

    from fluxburst_kubernetes.cluster import Cluster
    from fluxburst_kubernetes.outcomes import Outcome

_log = logging.getLogger(__name__)


class MiniClusterBurst(ElasticPlugin):
    """Makes MiniClusters of declared names, and deletes them again.

    Nothing is kept but what is in the cluster: bursts are found by their labels. A subclass says
    how to reach the cluster, and what its pods can be.
    """

    params: MiniClusterParameters
    logs_outlive_pods = False
    """Whether the command that is told for a job's output may find it when its pod is gone."""

    def __init__(self, dataclass: MiniClusterParameters) -> None:
        super().__init__(dataclass)
        self._changing = threading.Lock()
        """Held while secrets and what needs them are made, or found to be needed no more."""
        self._seen: tuple[float, Sequence[Slot]] | None = None
        """When the cluster was asked for free slots, and those."""

    # --- what a subclass supplies ----------------------------------------------------------

    def _configuration(self) -> SingleConfig | None:
        """Return how to reach the cluster, and as whom, now; None where there is none yet.

        Raises:
            BurstError: or one of its kinds, if that cannot be told.
        """
        raise NotImplementedError

    def _types(self) -> list[NodeType]:
        """Return what a pod can be."""
        raise NotImplementedError

    def _pod_limits(self, node_type: NodeType) -> tuple[int | None, ByteSize | None]:
        """Return the CPUs and the memory that a pod requests and is limited to."""
        return self.params.cpu_limit, self.params.memory_limit

    def _shape_of(self, node_type: str) -> str:
        """Return the shape of the declared hosts that a node type takes."""
        return ""

    def _node_selector(self, burst: Burst) -> Mapping[str, str]:
        """Return the labels of the nodes that a burst's pods are for; none for any node."""
        return {}

    def _problems(self) -> Iterator[tuple[str, str]]:
        """Yield the field and the problem, for all that is wrong with the parameters."""
        return check_parameters(self.params)

    # --- what it works with ----------------------------------------------------------------

    @functools.cached_property
    def slots(self) -> Sequence[Slot]:
        """The MiniClusters that can be.

        Raises:
            RequestError: if the elastic instance declares no host of any.
        """
        found = declared_slots(slot_names(self.params.name), self.elastic.burst_hosts)
        if not found:
            raise RequestError(
                f"name is {self.params.name!r}, and {self.directory} declares no hosts of such a "
                "MiniCluster: fluxburst kubernetes init declares them"
            )
        return found

    @functools.cached_property
    def _slot_shapes(self) -> Mapping[str, str]:
        """The shape of each slot's hosts, by the slot's name."""
        return {slot.name: self.elastic.shape_of(slot.hosts[0]).name for slot in self.slots}

    @property
    def certificate_file(self) -> Path:
        """Where the elastic instance's certificate is."""
        return self.params.curve_cert or super().certificate_file

    @property
    def queue(self) -> str:
        """The queue of the burst nodes; none where they do not join this instance."""
        return "" if self.isolated else super().queue

    @contextlib.contextmanager
    def _there(self) -> Iterator[Cluster | None]:
        """Open a connection, with the credentials that are there now; None for no cluster."""
        from fluxburst_kubernetes.cluster import connected

        params, config = self.params, self._configuration()
        if config is None:
            yield None
            return
        with connected(
            config,
            params.namespace,
            params.request_timeout,
            params.retry_timeout,
            self._configuration,
        ) as cluster:
            yield cluster

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Cluster]:
        """Open a connection to a cluster that has to be there."""
        with self._there() as cluster:
            if cluster is None:
                raise BurstError("there is no cluster", plugin=self.name)
            yield cluster

    def validate(self) -> bool:
        """Check the parameters, the directory if it is named, and that the operator is there.

        A cluster that does not answer now is none of these: a service may start before it does.

        Raises:
            ParameterError: for all that is wrong with the parameters.
            BurstError: if the cluster has no Flux Operator.
            AuthError: if it does not accept the credentials.
        """
        from fluxburst_kubernetes import operator

        problems = [Problem(field, "config or environment", why) for field, why in self._problems()]
        if problems:
            raise ParameterError(self.name, problems)
        if self.params.flux_operator_yaml is not None:
            return True  # it is installed with the first burst
        try:
            with self._there() as cluster:
                installed = cluster is None or operator.is_installed(cluster)
        except AuthError:
            raise
        except BurstError as error:
            _log.warning("plugin %s: %s", self.name, error)
            return True
        if not installed:
            raise BurstError(operator.ABSENT, plugin=self.name)
        return True

    def diagnose(self) -> Iterable[Finding]:
        """Check the cluster, this user's permissions in it, the operator, and the lead's address.

        It changes nothing.
        """
        from fluxburst_kubernetes.diagnosis import cluster_findings

        yield from cluster_findings(self._connected, self.params, isolated=self.isolated)
        yield from self.findings_here("pods", self.params.lead_host, self.params.lead_port)
        if not self.isolated:
            yield self._finding_of_slots()

    def _finding_of_slots(self) -> Finding:
        try:
            slots = ", ".join(f"{slot.name} of {len(slot.hosts)}" for slot in self.slots)
        except RequestError as error:
            return Finding("error", str(error))
        return Finding("ok", f"slots for bursts, with their nodes: {slots}")

    # --- what it supplies ------------------------------------------------------------------

    def node_types(self) -> Sequence[NodeType]:
        """Return what a pod can be, and that there may be as many more as one slot holds.

        A pass asks again and again: what the cluster answered holds for the poll interval.
        """
        if self.isolated:
            return self._types()
        free, used = self._seen_free(), self.in_use()
        most = {
            kind.name: max((len(s.hosts) for s in free if self._suits(s, kind.name)), default=0)
            for kind in self._types()
        }
        return [
            replace(kind, max_nodes=used.get(kind.name, 0) + most[kind.name])
            for kind in self._types()
        ]

    def schedule(self, job: Job) -> bool:
        """Decide whether to take a job, without asking the cluster: some pod could run it."""
        constraint = compiled(self.constraint_of(job), job.id)
        return could_fit(job.chunks, self._types(), constraint)

    def candidates(self, node_type: str) -> Candidates:
        """Return the hosts of the slots that are free; which slot a burst takes is by its size."""
        free = {h for s in self._seen_free() if self._suits(s, node_type) for h in s.hosts}
        return Candidates([node for node in self.instance.nodes() if node.hostname in free])

    def _seen_free(self) -> Sequence[Slot]:
        """Return the slots that are free, or were so a moment ago."""
        now, seen = time.monotonic(), self._seen  # which creating a burst forgets meanwhile
        if seen is None or now - seen[0] > self.params.poll_interval:
            with self._there() as cluster:
                seen = self._seen = now, self._free(cluster)
        return seen[1]

    def _suits(self, slot: Slot, node_type: str) -> bool:
        return self._slot_shapes[slot.name] == self._shape_of(node_type)

    def create(self, burst: Burst) -> Burst:
        """Make the namespace and the secrets if they are missing, and a MiniCluster; or find it.

        Raises:
            CapacityError: if no slot that is free holds so many nodes.
            BurstError: or one of its kinds, if the API server refuses something.
        """
        with contextlib.ExitStack() as opened:
            with only_looking():
                cluster = opened.enter_context(self._connected())
                found = self._find(cluster, burst.name)
            if found is None:
                found = self._make(cluster, burst)
        return self._as_it_is(burst, found)

    def delete(self, burst: Burst) -> None:
        """Drain its nodes, wait for their jobs, delete the MiniCluster, wait until it is gone.

        The instance's secrets go with its last burst. The namespace stays.

        Raises:
            BurstError: if jobs still run on its nodes, or its pods do not end in time.
        """
        with self._there() as cluster:
            if burst.isolated:
                self._end(cluster, burst.name)
            else:
                nodes = self._nodes_of(cluster, burst)
                self.have_leave(burst, nodes, lambda: self._end(cluster, burst.name))
            self._remove_job(cluster, burst.name)
            with self._changing:
                self._remove_secrets(cluster)
                self._seen = None

    def list_bursts(self) -> Collection[str]:
        """Return the bursts that something is left of: a MiniCluster, its Job, drained nodes."""
        with self._there() as cluster:
            there = {labels.read(found).name for found in self._miniclusters(cluster)}
            there |= self._bursts_of_jobs(cluster)
        return sorted(there | set(self._draining().values()))

    def adopt(self) -> Sequence[Burst]:
        """Return the bursts that something is left of, as they are."""
        with self._there() as cluster:
            left = self._bursts_of_jobs(cluster)  # first, or one just made seems to be all that is
            there = [] if cluster is None else self._found(cluster)
        bursts = {}
        for found in there:
            written = labels.read(found.minicluster)
            bursts[written.name] = self._as_it_is(
                Burst(
                    written.name,
                    self.name,
                    written.node_type,
                    len(written.hostnames),
                    written.jobs,
                    price=written.price,
                    lease_until=written.lease_until,
                ),
                found,
                adopting=True,
            )
        draining = self._draining()
        for name in sorted({*left, *draining.values()}):
            hosts = [host for host, burst in draining.items() if burst == name]
            known = bursts.get(name) or self._remnant(name)
            bursts[name] = replace(
                known, hostnames=tuple(dict.fromkeys([*known.hostnames, *hosts]))
            )
        return list(bursts.values())

    def refresh(self, burst: Burst) -> Burst:
        """Return a burst as its pods and the instance's nodes show it."""
        with self._there() as cluster:
            found = self._find(cluster, burst.name)
            if found is None and burst.isolated:
                self._look_again(cluster, burst)
        if found is None:
            gone = "its MiniCluster is there no longer"
            return replace(burst, state=BurstState.FAILED, error=gone)
        now = self._as_it_is(burst, found)
        if now.isolated and now.state is BurstState.READY:
            with self._connected() as cluster:
                self._remove_job(cluster, burst.name)
        return now

    def renew(self, burst: Burst) -> Burst:
        """Have the Job of its MiniCluster end when the lease does.

        Raises:
            BurstError: if it is not there, or has ended.
        """
        from fluxburst_kubernetes.cluster import JOBS, MINICLUSTERS

        if burst.lease_until is None:
            return burst
        with self._connected() as cluster:
            found = self._find(cluster, burst.name)
            if found is None:
                raise BurstError("there is no MiniCluster of it to renew", plugin=self.name)
            began = found.since or time.time()
            deadline = _deadline(burst.lease_until - began)
            if found.job is not None:
                cluster.patch(JOBS, found.slot, {"spec": {"activeDeadlineSeconds": deadline}})
            written = {"annotations": labels.lease(burst.lease_until)}
            change = {"metadata": written, "spec": {"deadlineSeconds": deadline}}
            cluster.patch(MINICLUSTERS, found.slot, change)
        return burst

    # --- the steps of these ----------------------------------------------------------------

    def _make(self, cluster: Cluster, burst: Burst) -> Found:
        """Make a burst's MiniCluster, and all that it needs."""
        with self._changing:
            self._prepare(cluster)
            make = self._isolate if burst.isolated else self._take_slot
            found = make(cluster, burst)
            self._seen = None
        return found

    def _prepare(self, cluster: Cluster) -> None:
        """Have all be there that a MiniCluster needs."""
        self._ensure_operator(cluster)
        self._ensure_namespace(cluster)
        if not self.isolated:
            self._ensure_secrets(cluster)

    def _ensure_operator(self, cluster: Cluster) -> None:
        from fluxburst_kubernetes import operator

        operator.ensure(cluster, self.params.flux_operator_yaml, self.params.poll_interval)

    def _ensure_namespace(self, cluster: Cluster) -> None:
        from fluxburst_kubernetes.cluster import NAMESPACES

        if cluster.get(NAMESPACES, cluster.namespace) is None:
            with contextlib.suppress(ExistsError):
                cluster.create(NAMESPACES, manifests.namespace(cluster.namespace))

    def _ensure_secrets(self, cluster: Cluster) -> None:
        from fluxburst_kubernetes import secrets

        content = {
            manifests.CERTIFICATE: self.certificate,
            manifests.RESOURCES: (self.directory / manifests.RESOURCES).read_bytes(),
        }
        secrets.ensure(cluster, self._curve_secret, self.tag, content)
        if self.params.munge_key is not None:
            key = {"munge.key": self.params.munge_key.read_bytes()}
            secrets.ensure(cluster, self.params.munge_secret_name, self.tag, key)

    @property
    def _curve_secret(self) -> str:
        return self.params.curve_cert_secret_name or f"curve-cert-{self.tag}"

    def _take_slot(self, cluster: Cluster, burst: Burst) -> Found:
        """Make a burst's MiniCluster in a slot that is free."""
        from fluxburst_kubernetes.cluster import MINICLUSTERS

        free = self._free_for(cluster, burst.node_type)
        while True:
            slot = self._choose(free, burst)
            try:
                return Found(cluster.create(MINICLUSTERS, self._manifest(slot, burst)), None, ())
            except ExistsError:  # somebody else's, or another instance's
                free = [other for other in free if other != slot]
            except NotFoundError as error:
                raise BurstError(f"{error}: was the Flux Operator just removed?") from error

    def _isolate(self, cluster: Cluster, burst: Burst) -> Found:
        """Make the MiniCluster of a burst that is an instance of its own, with its job."""
        from fluxburst_kubernetes import isolated, secrets
        from fluxburst_kubernetes.cluster import MINICLUSTERS

        name = pool_name(burst.name, NAME_LENGTH)
        job = isolated.secret_name(name)
        jobspec = remote_jobspec(self.instance, burst.jobs[0])
        secrets.ensure_made(cluster, isolated.secret(job, self.tag, burst, jobspec))
        config = isolated.broker_config(name, cluster.namespace, burst.nodes)
        manifest = self._manifest(Slot(name, ()), burst, config=config, secret=job)
        return Found(cluster.create(MINICLUSTERS, isolated.minicluster(manifest, config)), None, ())

    def _remove_job(self, cluster: Cluster | None, burst: str) -> None:
        """Delete an isolated burst's job, which a pod that is made anew cannot run again then."""
        from fluxburst_kubernetes.cluster import SECRETS

        if cluster is None:
            return
        for secret in cluster.list(SECRETS, labels.burst_labels(self.tag, _named(burst))):
            cluster.delete(SECRETS, secret["metadata"]["name"])

    def _free_for(self, cluster: Cluster, node_type: str) -> list[Slot]:
        return [slot for slot in self._free(cluster) if self._suits(slot, node_type)]

    def _choose(self, free: Sequence[Slot], burst: Burst) -> Slot:
        """Return the slot that a burst takes.

        Raises:
            CapacityError: if none holds it.
        """
        slot = choose(free, burst.nodes)
        if slot is not None:
            return slot
        sizes = ", ".join(f"{slot.name} of {len(slot.hosts)}" for slot in free) or "none"
        suiting = [slot.name for slot in self.slots if self._suits(slot, burst.node_type)]
        raise CapacityError(
            f"a burst of {counted(burst.nodes, 'node')} is asked for, and no free slot holds it "
            f"[free: {sizes}; declared: {', '.join(suiting) or 'none'}]",
            plugin=self.name,
            burst=burst.name,
        )

    def _manifest(
        self, slot: Slot, burst: Burst, *, config: str = "", secret: str = ""
    ) -> dict[str, Any]:
        params = self.params
        lease = None if burst.lease_until is None else burst.lease_until - time.time()
        return manifests.minicluster(
            slot.name,
            replace(burst, hostnames=slot.hosts[: burst.nodes]),
            self._pod(burst.node_type),
            tag=self.tag,
            instance_name=self.instance.name,
            config=config or self._broker_config(),
            curve_secret=secret or self._curve_secret,
            munge_secret=params.munge_secret_name if params.munge_key and not secret else "",
            deadline=None if lease is None else _deadline(lease),
            node_selector=self._node_selector(burst),
        )

    def _broker_config(self) -> str:
        params = self.params
        if params.broker_toml is not None:
            return params.broker_toml.read_text()
        text = manifests.broker_config(self.elastic, params.lead_host, params.lead_port)
        return with_others_of(self.directory / "config", text)

    def _pod(self, node_type: str) -> manifests.Shape:
        params = self.params
        kinds = {kind.name: kind for kind in self._types()}
        kind = kinds.get(node_type)
        if kind is None:
            raise BurstError(f"there is no node type {node_type!r}", plugin=self.name)
        cpus, memory = self._pod_limits(kind)
        return manifests.Shape(
            params.image,
            params.flux_view_image,
            cpus,
            memory,
            kind.gpus,
            None if params.flux_user is None else int(params.flux_user),
            params.log_level,
            params.wrap or "",
        )

    def _free(self, cluster: Cluster | None) -> list[Slot]:
        """Return the slots without a MiniCluster, and whose nodes are down and not drained.

        The operator would take a Job that is left of an earlier MiniCluster for the new one's.
        """
        from fluxburst_kubernetes.cluster import JOBS, MINICLUSTERS

        there: list[Mapping[str, Any]] = []
        if cluster is not None:
            there += cluster.list(JOBS, {})
            with contextlib.suppress(NotFoundError):  # there is no Flux Operator yet
                there += cluster.list(MINICLUSTERS, {})
        taken = {one["metadata"]["name"] for one in there}
        busy = {node.hostname for node in self.instance.nodes() if node.up or node.drained}
        return [
            slot for slot in self.slots if slot.name not in taken and busy.isdisjoint(slot.hosts)
        ]

    def _miniclusters(self, cluster: Cluster | None) -> Sequence[Mapping[str, Any]]:
        from fluxburst_kubernetes.cluster import MINICLUSTERS

        if cluster is None:
            return []
        found = cluster.list(MINICLUSTERS, labels.instance_labels(self.tag))
        return [one for one in found if labels.BURST in one["metadata"]["labels"]]

    def _bursts_of_jobs(self, cluster: Cluster | None) -> set[str]:
        """Return the bursts that a Job is there of: it may outlive its MiniCluster a little."""
        from fluxburst_kubernetes.cluster import JOBS

        if cluster is None:
            return set()
        jobs = cluster.list(JOBS, labels.instance_labels(self.tag))
        return {name for job in jobs if (name := job["metadata"]["labels"].get(labels.BURST, ""))}

    def _found(self, cluster: Cluster) -> list[Found]:
        return [self._with_its_pods(cluster, one) for one in self._miniclusters(cluster)]

    def _find(self, cluster: Cluster | None, name: str) -> Found | None:
        """Return what is there of a burst; None for nothing."""
        from fluxburst_kubernetes.cluster import MINICLUSTERS

        if cluster is None:
            return None
        try:
            found = cluster.list(MINICLUSTERS, labels.burst_labels(self.tag, _named(name)))
        except NotFoundError:  # no Flux Operator, and so no MiniCluster
            return None
        return self._with_its_pods(cluster, found[0]) if found else None

    def _with_its_pods(self, cluster: Cluster, minicluster: Mapping[str, Any]) -> Found:
        from fluxburst_kubernetes.cluster import JOBS, PODS

        own = labels.burst_labels(self.tag, _named(labels.read(minicluster).name))
        job = cluster.get(JOBS, minicluster["metadata"]["name"])
        return Found(minicluster, job, cluster.list(PODS, own))

    def _end(self, cluster: Cluster | None, name: str) -> None:
        """Delete a burst's MiniCluster, and wait until it, its Job and its pods are gone.

        Raises:
            StaysError: if they are not in time.
        """
        from fluxburst_kubernetes.cluster import JOBS, MINICLUSTERS, PODS

        if cluster is None:
            return
        own = labels.burst_labels(self.tag, _named(name))
        found = self._find(cluster, name)
        if found is not None and not found.leaving:
            cluster.delete(MINICLUSTERS, found.slot)
        until = time.monotonic() + self.params.delete_timeout
        while (
            self._find(cluster, name) is not None
            or cluster.list(JOBS, own)
            or cluster.list(PODS, own)
        ):
            if time.monotonic() > until:
                limit = format_duration(self.params.delete_timeout)
                raise StaysError(
                    f"its MiniCluster was deleted, and is still there, or pods of it, after {limit}"
                )
            time.sleep(self.params.poll_interval)

    def _remove_secrets(self, cluster: Cluster | None) -> None:
        from fluxburst_kubernetes import secrets

        if cluster is None:
            return
        with contextlib.suppress(NotFoundError):
            secrets.remove_unused(cluster, self.tag)

    def _as_it_is(self, burst: Burst, found: Found, *, adopting: bool = False) -> Burst:
        """Return a burst in the state that its pods and the instance show."""
        written = labels.read(found.minicluster)
        if written.isolated:
            return self._isolated_as_it_is(burst, found)
        hosts = written.hostnames
        up = {node.hostname for node in self.instance.nodes() if node.up}.intersection(hosts)
        patience = Patience(self.params.pending_timeout, self.params.join_timeout)
        seen = health(found, hosts, up, time.time(), patience)
        since = burst.since if found.since is None else found.since
        burst = replace(burst, hostnames=hosts, since=since)
        if seen.lost:
            left = tuple(host for host in hosts if host not in seen.lost) if adopting else hosts
            return replace(burst, state=BurstState.FAILED, hostnames=left, error=seen.problem)
        if len(up) == len(hosts):
            return replace(burst, state=BurstState.READY, error="")
        state = BurstState.JOINING if up else BurstState.STARTING
        return replace(burst, state=state, joined=len(up), error=seen.waiting)

    def _isolated_as_it_is(self, burst: Burst, found: Found) -> Burst:
        from fluxburst_kubernetes import outcomes

        patience = Patience(self.params.pending_timeout, self.params.join_timeout)
        ran = burst.state is BurstState.READY
        seen = outcomes.outcome(found, time.time(), patience, ran=ran)
        burst = replace(burst, since=burst.since if found.since is None else found.since)
        output = self._output(seen.pod) if seen.pod else ""
        now = outcomes.as_it_is(burst, seen, output)
        if now.exit_code is None:
            return now
        # The log goes with the pod, and the pod with the burst.
        read = functools.partial(self._log_of, seen)
        kept = with_output(now, self.params.output_dir, read)
        if kept.output.startswith(UNREAD) and self.logs_outlive_pods:
            kept = replace(kept, output=f"{kept.output} [it may be had by: {output}]")
        return kept

    def _look_again(self, cluster: Cluster | None, burst: Burst) -> None:
        """Look for an isolated burst that is not listed by its labels, where its job may run on.

        Raises:
            BurstError: if its MiniCluster is there, or that cannot be told.
        """
        from fluxburst_kubernetes.cluster import MINICLUSTERS

        name = pool_name(burst.name, NAME_LENGTH)
        if cluster is not None and cluster.get(MINICLUSTERS, name) is not None:
            raise BurstError(
                f"its MiniCluster {name} is there, and has not the labels that it was made with: "
                "what becomes of its job cannot be told",
                plugin=self.name,
                burst=burst.name,
            )

    def _log_of(self, seen: Outcome) -> bytes:
        with self._connected() as cluster:
            return cluster.log(seen.pod, seen.container, OUTPUT_LIMIT + 1, previous=seen.restarted)

    def _output(self, pod: str) -> str:
        """Return where the output of a job can be read as long as its pod is there."""
        return f"kubectl logs --namespace {self.params.namespace} {pod}"

    def _remnant(self, name: str) -> Burst:
        """Return a burst of which only a Job or drained nodes are left."""
        why = "it was being taken down"
        return Burst(name, self.name, "", 0, state=BurstState.FAILED, error=why)

    def _draining(self) -> dict[str, str]:
        """Return the declared hosts that are drained for a burst, with its name."""
        if self.isolated:
            return {}
        return self.draining({host for slot in self.slots for host in slot.hosts})

    def _nodes_of(self, cluster: Cluster | None, burst: Burst) -> list[Node]:
        """Return the nodes of a burst, and of no other, as they are now."""
        written: list[labels.Written] = []
        with contextlib.suppress(NotFoundError):  # no Flux Operator, and so no MiniCluster
            written = [labels.read(one) for one in self._miniclusters(cluster)]
        supplied = [(one.name, one.hostnames) for one in written]
        return self.nodes_of(burst, supplied, self._draining())


def _named(name: str) -> Burst:
    """Return a burst of which only the name is known."""
    return Burst(name, "", "", 0)


def _deadline(seconds: float) -> int:
    """Return a lease as a Job's activeDeadlineSeconds, which must be positive."""
    if seconds <= 0:
        raise BurstError("its lease is over")
    return math.ceil(seconds)
