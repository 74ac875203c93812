"""Prices as the catalog tells them, and those of the table where it does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud import billing_v1 as billing
from tests.compute_engine.fake_compute import Site
from tests.compute_engine.sites import LARGE, SMALL, plugin_of
from tests.elastic_instance import free_port
from tests.google.fake_catalog import DEARER_ELSEWHERE, Catalog, sku
from tests.google.google_grpc import Refusal

from fluxburst import FluxBurst
from fluxburst.config.file import Config
from fluxburst.plugin.base import Finding
from fluxburst.provider.machine_types import machine_of
from fluxburst_compute_engine import ComputeEngineBurst
from fluxburst_google.catalogue import machine_types

RISE = 1.25
"""How much dearer the catalog is than the table."""

DISABLED = Refusal(
    grpc.StatusCode.PERMISSION_DENIED,
    "Cloud Billing API has not been used in project test-project before or it is disabled.",
    "SERVICE_DISABLED",
)
BOTH = "spot, then on-demand"


def all_types(site: Site, catalog: Catalog, **parameters: Any) -> ComputeEngineBurst:
    """Return a plugin that offers the whole table, on demand and spot."""
    table = {**site.parameters, **catalog.parameters, "provisioning": BOTH, **parameters}
    config = Config(plugins={"compute_engine": {**table, "isolated_burst": True}})
    plugin = FluxBurst(mock=True, config=config).load("compute_engine")
    assert isinstance(plugin, ComputeEngineBurst)
    return plugin


def prices(plugin: ComputeEngineBurst) -> dict[str, float]:
    return {kind.name: kind.price for kind in plugin.node_types()}


def rises(plugin: ComputeEngineBurst) -> dict[str, float]:
    """Return how much dearer each node type is than the table has it."""
    found = {}
    for name, price in prices(plugin).items():
        machine, spot = machine_of(name)
        known = machine_types()[machine]
        former = known.spot_price if spot else known.price
        assert former is not None
        found[name] = round(price / former, 3)
    return found


def test_all_that_a_machine_type_consists_of_is_counted_and_nothing_else(
    site: Site, catalog: Catalog
) -> None:
    found = rises(all_types(site, catalog))
    assert len(found) == 2 * len(machine_types().by_name)
    assert {name: rise for name, rise in found.items() if rise != RISE} == {}


def test_the_catalog_is_read_to_its_last_page_and_once(site: Site, catalog: Catalog) -> None:
    plugin = all_types(site, catalog)
    assert catalog.asked == []  # nobody is asked when a plugin is loaded
    assert prices(plugin) == prices(plugin)
    pages = range(0, len(catalog.skus), catalog.page)
    assert catalog.asked == ["", *map(str, pages[1:])]
    assert len(catalog.asked) > 3


def test_prices_are_those_of_the_region_also_where_memory_is_sold_by_the_gb(
    site: Site, catalog: Catalog
) -> None:
    found = rises(all_types(site, catalog, region="europe-west4"))
    assert set(found.values()) == {round(RISE * DEARER_ELSEWHERE, 3)}


@pytest.mark.parametrize(
    ("missing", "kept"),
    [
        ("N2 Instance Core", {name for name in machine_types().by_name if name[:3] == "n2-"}),
        ("H3 Instance Ram", {"h3-standard-88"}),
        ("Spot Preemptible H3 Instance Ram", {"h3-standard-88-spot"}),
        ("Nvidia Tesla A100 80GB GPU running", {"a2-ultragpu-8g"}),
        ("RTX 6000 96GB attached", {"g4-standard-48-spot"}),
        ("SSD backed Local Storage attached", {"a2-ultragpu-8g-spot", "a3-highgpu-8g-spot"}),
    ],
)
def test_a_part_without_a_price_leaves_the_tables_to_what_has_it(
    site: Site, catalog: Catalog, missing: str, kept: set[str]
) -> None:
    catalog.remove(missing)
    found = rises(all_types(site, catalog))
    assert {name for name, rise in found.items() if rise == 1} == kept
    assert set(found.values()) == {1, RISE}


def _tiered() -> billing.Sku:
    other = sku("H3 Instance Core running in Iowa", 0.04411 * RISE)
    rates = other.pricing_info[0].pricing_expression.tiered_rates
    rates.append(rates[0])
    return other


@pytest.mark.parametrize(
    "other",
    [
        sku("H3 Instance Core running in Iowa", 0.01),
        sku("H3 Instance Core running in Iowa", 0),
        sku("H3 Instance Core running in Iowa", 0.01, unit="mo"),
        _tiered(),
    ],
    ids=["another price", "none", "of another unit", "by the amount"],
)
def test_what_has_two_prices_has_none(site: Site, catalog: Catalog, other: billing.Sku) -> None:
    catalog.skus.insert(0, other)
    found = rises(all_types(site, catalog))
    assert {name for name, rise in found.items() if rise == 1} == {"h3-standard-88"}


def test_two_skus_of_one_price_are_one(site: Site, catalog: Catalog) -> None:
    for place in ("Virginia", "Northern Virginia"):
        what = f"H3 Instance Core running in {place}"
        catalog.skus.append(sku(what, 0.05, regions=["us-east4"]))
    memory = "H3 Instance Ram running in Northern Virginia"
    catalog.skus.append(sku(memory, 0.003, unit="GiBy.h", regions=["us-east4"]))
    found = prices(all_types(site, catalog, region="us-east4"))
    assert found["h3-standard-88"] == pytest.approx(88 * 0.05 + 352 * 0.003)


def test_local_ssds_have_a_price_by_the_month(site: Site, catalog: Catalog) -> None:
    catalog.remove("SSD backed Local Storage")
    without = 9.620558 * 8 + 0.0293 * 208 + 0.00255 * 1872
    catalog.skus.append(sku("SSD backed Local Storage", 7.3, unit="GiBy.mo"))
    found = prices(all_types(site, catalog))
    assert found["a3-highgpu-8g"] == pytest.approx(RISE * without + 6000 * 0.01)


def test_a_series_that_is_called_otherwise_in_newer_regions_has_its_price(
    site: Site, catalog: Catalog
) -> None:
    for part, rate, unit in (("Core", 0.04, "h"), ("Ram", 0.005, "GiBy.h")):
        what = f"Compute optimized Instance {part} running in Madrid"
        catalog.skus.append(sku(what, rate, unit=unit, regions=["europe-southwest1"]))
    found = prices(all_types(site, catalog, region="europe-southwest1"))
    assert found["c2-standard-8"] == pytest.approx(8 * 0.04 + 32 * 0.005)


def test_a_price_that_the_user_set_is_used(site: Site, elastic: Path, catalog: Catalog) -> None:
    mine = [{"name": SMALL, "price": 0.35}]
    found = prices(plugin_of(site, elastic, machine_types=mine, **catalog.parameters))
    assert found[SMALL] == 0.35
    assert found[LARGE] == pytest.approx(RISE * 4.9236)


def test_without_live_prices_nobody_is_asked(site: Site, elastic: Path, catalog: Catalog) -> None:
    asked = {**catalog.parameters, "live_prices": False}
    assert prices(plugin_of(site, elastic, **asked))[SMALL] == 0.417616
    assert catalog.asked == []


# --- what does not answer ------------------------------------------------------------------------


def test_where_google_refuses_the_tables_prices_are_used_and_it_is_asked_and_said_once(
    site: Site, elastic: Path, catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    catalog.refusal = DISABLED
    plugin = plugin_of(site, elastic, **catalog.parameters)
    for _ in range(3):
        assert prices(plugin) == {SMALL: 0.417616, LARGE: 4.9236}
    assert catalog.asked == [""]
    assert len(re.findall("using the table's prices: .*is disabled", caplog.text)) == 1


def test_a_catalog_that_fails_halfway_tells_nothing(
    site: Site, elastic: Path, catalog: Catalog
) -> None:
    catalog.endless, catalog.page = True, 5000
    plugin = plugin_of(site, elastic, request_timeout=0.3, **catalog.parameters)
    assert prices(plugin)[SMALL] == 0.417616
    assert len(catalog.asked) > 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Google failed to list its prices: not now"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests to Google to list its prices"),
        (grpc.StatusCode.UNAUTHENTICATED, "Google refused to list its prices: not now; log in"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Google did not answer in time"),
    ],
)
def test_what_google_answers_instead_is_said(
    site: Site, elastic: Path, catalog: Catalog, code: grpc.StatusCode, said: str
) -> None:
    catalog.refusal = Refusal(code, "not now")
    assert said in of_prices(plugin_of(site, elastic, **catalog.parameters)).what
    assert catalog.asked == [""]


# --- doctor --------------------------------------------------------------------------------------


def of_prices(plugin: ComputeEngineBurst) -> Finding:
    """Return what doctor says of where prices come from."""
    (found,) = [one for one in plugin.diagnose() if one.what.startswith("prices are ")]
    return found


def test_doctor_says_that_prices_are_those_of_now(
    site: Site, elastic: Path, catalog: Catalog
) -> None:
    plugin = plugin_of(site, elastic, **catalog.parameters)
    assert of_prices(plugin).level == "ok"
    assert "from Google's current catalog for us-central1" in of_prices(plugin).what
    (small,) = [one.what for one in plugin.diagnose() if f"4 nodes of {SMALL}" in one.what]
    assert "0.52202 an hour (from Google's current catalog)" in small


def test_doctor_says_why_prices_are_those_of_the_table(
    site: Site, elastic: Path, catalog: Catalog
) -> None:
    catalog.refusal = DISABLED
    found = of_prices(plugin_of(site, elastic, **catalog.parameters))
    assert found.level == "warning"
    assert "of 2026-08-20, us-central1, from" in found.what
    assert "it is disabled; enable that API in the project" in found.what
    assert "gcloud services enable cloudbilling.googleapis.com" in found.advice


def test_doctor_says_it_where_nothing_answers(site: Site, elastic: Path, catalog: Catalog) -> None:
    nowhere = {**catalog.parameters, "billing_endpoint": f"localhost:{free_port()}"}
    found = of_prices(plugin_of(site, elastic, **nowhere))
    assert found.level == "warning"
    assert "to list its prices" in found.what


def test_doctor_names_what_the_catalog_does_not_tell(
    site: Site, elastic: Path, catalog: Catalog
) -> None:
    catalog.remove("H3 Instance Core")
    here = of_prices(plugin_of(site, elastic, **catalog.parameters))
    assert (here.level, f"but those of {LARGE} are of 2026" in here.what) == ("ok", True)
    elsewhere = of_prices(plugin_of(site, elastic, region="us-west1", **catalog.parameters))
    assert (elsewhere.level, "not of us-west1" in elsewhere.what) == ("warning", True)


def test_doctor_warns_of_a_table_that_is_of_another_region(site: Site, elastic: Path) -> None:
    assert of_prices(plugin_of(site, elastic)).level == "ok"
    elsewhere = of_prices(plugin_of(site, elastic, region="europe-west4"))
    assert (elsewhere.level, "not of europe-west4" in elsewhere.what) == ("warning", True)
    assert "live_prices" in elsewhere.advice
