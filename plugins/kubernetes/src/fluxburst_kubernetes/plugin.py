"""The burst plugin ``kubernetes``: MiniClusters in an existing cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from fluxburst import ByteSize, NodeType
from fluxburst.provider.elastic import BURST_PROPERTY
from fluxburst_kubernetes.checks import check_cluster_parameters
from fluxburst_kubernetes.minicluster_plugin import MiniClusterBurst
from fluxburst_kubernetes.parameters import BurstParameters

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

DEFAULT_TYPE = "pod"


class KubernetesBurst(MiniClusterBurst):
    """Creates MiniClusters in the cluster of a kubeconfig, or the one it runs in."""

    _param_dataclass = BurstParameters
    name = "kubernetes"

    params: BurstParameters

    def _configuration(self) -> SingleConfig:
        from fluxburst_kubernetes.cluster import configuration

        return configuration(self.params.kubeconfig, self.params.context)

    def _problems(self) -> Iterator[tuple[str, str]]:
        return chain(super()._problems(), check_cluster_parameters(self.params))

    def _types(self) -> list[NodeType]:
        params = self.params
        if self.isolated and not params.node_types:
            cores = params.cpu_limit or 1
            return [NodeType(DEFAULT_TYPE, cores, memory=params.memory_limit, price=params.price)]
        if self.isolated:
            return list(params.node_types)
        elastic = self.elastic
        types = params.node_types or [
            NodeType(
                DEFAULT_TYPE,
                cores=elastic.cores,
                gpus=elastic.gpus,
                memory=params.memory_limit,
                price=params.price,
            )
        ]
        return [
            replace(kind, properties=tuple(dict.fromkeys([*kind.properties, BURST_PROPERTY])))
            for kind in types
        ]

    def _pod_limits(self, node_type: NodeType) -> tuple[int | None, ByteSize | None]:
        if self.params.node_types:
            return node_type.cores, node_type.memory
        return super()._pod_limits(node_type)
