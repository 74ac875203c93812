"""Which scheduler an instance has: the answers are those of Flux 0.88.0 and flux-sched 0.54.0."""

from __future__ import annotations

import pytest
from tests.live import running_flux
from tests.support import flux_available

from fluxburst.flux.live import LiveInstance
from fluxburst.flux.live_scheduler import is_node_exclusive, provider_of_sched, scheduler_of
from fluxburst.model.scheduler import FLUXION, SCHED_SIMPLE, Fit, Scheduler
from fluxburst.simulation.embedded import EmbeddedInstance

MODULES = {
    "mods": [
        {"name": "kvs", "path": "/lib/flux/modules/kvs.so", "services": ["kvs"]},
        {"name": "content", "path": "builtin", "services": ["content"]},
        {
            "name": "sched-simple",
            "path": "/lib/flux/modules/sched-simple.py",
            "services": ["sched-simple", "feasibility", "sched"],
        },
    ]
}
QUEUES = {
    "queue-policy": "conservative",
    "queue-params": "",
    "policy-params": "",
    "batch": {"queue-policy": "conservative", "queue-params": "", "policy-params": ""},
    "burst": {"queue-policy": "easy", "queue-params": "", "policy-params": ""},
}


def test_the_scheduler_is_the_module_that_provides_sched() -> None:
    assert provider_of_sched(MODULES) == ("sched-simple", "/lib/flux/modules/sched-simple.py")
    assert provider_of_sched({"mods": MODULES["mods"][:2]}) == ("", "")


def test_flux_cores_own_schedulers_fit_worst_and_some_keep_a_strict_order() -> None:
    assert scheduler_of("sched-simple", "/lib/sched-simple.py") == SCHED_SIMPLE
    assert scheduler_of("sched-fifo", "/lib/sched-fifo.py").strict_order
    backfill = scheduler_of("sched-backfill", "/lib/sched-backfill.py")
    assert (backfill.fit, backfill.strict_order) == (Fit.WORST, False)


def test_of_fluxion_it_is_known_which_policy_each_queue_has() -> None:
    scheduler = scheduler_of(FLUXION, "/lib/x.so", QUEUES, {"policy": "lonodex"})
    assert scheduler.is_fluxion
    assert (scheduler.fit, scheduler.whole_nodes) == (Fit.TIGHT, True)
    assert scheduler.policy_of("batch") == "conservative"
    assert scheduler.policy_of("burst") == "easy"
    assert scheduler.policy_of("") == "conservative"


def test_fluxion_that_does_not_answer_has_its_defaults() -> None:
    scheduler = scheduler_of(FLUXION, "/lib/x.so")
    assert (scheduler.queue_policy, scheduler.match_policy) == ("fcfs", "first")
    assert not scheduler.whole_nodes


def test_a_scheduler_that_is_not_known_is_taken_to_place_tightly() -> None:
    assert scheduler_of("sched-of-a-site", "/lib/x.so") == Scheduler("sched-of-a-site")


@pytest.mark.parametrize(
    ("policy", "exclusive"),
    [
        ("first", False),
        ("lonode", False),
        ("lonodex", True),
        ("hinodex", True),
        ("firstnodex", True),
        ("policy=high node_exclusive=true set_stop_on_1_matches=true", True),
        ("policy=high node_exclusive=false", False),
    ],
)
def test_match_policies_say_whether_nodes_are_shared(policy: str, exclusive: bool) -> None:
    assert is_node_exclusive(policy) is exclusive


def test_an_embedded_instance_has_the_scheduler_that_it_was_given() -> None:
    assert EmbeddedInstance(scheduler=SCHED_SIMPLE).scheduler() == SCHED_SIMPLE


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_a_live_instance_tells_its_scheduler() -> None:
    import flux as bindings

    with running_flux() as running:
        assert LiveInstance(bindings.Flux(running.uri)).scheduler() == SCHED_SIMPLE
