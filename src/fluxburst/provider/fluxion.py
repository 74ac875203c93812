"""Fluxion (flux-sched): whether Flux has it, and the policy it needs for bursts to begin.

Under its default policy, and under ``easy``, a job that needs more nodes than are up fails when its
turn comes (measured with flux-sched 0.54.0), and burst nodes are down until they are provisioned.
Under other policies such a job waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fluxburst.formats.flux_configuration import NOTICE
from fluxburst.formats.process import run
from fluxburst.model.scheduler import FLUXION, Scheduler
from fluxburst.plugin.base import Finding

WAITING_POLICIES = ("conservative", "hybrid")
"""Queue policies (flux-config-sched-fluxion-qmanager(5)) under which jobs wait for nodes."""

REFUSING_POLICIES = ("fcfs", "easy")
"""Queue policies under which a job that needs more nodes than are up fails."""

TABLE, KEY, KEY_BY_QUEUE = FLUXION, "queue-policy", "queue-policy-per-queue"
DEFAULT_POLICY = REFUSING_POLICIES[0]
ADVICE = f'put queue-policy = "{WAITING_POLICIES[0]}" into the table [{TABLE}] of its configuration'
ADVICE_WHILE_IT_RUNS = f"{ADVICE}, and restart it"

UNSATISFIABLE = "unsatisfiable"
"""Part of the note of a job that Fluxion failed because its nodes were not up."""


def is_in(flux: str) -> bool:
    """Whether a ``flux`` command finds Fluxion among its modules, and so uses it.

    Raises:
        CommandError: if the path of its modules is unknown.
    """
    places = run([flux, "env", "printenv", "FLUX_MODULE_PATH"])
    return any((Path(place) / f"{TABLE}.so").is_file() for place in places.strip().split(":"))


def why_refused(policy: str) -> str:
    """Return the effect of a policy that breaks bursting; empty if jobs wait for nodes."""
    if policy not in REFUSING_POLICIES:
        return ""
    return (
        f"under Fluxion's queue-policy {policy!r} a job that needs more nodes than are up fails "
        "as unsatisfiable, so no burst can begin for it, and terminating nodes fails larger "
        "waiting jobs"
    )


def findings(scheduler: Scheduler, joining: bool) -> Iterable[Finding]:
    """Report to ``fluxburst doctor`` whether bursts can begin under an instance's scheduler.

    Args:
        scheduler: The scheduler.
        joining: Whether burst nodes join the instance; False if all bursts are isolated.
    """
    refusals = list(why_none_begins(scheduler))
    for what in refusals:
        yield Finding("error" if joining else "warning", what, ADVICE_WHILE_IT_RUNS)
    if not refusals:
        name = scheduler.name or "an unknown scheduler"
        by = ", ".join(sorted(set(filter(None, _policies(scheduler).values()))))
        yield Finding("ok", f"the scheduler is {name}{f', policy {by}' if by else ''}")


def why_none_begins(scheduler: Scheduler) -> Iterator[str]:
    """Yield why no burst can begin under a scheduler: once for each policy to blame.

    Args:
        scheduler: The scheduler.
    """
    policies = _policies(scheduler)
    for policy in REFUSING_POLICIES:
        queues = [queue for queue, its in policies.items() if its == policy]
        if queues:
            # Fluxion's name for the only queue of an instance without named queues.
            of = "" if queues in ([""], ["default"]) else f"queue {', '.join(queues)}: "
            yield f"{of}{why_refused(policy)}"


def _policies(scheduler: Scheduler) -> Mapping[str, str]:
    """Return the policy of each queue; without named queues, of one with an empty name."""
    return dict(scheduler.queue_policies) or {"": scheduler.queue_policy}


def policies_in(configuration: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the queue policies in a configuration of Flux, by queue; "" is for all others.

    See flux-config-sched-fluxion-qmanager(5).
    """
    table = configuration.get(TABLE)
    if not isinstance(table, Mapping):
        return {}
    policies = {"": table[KEY]} if isinstance(table.get(KEY), str) else {}
    by_queue = table.get(KEY_BY_QUEUE)
    if isinstance(by_queue, str):
        policies |= dict(item.split(":", 1) for item in by_queue.split() if ":" in item)
    return policies


def why_none_would_begin(policies: Mapping[str, str]) -> Iterator[str]:
    """Yield why no burst could begin under queue policies from :func:`policies_in`.

    For an unknown policy, Fluxion silently uses its default.
    """
    for queue, policy in policies.items():
        known = policy in (*WAITING_POLICIES, *REFUSING_POLICIES)
        wrong = why_refused(policy if known else DEFAULT_POLICY)
        if wrong:
            of = f"queue {queue}: " if queue else ""
            taken = (
                ""
                if known
                else f"Fluxion ignores unknown queue-policy {policy!r}, uses its default: "
            )
            yield f"{of}{taken}{wrong}"


def configuration() -> str:
    """Return the configuration under which jobs wait for burst nodes."""
    return (
        f"{NOTICE}"
        "# By its default, fcfs, and by easy, Fluxion fails a job that needs more nodes than\n"
        "# are up: the job that a burst is for. See flux-config-sched-fluxion-qmanager(5).\n"
        f'[{TABLE}]\n{KEY} = "{WAITING_POLICIES[0]}"\n'
    )
