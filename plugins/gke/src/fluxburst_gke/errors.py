"""Errors specific to Kubernetes Engine; the rest is the same as for Compute Engine.

A node pool without machines has a code of ``google.container.v1.StatusCondition`` in its
conditions, and in the text of its operation, in brackets. Google keeps trying for half an hour
then: reading the conditions avoids that wait.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fluxburst.errors import BurstError, QuotaError
from fluxburst_google import errors

if TYPE_CHECKING:
    from google.cloud.container_v1 import StatusCondition

_IN_BRACKETS = re.compile(r"\[([A-Z][A-Z_]+)\]")
_IMPATIENT = re.compile(r"CLUSTER_ALREADY_HAS_OPERATION|concurrent operations quota")
_UNDER_WAY = re.compile(r"incompatible operation|try again once it is done|is currently being")
_QUOTA = re.compile(r"Insufficient (regional |project )?quota", re.IGNORECASE)


class UnderWayError(BurstError):
    """The cluster is busy with another operation: retry once that is done."""


def as_error(error: BaseException, doing: str) -> BurstError:
    """Return an exception of a Google client as an error with advice.

    Args:
        error: The exception.
        doing: The request, such as ``create the node pool x``.
    """
    said = str(error)
    reason = str(getattr(error, "reason", "") or "")
    if _IMPATIENT.search(f"{reason} {said}") or _UNDER_WAY.search(said):
        return UnderWayError(f"Google cannot {doing} yet: {said}")
    if _QUOTA.search(said):  # although its status means a missing permission
        return QuotaError(f"Google refused to {doing}: {getattr(error, 'message', said)}")
    return errors.as_error(error, doing)


def from_text(message: str, doing: str) -> BurstError:
    """Return the error for the text of an operation, or of a node pool's status."""
    for code in _IN_BRACKETS.findall(message):
        known = errors.from_code(code, message, doing)
        if type(known) is not errors.GoogleFailure:
            return known
    if _QUOTA.search(message):
        return QuotaError(f"Google refused to {doing}: {message}")
    return errors.from_code("", message, doing)


def from_conditions(conditions: Iterable[StatusCondition], doing: str) -> BurstError | None:
    """Return the error for a node pool's lasting conditions; None for none."""
    for condition in conditions:
        code = type(condition).Code(condition.code).name
        known = errors.from_code(code, condition.message, doing)
        if type(known) is not errors.GoogleFailure:
            return known
    return None
