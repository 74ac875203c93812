"""The Python binding of Flux: imported on first use, and checked for its version."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from typing import Any

from fluxburst.errors import FluxUnavailableError, FluxVersionError

OLDEST = (0, 88, 0)
"""The oldest Flux that is supported."""


def import_flux() -> Any:
    """Return the module ``flux``.

    Raises:
        FluxUnavailableError: if it cannot be imported; the message has advice.
    """
    try:
        for module in ("flux.constants", "flux.job", "flux.job.list"):
            importlib.import_module(module)
        return importlib.import_module("flux")
    except ImportError as error:
        raise FluxUnavailableError(
            f"no Flux: importing its Python binding fails ({error}); install flux-python of "
            "the same version, and ply, where libflux-core is found (for a Flux in its own "
            "prefix: LD_LIBRARY_PATH=PREFIX/lib, or PYTHONPATH=PREFIX/lib/flux/python3.X for the "
            "binding built with it), or use an embedded instance (--mock)"
        ) from error


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(int(number) for number in match.groups()) if match else ()


def check_versions(broker: str, binding: str) -> None:
    """Check that the running Flux is new enough and matches its Python binding.

    Raises:
        FluxVersionError: names both versions.
    """
    if _numbers(broker) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise FluxVersionError(
            f"the running Flux is too old: at least {oldest} is required",
            broker=broker,
            binding=binding,
        )
    if _numbers(broker)[:2] != _numbers(binding)[:2]:
        raise FluxVersionError(
            "the Python binding does not match the running Flux; install "
            f"flux-python=={'.'.join(map(str, _numbers(broker)))}",
            broker=broker,
            binding=binding,
        )


def binding_version() -> str:
    """Return the Flux version of the Python binding, empty if it is not installed."""
    try:
        return importlib.metadata.version("flux-python")
    except importlib.metadata.PackageNotFoundError:  # the binding installed by Flux itself
        try:
            core = importlib.import_module("_flux._core")
        except ImportError:
            return ""
        version: bytes = core.ffi.string(core.lib.flux_core_version_string())
        return version.decode()
