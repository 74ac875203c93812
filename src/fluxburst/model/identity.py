"""As whom jobs run: in an instance, which may allow guests, and in isolated bursts.

An isolated burst runs a job as whoever its brokers run as: the user of fluxburst here, or the one
that an image or ``flux_user`` names. Flux's own check, that a job runs as who has signed it, is not
made there. So another user's job would be a way to act as the owner: to read his files, and to use
the cluster's or the cloud's rights that his machines have.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

RunAs = Literal["submitter", "owner"]
SUBMITTER: RunAs = "submitter"
OWNER: RunAs = "owner"

RUN_AS_HELP = (
    "as whom isolated bursts may run jobs: 'submitter', so that jobs of other users than "
    "fluxburst's are declined, or 'owner', so that those run with the owner's rights"
)


@dataclass(frozen=True)
class Users:
    """Whose jobs an instance takes and runs.

    Attributes:
        owner: The user id of its owner.
        allows_guests: Whether others may connect, and submit jobs.
        runs_guests: Whether jobs of others can run. That takes an IMP (flux-imp(8)).
    """

    owner: int
    allows_guests: bool = False
    runs_guests: bool = True

    def why_not_run(self, user: int) -> str:
        """Return why the instance can run no job of a user, by id; empty where it can."""
        if self.runs_guests or user == self.owner:
            return ""
        return (
            f"it is user {user}'s, and the instance runs no jobs of guests, on any node: "
            "[exec] imp is not set in its configuration (flux-config-exec(5))"
        )


def only_this_user() -> Users:
    """Return that there is nobody but the user of this process."""
    return Users(os.getuid())


def why_not_run_as(run_as: str, user: int, owner: int) -> str:
    """Return why a user's job is to get no isolated burst; empty where it may.

    Args:
        run_as: The policy; what is neither of the two that there are is the careful one.
        user: The user id of whoever submitted the job.
        owner: The user id of the instance's owner.
    """
    if run_as == OWNER or user == owner:
        return ""
    return (
        f"it is user {user}'s, and would run with the rights of user {owner} in an isolated "
        "burst (run_as = 'owner' allows that)"
    )
