from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fluxburst.config.validators import (
    check_endpoint,
    check_interval,
    check_port,
    check_price,
    check_readable,
    check_request_timeout,
    run_checks,
)
from fluxburst.errors import RequestError
from fluxburst.provider.elastic import check_address


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e30, float("inf"), float("nan")])
def test_a_provider_is_given_some_time_to_answer_and_a_day_at_most(seconds: float) -> None:
    with pytest.raises(RequestError, match="must be positive, and 1d at most"):
        check_request_timeout(seconds)
    check_request_timeout(0.1)


@pytest.mark.parametrize("text", ["", " ", "http://", "https://[", "ä", "a b", "a,b", "\udcff"])
def test_what_is_neither_a_url_nor_a_host_is_refused(text: str) -> None:
    for url in (True, False):
        with pytest.raises(RequestError, match="is not a URL"):
            check_endpoint(text, url=url)


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:9", "https://[::1]:80/a/b", "https://a.example"]
)
def test_a_url_is_one_and_has_a_host(text: str) -> None:
    check_endpoint(text, url=True)
    host = text.partition("//")[2].partition("/")[0]
    check_endpoint(host, url=False)
    with pytest.raises(RequestError):
        check_endpoint(host, url=True)


@pytest.mark.parametrize("text", ["", "a..b", "../..", "x" * 64, "\udcff", "::1", "a b"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is neither a hostname nor an IPv4 address"):
        check_address(text)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_an_interval_is_more_than_no_time_and_finite(seconds: float) -> None:
    with pytest.raises(RequestError, match="must be positive and finite"):
        check_interval(seconds)
    check_interval(0.001)


@pytest.mark.parametrize("price", [-0.01, float("nan"), float("inf")])
def test_a_price_is_a_number_of_0_or_more(price: float) -> None:
    with pytest.raises(RequestError, match="must be a number of 0 or more"):
        check_price(price)
    check_price(0)


@pytest.mark.parametrize("name", ["absent", ".", "a\0b"])
def test_what_is_no_file_that_can_be_read_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot be read|is not a path"):
        check_readable(tmp_path / name)


def test_what_is_not_given_is_not_checked() -> None:
    check_address(None)
    check_endpoint(None, url=True)
    check_port(None)
    check_readable(None)


def test_all_that_is_wrong_is_told_by_field() -> None:
    checks: dict[str, Callable[[int], None]] = {
        "one": check_port,
        "two": check_port,
        "three": lambda port: check_port(port - 1),
    }
    assert list(run_checks(checks, 65536)) == [
        ("one", "65536 is not a TCP port"),
        ("two", "65536 is not a TCP port"),
    ]
