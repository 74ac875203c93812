"""The machines of bursts: created in one zone, found by their labels, deleted again."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from fluxburst import Burst
from fluxburst.errors import BurstError, CapacityError, QuotaError
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.formats.units import format_duration
from fluxburst_compute_engine import labels, machines, placement
from fluxburst_compute_engine.parameters import BurstParameters
from fluxburst_compute_engine.states import Machine, seconds

if TYPE_CHECKING:
    from google.cloud import compute_v1

    from fluxburst_compute_engine.cloud import Compute

_log = logging.getLogger(__name__)


class Fleet:
    """The machines of one Flux instance's bursts.

    Args:
        params: The plugin's parameters.
        tag: Distinguishes the Flux instance from others.
        plugin: The plugin's name, for errors.
    """

    def __init__(self, params: BurstParameters, tag: str, plugin: str) -> None:
        self.params, self.tag, self.plugin = params, tag, plugin
        self._full: dict[tuple[str, str], float] = {}
        """Until when a zone is avoided for a node type, by the monotonic clock."""
        self._region_zones: list[str] = []

    def listed(self, compute: Compute) -> list[tuple[labels.Written, compute_v1.Instance]]:
        """Return all machines of this Flux instance, with their metadata about bursts."""
        return [
            (labels.read(one.labels, metadata_of(one)), one)
            for one in compute.instances(labels.instance_labels(self.tag))
            if labels.BURST in one.labels
        ]

    def all(self, compute: Compute) -> list[tuple[labels.Written, Machine]]:
        """Return the same, with what counts of the instances."""
        return [(written, machine_of(one)) for written, one in self.listed(compute)]

    def find(self, compute: Compute, name: str) -> list[Machine]:
        """Return the machines of a burst."""
        return [machine_of(one) for one in compute.instances(labels.burst_labels(self.tag, name))]

    def make(
        self, compute: Compute, burst: Burst, hosts: Sequence[str], metadata: Mapping[str, str]
    ) -> list[Machine]:
        """Create a burst's machines in the first zone with capacity, all of them or none.

        Args:
            compute: The connection.
            burst: The burst.
            hosts: The names of the machines.
            metadata: Their metadata.

        Raises:
            CapacityError: if no zone has enough.
            ExistsError: if one of the names is in use.
            BurstError: or another subclass.
        """
        policy = placement.ensure(compute, self.params, self.tag, burst.name)
        resource = machines.bulk_insert(
            self.params,
            compute.project,
            self.tag,
            burst,
            hosts,
            metadata,
            placement_policy=policy,
        )
        errors: list[BurstError] = []
        for zone in self._open_zones(compute, burst.node_type):
            try:
                self._insert(compute, zone, burst, resource)
            except CapacityError as error:
                self._full[zone, burst.node_type] = time.monotonic() + self.params.zone_pause
                errors.append(error)
                continue
            found = self.find(compute, burst.name)
            if found:
                return found
            errors.append(BurstError(f"Google created the machines in {zone}, but lists none"))
        raise self._no_capacity(burst, errors)

    def _insert(
        self,
        compute: Compute,
        zone: str,
        burst: Burst,
        resource: compute_v1.BulkInsertInstanceResource,
    ) -> None:
        """Create machines in a zone; on failure, none of them remain."""
        from fluxburst_compute_engine.cloud import request_id

        doing = f"create {resource.count} machines of {burst.node_type} in {zone}"
        try:
            compute.insert(zone, resource, request_id(self.tag, burst.name), doing)
        except (CapacityError, QuotaError):
            # Google deletes what it created, but only what it knows of, and not at once.
            self._delete(compute, burst.name)
            raise

    def _open_zones(self, compute: Compute, node_type: str) -> list[str]:
        """Return the zones to try, without those that recently lacked capacity."""
        now = time.monotonic()
        zones = self.zones(compute)
        return [zone for zone in zones if self._full.get((zone, node_type), now) <= now]

    def zones(self, compute: Compute) -> list[str]:
        """Return the zones to use, in order."""
        if self.params.zone is not None:
            return [self.params.zone]
        if not self.params.zones and not self._region_zones:
            self._region_zones = compute.zones(self.params.region)
        return self.params.zones or self._region_zones

    def _no_capacity(self, burst: Burst, errors: Sequence[BurstError]) -> BurstError:
        if any(not isinstance(error, CapacityError) for error in errors):
            return next(error for error in errors if not isinstance(error, CapacityError))
        said = "; ".join(str(error) for error in errors)
        backoff = format_duration(self.params.zone_pause)
        return CapacityError(
            said or f"all zones lacked {burst.node_type} less than {backoff} ago",
            plugin=self.plugin,
            burst=burst.name,
        )

    def await_insertions(self, compute: Compute, name: str) -> bool:
        """Wait until no other process's request for a burst's machines is running.

        Returns whether there was one. Its success does not matter: the machines do.
        """
        going_on = False
        for zone in self.zones(compute):
            for operation in compute.insertions(zone, self.tag, name):
                going_on = True
                compute.follow(operation, zone=zone)
        return going_on

    def check_absent(
        self, compute: Compute, found: Sequence[Machine], missing: Collection[str], burst: str
    ) -> None:
        """Check that certain machines of a burst do not exist, whatever their labels.

        Args:
            compute: The connection.
            found: The listed machines.
            missing: The names of the others.
            burst: The burst's name.

        Raises:
            BurstError: if one exists, or that is unknown.
        """
        listed = {machine.host for machine in found}
        zones = sorted({machine.zone for machine in found}) or self.zones(compute)
        for host in sorted(set(missing) - listed):
            for zone in zones:
                if compute.has(zone, host):
                    raise BurstError(
                        f"its machine {host} exists in {zone}, but its labels no longer match: "
                        "the fate of its job is unknown",
                        plugin=self.plugin,
                        burst=burst,
                    )

    def explanation(self, compute: Compute | None, name: str, late: Collection[str]) -> str:
        """Return the serial port's message of the first of the late machines."""
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
            return f"; {command} may show why"
        return ""

    def end(self, compute: Compute, name: str, seen: Sequence[compute_v1.Instance] = ()) -> None:
        """Delete a burst's instances, wait until they are gone, and what goes with them.

        Args:
            compute: The connection.
            name: The burst's name.
            seen: Those of its instances that were listed just now. A later list proves that none
                is left.
        """
        self.await_insertions(compute, name)
        self._delete(compute, name, seen)
        placement.remove(compute, self.params, self.tag, name)

    def _delete(
        self, compute: Compute, name: str, seen: Sequence[compute_v1.Instance] = ()
    ) -> None:
        own = labels.burst_labels(self.tag, name)
        until = time.monotonic() + self.params.delete_timeout
        asked: set[tuple[str, str]] = set()
        found = seen or compute.instances(own)
        while found:
            for one in found:
                if (one.zone, one.name) not in asked and compute.delete(one):
                    asked.add((one.zone, one.name))
            if time.monotonic() > until:
                left = format_hostlist(sorted(one.name for one in found))
                limit = format_duration(self.params.delete_timeout)
                raise BurstError(f"its machines were deleted, but {left} still exist after {limit}")
            time.sleep(self.params.poll_interval)
            found = compute.instances(own)

    def forget_secrets(self, compute: Compute, name: str) -> None:
        """Remove the secrets from the metadata; a failure is only logged."""
        for one in compute.instances(labels.burst_labels(self.tag, name)):
            if machines.SECRETS.isdisjoint(item.key for item in one.metadata.items):
                continue
            try:
                compute.forget(one, machines.SECRETS)
            except BurstError as error:
                _log.warning("plugin %s: secrets stay in metadata: %s", self.plugin, error)
                return


def hosts_of(found: Iterable[Machine]) -> tuple[str, ...]:
    """Return the names of machines, in order."""
    return tuple(sorted({machine.host for machine in found}))


def lease_of(burst: Burst, found: Iterable[Machine]) -> float | None:
    """Return when a burst's lease ends, or its first machine, if sooner; None for never."""
    ends = [one.began + one.run_seconds for one in found if one.run_seconds is not None]
    leased = [] if burst.lease_until is None else [burst.lease_until]
    return min([*leased, *ends], default=None)


def metadata_of(one: compute_v1.Instance) -> Mapping[str, str]:
    """Return a machine's metadata by key."""
    return {item.key: item.value for item in one.metadata.items}


def machine_of(one: compute_v1.Instance) -> Machine:
    """Return the state of a machine."""
    from fluxburst_compute_engine.cloud import last

    limit = one.scheduling.max_run_duration.seconds
    began = seconds(one.last_start_timestamp) or seconds(one.creation_timestamp) or time.time()
    return Machine(one.name, last(one.zone), one.status, began, int(limit) or None)
