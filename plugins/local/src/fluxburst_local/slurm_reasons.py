"""Reasons why a job waits in Slurm's queue, and which of them are permanent.

Source: Slurm's list of job reason codes (https://slurm.schedmd.com/job_reason_codes.html, which
squeue(1) shows some of), and ``src/common/job_state_reason.c`` of Slurm 22.05 to 25.05 for the
names. Slurm accepts a job that can never start unless ``EnforcePartLimits`` says otherwise
(slurm.conf(5)), and such a job waits forever.
"""

from __future__ import annotations

import re

from fluxburst.errors import BurstError, CapacityError, ParameterError, Problem, QuotaError

_PLUGIN = "local"

_PARAMETERS = {
    "PartitionTimeLimit": ("time", "the time limit is longer than the partition allows"),
    "DeadLine": ("slurm_args", "the job cannot end before its deadline"),
    "AccountNotAllowed": ("account", "the account may not use the partition"),
    "InvalidAccount": ("account", "the account does not exist"),
    "InvalidQOS": ("slurm_args", "the QOS does not exist"),
    "QOSNotAllowed": ("slurm_args", "the account or the partition does not allow the QOS"),
    "MaxMemPerLimit": ("slurm_args", "it requests more memory than a node or CPU may have"),
    "DependencyNeverSatisfied": ("slurm_args", "its dependency will never be satisfied"),
    "ReservationDeleted": ("slurm_args", "the reservation no longer exists"),
    "ReservationInvalid": ("slurm_args", "the reservation does not exist"),
    "SchedDefer": ("slurm_args", "Slurm does not start jobs immediately"),
}
"""Problems of the plugin's parameters: which parameter, and why."""

_CAPACITY = {
    "BadConstraints": "no node of the partition can run it",
    "PartitionConfig": "the partition has no such nodes, or does not allow so many or so long",
    "PartitionNodeLimit": "the partition does not allow so many nodes, or so few, or some are down",
}
"""Requests that the partition cannot fulfil."""

_PERSON = {
    "JobHeldAdmin": "an administrator holds it; 'scontrol release' releases it",
    "JobHeldUser": "its user holds it; 'scontrol release' releases it",
    "JobHoldMaxRequeue": "Slurm requeued it too often, and holds it",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is inactive",
    "FrontEndDown": "no front end node is up",
    "NodeDown": "a node that it needs is down",
    "SystemFailure": "Slurm, a file system or the network has failed",
    "JobLaunchFailure": "it could not be launched",
    "BurstBufferOperation": "its burst buffer has failed",
    "InactiveLimit": "Slurm considers it inactive",
}
"""Reasons that need a person to act."""

_QUOTAS = (
    # The total budget of an account or a QOS is used up, by past jobs, not only by current ones.
    r"(?:Assoc|QOS)Grp(?!\w*Run)\w*Minutes(?:Limit)?",
    r"(?:Assoc|QOS)GrpWallLimit",
    # One job requests more, or less, than a single job may.
    r"(?:Assoc|QOS)Max\w*Per(?:Job|Node)(?:Limit)?",
    r"QOSMin\w+",
    "AssociationTimeLimit",
    "QOSTimeLimit",
    "QOSUsageThreshold",
)
_TEXTS = {
    r"Job's account not (?:known|permitted)": "AccountNotAllowed",
    r"Job's QOS not (?:known|permitted)": "QOSNotAllowed",
}
"""What squeue prints instead of some reasons."""

_SUBMISSIONS = (
    (r"Limit|QOS|Assoc|accounting", ""),
    (r"time limit", "time"),
    (r"account", "account"),
    (r"partition", "partition"),
    (r"(?i:qos|feature|reservation|licenses?|dependency)", "slurm_args"),
)
"""Messages of sbatch when it refuses a job: the parameter to blame, or empty for a quota."""

_UNAVAILABLE = re.compile(r"ReqNodeNotAvail.*UnavailableNodes:\s*(?P<nodes>[^\s,()]\S*)")
_QUOTA = re.compile("|".join(_QUOTAS))


def refusal(reason: str, job: int) -> BurstError | None:
    """Return why a job in Slurm's queue will not start; None if its reason may pass.

    An unknown reason may pass: it is displayed, and ``queue_timeout`` limits the wait.

    Args:
        reason: The reason according to squeue (its field ``%r``).
        job: The job's id.
    """
    written = next((code for text, code in _TEXTS.items() if re.match(text, reason)), "")
    name = written or re.split(r"[\s,(]", reason, maxsplit=1)[0]
    error = _refusal(name, reason, job)
    if error is not None:
        error.final = True
    return error


def refused_submission(said: str, message: str) -> BurstError:
    """Return the error for a refusal by sbatch.

    Args:
        said: The output of sbatch.
        message: The message of the error.
    """
    if re.search("node configuration|[Nn]ode count|processors", said):
        return CapacityError(message)
    for pattern, parameter in _SUBMISSIONS:
        if re.search(pattern, said) and parameter:
            return ParameterError(_PLUGIN, [Problem(parameter, "config or environment", message)])
        if re.search(pattern, said):
            return QuotaError(message)
    return BurstError(message)


def _refusal(name: str, reason: str, job: int) -> BurstError | None:
    refused = f"Slurm does not start job {job} ({name})"
    if name in _PARAMETERS:
        parameter, why = _PARAMETERS[name]
        return ParameterError(
            _PLUGIN, [Problem(parameter, "config or environment", f"{refused}: {why}")]
        )
    if name in _CAPACITY:
        return CapacityError(f"{refused}: {_CAPACITY[name]}")
    if name in _PERSON:
        return CapacityError(f"{refused}, and a person must act: {_PERSON[name]}")
    if _QUOTA.fullmatch(name):
        return QuotaError(f"{refused}: it would exceed a limit of the account or the QOS")
    unavailable = _UNAVAILABLE.search(reason)
    if unavailable:
        down = f"these nodes are down, drained or silent: {unavailable['nodes'].rstrip(')')}"
        return CapacityError(f"{refused}, and a person must act: {down}")
    return None
