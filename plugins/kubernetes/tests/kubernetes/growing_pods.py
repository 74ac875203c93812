"""Live elastic instances that grow by pods, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.elastic_instance import ElasticInstance, elastic_instance
from tests.kubernetes.apiserver import Server

Growing = ElasticInstance


@contextmanager
def growing(directory: Path, server: Server, namespace: str, *options: str) -> Iterator[Growing]:
    """Make an elastic instance of pods of two cores and start it, and end it."""
    usual = ["--address=127.0.0.1", "--cores=2", "--lead-cores=2", f"--namespace={namespace}"]
    parameters = {"kubeconfig": str(server.kubeconfig), "poll_interval": 0.1}
    with elastic_instance(directory, "kubernetes", [*usual, *options], parameters) as made:
        yield made
