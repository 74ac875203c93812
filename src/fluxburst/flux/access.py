"""Who this process is to a live instance: its owner, or a guest (RFC 12, flux-config-access(5)).

Flux says it itself: a broker answers ``ping`` with the roles that it gave this connection, so
``allow-root-owner`` counts as Flux counts it. A guest may list jobs, all or in private mode his
own; jobspecs of others, nodes, urgencies and queues are the owner's.
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
    "shows where they were given"
)


def check_owner(requests: Requests, *, to_act: bool = False) -> None:
    """Check that the instance takes this process for its owner.

    Args:
        requests: A connection to the instance.
        to_act: It has to be the owner, rather than root with the owner's rights. What root starts
            runs as root, and what he starts is in a ledger that the owner does not read.

    Raises:
        NotOwnerError: if it does not, with what can be done.
        OSError: if it does not answer.
    """
    answer = requests.ask("broker.ping", {})
    has_rights = bool(answer["rolemask"] & OWNER)
    if has_rights and not to_act:
        return
    owner = str(requests.ask("attr.get", {"name": "security.owner"})["value"])
    if not has_rights:
        raise NotOwnerError(_of_owner(owner))
    # As the broker knows the user, who may have come from another host.
    if owner != str(answer["userid"]):
        raise NotOwnerError(_to_act(owner))


def read_users(requests: Requests) -> Users:
    """Return whose jobs an instance takes and runs, by its configuration.

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
    """Return what it means that an instance did not let this process in, if it means that."""
    if error.errno == errno.EPERM:
        return NotOwnerError(
            f"the instance does not let {_name_of(os.getuid())} in: it is another user's, and "
            "allows no guests (allow-guest-user in its table [access]); run fluxburst as its owner"
        )
    if error.errno == errno.EACCES:
        return NotOwnerError(
            f"{_name_of(os.getuid())} cannot enter the directory that the instance is reached in: "
            "it is another user's, and allows no guests; run fluxburst as its owner"
        )
    return None


def _to_act(owner: str) -> str:
    who = _owner_of(owner)
    return (
        f"only the instance's owner, {who}, may burst: what {_name_of(os.getuid())} starts would "
        f"run as the wrong user; use: sudo -u {_account(who)} fluxburst …"
    )


def _owner_of(owner: str) -> str:
    return _name_of(int(owner) if owner.isdecimal() else -1)


def _account(who: str) -> str:
    """Return how ``sudo -u`` is told of a user: by name, or by ``#UID``."""
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
