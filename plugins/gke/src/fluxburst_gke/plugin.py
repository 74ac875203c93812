"""The burst plugin ``gke``: node pools of Google Kubernetes Engine, and MiniClusters on them."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from fluxburst import Burst, NodeType
from fluxburst.errors import FluxburstError
from fluxburst.plugin import Finding
from fluxburst.provider.live_prices import LivePrices
from fluxburst.provider.machine_types import MachineTypes
from fluxburst_gke.checks import check_parameters, region_of
from fluxburst_gke.parameters import BurstParameters
from fluxburst_google.catalogue import machine_types
from fluxburst_kubernetes.managed import ManagedKubernetes

if TYPE_CHECKING:
    from fluxburst_gke.pools import GkePools


class GkeBurst(ManagedKubernetes):
    """Creates node pools in a cluster of Kubernetes Engine, and MiniClusters on them."""

    _param_dataclass = BurstParameters
    name = "gke"
    longest_pool_name = 40

    params: BurstParameters
    logs_outlive_pods = True

    def __init__(self, dataclass: BurstParameters) -> None:
        super().__init__(dataclass)
        self._live = LivePrices(self.name, self._ask_prices)

    @property
    def region(self) -> str:
        """The cluster's region."""
        return region_of(self.params)

    @functools.cached_property
    def pools(self) -> GkePools:
        """The cluster and its node pools, with the application default credentials.

        Raises:
            AuthError: if there are no credentials.
            RequestError: if the project is unknown.
        """
        from fluxburst_gke.google import Google
        from fluxburst_gke.pools import GkePools
        from fluxburst_google.credentials import default

        return GkePools(Google(default(self.params.project), self.params), self.params)

    @functools.cached_property
    def table(self) -> MachineTypes:
        """The machine types of Compute Engine for the nodes."""
        return machine_types()

    def _types(self) -> list[NodeType]:
        kinds = super()._types()
        kinds = self._live.of(kinds, self.machines) if self.params.live_prices else kinds
        if self.params.node_pool is not None:  # which is not ours to limit
            return kinds
        return [replace(kind, max_lifetime=self.params.max_run_duration) for kind in kinds]

    def _ask_prices(self, names: Collection[str]) -> Iterable[tuple[str, float]]:
        from fluxburst_google import prices

        return prices.live(
            self.pools.google.identity,
            [self.machines[name] for name in names],
            self.region,
            endpoint=self.params.billing_endpoint,
            timeout=self.params.request_timeout,
        )

    def provider_findings(self) -> Iterable[Finding]:
        """Report the prices in use; check the identity and its permissions in the project."""
        from fluxburst_gke.diagnosis import findings

        yield from self._findings_of_prices()
        yield from findings(self.params, lambda: self.pools.google)

    def _findings_of_prices(self) -> Iterator[Finding]:
        from fluxburst_google import prices

        try:
            kinds = self._types()
        except FluxburstError:  # reported by the checks of the instance
            return
        live = self._live if self.params.live_prices else None
        yield prices.source(live, kinds, self.machines, self.region)
        shown = ", ".join(f"{kind.name} {kind.price:.4g}" for kind in kinds)
        yield Finding("ok", f"prices an hour: {shown}")

    def renew(self, burst: Burst) -> Burst:
        """Shorten a burst's lease to end no later than Google ends its nodes.

        Raises:
            BurstError: if it does not exist, or has ended.
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
        return chain(super()._problems(), check_parameters(self.params))
