"""Metadata for the brokers on machines: secrets, configuration, and a user."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fluxburst import Burst
from fluxburst.errors import RequestError
from fluxburst.formats.flux_configuration import with_others_of
from fluxburst.provider.elastic import system_toml
from fluxburst.provider.elastic_plugin import ElasticPlugin
from fluxburst.provider.isolation import remote_jobspec
from fluxburst_compute_engine import isolated, machines
from fluxburst_compute_engine.parameters import BurstParameters


class Brokers:
    """Collects the metadata for the brokers of bursts.

    Args:
        site: The plugin, which gives the instance and its directory on demand.
        params: Its parameters.
    """

    def __init__(self, site: ElasticPlugin, params: BurstParameters) -> None:
        self._site = site
        self._params = params

    def metadata(self, burst: Burst, hosts: Sequence[str]) -> dict[str, str]:
        """Return the metadata of a burst's machines.

        Args:
            burst: The burst.
            hosts: The names of its machines.

        Raises:
            RequestError: if the user they run for is unknown here.
        """
        # If fewer than requested suffice, only the created machines tell which hosts exist.
        all_or_none = self._params.min_count is None or burst.isolated
        named = replace(burst, hostnames=tuple(hosts) if all_or_none else ())
        broker = self._isolated(burst, list(hosts)) if burst.isolated else self._joining()
        return machines.metadata_of(self._params, self._site.instance.name, named, broker)

    def _isolated(self, burst: Burst, hosts: list[str]) -> machines.Broker:
        params = self._params
        user = params.flux_user or pwd.getpwuid(os.getuid()).pw_name
        jobspec = remote_jobspec(self._site.instance, burst.jobs[0], params.environment)
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

    def _joining(self) -> machines.Broker:
        params, site = self._params, self._site
        seen = replace(
            site.elastic,
            address=params.lead_host or site.elastic.address,
            port=params.lead_port or site.elastic.port,
        )
        user = params.flux_user or site.elastic.user
        return machines.Broker(
            certificate=site.certificate,
            resources=(site.directory / "R").read_bytes(),
            config=with_others_of(
                site.directory / "config", system_toml(seen, Path(machines.HOME))
            ),
            user=user,
            uid=_uid(user),
            flux=self._flux,
            munge_key=None if params.munge_key is None else params.munge_key.read_bytes(),
        )

    @property
    def _flux(self) -> str:
        root = self._params.flux_root
        return "flux" if root is None else str(root / "bin" / "flux")


def _uid(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise RequestError(f"there is no user {user!r} here, so no user id for it there") from error
