"""The burst plugin ``compute_engine``: virtual machines whose brokers join the instance."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fluxburst import Burst, BurstState, NodeType
from fluxburst.errors import (
    AuthError,
    BurstError,
    CapacityError,
    FluxburstError,
    ParameterError,
    Problem,
    RequestError,
)
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.plugin import Candidates, Finding, only_looking
from fluxburst.provider.elastic import Shape
from fluxburst.provider.elastic_plugin import ElasticPlugin
from fluxburst.provider.isolation import as_told, lost, with_output
from fluxburst.provider.live_prices import LivePrices
from fluxburst.provider.machine_types import MachineTypes, machine_of
from fluxburst_compute_engine import isolated, labels, machines, offers, placement
from fluxburst_compute_engine.brokers import Brokers
from fluxburst_compute_engine.checks import check_parameters
from fluxburst_compute_engine.fleet import Fleet, hosts_of, lease_of
from fluxburst_compute_engine.hosts import DeclaredHosts
from fluxburst_compute_engine.parameters import BurstParameters
from fluxburst_compute_engine.states import Machine, health
from fluxburst_google import credentials
from fluxburst_google.catalogue import machine_types
from fluxburst_google.credentials import Identity
from fluxburst_google.errors import ExistsError

if TYPE_CHECKING:
    from google.cloud import compute_v1

    from fluxburst_compute_engine.cloud import Compute

_log = logging.getLogger(__name__)


class ComputeEngineBurst(ElasticPlugin):
    """Creates machines with declared hostnames, and deletes them again.

    Keeps no state of its own: it finds bursts by the labels in the project.
    """

    _param_dataclass = BurstParameters
    name = "compute_engine"

    params: BurstParameters

    def __init__(self, dataclass: BurstParameters) -> None:
        super().__init__(dataclass)
        self._identity: Identity | None = None
        self._live = LivePrices(self.name, self._ask_prices)

    # --- its parts -------------------------------------------------------------------------

    @functools.cached_property
    def machine_types(self) -> MachineTypes:
        """The machine types, with changes by parameters."""
        return machine_types().with_overrides(self.params.machine_types)

    @functools.cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The declared burst nodes that it may supply: those with the shape of a machine type.

        Raises:
            RequestError: if there are none, or one is declared with the wrong number of cores.
        """
        only = self.params.machine_type
        return offers.declared_shapes(
            self.elastic.all_shapes, self.machine_types, only, self.directory
        )

    @property
    def certificate_file(self) -> Path:
        """Path of the elastic instance's certificate."""
        return self.params.curve_cert or super().certificate_file

    @functools.cached_property
    def fleet(self) -> Fleet:
        """The machines of its bursts."""
        return Fleet(self.params, self.tag, self.name)

    @functools.cached_property
    def hosts(self) -> DeclaredHosts:
        """The declared hosts, and whether they are free."""
        return DeclaredHosts(self, self.shapes)

    @functools.cached_property
    def brokers(self) -> Brokers:
        """The metadata for brokers."""
        return Brokers(self, self.params)

    @property
    def queue(self) -> str:
        """The queue of the burst nodes; isolated bursts have none here."""
        return "" if self.isolated else super().queue

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Compute]:
        """Open a connection; after a refusal, look up the credentials again the next time."""
        from fluxburst_compute_engine.cloud import connected

        identity = self._identity or credentials.default(self.params.project)
        try:
            with connected(identity, self.params) as compute:
                self._identity = identity
                yield compute
        except AuthError:
            self._identity = None
            raise

    def validate(self) -> bool:
        """Check the parameters, and the directory if it is set.

        Does not contact Google: a service may start during an outage, and
        ``fluxburst doctor`` reports it.

        Raises:
            ParameterError: names all problems of the parameters.
        """
        problems = [
            Problem(field, "config or environment", why)
            for field, why in check_parameters(self.params)
        ]
        if not problems and (self.isolated or self.params.config_dir is not None):
            try:
                self._kinds()
            except RequestError as error:
                problems.append(Problem("config_dir", "config or environment", str(error)))
        if problems:
            raise ParameterError(self.name, problems)
        return True

    def diagnose(self) -> Iterable[Finding]:
        """Check the credentials, their permissions, image, zones, and the lead's address.

        It changes nothing.
        """
        from fluxburst_compute_engine import diagnosis

        params = self.params
        yield from diagnosis.project_findings(
            self._connected, params, lambda compute: self.fleet.zones(compute)
        )
        yield from self._findings_of_types()
        yield from self.findings_here("machines", params.lead_host, params.lead_port)

    def _findings_of_types(self) -> Iterator[Finding]:
        from fluxburst_compute_engine.diagnosis import type_findings

        try:
            kinds = self.node_types()
        except FluxburstError as error:
            yield Finding("error", str(error), "check the parameters config_dir and machine_types")
            return
        live = self._live if self.params.live_prices else None
        yield from type_findings(kinds, self.machine_types, live, self.params.region)

    # --- the provider's side ---------------------------------------------------------------

    def node_types(self) -> Sequence[NodeType]:
        """Return the machine types that are declared, on demand, spot or both.

        The number of free hosts limits each: both purchase options share them.
        """
        kinds = self._kinds()
        if self.params.live_prices:
            kinds = self._live.of(kinds, self.machine_types)
        if self.isolated:
            return kinds
        used, free = self.in_use(), self.hosts.free()
        most = {k.name: used.get(k.name, 0) + len(free[machine_of(k.name)[0]]) for k in kinds}
        return [replace(kind, max_nodes=most[kind.name]) for kind in kinds]

    def candidates(self, node_type: str) -> Candidates:
        """Return the free declared hosts of a type; each machine gets its hostname."""
        free = frozenset(self.hosts.free()[machine_of(node_type)[0]])
        nodes = [node for node in self.instance.nodes() if node.hostname in free]
        return Candidates(nodes, chosen=True)

    def _ask_prices(self, names: Collection[str]) -> Iterable[tuple[str, float]]:
        from fluxburst_google import prices

        return prices.live(
            self._identity or credentials.default(self.params.project),
            [self.machine_types[name] for name in names],
            self.params.region,
            endpoint=self.params.billing_endpoint,
            timeout=self.params.request_timeout,
        )

    def _kinds(self) -> list[NodeType]:
        """Return the node types with the table's prices, without limits on their number.

        Raises:
            RequestError: if there are none, or one has no price.
        """
        if self.isolated:
            return offers.isolated(self.params, self.machine_types)
        return offers.joining(self.params, self.machine_types, self.shapes)

    def create(self, burst: Burst) -> Burst:
        """Create a burst's machines in the first zone with capacity, or find them.

        Raises:
            CapacityError: if no zone has enough, or too few declared hosts are free.
            QuotaError: if the project's quota is too small.
            BurstError: or a subclass, if Google refuses.
        """
        with contextlib.ExitStack() as opened:
            with only_looking():
                compute = opened.enter_context(self._connected())
                found = self.fleet.find(compute, burst.name)
            if len(found) < burst.nodes and self.fleet.await_insertions(compute, burst.name):
                found = self.fleet.find(compute, burst.name)
            if not found:
                found = self._make(compute, burst)
        hosts = hosts_of(found)
        if len(hosts) < machines.least(self.params, burst, burst.nodes):
            problem = f"only {len(hosts)} of its {burst.nodes} machines exist"
            raise BurstError(problem, plugin=self.name, burst=burst.name, nodes=len(hosts))
        if burst.isolated:
            return self._as_told(replace(burst, nodes=len(hosts)), found, hosts)
        return self._as_it_is(replace(burst, nodes=len(hosts)), found, hosts)

    def delete(self, burst: Burst) -> None:
        """Delete its instances, wait until they are gone, and remove its drained nodes.

        Raises:
            BurstError: if jobs still run on its nodes, or its machines are not gone in time.
        """
        with self._connected() as compute:
            if burst.isolated:
                self.fleet.end(compute, burst.name)
                return
            listed = self.fleet.listed(compute)
            supplied = [(written.name, {one.name}) for written, one in listed]
            nodes = self.nodes_of(burst, supplied, self._draining())
            own = [one for written, one in listed if written.name == burst.name]
            self.remove_nodes(burst, nodes, lambda: self.fleet.end(compute, burst.name, own))

    def list_bursts(self) -> Collection[str]:
        """Return the bursts with remains: machines, a policy, drained nodes."""
        with self._connected() as compute:
            there = {written.name for written, _ in self.fleet.all(compute)}
            there |= set(placement.bursts(compute, self.params, self.tag))
        return sorted(there | set(self._draining().values()))

    def adopt(self) -> Sequence[Burst]:
        """Return the bursts with remains, in their current state."""
        with self._connected() as compute:
            there = self.fleet.all(compute)
            placed = placement.bursts(compute, self.params, self.tag)
        bursts = {}
        for name in sorted({written.name for written, _ in there}):
            own = [machine for written, machine in there if written.name == name]
            written = next(written for written, _ in there if written.name == name)
            hosts = tuple(dict.fromkeys([*written.hosts, *hosts_of(own)]))
            known = Burst(
                name, self.name, written.node_type, len(hosts), written.jobs, price=written.price
            )
            if written.isolated:
                known = replace(known, isolated=True)
                bursts[name] = self._as_told(known, own, hosts, adopting=True)
            else:
                bursts[name] = self._as_it_is(known, own, hosts, adopting=True)
        draining = self._draining()
        for name in sorted({*draining.values(), *placed}):
            hosts = tuple(host for host, burst in draining.items() if burst == name)
            gone = replace(_named(name), state=BurstState.FAILED, error="its termination began")
            known = bursts.get(name) or gone
            merged = tuple(dict.fromkeys([*known.hostnames, *hosts]))
            bursts[name] = replace(known, hostnames=merged)
        return list(bursts.values())

    def refresh(self, burst: Burst) -> Burst:
        """Return a burst in its state according to its machines and the instance's nodes.

        Once all have joined, or an isolated burst's job runs, removes secrets from the metadata.
        """
        with self._connected() as compute:
            found = self.fleet.find(compute, burst.name)
            if burst.isolated:
                names = tuple(isolated.hosts(burst.name, burst.nodes))
                now = self._as_told(burst, found, names, compute)
            else:
                hosts = burst.hostnames or hosts_of(found)
                now = self._as_it_is(burst, found, hosts, compute=compute)
            if now.state is BurstState.READY:
                self.fleet.forget_secrets(compute, burst.name)
        return now

    @property
    def not_renewable(self) -> str:
        """Why leases cannot be renewed: the run duration is fixed while a machine runs."""
        return "max_run_duration cannot be extended"

    def renew(self, burst: Burst) -> Burst:
        """Return the burst with its current lease: it is fixed while machines run.

        Scheduling options, including the maximum run duration, can only be set while a machine is
        stopped (https://cloud.google.com/compute/docs/reference/rest/v1/instances/setScheduling).

        Raises:
            BurstError: if it has no machines.
        """
        with self._connected() as compute:
            found = self.fleet.find(compute, burst.name)
        if not found:
            raise BurstError("it has no machines", plugin=self.name, burst=burst.name)
        return replace(burst, lease_until=lease_of(burst, found))

    def _as_told(
        self,
        burst: Burst,
        found: Sequence[Machine],
        names: tuple[str, ...],
        compute: Compute | None = None,
        *,
        adopting: bool = False,
    ) -> Burst:
        """Return an isolated burst according to its lead; saves the job's output."""
        if compute is None:
            with self._connected() as opened:
                return self._as_told(burst, found, names, opened, adopting=adopting)
        seen = health(found, names, names, time.time(), self.params.join_timeout)
        since = min((machine.began for machine in found), default=burst.since)
        lease = lease_of(burst, found)
        burst = replace(burst, hostnames=(), since=since, lease_until=lease)
        there = compute.instances(labels.burst_labels(self.tag, burst.name))
        lead = next((one for one in there if one.name == names[0]), None)
        now = burst if lead is None else as_told(burst, compute.told(lead))
        if lead is not None and now.exit_code is not None:
            return self._with_output(now, compute, lead)
        if seen.lost:
            if not adopting:  # in which case refresh() decides
                self._check_again(compute, burst, found, seen.lost)
            return lost(burst, seen.problem, began=now.state is BurstState.READY or now.joined > 0)
        late = isolated.late(now, time.time(), self.params.join_timeout)
        return replace(now, state=BurstState.FAILED, error=late) if late else now

    def _check_again(
        self, compute: Compute, burst: Burst, found: Sequence[Machine], missing: Collection[str]
    ) -> None:
        """Look for machines missing from the list by labels, since a job may run on them.

        Raises:
            BurstError: if one exists, or that is unknown.
        """
        self.fleet.check_absent(compute, found, missing, burst.name)

    def _with_output(self, burst: Burst, compute: Compute, lead: compute_v1.Instance) -> Burst:
        """Save a job's output where it outlives its machines."""

        def read() -> bytes:
            return isolated.output_of(compute.console(lead)).encode()

        return with_output(burst, self.params.output_dir, read)

    # --- creating machines -----------------------------------------------------------------

    def _make(self, compute: Compute, burst: Burst) -> list[Machine]:
        """Create a burst's machines in one of the zones."""
        taken: list[str] = []
        while True:
            hosts = self._take_hosts(compute, burst, taken)
            try:
                return self.fleet.make(compute, burst, hosts, self.brokers.metadata(burst, hosts))
            except ExistsError as error:
                # Names are unique in the project: another user has it, or an earlier request.
                found = self.fleet.find(compute, burst.name)
                if found:
                    return found
                others = [host for host in hosts if host in str(error)] or list(hosts)
                taken += others
                _log.warning("plugin %s: %s", self.name, error)
            finally:
                if not burst.isolated:
                    self.hosts.release(burst.name)

    def _take_hosts(self, compute: Compute, burst: Burst, but: Collection[str]) -> list[str]:
        """Choose the hosts of a burst, and reserve them until they are released.

        Raises:
            CapacityError: if too few are free.
        """
        if burst.isolated:
            hosts = isolated.hosts(burst.name, burst.nodes)
            if but:
                raise CapacityError(f"names already in use: {format_hostlist(sorted(but))}")
            return hosts
        there = {machine.host for _, machine in self.fleet.all(compute)}
        return self.hosts.take(burst, there, but)

    # --- observing -------------------------------------------------------------------------

    def _as_it_is(
        self,
        burst: Burst,
        found: Sequence[Machine],
        hosts: tuple[str, ...],
        *,
        adopting: bool = False,
        compute: Compute | None = None,
    ) -> Burst:
        """Return a burst in its state according to its machines and the instance's nodes."""
        up = {node.hostname for node in self.instance.nodes() if node.up}.intersection(hosts)
        seen = health(found, hosts, up, time.time(), self.params.join_timeout)
        since = min((machine.began for machine in found), default=burst.since)
        burst = replace(burst, hostnames=hosts, since=since)
        burst = replace(burst, lease_until=lease_of(burst, found))
        if seen.lost or not hosts:
            left = tuple(host for host in hosts if host not in seen.lost) if adopting else hosts
            problem = seen.problem or "it has no machines"
            problem += self.fleet.explanation(compute, burst.name, seen.late)
            return replace(burst, state=BurstState.FAILED, hostnames=left, error=problem)
        if len(up) == len(hosts):
            return replace(burst, state=BurstState.READY, joined=len(up), error="")
        state = BurstState.JOINING if up else BurstState.STARTING
        return replace(burst, state=state, joined=len(up), error="")

    def _draining(self) -> dict[str, str]:
        """Return the declared hosts that are drained for a burst, with its name."""
        if self.isolated:
            return {}
        return self.draining({host for shape in self.shapes for host in shape.hosts})


def _named(name: str) -> Burst:
    """Return a burst of which only the name is known."""
    return Burst(name, ComputeEngineBurst.name, "", 0)
