"""With flux-accounting: what a bank's limits hold is not a candidate for bursting."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.live import Flux, running_flux
from tests.site_flux import flux_with_accounting, needs_accounting
from tests.support import Elsewhere, client_with, job, spec

from fluxburst import FluxBurst, NodeType
from fluxburst.flux.live import LiveInstance
from fluxburst.model.plan import Outcome

NODE = NodeType("node", cores=64)
CONFIG = """
[job-manager]
plugins = [{ remove = ".priority-default" }, { load = "mf_priority.so" }]
"""
ANY = 2147483647
LIMITED = "max-running-jobs-user-limit"


@pytest.fixture
def flux() -> Iterator[Flux]:
    """An instance whose user has one bank, in which one job of his may run at a time."""
    import flux as bindings

    with running_flux({"plugins.toml": CONFIG}, command=flux_with_accounting()) as running:
        account: dict[str, Any] = {
            "userid": os.getuid(),
            "bank": "physics",
            "def_bank": "physics",
            "fairshare": 0.5,
            "max_running_jobs": 1,
            "max_active_jobs": ANY,
            "max_nodes": ANY,
            "max_cores": ANY,
            "max_sched_jobs": ANY,
            "queues": "",
            "active": 1,
            "projects": "*",
            "def_project": "*",
        }
        data = json.dumps({"data": [account]})
        bindings.Flux(running.uri).rpc("job-manager.mf_priority.rec_update", data).get()
        yield running


@pytest.mark.accounting
@needs_accounting
def test_jobs_that_a_bank_holds_are_not_startable_and_the_others_are(flux: Flux) -> None:
    import flux as bindings

    burstable = ["submit", "--setattr=burstable"]
    running = flux(*burstable, "sleep", "inf")
    flux("job", "wait-event", "--timeout=30", running, "alloc")
    limited = flux(*burstable, "true")
    flux("job", "wait-event", "--timeout=30", limited, "dependency-add")
    held = flux(*burstable, "--urgency=hold", "true")
    instance = LiveInstance(bindings.Flux(flux.uri))
    found = {pending.id: pending for pending in instance.pending_jobs()}
    ids = {name: int(flux("job", "id", name)) for name in (limited, held)}
    assert found.keys() == set(ids.values())
    assert found[ids[limited]].not_startable == f"waits on {LIMITED}"
    assert found[ids[limited]].bank == "physics"
    assert found[ids[held]].not_startable
    plugin = Elsewhere("cloud", NODE)
    with FluxBurst(bindings.Flux(flux.uri)) as client:
        client.hooks.register(plugin, "fluxburst-cloud")
        client.plugins[plugin.name] = plugin
        decided = {one.id: one for one in client.plan().decisions}
        assert decided[ids[limited]].outcome is Outcome.NOT_STARTABLE
        assert LIMITED in "; ".join(decided[ids[limited]].reasons)
    flux("cancel", running)
    flux("job", "wait-event", "--timeout=30", limited, "clean")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"state": 2, "dependencies": [LIMITED]}, f"waits on {LIMITED}"),
        ({"state": 8, "priority": 0}, "has priority 0"),
        ({"state": 4}, "is in state PRIORITY, not SCHED"),
    ],
)
def test_as_flux_lists_them_they_are_not_startable(record: dict[str, Any], reason: str) -> None:
    with client_with(Elsewhere("cloud", NODE), jobs=(job(1, spec(burstable=1), **record),)) as made:
        (decision,) = made.plan().decisions
    assert (decision.outcome, decision.plugin) == (Outcome.NOT_STARTABLE, "")
    assert reason in "; ".join(decision.reasons)
