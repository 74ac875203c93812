"""What a check finds, also where it fails: that is a finding of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone

from fluxburst.errors import (
    AuthError,
    FluxUnavailableError,
    InstanceError,
    RequestError,
    UnreachableError,
    described,
)
from fluxburst.plugin.base import BurstPlugin, Finding
from fluxburst.provider.probe import NotAskedError
from fluxburst.reports.doctor.installation import Installation

REACH = "check the way to its provider: network, proxy, name, and that it is up"

AWAY = (FluxUnavailableError, InstanceError)
"""What is raised where the instance cannot be asked."""


def ok(what: str) -> Finding:
    """Return that something is as it should be."""
    return Finding("ok", what)


def warning(what: str, advice: str) -> Finding:
    """Return that something works, but perhaps not as it is meant."""
    return Finding("warning", what, advice)


def wrong(what: str, advice: str) -> Finding:
    """Return that something does not work."""
    return Finding("error", what, advice)


def made(
    check: Callable[[Installation], Iterable[Finding]], installation: Installation
) -> list[Finding]:
    """Return what a check finds; if it fails, that too."""
    found: list[Finding] = []
    try:
        for finding in check(installation):
            found.append(finding)
    except AWAY:
        advice = "run this inside the instance, or name the --state-dir that the ledger is in"
        found.append(warning("it cannot be checked without the instance", advice))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - what it looks at is foreign, or broken
        found.append(wrong(described(error), "mend that, and run 'fluxburst doctor' again"))
    return found


def made_by(
    plugin: BurstPlugin, otherwise: str, check: Callable[[BurstPlugin], Iterable[Finding]]
) -> list[Finding]:
    """Return what a check of a plugin finds; if it fails, that too, with what it means."""
    found: list[Finding] = []
    try:
        for finding in check(plugin):
            found.append(finding)
    except AWAY:
        advice = "run this inside the Flux instance that it supplies"
        found.append(warning(f"{otherwise} without the instance", advice))
    except NotAskedError:
        pass  # that was said where it was asked
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
        text = f"{otherwise}: {described(error)}"
        found.append(wrong(text, advice_on(error, plugin.name)))
    return found


def advice_on(error: BaseException, plugin: str) -> str:
    """Return what to do about what a plugin fails with."""
    if isinstance(error, AuthError):
        return "check its credentials and their permissions"
    if isinstance(error, UnreachableError):
        return REACH
    if isinstance(error, RequestError):
        return f"see 'fluxburst params {plugin}', and correct the config"
    return "check its credentials, its permissions, and the way to its provider"


def utc(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as a person reads it."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S}Z"
