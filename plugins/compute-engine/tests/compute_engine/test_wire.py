"""What Google answers, as an error with a type: each from the code that says so."""

from __future__ import annotations

import datetime
import logging
import time
from pathlib import Path

import pytest
from tests.compute_engine.fake_compute import Page, Site
from tests.compute_engine.sites import SECRET_KEY, burst, plugin_of

from fluxburst.errors import AuthError, BurstError, QuotaError, UnreachableError
from fluxburst_google.errors import (
    BusyError,
    ExistsError,
    GoogleFailure,
    NotFoundError,
)

LIST = "instances.aggregatedList"
PAGES = [b"<html>404 Not Found nginx</html>", {"message": "no Route matched"}, {"error": "no"}, []]
"""What proxies and load balancers answer with HTTP 404."""
DENIED = "Required 'compute.instances.list' permission for 'projects/test-project'"


@pytest.mark.parametrize(
    ("status", "reason", "message", "error", "said"),
    [
        (401, "authError", "Invalid Credentials", AuthError, "log in again"),
        (403, "forbidden", DENIED, AuthError, r"permission is compute\.instances\.list"),
        (403, "accessNotConfigured", "API has not been used", AuthError, "enable that API"),
        (403, "quotaExceeded", "Quota 'CPUS' exceeded", QuotaError, "CPUS"),
        (404, "notFound", "The resource was not found", NotFoundError, "was not found"),
        (409, "alreadyExists", "The resource already exists", ExistsError, "already exists"),
        (400, "invalid", "Invalid value for field", GoogleFailure, r"Invalid value.*\(400\)"),
        (412, "conditionNotMet", "Supplied fingerprint", GoogleFailure, "fingerprint"),
        (504, "backendError", "Deadline", UnreachableError, "did not answer in time"),
    ],
)
def test_each_code_is_an_error_of_its_kind(
    site: Site,
    elastic: Path,
    status: int,
    reason: str,
    message: str,
    error: type[BurstError],
    said: str,
) -> None:
    site.fail(LIST, status, reason, message, times=3)  # Google's client asks twice more after 401
    with pytest.raises(error, match=said) as caught:
        plugin_of(site, elastic).list_bursts()
    assert type(caught.value) is error
    assert "list machines" in str(caught.value)
    assert site.requests == [LIST] * (3 if status == 401 else 1)


@pytest.mark.parametrize("status", [429, 403])
def test_too_many_requests_are_made_again_when_google_says(
    site: Site, elastic: Path, status: int
) -> None:
    site.fail(LIST, status, "rateLimitExceeded", times=2, headers={"Retry-After": "0"})
    assert plugin_of(site, elastic).list_bursts() == []
    assert site.requests == [LIST] * 3


def test_when_to_ask_again_may_be_a_date(site: Site, elastic: Path) -> None:
    past = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    date = past.strftime("%a, %d %b %Y %H:%M:%S GMT")
    site.fail(LIST, 503, "backendError", headers={"Retry-After": date})
    assert plugin_of(site, elastic).list_bursts() == []


def test_nobody_waits_for_longer_than_is_configured(site: Site, elastic: Path) -> None:
    site.fail(LIST, 429, "rateLimitExceeded", headers={"Retry-After": "3600"})
    began = time.monotonic()
    with pytest.raises(BusyError, match="given up after 5s") as caught:
        plugin_of(site, elastic).list_bursts()
    assert time.monotonic() - began < 3600
    assert caught.value.retry_after == 3600


def test_a_bulk_insert_that_is_sent_again_makes_its_instances_once(
    site: Site, elastic: Path
) -> None:
    site.fail("instances.bulkInsert", 503, "backendError", headers={"Retry-After": "0"})
    made = plugin_of(site, elastic).create(burst())
    assert site.left() == list(made.hostnames)


def test_google_that_cannot_be_reached_is_told_from_one_that_refuses(
    site: Site, elastic: Path
) -> None:
    plugin = plugin_of(site, elastic, endpoint="http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="cannot reach Google to list machines"):
        plugin.list_bursts()


@pytest.mark.parametrize("permission", ["compute.instances.create", "compute.regions.get"])
def test_a_missing_permission_is_named(site: Site, elastic: Path, permission: str) -> None:
    site.denied = {permission}
    with pytest.raises(AuthError, match=f"the missing permission is {permission}"):
        plugin_of(site, elastic).create(burst())
    assert site.left() == []


def test_an_image_that_is_not_there_is_said(site: Site, elastic: Path) -> None:
    plugin = plugin_of(site, elastic, compute_family="absent")
    with pytest.raises(NotFoundError, match="images/family/absent"):
        plugin.create(burst())


def test_credentials_are_looked_up_anew_after_they_were_refused(
    site: Site, elastic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = plugin_of(site, elastic)
    assert plugin.list_bursts() == []
    site.fail(LIST, 401, "authError", times=3)
    with pytest.raises(AuthError):
        plugin.list_bursts()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(elastic / "absent.json"))
    with pytest.raises(AuthError, match="there are no Google credentials"):
        plugin.list_bursts()


def test_secrets_are_in_no_log_and_no_error(
    site: Site, elastic: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = tmp_path / "munge.key"
    key.write_bytes(b"a munge key")
    caplog.set_level(logging.DEBUG)
    plugin = plugin_of(site, elastic, munge_key=str(key))
    site.fail("instances.bulkInsert", 400, "invalid", "Invalid value for field 'resource'")
    with pytest.raises(BurstError) as caught:
        plugin.create(burst())
    plugin.create(burst())
    for said in (str(caught.value), repr(caught.value.__cause__), caplog.text):
        assert SECRET_KEY not in said
        assert "YSBtdW5nZSBrZXk=" not in said


@pytest.mark.parametrize("page", PAGES)
def test_a_404_that_is_not_googles_says_nothing_of_what_is_there(
    site: Site, elastic: Path, page: object
) -> None:
    site.faults[LIST] = [Page(404, page)] * 3
    with pytest.raises(UnreachableError):
        plugin_of(site, elastic, retry_timeout=0).list_bursts()


def test_a_zone_that_a_list_does_not_tell_of_has_not_lost_its_instances(
    site: Site, elastic: Path
) -> None:
    plugin = plugin_of(site, elastic)
    made = plugin.create(burst())
    site.away = set(site.zones)
    for ask in (lambda: plugin.refresh(made), plugin.adopt, plugin.list_bursts):
        with pytest.raises(UnreachableError, match="could not list machines of zones/"):
            ask()
    site.away.clear()
    plugin.delete(made)
    assert site.left() == []
