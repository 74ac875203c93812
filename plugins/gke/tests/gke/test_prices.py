"""Prices as the catalog tells them for the cluster's region, and those of the table."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from tests.gke.sites import Site
from tests.gke.test_plugin import gke_plugin, write_gke_site
from tests.google.fake_catalog import DEARER_ELSEWHERE, Catalog
from tests.google.google_grpc import Refusal

from fluxburst_gke import GkeBurst

pytestmark = pytest.mark.kubernetes

C2 = 0.417616 * 1.25


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_gke_site(tmp_path / "elastic")


def prices(plugin: GkeBurst) -> dict[str, float]:
    return {kind.name: kind.price for kind in plugin.node_types()}


def test_prices_are_those_of_now_in_the_clusters_region(
    gke: Site, directory: Path, namespace: str, catalog: Catalog
) -> None:
    both = {"namespace": namespace, "provisioning": "spot, then on-demand", **catalog.parameters}
    plugin = gke_plugin(gke, directory, **both)
    found = prices(plugin)
    assert found["c2-standard-8"] == pytest.approx(C2)
    assert found["c2-standard-8-spot"] == pytest.approx(0.230736 * 1.25)
    assert catalog.asked.count("") == 1
    assert plugin.region == "us-central1"
    said = {one.what: one.level for one in plugin.provider_findings()}
    assert said["prices are from Google's current catalog for us-central1"] == "ok"
    mine = [{"name": "c2-standard-8", "price": 0.5}]
    found = prices(gke_plugin(gke, directory, machine_types=mine, **both))
    assert found["c2-standard-8"] == 0.5
    assert found["c2-standard-60"] == pytest.approx(3.13212 * 1.25)


def test_another_region_has_other_prices(
    gke: Site, directory: Path, namespace: str, catalog: Catalog
) -> None:
    where = {"location": "europe-west4-b", "create_cluster": True, "namespace": namespace}
    plugin = gke_plugin(gke, directory, **where, **catalog.parameters)
    assert prices(plugin)["c2-standard-8"] == pytest.approx(C2 * DEARER_ELSEWHERE)


def test_where_google_refuses_the_tables_prices_are_used_and_doctor_says_why(
    gke: Site, directory: Path, namespace: str, catalog: Catalog
) -> None:
    why = "Cloud Billing API has not been used in project a-project before or it is disabled"
    catalog.refusal = Refusal(grpc.StatusCode.PERMISSION_DENIED, why, "SERVICE_DISABLED")
    plugin = gke_plugin(gke, directory, namespace=namespace, **catalog.parameters)
    assert prices(plugin) == {"c2-standard-8": 0.417616, "c2-standard-60": 3.13212}
    assert catalog.asked == [""]
    (found,) = [one for one in plugin.provider_findings() if one.what.startswith("prices are")]
    assert (found.level, why in found.what) == ("warning", True)
    assert "cloudbilling.googleapis.com" in found.advice
