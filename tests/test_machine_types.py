"""Machine types: what a package's table says, and what users change of it."""

from __future__ import annotations

import datetime

import pytest

from fluxburst import ByteSize
from fluxburst.errors import ConfigError, RequestError
from fluxburst.provider.machine_types import (
    MachineType,
    MachineTypeOverride,
    MachineTypes,
    load,
    machine_of,
    node_types,
)

TABLE = """
dated = 2026-08-20
region = "here"
source = "a price list"

[[machine_types]]
name = "big"
vcpus = 16
threads_per_core = 2
memory = "64GiB"
price = 0.8
spot_price = 0.3

[[machine_types]]
name = "gpu"
vcpus = 12
threads_per_core = 1
memory = "48GiB"
gpus = 2
gpu_model = "l4"
price = 2
"""


@pytest.fixture
def table() -> MachineTypes:
    return load(TABLE, "table.toml")


def test_a_table_is_read_with_its_date_region_and_source(table: MachineTypes) -> None:
    assert (table.dated, table.region) == (datetime.date(2026, 8, 20), "here")
    assert list(table.by_name) == ["big", "gpu"]
    assert table["big"] == MachineType(
        "big", 16, 2, ByteSize(64 * 2**30), price=0.8, spot_price=0.3
    )
    assert "2026-08-20" in table.origin_of("big")
    assert "a price list" in table.origin_of("big")


def test_cores_are_those_that_flux_counts(table: MachineTypes) -> None:
    assert (table["big"].cores, table["gpu"].cores) == (8, 12)


def test_an_unknown_type_is_answered_with_the_nearest(table: MachineTypes) -> None:
    with pytest.raises(RequestError, match="did you mean 'big'"):
        table["bigg"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("vcpus = 16", "vcpus = 15", "machine type 'big': vcpus: expected a whole number"),
        ("vcpus = 16", 'vcpus = "many"', "machine type 'big': vcpus: expected integer"),
        ("vcpus = 16", "", "machine type 'big': vcpus: lacks 'vcpus'"),
        ("vcpus = 16", "vcpu = 16\nvcpus = 16", "machine type 'big': unknown key 'vcpu'"),
        ("threads_per_core = 2", "threads_per_core = 4", "expected 1 or 2, got 4"),
        ('"64GiB"', '"much"', "machine type 'big': memory: expected a byte size"),
        ("price = 0.8", "price = -1", "machine type 'big': a price must be"),
        ("price = 0.8", "price = nan", "machine type 'big': a price must be"),
        ('gpu_model = "l4"', "", "machine type 'gpu': gpus and gpu_model go together"),
        ('name = "gpu"', 'name = "big"', "machine type 'big' appears twice"),
        ('name = "gpu"', 'name = "gpu-spot"', "ends in -spot"),
        ('name = "gpu"', "", "machine type number 2: name: lacks 'name'"),
        ('region = "here"', "", "lacks 'region'"),
        ('region = "here"', 'region = "here"\nzone = "a"', "unknown key 'zone'"),
        ("dated = 2026-08-20", 'dated = "today"', "dated: expected a date"),
        ("dated = 2026-08-20", "dated =", "table.toml: "),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_its_entry(old: str, new: str, said: str) -> None:
    assert old in TABLE
    with pytest.raises(ConfigError, match=r"^table\.toml: ") as caught:
        load(TABLE.replace(old, new, 1), "table.toml")
    assert said in str(caught.value)


def test_an_override_changes_what_it_names_and_is_said_to_be_one(table: MachineTypes) -> None:
    changed = table.with_overrides([MachineTypeOverride("big", price=0.5)])
    assert changed["big"] == MachineType(
        "big", 16, 2, ByteSize(64 * 2**30), price=0.5, spot_price=0.3
    )
    assert changed.origin_of("big") == "as set by the parameter machine_types"
    assert changed.origin_of("gpu") == table.origin_of("gpu")
    assert table["big"].price == 0.8


def test_an_override_can_be_a_machine_type_of_its_own(table: MachineTypes) -> None:
    new = MachineTypeOverride(
        "mine", vcpus=4, threads_per_core=1, memory=ByteSize(2**30), price=0.1
    )
    assert table.with_overrides([new])["mine"] == MachineType(
        "mine", 4, 1, ByteSize(2**30), price=0.1
    )


def test_a_new_machine_type_says_what_it_lacks(table: MachineTypes) -> None:
    with pytest.raises(RequestError, match="'mine' is not in the table, so it needs memory, price"):
        table.with_overrides([MachineTypeOverride("mine", vcpus=4, threads_per_core=1)])


def test_an_override_that_cannot_be_is_refused(table: MachineTypes) -> None:
    with pytest.raises(RequestError, match="'big': vcpus"):
        table.with_overrides([MachineTypeOverride("big", vcpus=7)])


def test_node_types_are_spot_on_demand_or_both_the_spot_ones_cheaper(table: MachineTypes) -> None:
    both = node_types(
        table["big"], "spot, then on-demand", max_nodes=4, properties=("burst", "big")
    )
    assert [(one.name, one.price) for one in both] == [("big-spot", 0.3), ("big", 0.8)]
    assert {(one.cores, one.max_nodes, one.properties) for one in both} == {
        (8, 4, ("burst", "big"))
    }
    assert [one.name for one in node_types(table["big"], "spot", max_nodes=1)] == ["big-spot"]
    assert [one.name for one in node_types(table["gpu"], "on-demand", max_nodes=1)] == ["gpu"]
    assert [machine_of(one.name) for one in both] == [("big", True), ("big", False)]


def test_what_has_no_price_is_not_offered(table: MachineTypes) -> None:
    with pytest.raises(RequestError, match="'gpu' has no spot_price"):
        node_types(table["gpu"], "spot", max_nodes=1)
