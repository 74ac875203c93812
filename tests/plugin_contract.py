"""What every burst plugin does, whatever its provider: the primitives of ``docs/hooks.md``.

Each plugin's tests call :func:`check_contract` with the plugin on its provider.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fluxburst import Burst, BurstPlugin, BurstState
from fluxburst.errors import BurstError, CapacityError
from fluxburst.model.burst import COMING_STATES, burst_name
from fluxburst.model.node import check_node_types
from fluxburst.plugin.validation import check_adopted, check_created, check_names

HELD = COMING_STATES | {BurstState.READY}
LEASE_SECONDS = 7200.0


def check_contract(
    make_plugin: Callable[[], BurstPlugin],
    node_type: str,
    left: Callable[[], list[str]],
    out_of_capacity: Callable[[bool], None],
    now: float,
) -> None:
    """Check the primitives of a plugin.

    Args:
        make_plugin: Returns the plugin of a new client; what is there is found by it.
        node_type: One of its node types that there may be two nodes of.
        left: Returns what is left at the provider.
        out_of_capacity: Has the provider refuse machines, or not.
        now: The instance's time, in seconds since the epoch.
    """
    plugin = make_plugin()
    check_node_types(plugin.node_types())
    assert node_type in [kind.name for kind in plugin.node_types()]
    name = burst_name(plugin.name, plugin.instance_tag, node_type, [1])
    wanted = Burst(name, plugin.name, node_type, 2, price=1.0, lease_until=now + LEASE_SECONDS)
    _names_tell_whose_it_is(plugin, wanted)
    _nothing_is_there(plugin, wanted, left)
    created = _is_made_once(plugin, wanted, left)
    _others_find_it(make_plugin(), created)
    _is_taken_down(make_plugin(), created, left)
    _a_refusal_has_its_type(make_plugin(), wanted, left, out_of_capacity)


def _names_tell_whose_it_is(plugin: BurstPlugin, wanted: Burst) -> None:
    assert plugin.owns(wanted.name)
    assert plugin.owns(f"{wanted.name}-2")
    assert plugin.owns(plugin.by_hand(1, None).name)
    assert len(plugin.by_hand(1, None).name) <= 40
    another = wanted.name.replace(plugin.instance_tag[:8], "00000000")
    for name in another, f"x{wanted.name}", f"{wanted.name}x", "prod-db-1", "":
        assert not plugin.owns(name)
        with pytest.raises(BurstError, match="is not a burst of this instance"):
            plugin.cleanup(name)


def _nothing_is_there(plugin: BurstPlugin, wanted: Burst, left: Callable[[], list[str]]) -> None:
    assert list(check_names(plugin.list_bursts(), "list_bursts()")) == []
    assert list(plugin.adopt() or ()) == []
    plugin.delete(wanted)  # what is not there is deleted
    assert left() == []


def _is_made_once(plugin: BurstPlugin, wanted: Burst, left: Callable[[], list[str]]) -> Burst:
    created = check_created(plugin.create(wanted), wanted)
    there = left()
    assert there != []
    again = check_created(plugin.create(wanted), wanted)
    assert left() == there
    assert (again.hostnames, again.nodes) == (created.hostnames, created.nodes)
    assert created.state in HELD
    assert len(set(created.hostnames)) == len(created.hostnames) == wanted.nodes
    assert created.lease_until is None or created.lease_until <= (wanted.lease_until or 0.0)
    return created


def _others_find_it(plugin: BurstPlugin, created: Burst) -> None:
    assert list(plugin.list_bursts()) == [created.name]
    assert plugin.owns(created.name), "what another process of this instance made is ours"
    adopted = plugin.adopt()
    assert adopted is not None
    told, wrong = check_adopted(adopted, plugin.name)
    assert wrong == []
    (found,) = told.values()
    assert found is not None
    assert (found.name, found.nodes, found.node_type) == (
        created.name,
        created.nodes,
        created.node_type,
    )
    assert set(found.hostnames) == set(created.hostnames)
    assert found.state in HELD
    assert plugin.refresh(created).state in HELD
    renewed = plugin.renew(replace(created, lease_until=(created.lease_until or 0.0) + 600.0))
    assert renewed.name == created.name


def _is_taken_down(plugin: BurstPlugin, created: Burst, left: Callable[[], list[str]]) -> None:
    plugin.delete(created)
    assert left() == []
    assert list(plugin.list_bursts()) == []
    assert list(plugin.adopt() or ()) == []
    assert plugin.refresh(created).state in HELD | {BurstState.FAILED}
    plugin.delete(created)


def _a_refusal_has_its_type(
    plugin: BurstPlugin,
    wanted: Burst,
    left: Callable[[], list[str]],
    out_of_capacity: Callable[[bool], None],
) -> None:
    refused = replace(wanted, name=f"{wanted.name}-2")
    out_of_capacity(True)
    with pytest.raises(CapacityError):
        plugin.create(refused)
    out_of_capacity(False)
    plugin.delete(refused)
    assert left() == []
    with pytest.raises(BurstError):
        plugin.create(replace(refused, name=f"{wanted.name}-3", node_type="no-such-type"))
    plugin.delete(replace(refused, name=f"{wanted.name}-3"))
    assert left() == []
