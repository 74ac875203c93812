"""Findings of a check; a check that fails is a finding, too."""

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

REACH = "check the connection to its provider: network, proxy, host name, and that it is up"

AWAY = (FluxUnavailableError, InstanceError)
"""Errors that mean the instance cannot be asked."""


def ok(what: str) -> Finding:
    """Return a finding that all is well."""
    return Finding("ok", what)


def warning(what: str, advice: str) -> Finding:
    """Return a finding about something that works, but perhaps not as intended."""
    return Finding("warning", what, advice)


def wrong(what: str, advice: str) -> Finding:
    """Return a finding about something that does not work."""
    return Finding("error", what, advice)


def made(
    check: Callable[[Installation], Iterable[Finding]], installation: Installation
) -> list[Finding]:
    """Return a check's findings, including its own failure."""
    found: list[Finding] = []
    try:
        for finding in check(installation):
            found.append(finding)
    except AWAY:
        advice = "run this inside the instance, or name the ledger's directory with --state-dir"
        found.append(warning("cannot be checked without the instance", advice))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the subject may be foreign or broken
        found.append(wrong(described(error), "fix that, and run 'fluxburst doctor' again"))
    return found


def made_by(
    plugin: BurstPlugin, otherwise: str, check: Callable[[BurstPlugin], Iterable[Finding]]
) -> list[Finding]:
    """Return the findings of a plugin's check; a failure is explained by ``otherwise``."""
    found: list[Finding] = []
    try:
        for finding in check(plugin):
            found.append(finding)
    except AWAY:
        advice = "run this inside the plugin's Flux instance"
        found.append(warning(f"{otherwise} without the instance", advice))
    except NotAskedError:
        pass  # already reported by the check that asked
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
        text = f"{otherwise}: {described(error)}"
        found.append(wrong(text, advice_on(error, plugin.name)))
    return found


def advice_on(error: BaseException, plugin: str) -> str:
    """Return advice for a plugin's failure."""
    if isinstance(error, AuthError):
        return "check its credentials and their permissions"
    if isinstance(error, UnreachableError):
        return REACH
    if isinstance(error, RequestError):
        return f"see 'fluxburst params {plugin}', and correct the config"
    return "check its credentials, its permissions, and the connection to its provider"


def utc(seconds: float) -> str:
    """Format a time, in seconds since the epoch, for people."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S}Z"
