"""The burst plugin ``gke``: node pools of Google Kubernetes Engine, and MiniClusters on them."""

from __future__ import annotations

import functools
import math
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from fluxburst import Burst, NodeType
from fluxburst.errors import RequestError
from fluxburst.machine_types import MachineTypes
from fluxburst.plugins import Finding
from fluxburst.prices import LivePrices
from fluxburst_compute_engine.catalogue import machine_types
from fluxburst_gke.parameters import BurstParameters
from fluxburst_kubernetes.checks import run_checks
from fluxburst_kubernetes.managed import ManagedKubernetes

if TYPE_CHECKING:
    from fluxburst_gke.pools import GkePools

_CLUSTER = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", re.ASCII)
_LOCATION = re.compile(r"[a-z]+-[a-z]+[0-9]+(-[a-z])?", re.ASCII)


class GkeBurst(ManagedKubernetes):
    """Makes node pools in a cluster of Kubernetes Engine, and MiniClusters on them."""

    _param_dataclass = BurstParameters
    name = "gke"
    longest_pool_name = 40

    params: BurstParameters

    def __init__(self, dataclass: BurstParameters) -> None:
        super().__init__(dataclass)
        self._live = LivePrices(self.name, self._ask_prices)

    @property
    def region(self) -> str:
        """The region that the cluster is in."""
        return _region(self.params)

    @functools.cached_property
    def pools(self) -> GkePools:
        """The cluster and its node pools, with the application default credentials.

        Raises:
            AuthError: if there are no credentials.
            RequestError: if no project is known.
        """
        from fluxburst_compute_engine.credentials import default
        from fluxburst_gke.google import Google
        from fluxburst_gke.pools import GkePools

        return GkePools(Google(default(self.params.project), self.params), self.params)

    @functools.cached_property
    def table(self) -> MachineTypes:
        """The machine types of Compute Engine, whose machines the nodes are."""
        return machine_types()

    def _types(self) -> list[NodeType]:
        kinds = super()._types()
        return self._live.of(kinds, self.machines) if self.params.live_prices else kinds

    def _ask_prices(self, names: Collection[str]) -> Iterable[tuple[str, float]]:
        from fluxburst_compute_engine import prices

        return prices.live(
            self.pools.google.identity,
            [self.machines[name] for name in names],
            self.region,
            endpoint=self.params.billing_endpoint,
            timeout=self.params.request_timeout,
        )

    def provider_findings(self) -> Iterable[Finding]:
        """Check the identity and its permissions in the project."""
        from fluxburst_gke.diagnosis import findings

        return findings(self)

    def renew(self, burst: Burst) -> Burst:
        """Have a burst end when its lease does, which cannot be later than Google ends its nodes.

        Raises:
            BurstError: if it is not there, or has ended.
        """
        lifetime = self.params.max_run_duration
        if lifetime is not None and burst.lease_until is not None and burst.since is not None:
            latest = burst.since + lifetime
            burst = replace(burst, lease_until=min(burst.lease_until, latest))
        return super().renew(burst)

    def _output(self, pod: str) -> str:
        query = (
            f'resource.type=k8s_container AND resource.labels.pod_name="{pod}" AND '
            f'resource.labels.cluster_name="{self.params.cluster_name}"'
        )
        project = self.pools.google.project
        form = "--order asc --format 'value(textPayload)'"
        return f"gcloud logging read {shlex.quote(query)} --project {project} {form}"

    def _problems(self) -> Iterator[tuple[str, str]]:
        checks: dict[str, Callable[[BurstParameters], None]] = {
            "cluster_name": _cluster_name,
            "location": _location,
            "zones": _zones,
            "max_run_duration": _max_run_duration,
            "operation_interval": _operation_interval,
        }
        return chain(super()._problems(), run_checks(checks, self.params))


def _cluster_name(params: BurstParameters) -> None:
    if not _CLUSTER.fullmatch(params.cluster_name):
        raise RequestError(f"{params.cluster_name!r} is not a name for a cluster")


def _region(params: BurstParameters) -> str:
    return "-".join(params.location.split("-")[:2])


def _location(params: BurstParameters) -> None:
    if not _LOCATION.fullmatch(params.location):
        raise RequestError(f"{params.location!r} is neither a zone nor a region of Google Cloud")


def _zones(params: BurstParameters) -> None:
    region = _region(params)
    for zone in params.zones:
        if not _LOCATION.fullmatch(zone) or not zone.startswith(f"{region}-"):
            raise RequestError(f"{zone!r} is not a zone of {region}, where the cluster is")


def _max_run_duration(params: BurstParameters) -> None:
    if params.max_run_duration is not None and not 60 <= params.max_run_duration < math.inf:
        raise RequestError("must be at least a minute")


def _operation_interval(params: BurstParameters) -> None:
    if not 0 < params.operation_interval < math.inf:
        raise RequestError("must be more than no time")
