"""The users that jobs run as: in an instance, which may allow guests, and in isolated bursts.

An isolated burst runs its job as the user of its brokers: fluxburst's user here, or the one
that an image or ``flux_user`` names. Flux's own check, that a job runs as its signer, does not
apply there. So another user's job could act as the owner: read the owner's files, and use the
permissions of the machines in the cluster or the cloud.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

RunAs = Literal["submitter", "owner"]
SUBMITTER: RunAs = "submitter"
OWNER: RunAs = "owner"

RUN_AS_HELP = (
    "users of jobs in isolated bursts: 'submitter' declines jobs of users other than "
    "fluxburst's, 'owner' runs them with the owner's rights"
)


@dataclass(frozen=True)
class Users:
    """The users whose jobs an instance accepts and runs.

    Attributes:
        owner: User id of its owner.
        allows_guests: Whether others may connect, and submit jobs.
        runs_guests: Whether others' jobs can run, which needs an IMP (flux-imp(8)).
    """

    owner: int
    allows_guests: bool = False
    runs_guests: bool = True

    def why_not_run(self, user: int) -> str:
        """Return why the instance cannot run jobs of a user, by id; empty if it can."""
        if self.runs_guests or user == self.owner:
            return ""
        return (
            f"it belongs to user {user}, but the instance cannot run jobs of guests on any node: "
            "[exec] imp is not set in its configuration (flux-config-exec(5))"
        )


def only_this_user() -> Users:
    """Return an instance with only this process's user."""
    return Users(os.getuid())


def why_not_run_as(run_as: str, user: int, owner: int) -> str:
    """Return why a user's job gets no isolated burst; empty if it may.

    Args:
        run_as: The policy; an unknown value counts as ``submitter``.
        user: User id of the submitter.
        owner: User id of the instance's owner.
    """
    if run_as == OWNER or user == owner:
        return ""
    return (
        f"it belongs to user {user}, and would run with the rights of user {owner} in an isolated "
        "burst (run_as = 'owner' allows that)"
    )
