"""As whom jobs run in isolated bursts.

An isolated burst runs a job as whoever its brokers run as: the user of fluxburst here, or the one
that an image or ``flux_user`` names. Flux's own check, that a job runs as who has signed it, is not
made there. So another user's job would be a way to act as the owner: to read his files, and to use
the cluster's or the cloud's rights that his machines have.
"""

from __future__ import annotations

import os
from typing import Literal

RunAs = Literal["submitter", "owner"]
SUBMITTER: RunAs = "submitter"
OWNER: RunAs = "owner"

RUN_AS_HELP = (
    "as whom isolated bursts may run jobs: 'submitter', so that jobs of other users than "
    "fluxburst's are declined, or 'owner', so that those run with the owner's rights"
)


def why_not_run_as(run_as: str, user: int) -> str:
    """Return why a user's job is to get no isolated burst; empty where it may.

    Args:
        run_as: The policy; what is neither of the two that there are is the careful one.
        user: The user id of whoever submitted the job.
    """
    if run_as == OWNER or user == os.getuid():
        return ""
    return (
        f"it is user {user}'s, and would run with the rights of user {os.getuid()} in an isolated "
        "burst (run_as = 'owner' allows that)"
    )
