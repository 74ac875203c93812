"""A plugin's connections to its cluster: one per use, with the current credentials."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fluxburst.errors import AuthError, BurstError

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

    from fluxburst_kubernetes.cluster import Cluster
    from fluxburst_kubernetes.parameters import MiniClusterParameters

_log = logging.getLogger(__name__)


class Connection:
    """Opens connections to a cluster.

    Args:
        configuration: Returns the current access to it; None if there is no cluster yet.
        params: The plugin's parameters.
        plugin: The plugin's name, for errors.
    """

    def __init__(
        self,
        configuration: Callable[[], SingleConfig | None],
        params: MiniClusterParameters,
        plugin: str,
    ) -> None:
        self._configuration = configuration
        self._params = params
        self._plugin = plugin

    @contextlib.contextmanager
    def there(self) -> Iterator[Cluster | None]:
        """Open a connection with the current credentials; None without a cluster."""
        from fluxburst_kubernetes.cluster import connected

        params, config = self._params, self._configuration()
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
    def opened(self) -> Iterator[Cluster]:
        """Open a connection to a cluster that must exist.

        Raises:
            BurstError: if it does not.
        """
        with self.there() as cluster:
            if cluster is None:
                raise BurstError("there is no cluster", plugin=self._plugin)
            yield cluster

    def check_operator(self) -> None:
        """Check that the cluster has a Flux Operator; if it is unreachable, only log a warning.

        Raises:
            BurstError: if it has none.
            AuthError: if it does not accept the credentials.
        """
        from fluxburst_kubernetes import operator

        try:
            with self.there() as cluster:
                installed = cluster is None or operator.is_installed(cluster)
        except AuthError:
            raise
        except BurstError as error:
            _log.warning("plugin %s: %s", self._plugin, error)
            return
        if not installed:
            raise BurstError(operator.ABSENT, plugin=self._plugin)
