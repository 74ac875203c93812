"""This process's role in a live instance: owner or guest (RFC 12, flux-config-access(5)).

The role comes from Flux: a broker answers ``ping`` with the roles of this connection, so
``allow-root-owner`` counts as in Flux. A guest may list jobs, all of them or, in private mode, his
own; jobspecs of others, nodes, urgencies and queues are reserved for the owner.
"""

from __future__ import annotations

import errno
import os
import pwd

from fluxburst.errors import NotOwnerError
from fluxburst.flux.rpc import Requests
from fluxburst.formats import flux_configuration
from fluxburst.model.identity import Users

OWNER = 1
"""``FLUX_ROLE_OWNER``, a bit of ``rolemask``."""

_OWN_JOBS = (
    "Flag your jobs (flux submit --setattr=burstable); flux jobs -ao '{id.f58} {user.fluxburst}' "
    "shows their assignment"
)


def check_owner(requests: Requests, *, to_act: bool = False) -> None:
    """Check that the instance treats this process as its owner.

    Args:
        requests: A connection to the instance.
        to_act: It must be the owner, not root with the owner's rights: jobs started by root run
            as root, and root's ledger is hidden from the owner.

    Raises:
        NotOwnerError: if it does not; the message has advice.
        OSError: if it does not answer.
    """
    answer = requests.ask("broker.ping", {})
    has_rights = bool(answer["rolemask"] & OWNER)
    if has_rights and not to_act:
        return
    owner = str(requests.ask("attr.get", {"name": "security.owner"})["value"])
    if not has_rights:
        raise NotOwnerError(_of_owner(owner))
    # The broker's name for the user, who may have come from another host.
    if owner != str(answer["userid"]):
        raise NotOwnerError(_to_act(owner))


def read_users(requests: Requests) -> Users:
    """Return the users whose jobs an instance accepts and runs, from its configuration.

    Raises:
        OSError: if it does not answer.
    """
    owner = requests.ask("attr.get", {"name": "security.owner"})
    config = requests.ask("config.get", {})
    return Users(
        int(owner["value"]),
        allows_guests=flux_configuration.allows_guests(config),
        runs_guests=flux_configuration.has_imp(config),
    )


def refused(error: OSError) -> NotOwnerError | None:
    """Return advice if an error means that the instance denied access; else empty."""
    if error.errno == errno.EPERM:
        return NotOwnerError(
            f"the instance denies {_name_of(os.getuid())} access: it belongs to another user and "
            "allows no guests (allow-guest-user in its table [access]); run fluxburst as its owner"
        )
    if error.errno == errno.EACCES:
        return NotOwnerError(
            f"{_name_of(os.getuid())} cannot enter the directory that the instance is reached in: "
            "it belongs to another user and allows no guests; run fluxburst as its owner"
        )
    return None


def _to_act(owner: str) -> str:
    who = _owner_of(owner)
    return (
        f"only the instance's owner, {who}, may burst: jobs started by {_name_of(os.getuid())} "
        f"would run as the wrong user; use: sudo -u {_account(who)} fluxburst …"
    )


def _owner_of(owner: str) -> str:
    return _name_of(int(owner) if owner.isdecimal() else -1)


def _account(who: str) -> str:
    """Return a user for ``sudo -u``: the name, or ``#UID``."""
    first, _, rest = who.partition(" ")
    return f"'#{rest}'" if first == "user" and not rest.startswith("(") else first


def _of_owner(owner: str) -> str:
    who = _owner_of(owner)
    me = _name_of(os.getuid())
    needs = f"this needs the rights of the instance's owner, {who}; {me} is a guest"
    account = who.partition(" ")[0]
    if os.getuid() == 0:
        return (
            f"{needs} as well, unless allow-root-owner = true in the instance's table [access]: "
            f"run it as {account} (runuser -u {account} -- fluxburst …)"
        )
    return f"{needs} of it. {_OWN_JOBS}; for more, ask {account} to run 'fluxburst why JOBID'"


def _name_of(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (user {uid})"
    except (KeyError, OverflowError):
        return f"user {uid}"
