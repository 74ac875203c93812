"""The burst plugin ``eks``: node groups of an EKS cluster, and MiniClusters on them."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Collection, Iterable, Iterator
from importlib import resources
from itertools import chain
from typing import TYPE_CHECKING

from fluxburst import Burst, NodeType
from fluxburst.errors import FluxburstError
from fluxburst.plugin import Finding
from fluxburst.provider.live_prices import LivePrices
from fluxburst.provider.machine_types import MachineTypes, load
from fluxburst_eks import checks
from fluxburst_eks.parameters import BurstParameters
from fluxburst_kubernetes.managed import ManagedKubernetes

if TYPE_CHECKING:
    from fluxburst_eks.aws import Aws
    from fluxburst_eks.pools import EksPools

TABLE = "machine_types.toml"


@functools.cache
def shipped_table() -> MachineTypes:
    """Return the package's table of machine types, with their prices on demand."""
    text = resources.files("fluxburst_eks").joinpath(TABLE).read_text(encoding="utf-8")
    return load(text, f"fluxburst_eks/{TABLE}")


class EksBurst(ManagedKubernetes):
    """Creates node groups in an EKS cluster, and MiniClusters on them, and deletes both again."""

    _param_dataclass = BurstParameters
    name = "eks"
    longest_pool_name = 63

    params: BurstParameters

    def __init__(self, dataclass: BurstParameters) -> None:
        super().__init__(dataclass)
        self._live = LivePrices(self.name, self._ask_prices)

    @functools.cached_property
    def aws(self) -> Aws:
        """The account, in the region of the parameters."""
        from fluxburst_eks.aws import Aws

        params = self.params
        if params.creds_from_environ:
            checks.check_environment()
        return Aws(
            params.region,
            params.profile,
            params.endpoint_url,
            timeout=params.request_timeout,
            patience=params.retry_timeout,
            poll=params.provider_poll_interval,
        )

    @functools.cached_property
    def pools(self) -> EksPools:
        """The cluster and its node groups."""
        from fluxburst_eks.pools import EksPools

        return EksPools(self.aws, self.params, self.machines)

    @functools.cached_property
    def table(self) -> MachineTypes:
        """The package's table of machine types."""
        return shipped_table()

    @functools.cached_property
    def machines(self) -> MachineTypes:
        """The machine types with the user's changes; spot machines cost no more than on demand."""
        from fluxburst_eks.prices import with_ceilings

        return with_ceilings(super().machines)

    def _problems(self) -> Iterator[tuple[str, str]]:
        return chain(super()._problems(), checks.check_parameters(self.params))

    def _output(self, pod: str) -> str:
        """Return the usual command, after the one that sets up kubectl's access."""
        name = shlex.quote(self.params.cluster_name)
        login = f"aws eks update-kubeconfig --region {self.aws.region} --name {name}"
        return f"{login} && {super()._output(pod)}"

    def _types(self) -> list[NodeType]:
        kinds = super()._types()
        if not self.params.live_prices:
            return kinds
        return self._live.of(kinds, self.machines)

    def _ask_prices(self, machine_types: Collection[str]) -> Iterable[tuple[str, float]]:
        from fluxburst_eks import prices

        return prices.live(self.aws, machine_types)

    def renew(self, burst: Burst) -> Burst:
        """Set the Job's deadline to the end of the lease, and update the node group's record."""
        renewed = super().renew(burst)
        if renewed.lease_until is not None and self.params.node_pool is None:
            self.pools.write_lease(self.burst_pools.name_of(burst.name), renewed.lease_until)
        return renewed

    def provider_findings(self) -> Iterable[Finding]:
        """Check the identity, its permissions, and the cluster."""
        from fluxburst_eks import diagnosis

        who = yield from diagnosis.identity(lambda: self.aws)
        if not who:
            return
        yield from diagnosis.permissions(self.params, self.aws, who)
        yield from diagnosis.cluster(self.params, self.aws)
        try:
            kinds = self._types()
        except FluxburstError:  # reported by the checks of the instance
            return
        live = self.params.live_prices and not self._live.problem
        yield diagnosis.prices(kinds, self.machines, self.aws.region, live=live)
