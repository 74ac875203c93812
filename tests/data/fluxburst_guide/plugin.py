from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from fluxburst.plugin.base import BurstPlugin


@dataclass
class BurstParameters:
    project: str
    munge_key: Optional[str] = "/etc/munge/munge.key"  # noqa: UP045 - as they were written
    munge_secret_name: Optional[str] = "munge-key"  # noqa: UP045
    curve_cert_secret_name: Optional[str] = "curve-cert"  # noqa: UP045
    flux_operator_yaml: Optional[str] = None  # noqa: UP045
    lead_host: Optional[str] = None  # noqa: UP045
    lead_port: Optional[str] = None  # noqa: UP045
    lead_size: Optional[str] = None  # noqa: UP045
    name: Optional[str] = "burst-0"  # noqa: UP045


class FluxBurstGuide(BurstPlugin):
    _param_dataclass = BurstParameters

    def schedule(self, job: Any) -> Any:
        if job["id"] in self.jobs:
            return True
        self.jobs[job["id"]] = job
        return True

    def run(
        self, request_burst: bool = False, nodes: int | None = None, tasks: int | None = None
    ) -> Any:
        self.clusters = {self.params.name: max(job["nnodes"] for job in self.jobs.values())}

    def cleanup(self, name: str | None = None) -> Any:
        self.clusters = {}
