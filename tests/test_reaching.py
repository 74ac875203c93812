from __future__ import annotations

import pytest

from fluxburst.errors import RequestError
from fluxburst.provider.elastic import Elastic
from fluxburst.provider.elastic_directory import check_here, why_unreachable


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1", "at 127.0.0.1 each host reaches only itself"),
        ("localhost", "at localhost, which is "),
        ("a..b", "cannot resolve a..b on this host (it is not a hostname)"),
        ("nowhere.invalid", "cannot resolve nowhere.invalid on this host ("),
    ],
)
def test_an_address_that_others_do_not_reach_is_told_with_why(address: str, said: str) -> None:
    assert why_unreachable(address).startswith(said)


def test_of_an_address_in_a_network_nothing_is_said() -> None:
    assert why_unreachable("10.1.2.3") == ""


@pytest.mark.parametrize("address", ["a..b", "nowhere.invalid"])
def test_an_address_that_does_not_resolve_is_refused_with_the_option_that_gives_it(
    address: str,
) -> None:
    elastic = Elastic(("lead",), ("burst0",), 1, address=address)
    with pytest.raises(RequestError, match=rf"cannot resolve the address {address} .*--address"):
        check_here(elastic)
