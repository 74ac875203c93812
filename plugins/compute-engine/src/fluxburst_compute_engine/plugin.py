"""The burst plugin ``compute_engine``: instances whose brokers join the instance."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pwd
import re
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fluxburst import Burst, BurstState, Duration, Node, NodeType
from fluxburst.errors import (
    AuthError,
    BurstError,
    CapacityError,
    FluxburstError,
    ParameterError,
    Problem,
    RequestError,
)
from fluxburst.formats.flux_configuration import with_others_of
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.formats.units import counted, format_duration
from fluxburst.plugin import LIVE_STATES, Candidates, Finding, only_looking
from fluxburst.provider.elastic import BURST_PROPERTY, Shape, system_toml
from fluxburst.provider.elastic_plugin import ElasticPlugin
from fluxburst.provider.isolation import as_told, lost, remote_jobspec, with_output
from fluxburst.provider.live_prices import LivePrices
from fluxburst.provider.machine_types import MachineType, MachineTypes, machine_of, node_types
from fluxburst_compute_engine import credentials, isolated, labels, machines, placement
from fluxburst_compute_engine.catalogue import machine_types
from fluxburst_compute_engine.checks import check_parameters
from fluxburst_compute_engine.credentials import Identity
from fluxburst_compute_engine.errors import ExistsError
from fluxburst_compute_engine.fleet import Fleet, end_of, hosts_of
from fluxburst_compute_engine.parameters import BurstParameters
from fluxburst_compute_engine.states import Machine, health

if TYPE_CHECKING:
    from google.cloud import compute_v1

    from fluxburst_compute_engine.cloud import Compute

_log = logging.getLogger(__name__)


class ComputeEngineBurst(ElasticPlugin):
    """Makes instances of declared names, and deletes them again.

    Nothing is kept but what is in the project: bursts are found by their labels.
    """

    _param_dataclass = BurstParameters
    name = "compute_engine"

    params: BurstParameters

    def __init__(self, dataclass: BurstParameters) -> None:
        super().__init__(dataclass)
        self._lock = threading.Lock()
        self._taken: dict[str, str] = {}
        """Hosts of bursts that are being made, with the burst."""
        self._identity: Identity | None = None
        self._live = LivePrices(self.name, self._ask_prices)

    # --- what it works with ----------------------------------------------------------------

    @functools.cached_property
    def machine_types(self) -> MachineTypes:
        """The machine types, with what the parameters say of them."""
        return machine_types().with_overrides(self.params.machine_types)

    @functools.cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The declared burst nodes that it may supply: those of a shape that is a machine type.

        Raises:
            RequestError: if there are none, or one is declared with other cores than it has.
        """
        only = self.params.compute_machine_type
        found = [
            shape
            for shape in self.elastic.all_shapes
            if shape.name in self.machine_types.by_name and only in (None, shape.name)
        ]
        if not found:
            kind = f"the machine type {only}" if only else "a machine type of Compute Engine"
            raise RequestError(
                f"{self.directory} declares no hosts of {kind}: fluxburst compute-engine init "
                "declares them"
            )
        for shape in found:
            machine = self.machine_types[shape.name]
            if (shape.cores, shape.gpus) != (machine.cores, machine.gpus):
                raise RequestError(
                    f"{shape.name} has {counted(machine.cores, 'core')} and "
                    f"{counted(machine.gpus, 'GPU')}, and {self.directory} declares it with "
                    f"{shape.cores} and {shape.gpus}"
                )
        return tuple(found)

    @property
    def certificate_file(self) -> Path:
        """Where the elastic instance's certificate is."""
        return self.params.curve_cert or super().certificate_file

    @functools.cached_property
    def fleet(self) -> Fleet:
        """The instances of its bursts."""
        return Fleet(self.params, self.tag, self.name)

    @property
    def queue(self) -> str:
        """The queue of the burst nodes; isolated bursts have none here."""
        return "" if self.isolated else super().queue

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Compute]:
        """Open a connection; credentials that were refused are looked up anew the next time."""
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
        """Check the parameters, and the directory if it is named.

        Google is not asked: a service may start while it does not answer, and
        ``fluxburst doctor`` tells what it says.

        Raises:
            ParameterError: for all that is wrong with the parameters.
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
        yield from self.findings_here("instances", params.lead_host, params.lead_port)

    def _findings_of_types(self) -> Iterator[Finding]:
        from fluxburst_compute_engine.diagnosis import type_findings

        try:
            kinds = self.node_types()
        except FluxburstError as error:
            yield Finding("error", str(error), "see the parameters config_dir and machine_types")
            return
        live = self._live if self.params.live_prices else None
        yield from type_findings(kinds, self.machine_types, live, self.params.region)

    # --- what it supplies ------------------------------------------------------------------

    def node_types(self) -> Sequence[NodeType]:
        """Return the machine types that are declared, on demand, spot or both.

        Of each there may be as many as it has, and hosts are free: both ways of buying share them.
        """
        kinds = self._kinds()
        if self.params.live_prices:
            kinds = self._live.of(kinds, self.machine_types)
        if self.isolated:
            return kinds
        used, free = self.in_use(), self._free_hosts()
        most = {k.name: used.get(k.name, 0) + len(free[machine_of(k.name)[0]]) for k in kinds}
        return [replace(kind, max_nodes=most[kind.name]) for kind in kinds]

    def candidates(self, node_type: str) -> Candidates:
        """Return the declared hosts of a type that are free; each machine is told which it is."""
        free = frozenset(self._free_hosts()[machine_of(node_type)[0]])
        nodes = [node for node in self.instance.nodes() if node.hostname in free]
        return Candidates(nodes, chosen=True)

    def _ask_prices(self, names: Collection[str]) -> Iterable[tuple[str, float]]:
        from fluxburst_compute_engine import prices

        return prices.live(
            self._identity or credentials.default(self.params.project),
            [self.machine_types[name] for name in names],
            self.params.region,
            endpoint=self.params.billing_endpoint,
            timeout=self.params.request_timeout,
        )

    def _kinds(self) -> list[NodeType]:
        """Return the node types at the table's prices, without how many there may be.

        Raises:
            RequestError: if there are none, or one has no price.
        """
        if self.isolated:
            only = self.params.compute_machine_type
            offered = [self.machine_types[only]] if only else self._priced()
            return [kind for one in offered for kind in self._bought(one, None, (one.name,))]
        return [
            kind
            for shape in self.shapes
            for kind in self._bought(
                self.machine_types[shape.name], len(shape.hosts), (BURST_PROPERTY, shape.name)
            )
        ]

    def _bought(
        self, machine: MachineType, most: int | None, properties: tuple[str, ...]
    ) -> list[NodeType]:
        how = self.params.provisioning
        kinds = node_types(machine, how, max_nodes=most, properties=properties)
        return [replace(kind, max_lifetime=Duration(machines.MOST_RUN_SECONDS)) for kind in kinds]

    def _priced(self) -> list[MachineType]:
        """Return the machine types that can be bought as is configured."""
        spot, on_demand = "spot" in self.params.provisioning, "demand" in self.params.provisioning
        return [
            one
            for one in self.machine_types.by_name.values()
            if not (spot and one.spot_price is None) and not (on_demand and one.price is None)
        ]

    def create(self, burst: Burst) -> Burst:
        """Make a burst's instances in the first zone that has them, or find them.

        Raises:
            CapacityError: if no zone has so many, or so many declared hosts are not free.
            QuotaError: if the project may not have so many.
            BurstError: or another of its kinds, if Google refuses something.
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
            problem = f"{len(hosts)} of its {burst.nodes} instances are there"
            raise BurstError(problem, plugin=self.name, burst=burst.name, nodes=len(hosts))
        if burst.isolated:
            return self._as_told(replace(burst, nodes=len(hosts)), found, hosts)
        return self._as_it_is(replace(burst, nodes=len(hosts)), found, hosts)

    def delete(self, burst: Burst) -> None:
        """Drain its nodes, wait for their jobs, delete its instances, wait until they are gone.

        Raises:
            BurstError: if jobs still run on its nodes, or its instances are not gone in time.
        """
        with self._connected() as compute:
            if burst.isolated:
                self.fleet.end(compute, burst.name)
                return
            nodes = self._nodes_of(compute, burst)
            self.have_leave(burst, nodes, lambda: self.fleet.end(compute, burst.name))

    def list_bursts(self) -> Collection[str]:
        """Return the bursts that something is left of: instances, a policy, drained nodes."""
        with self._connected() as compute:
            there = {written.name for written, _ in self.fleet.all(compute)}
            there |= set(placement.bursts(compute, self.params, self.tag))
        return sorted(there | set(self._draining().values()))

    def adopt(self) -> Sequence[Burst]:
        """Return the bursts that something is left of, as they are."""
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
            gone = replace(_named(name), state=BurstState.FAILED, error="it was being taken down")
            known = bursts.get(name) or gone
            merged = tuple(dict.fromkeys([*known.hostnames, *hosts]))
            bursts[name] = replace(known, hostnames=merged)
        return list(bursts.values())

    def refresh(self, burst: Burst) -> Burst:
        """Return a burst as its instances and the instance's nodes show it.

        Once all have joined, or an isolated burst's job runs, secrets are taken out of metadata.
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
        """Why leases cannot be renewed: only a stopped instance can be told to run longer."""
        return "max_run_duration cannot be extended"

    def renew(self, burst: Burst) -> Burst:
        """Return the burst with the lease that it has: it cannot be longer while instances run.

        Scheduling, and with it the maximum run duration, can only be set for an instance that is
        stopped (https://cloud.google.com/compute/docs/reference/rest/v1/instances/setScheduling).

        Raises:
            BurstError: if there are no instances of it.
        """
        with self._connected() as compute:
            found = self.fleet.find(compute, burst.name)
        if not found:
            raise BurstError("there are no instances of it", plugin=self.name, burst=burst.name)
        return replace(burst, lease_until=_earliest(burst.lease_until, end_of(found)))

    def _as_told(
        self,
        burst: Burst,
        found: Sequence[Machine],
        names: tuple[str, ...],
        compute: Compute | None = None,
        *,
        adopting: bool = False,
    ) -> Burst:
        """Return an isolated burst as its lead tells it; the job's output is put where it stays."""
        if compute is None:
            with self._connected() as opened:
                return self._as_told(burst, found, names, opened, adopting=adopting)
        seen = health(found, names, names, time.time(), self.params.join_timeout)
        since = min((machine.began for machine in found), default=burst.since)
        lease = _earliest(burst.lease_until, end_of(found))
        burst = replace(burst, hostnames=(), since=since, lease_until=lease)
        there = compute.instances(labels.burst_labels(self.tag, burst.name))
        lead = next((one for one in there if one.name == names[0]), None)
        now = burst if lead is None else as_told(burst, compute.told(lead))
        if lead is not None and now.exit_code is not None:
            return self._with_output(now, compute, lead)
        if seen.lost:
            if not adopting:  # where refresh() has the last word
                self._look_again(compute, burst, found, seen.lost)
            return lost(burst, seen.problem, began=now.state is BurstState.READY or now.joined > 0)
        late = self._late(now)
        return replace(now, state=BurstState.FAILED, error=late) if late else now

    def _look_again(
        self, compute: Compute, burst: Burst, found: Sequence[Machine], missing: Collection[str]
    ) -> None:
        """Look for instances that are not listed by their labels, where a job may run on.

        Raises:
            BurstError: if one is there, or that cannot be told.
        """
        listed = {machine.host for machine in found}
        zones = sorted({machine.zone for machine in found}) or self.fleet.zones(compute)
        for host in sorted(set(missing) - listed):
            for zone in zones:
                if compute.has(zone, host):
                    raise BurstError(
                        f"its instance {host} is there in {zone}, and is not listed by the labels "
                        "that it was made with: what becomes of its job cannot be told",
                        plugin=self.name,
                        burst=burst.name,
                    )

    def _with_output(self, burst: Burst, compute: Compute, lead: compute_v1.Instance) -> Burst:
        """Put a job's output where it outlives its instances."""

        def read() -> bytes:
            return isolated.output_of(compute.console(lead)).encode()

        return with_output(burst, self.params.output_dir, read)

    def _late(self, burst: Burst) -> str:
        """Return what is to be said of an isolated burst whose job should run, and does not."""
        limit = self.params.join_timeout
        if burst.state is not BurstState.STARTING or burst.since is None:
            return ""
        waited = time.time() - burst.since
        return f"its job does not run after {format_duration(limit)}" if waited > limit else ""

    # --- making instances ------------------------------------------------------------------

    def _make(self, compute: Compute, burst: Burst) -> list[Machine]:
        """Make a burst's instances in one of the zones."""
        taken: list[str] = []
        while True:
            hosts = self._take_hosts(compute, burst, taken)
            try:
                return self.fleet.make(compute, burst, hosts, self._metadata(burst, hosts))
            except ExistsError as error:
                # Names are of the whole project: somebody else has one, or an earlier request.
                found = self.fleet.find(compute, burst.name)
                if found:
                    return found
                others = [host for host in hosts if host in str(error)] or list(hosts)
                taken += others
                _log.warning("plugin %s: %s", self.name, error)
            finally:
                self._release(burst.name)

    def _take_hosts(self, compute: Compute, burst: Burst, but: Collection[str]) -> list[str]:
        """Choose the hosts of a burst, and keep them from others until :meth:`_release`.

        Raises:
            CapacityError: if there are not so many free ones.
        """
        if burst.isolated:
            hosts = isolated.hosts(burst.name, burst.nodes)
            if but:
                raise CapacityError(f"somebody else has {format_hostlist(sorted(but))}")
            return hosts
        machine_type, _ = machine_of(burst.node_type)
        there = {machine.host for _, machine in self.fleet.all(compute)}
        with self._lock:
            free = [
                host
                for host in self._free_hosts(but=burst.name).get(machine_type, ())
                if host not in there
                and host not in but
                and host not in self._taken
                and (not burst.hosts or host in burst.hosts)
            ]
            if len(free) < burst.nodes:
                others = f"; somebody else has {format_hostlist(sorted(but))}" if but else ""
                if burst.hosts:
                    others += f"; it is to be on {format_hostlist(burst.hosts)}"
                raise CapacityError(
                    f"a burst of {counted(burst.nodes, 'node')} is asked for; declared hosts of "
                    f"{machine_type} that are down and free: {len(free)}{others}",
                    plugin=self.name,
                    burst=burst.name,
                )
            hosts = free[: burst.nodes]
            self._taken.update(dict.fromkeys(hosts, burst.name))
        return hosts

    def _release(self, name: str) -> None:
        with self._lock:
            for host in [host for host, burst in self._taken.items() if burst == name]:
                del self._taken[host]

    def _free_hosts(self, *, but: str = "") -> dict[str, list[str]]:
        """Return the declared hosts that nothing is on, by machine type.

        For bursts whose hosts are not known yet, as many are left out; ``but`` is not counted.
        """
        busy = {node.hostname for node in self.instance.nodes() if node.up or node.drained}
        live = [b for b in self.bursts.values() if b.state in LIVE_STATES and b.name != but]
        busy.update(host for burst in live for host in burst.hostnames)
        free = {}
        for shape in self.shapes:
            hosts = [host for host in shape.hosts if host not in busy]
            coming = sum(
                burst.nodes
                for burst in live
                if not burst.hostnames and machine_of(burst.node_type)[0] == shape.name
            )
            free[shape.name] = hosts[: max(0, len(hosts) - coming)] if not but else hosts
        return free

    def _metadata(self, burst: Burst, hosts: Sequence[str]) -> dict[str, str]:
        # Where fewer will do, which of them there are to be is only told by those that there are.
        all_or_none = self.params.min_count is None or burst.isolated
        named = replace(burst, hostnames=tuple(hosts) if all_or_none else ())
        broker = self._isolated_broker(burst, list(hosts)) if burst.isolated else self._broker()
        return machines.metadata_of(self.params, self.instance.name, named, broker)

    def _isolated_broker(self, burst: Burst, hosts: list[str]) -> machines.Broker:
        params = self.params
        user = params.flux_user or pwd.getpwuid(os.getuid()).pw_name
        jobspec = remote_jobspec(self.instance, burst.jobs[0], params.environment)
        return machines.Broker(
            certificate=isolated.certificate(),
            resources=b"",
            config=isolated.config(hosts),
            user=user,
            uid=_uid(user),
            flux=self._flux,
            munge_key=None if params.munge_key is None else params.munge_key.read_bytes(),
            more=isolated.metadata(jobspec, hosts[0]),
        )

    @property
    def _flux(self) -> str:
        root = self.params.flux_root
        return "flux" if root is None else str(root / "bin" / "flux")

    def _broker(self) -> machines.Broker:
        params, elastic = self.params, self.elastic
        seen = replace(
            elastic,
            address=params.lead_host or elastic.address,
            port=params.lead_port or elastic.port,
        )
        user = params.flux_user or elastic.user
        return machines.Broker(
            certificate=self.certificate,
            resources=(self.directory / "R").read_bytes(),
            config=with_others_of(
                self.directory / "config", system_toml(seen, Path(machines.HOME))
            ),
            user=user,
            uid=_uid(user),
            flux=self._flux,
            munge_key=None if params.munge_key is None else params.munge_key.read_bytes(),
        )

    # --- what is there ---------------------------------------------------------------------

    def _as_it_is(
        self,
        burst: Burst,
        found: Sequence[Machine],
        hosts: tuple[str, ...],
        *,
        adopting: bool = False,
        compute: Compute | None = None,
    ) -> Burst:
        """Return a burst in the state that its instances and the instance's nodes show."""
        up = {node.hostname for node in self.instance.nodes() if node.up}.intersection(hosts)
        seen = health(found, hosts, up, time.time(), self.params.join_timeout)
        since = min((machine.began for machine in found), default=burst.since)
        burst = replace(burst, hostnames=hosts, since=since)
        burst = replace(burst, lease_until=_earliest(burst.lease_until, end_of(found)))
        if seen.lost or not hosts:
            left = tuple(host for host in hosts if host not in seen.lost) if adopting else hosts
            problem = seen.problem or "there are no instances of it"
            problem += self._explanation(compute, burst.name, seen.late)
            return replace(burst, state=BurstState.FAILED, hostnames=left, error=problem)
        if len(up) == len(hosts):
            return replace(burst, state=BurstState.READY, joined=len(up), error="")
        state = BurstState.JOINING if up else BurstState.STARTING
        return replace(burst, state=state, joined=len(up), error="")

    def _explanation(self, compute: Compute | None, name: str, late: Collection[str]) -> str:
        """Return what the first of the instances that are late says at its serial port."""
        if compute is None or not late:
            return ""
        for one in compute.instances(labels.burst_labels(self.tag, name)):
            if one.name not in late:
                continue
            command = compute.console_command(one)
            with contextlib.suppress(BurstError):
                said = re.findall(r"fluxburst: (.*)", compute.console(one))
                if said:
                    return f"; {one.name} says: {said[-1].strip()} [{command}]"
            return f"; {command} may tell why"
        return ""

    def _draining(self) -> dict[str, str]:
        """Return the declared hosts that are drained for a burst, with its name."""
        if self.isolated:
            return {}
        return self.draining({host for shape in self.shapes for host in shape.hosts})

    def _nodes_of(self, compute: Compute, burst: Burst) -> list[Node]:
        """Return the nodes of a burst, and of no other, as they are now."""
        supplied = [(written.name, {one.host}) for written, one in self.fleet.all(compute)]
        return self.nodes_of(burst, supplied, self._draining())


def _named(name: str) -> Burst:
    """Return a burst of which only the name is known."""
    return Burst(name, ComputeEngineBurst.name, "", 0)


def _uid(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise RequestError(f"there is no user {user!r} here, so no user id for it there") from error


def _earliest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)
