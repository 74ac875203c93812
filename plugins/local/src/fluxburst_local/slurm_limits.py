"""Time limits of Slurm's partitions."""

from __future__ import annotations

import math
import os
import pwd
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fluxburst.errors import BurstError, FormatError, ParameterError, Problem

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")
_ENDLESS = frozenset({"infinite", "unlimited", "n/a", "none", ""})

COMMAND = ("sinfo", "--all", "--noheader", "--format=%R|%P|%l|%L")
"""Lists all partitions: name, name with ``*`` for the default, limit, default time (sinfo(1))."""


@dataclass(frozen=True)
class Partition:
    """A partition of Slurm.

    Attributes:
        name: Its name.
        default: Whether jobs without a partition go there.
        limit: Maximum time limit of its jobs in seconds; inf for none.
        usual: Default time limit of its jobs in seconds; inf for none.
    """

    name: str
    default: bool
    limit: float
    usual: float


def parse_time(text: str) -> float:
    """Parse a time limit of Slurm (sbatch(1), ``--time``) to seconds; inf for none.

    Minutes, ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours`` and so on.

    Raises:
        FormatError: if it is not one.
    """
    if text.strip().lower() in _ENDLESS:
        return math.inf
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise FormatError(text, "a time limit of Slurm, such as 30, 1:30:00 or 2-12 (sbatch(1))")
    parts = [int(part) for part in match["parts"].split(":")]
    if match["days"]:
        hours, minutes, seconds = [*parts, 0, 0][:3]
        return 86400.0 * int(match["days"]) + 3600.0 * hours + 60.0 * minutes + seconds
    if len(parts) == 3:
        return 3600.0 * parts[0] + 60.0 * parts[1] + parts[2]
    return 60.0 * parts[0] + (parts[1] if len(parts) == 2 else 0)


def partitions(ask: Callable[..., str]) -> Mapping[str, Partition]:
    """Return Slurm's partitions by name.

    Args:
        ask: Runs a command of Slurm and returns its output.

    Raises:
        BurstError: if Slurm does not answer, or gives a malformed answer.
    """
    said = ask(*COMMAND)
    found: dict[str, Partition] = {}
    for line in said.splitlines():
        try:
            name, marked, limit, usual = line.split("|")
            longest = parse_time(limit)
            default = marked.endswith("*")
            found[name] = Partition(name, default, longest, min(longest, parse_time(usual)))
        except ValueError as error:
            raise BurstError(f"malformed output of sinfo: {line!r}") from error
        except FormatError as error:
            raise BurstError(f"malformed output of sinfo: {error}") from error
    return found


def chosen(known: Mapping[str, Partition], names: str) -> Sequence[Partition]:
    """Return the partitions of a job: those it names, or the default one.

    Args:
        known: All partitions.
        names: The names, comma-separated; empty for the default one.

    Raises:
        ParameterError: if one does not exist.
    """
    wanted = [name for name in names.split(",") if name]
    for name in wanted:
        if name not in known:
            choices = ", ".join(sorted(known))
            why = f"Slurm has no partition {name!r} [choose from {choices}]"
            raise ParameterError("local", [Problem("partition", "config or environment", why)])
    return [known[n] for n in wanted] or [one for one in known.values() if one.default]


def why_no_operator(ask: Callable[..., str]) -> str:
    """Return why this user cannot raise time limits (scontrol(1)); empty if allowed.

    Root, Slurm's own user, and its operators and administrators (sacctmgr(1)) may.

    Args:
        ask: Runs a command of Slurm and returns its output.
    """
    user = pwd.getpwuid(os.getuid()).pw_name
    if user == "root" or re.search(rf"SlurmUser\s*=\s*{re.escape(user)}\b", _told(ask, *_CONFIG)):
        return ""
    level = _told(ask, *_ADMIN, user, "format=AdminLevel")
    if re.search("Administrator|Operator", level):
        return ""
    return "Slurm lets only its operators raise a time limit"


_CONFIG = ("scontrol", "show", "config")
_ADMIN = ("sacctmgr", "--noheader", "--parsable2", "show", "user")


def _told(ask: Callable[..., str], *command: str) -> str:
    """Return a command's output; nothing if it fails, as without accounting."""
    try:
        return ask(*command)
    except BurstError:
        return ""
