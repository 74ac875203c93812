"""A live instance's scheduler, and its rules for starting jobs.

``module.list`` names the module that provides the service ``sched``. Fluxion's modules answer
``params`` with their configuration and arguments (flux-config-sched-fluxion-qmanager(5),
flux-config-sched-fluxion-resource(5)); flux-core's schedulers have no configurable rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fluxburst.flux.rpc import Requests
from fluxburst.model.scheduler import FLUXION, Fit, Scheduler

RESOURCE_MODULE = "sched-fluxion-resource"

_STRICT = frozenset({"sched-simple", "sched-fifo"})
_NODE_EXCLUSIVE = frozenset({"lonodex", "hinodex", "firstnodex"})
_EXCLUSIVE_OPTION = re.compile(r"\bnode_exclusive\s*=\s*true\b")


def read_scheduler(requests: Requests) -> Scheduler:
    """Return a live instance's scheduler; unknown rules are left out.

    Only the owner of an instance may ask Fluxion's modules.

    Raises:
        OSError: if listing its modules fails.
    """
    name, path = provider_of_sched(requests.ask("module.list", {}, nodeid=0))
    queues: Mapping[str, Any] = {}
    matching: Mapping[str, Any] = {}
    if name == FLUXION:
        queues = _params(requests, FLUXION)
        matching = _params(requests, RESOURCE_MODULE)
    return scheduler_of(name, path, queues, matching)


def _params(requests: Requests, module: str) -> Mapping[str, Any]:
    (answer,) = requests.ask_each([(f"{module}.params", {}, 0)])
    params = None if isinstance(answer, OSError) else answer.get("params")
    return params if isinstance(params, dict) else {}


def provider_of_sched(modules: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name and path of the module that provides ``sched``; empty if there is none."""
    for module in modules.get("mods", ()):
        if "sched" in module.get("services", ()):
            return str(module["name"]), str(module.get("path", ""))
    return "", ""


def scheduler_of(
    name: str, path: str = "", queues: Mapping[str, Any] | None = None, matching: Any = None
) -> Scheduler:
    """Return the rules of a scheduler.

    Schedulers in Python place jobs with ``flux.resource.Rv1Pool``, unless they bring their own
    pool; other unknown schedulers are assumed to place jobs tightly.

    Args:
        name: The module that provides ``sched``.
        path: The file of that module.
        queues: The answer of Fluxion's qmanager to ``params``.
        matching: The answer of Fluxion's resource module to ``params``.
    """
    queues, matching = queues or {}, matching or {}
    if name == FLUXION:
        match_policy = str(matching.get("policy") or "first")
        default = str(queues.get("queue-policy") or "fcfs")
        policies = {
            queue: str(params.get("queue-policy") or default)
            for queue, params in queues.items()
            if isinstance(params, dict)
        }
        return Scheduler(
            name,
            whole_nodes=is_node_exclusive(match_policy),
            queue_policy=policies.get("default", default),
            queue_policies=tuple(sorted(policies.items())),
            match_policy=match_policy,
        )
    fit = Fit.WORST if name in _STRICT or path.endswith(".py") else Fit.TIGHT
    return Scheduler(name, fit, strict_order=name in _STRICT)


def is_node_exclusive(match_policy: str) -> bool:
    """Whether a match policy of Fluxion gives each job exclusive nodes."""
    return match_policy in _NODE_EXCLUSIVE or bool(_EXCLUSIVE_OPTION.search(match_policy))
