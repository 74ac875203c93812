"""Flux as centres have it: with Fluxion, flux-security and flux-accounting, for tests.

Tests that need one of them are marked ``fluxion``, ``guests`` or ``accounting``. They use the Flux
whose prefix ``FLUXBURST_TEST_FLUX`` names, or else the one on ``PATH``, where that has it. The
other tests of the same session go on with the one on ``PATH``.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.live import Flux, running_flux
from tests.support import flux_available

from fluxburst.formats.process import CommandError, run
from fluxburst.provider import fluxion

VARIABLE = "FLUXBURST_TEST_FLUX"
_PREFIX = os.environ.get(VARIABLE, "")  # before tests take such variables out

CONSERVATIVE = {"fluxion.toml": fluxion.configuration()}


def _candidates() -> Iterator[str]:
    """Yield the ``flux`` commands that tests may use."""
    if not flux_available():
        return
    for command in (f"{_PREFIX}/bin/flux" if _PREFIX else "", shutil.which("flux") or ""):
        if command and os.access(command, os.X_OK):
            yield command


@functools.cache
def flux_with_fluxion() -> str:
    """Return a ``flux`` that Fluxion schedules by; empty where there is none."""
    return next(filter(fluxion.is_in, _candidates()), "")


@functools.cache
def flux_with_accounting() -> str:
    """Return a ``flux`` with flux-accounting's priority plugin; empty where there is none."""
    return next((flux for flux in _candidates() if _plugin_of(flux).is_file()), "")


@functools.cache
def flux_with_guests() -> str:
    """Return a ``flux`` that runs jobs of guests, where this is root; empty where there is none.

    It has an IMP (flux-security) that is set up: setuid, with a table ``[exec]`` whose
    ``allowed-users`` has the one user that is to own instances, and whose ``allowed-shells`` has
    Flux's shell; and a table ``[sign]`` for MUNGE, whose daemon need not run.
    """
    return next(filter(_runs_guests, _candidates()), "")


def imp_of(flux: str) -> Path:
    """Return where the IMP of a ``flux`` is."""
    return Path(flux).resolve().parents[1] / "libexec" / "flux" / "flux-imp"


def _plugin_of(flux: str) -> Path:
    plugins = Path(flux).resolve().parents[1] / "lib" / "flux" / "job-manager" / "plugins"
    return plugins / "mf_priority.so"


def _runs_guests(flux: str) -> bool:
    imp = imp_of(flux)
    if os.getuid() or not imp.is_file() or not imp.stat().st_mode & 0o4000:
        return False
    try:
        signing = run([flux, "config", "get", "--config-path=security", "sign"])
        users = run([flux, "config", "get", "--config-path=imp", "exec.allowed-users"])
    except CommandError:
        return False
    programs = all(map(shutil.which, ("munge", "munged", "setpriv")))
    return programs and '"munge"' in signing and '"' in users


needs_fluxion = pytest.mark.skipif(
    not flux_with_fluxion(), reason=f"no Fluxion, on PATH or where {VARIABLE} points"
)
needs_accounting = pytest.mark.skipif(
    not flux_with_accounting(), reason=f"no flux-accounting, on PATH or where {VARIABLE} points"
)
needs_guests = pytest.mark.skipif(
    not flux_with_guests(),
    reason=f"no flux-security with an IMP that is set up, on PATH or where {VARIABLE} points",
)


def path_with(flux: str) -> str:
    """Return a ``PATH`` on which a ``flux`` comes first."""
    return f"{Path(flux).parent}{os.pathsep}{os.environ['PATH']}"


@contextmanager
def running_fluxion(config: Mapping[str, str] | None = None, *, size: int = 1) -> Iterator[Flux]:
    """Start an instance that Fluxion schedules, under a policy by which jobs wait for nodes."""
    command = flux_with_fluxion()
    with running_flux({**CONSERVATIVE, **(config or {})}, size=size, command=command) as flux:
        yield flux
