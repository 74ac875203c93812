"""Fluxion (flux-sched): whether a Flux has it, and how it has to be set for bursts to begin.

Under its default policy, and under ``easy``, it fails a job that asks for more nodes than are up
when its turn comes (measured with flux-sched 0.54.0); burst nodes are down until they are asked
for. Under the others such a job waits.
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
"""Queue policies under which a job that asks for more nodes than are up fails."""

TABLE, KEY, KEY_BY_QUEUE = FLUXION, "queue-policy", "queue-policy-per-queue"
DEFAULT_POLICY = REFUSING_POLICIES[0]
ADVICE = f'put queue-policy = "{WAITING_POLICIES[0]}" into the table [{TABLE}] of its configuration'
ADVICE_WHILE_IT_RUNS = f"{ADVICE}, and restart it"

UNSATISFIABLE = "unsatisfiable"
"""What the note of a job has that Fluxion has failed, as the nodes for it were not up."""


def is_in(flux: str) -> bool:
    """Whether a ``flux`` command finds Fluxion among its modules; it then schedules by it.

    Raises:
        CommandError: if it does not tell where its modules are.
    """
    places = run([flux, "env", "printenv", "FLUX_MODULE_PATH"])
    return any((Path(place) / f"{TABLE}.so").is_file() for place in places.strip().split(":"))


def why_refused(policy: str) -> str:
    """Return what becomes of jobs under a policy; empty where they wait for nodes."""
    if policy not in REFUSING_POLICIES:
        return ""
    return (
        f"under Fluxion's queue-policy {policy!r} a job that asks for more nodes than are up fails "
        "as unsatisfiable, so no burst can begin for it, and nodes that are taken down fail the "
        "larger jobs that wait"
    )


def findings(scheduler: Scheduler, joining: bool) -> Iterable[Finding]:
    """Say for ``fluxburst doctor`` whether bursts can begin under an instance's scheduler.

    Args:
        scheduler: The scheduler.
        joining: Whether burst nodes are to join the instance, or only isolated bursts are made.
    """
    refusals = list(why_none_begins(scheduler))
    for what in refusals:
        yield Finding("error" if joining else "warning", what, ADVICE_WHILE_IT_RUNS)
    if not refusals:
        name = scheduler.name or "a scheduler that does not say which"
        by = ", ".join(sorted(set(filter(None, _policies(scheduler).values()))))
        yield Finding("ok", f"jobs are scheduled by {name}{f', policy {by}' if by else ''}")


def why_none_begins(scheduler: Scheduler) -> Iterator[str]:
    """Say why no burst can begin under a scheduler: once for each policy that keeps it from that.

    Args:
        scheduler: The scheduler.
    """
    policies = _policies(scheduler)
    for policy in REFUSING_POLICIES:
        queues = [queue for queue, its in policies.items() if its == policy]
        if queues:
            # An instance without queues has one that Fluxion calls so.
            of = "" if queues in ([""], ["default"]) else f"queue {', '.join(queues)}: "
            yield f"{of}{why_refused(policy)}"


def _policies(scheduler: Scheduler) -> Mapping[str, str]:
    """Return the policy of each queue; of one without a name where there are no others."""
    return dict(scheduler.queue_policies) or {"": scheduler.queue_policy}


def policies_in(configuration: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the queue policies that a configuration of Flux sets, by queue; "" is for all others.

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
    """Say why no burst could begin under queue policies, as :func:`policies_in` returns them.

    Fluxion takes its default for a policy that it does not know, and says nothing.
    """
    for queue, policy in policies.items():
        known = policy in (*WAITING_POLICIES, *REFUSING_POLICIES)
        wrong = why_refused(policy if known else DEFAULT_POLICY)
        if wrong:
            of = f"queue {queue}: " if queue else ""
            taken = (
                "" if known else f"Fluxion knows no queue-policy {policy!r} and uses its default: "
            )
            yield f"{of}{taken}{wrong}"


def configuration() -> str:
    """Return the configuration under which jobs wait for burst nodes."""
    return (
        f"{NOTICE}"
        "# By its default, fcfs, and by easy Fluxion fails a job that asks for more nodes than\n"
        "# are up: the job that a burst is for. See flux-config-sched-fluxion-qmanager(5).\n"
        f'[{TABLE}]\n{KEY} = "{WAITING_POLICIES[0]}"\n'
    )
