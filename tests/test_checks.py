from __future__ import annotations

import pytest

from fluxburst.checks import check_endpoint, check_request_timeout
from fluxburst.elastic import check_address
from fluxburst.errors import RequestError


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e30, float("inf"), float("nan")])
def test_a_provider_is_given_some_time_to_answer_and_a_day_at_most(seconds: float) -> None:
    with pytest.raises(RequestError, match="must be more than no time, and 1d at most"):
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
