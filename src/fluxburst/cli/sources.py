"""The ledger for read-only commands: the instance's, or one in a named directory."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fluxburst.cli.app import Settings
from fluxburst.client import FluxBurst
from fluxburst.errors import FluxburstError, FluxUnavailableError, InstanceError, RequestError
from fluxburst.ledger import Ledger
from fluxburst.ledger.clock import time_of
from fluxburst.ledger.location import FILE
from fluxburst.plugin.base import BurstPlugin

AWAY = (FluxUnavailableError, InstanceError)
"""Errors that mean the instance cannot be asked."""


@contextmanager
def ledger_of(settings: Settings) -> Iterator[tuple[Ledger, float]]:
    """Yield the ledger named by the settings, opened for reading, and its current time.

    Needs no instance if the directory is named.
    """
    directory = settings.directory
    if directory is not None and settings.mock is None:
        ledger = ledger_in(directory)
        try:
            yield ledger, time_of(ledger)
        finally:
            ledger.close()
        return
    with settings.client(plugins=False) as client:
        try:
            found = client.ledger
        except AWAY as error:
            raise RequestError(f"{error}; or name its directory with --state-dir") from error
        yield found, client.now()


def ledger_in(directory: Path) -> Ledger:
    """Return the ledger in a directory, opened for reading.

    Raises:
        RequestError: if there is no such directory.
        LedgerError: if the ledger is unreadable.
    """
    try:
        there = stat.S_ISDIR(directory.stat().st_mode)
    except PermissionError as error:
        raise RequestError(
            f"cannot read {directory}: run fluxburst as the user who owns it"
        ) from error
    except OSError:
        there = False
    if not there:
        raise RequestError(f"{directory} is not a directory, so it holds no ledger")
    return Ledger(directory / FILE, "", read_only=True)


def plugins_where_possible(settings: Settings, names: Collection[str]) -> Mapping[str, BurstPlugin]:
    """Return the configured plugins by name, unchecked; leave out those that fail to construct.

    Asks neither the instance nor a provider.
    """
    client = settings.client(plugins=False)
    client.validate = False
    for name in names:
        with contextlib.suppress(FluxburstError):
            client.load(name)
    return client.plugins


def loaded_where_possible(settings: Settings) -> tuple[FluxBurst, list[str]]:
    """Return a client with the plugins that load, and why the others do not."""
    client = settings.client(plugins=False)
    problems = []
    for name in settings.plugin_names(client):
        try:
            client.load(name)
        except FluxburstError as error:
            problems.append(str(error))
    return client, problems
