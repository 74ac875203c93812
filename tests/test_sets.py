from __future__ import annotations

import itertools
import re
import subprocess

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tests.support import at_most, flux_available

from fluxburst.errors import FormatError
from fluxburst.formats.hostlist import (
    MAX_EXPANSION,
    format_hostlist,
    format_idset,
    parse_hostlist,
    parse_idset,
)

unhurried = settings(deadline=None)


# --- idsets (RFC 22) -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", ()),
        ("[]", ()),
        ("0", (0,)),
        ("1,2,3,5,6,42", (1, 2, 3, 5, 6, 42)),
        ("1-3,5-6,42", (1, 2, 3, 5, 6, 42)),
        ("[1-3,5-6,42]", (1, 2, 3, 5, 6, 42)),
        ("10-12", (10, 11, 12)),
        ("4294967294", (4294967294,)),
    ],
)
def test_an_idset_expands_to_its_ids(text: str, ids: tuple[int, ...]) -> None:
    assert parse_idset(text) == ids


MALFORMED_IDSETS = [
    "[1", "1]", "[[1]]", "-1", "1-", "-", ",", "1,", ",1", "1,,2", "1--2", "1-2-3", "5-3",
    " 1", "1 ", "1, 2", "1\n", "a", "1.0", "0x1", "+1", "1_0", "٣", "²", "1;2", "[1],[2]",
]  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED_IDSETS)
def test_a_malformed_idset_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(FormatError, match="idset") as caught:
        parse_idset(text)
    assert caught.value.text == text
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["3,1", "0-3,2", "1,1", "1-3,3", "5,1-2"])
def test_an_idset_that_is_not_ascending_and_unique_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_idset(text)


@pytest.mark.parametrize("text", ["01", "00", "01-02", "1,02"])
def test_an_idset_with_leading_zeroes_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_idset(text)


@pytest.mark.parametrize("text", ["9" * 5000, "1-" + "9" * 5000])
def test_an_idset_of_absurdly_long_numbers_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_idset(text)


@pytest.mark.parametrize(
    "text", ["0-99999999999999", f"1-{10**300}", f"0-{MAX_EXPANSION}", "0-600000,700000-1300000"]
)
def test_a_huge_idset_is_refused_without_being_expanded(text: str) -> None:
    with at_most(0.5), pytest.raises(FormatError):
        parse_idset(text)


def test_the_largest_idset_that_is_allowed_is_expanded() -> None:
    assert len(parse_idset(f"0-{MAX_EXPANSION - 1}")) == MAX_EXPANSION


@given(st.sets(st.integers(0, 300) | st.integers(0, 2**40)))
@unhurried
def test_what_is_written_as_an_idset_is_read_back(ids: set[int]) -> None:
    assert parse_idset(format_idset(ids)) == tuple(sorted(ids))
    assert parse_idset(f"[{format_idset(ids)}]") == tuple(sorted(ids))


@given(st.sets(st.integers(0, 60)))
@unhurried
def test_an_idset_is_written_canonically(ids: set[int]) -> None:
    text = format_idset(ids)
    assert re.fullmatch(r"((0|[1-9]\d*)(-[1-9]\d*)?(,|$))*", text)
    bounds = [tuple(map(int, part.split("-"))) for part in text.split(",") if part]
    for before, after in itertools.pairwise(bounds):
        assert before[-1] + 1 < after[0], "ranges are ascending, and neighbours are merged"


@given(st.lists(st.integers(0, 50)))
@unhurried
def test_order_and_repeats_do_not_change_how_an_idset_is_written(ids: list[int]) -> None:
    assert format_idset(ids) == format_idset(sorted(set(ids)))


def test_short_runs_are_written_as_flux_writes_them() -> None:
    assert format_idset([5, 1, 2, 3]) == "1-3,5"
    assert format_idset([0, 1]) == "0-1"
    assert format_idset([]) == ""


@given(st.text("0123456789-,[] ", max_size=12) | st.text(max_size=8))
@example("1-2,")
@unhurried
def test_any_text_is_an_idset_or_a_format_error(text: str) -> None:
    try:
        ids = parse_idset(text)
    except FormatError:
        return
    assert list(ids) == sorted(set(ids))
    assert all(type(member) is int and member >= 0 for member in ids)


@given(st.sets(st.integers(0, 200)))
@unhurried
def test_idsets_are_written_and_read_as_flux_does(ids: set[int]) -> None:
    idset = pytest.importorskip("flux.idset")
    text = str(idset.IDset(",".join(map(str, sorted(ids)))))
    assert format_idset(ids) == text.removeprefix("[").removesuffix("]")
    assert parse_idset(text) == tuple(idset.IDset(text))


@given(st.text("0123-,[]", max_size=7))
@example("3,1")
@unhurried
def test_the_same_texts_are_idsets_as_for_flux(text: str) -> None:
    idset = pytest.importorskip("flux.idset")
    assume("" not in text.strip("[]").split(","))  # Flux takes empty ranges, RFC 22 does not
    theirs: tuple[int, ...] | None
    ours: tuple[int, ...] | None
    try:
        theirs = tuple(idset.IDset(text))
    except ValueError:
        theirs = None
    try:
        ours = parse_idset(text)
    except FormatError:
        ours = None
    assert ours == theirs


# --- hostlists (RFC 29) --------------------------------------------------------------------


RFC29_VECTORS = [
    ("", ""),
    ("foox,fooy,fooz", "foox,fooy,fooz"),
    ("[1-3,5-6]", "1,2,3,5,6"),
    ("foo[1-5]", "foo1,foo2,foo3,foo4,foo5"),
    ("foo[0-4]-eth2", "foo0-eth2,foo1-eth2,foo2-eth2,foo3-eth2,foo4-eth2"),
    ("foo1,foo1,foo1", "foo1,foo1,foo1"),
    ("[00-02]", "00,01,02"),
    pytest.param(
        "[00-2]",
        "00,01,02",
    ),
    ("foo[1,1,2,1]", "foo1,foo1,foo2,foo1"),
]


@pytest.mark.parametrize(("text", "hosts"), RFC29_VECTORS)
def test_the_test_vectors_of_rfc_29_hold(text: str, hosts: str) -> None:
    assert ",".join(parse_hostlist(text)) == hosts


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("lead0,burst[0-2]", ("lead0", "burst0", "burst1", "burst2")),
        ("n[001-003]", ("n001", "n002", "n003")),
        ("n[008-011]", ("n008", "n009", "n010", "n011")),
        ("n[5,4,10-12]", ("n5", "n4", "n10", "n11", "n12")),
        ("n[9-11]", ("n9", "n10", "n11")),
        ("n[0]", ("n0",)),
        ("a.b-c_d", ("a.b-c_d",)),
        (" a , b ", ("a", "b")),
        ("rack[1-2]node", ("rack1node", "rack2node")),
        ("b,a,b", ("b", "a", "b")),
    ],
)
def test_a_hostlist_expands_in_its_order(text: str, hosts: tuple[str, ...]) -> None:
    assert parse_hostlist(text) == hosts


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n[08-100]", tuple(f"n{number:02d}" for number in range(8, 101))),
        ("n[000-2]", ("n000", "n001", "n002")),
    ],
)
def test_the_width_of_the_first_number_pads_the_range(text: str, hosts: tuple[str, ...]) -> None:
    assert parse_hostlist(text) == hosts


MALFORMED_HOSTLISTS = [
    "n[1", "n]1", "n1]", "n[]", "n[[1]]", "n[1]]", "n[a]", "n[1-]", "n[-1]", "n[2-1]", "n[1,]",
    "n[,1]", "n[1--2]", "n[ 1]", "a b", "n[1 -2]", "é", "n[٣]", "n[1.5]", "[", "]", "[]", "a[1][",
]  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED_HOSTLISTS)
def test_a_malformed_hostlist_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(FormatError, match="hostlist") as caught:
        parse_hostlist(text)
    assert caught.value.text == text


@pytest.mark.parametrize("name", ["n+1", "a:b", "a/b", "host!", "user@host", "%x"])
def test_a_host_name_may_hold_any_printable_character(name: str) -> None:
    assert parse_hostlist(f"{name}[1-2]") == (f"{name}1", f"{name}2")


@pytest.mark.parametrize("text", ["a,,b", "a,b,", ",a,b"])
def test_an_empty_hostlist_expression_is_an_empty_list(text: str) -> None:
    assert parse_hostlist(text) == ("a", "b")


@pytest.mark.parametrize("text", [f"n[{'1' * 5000}]", f"n[1-{'9' * 5000}]"])
def test_a_hostlist_of_absurdly_long_numbers_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_hostlist(text)


@pytest.mark.parametrize(
    "text",
    ["n[0-99999999999]", f"n[0-{MAX_EXPANSION}]", "n[1-2],m[0-99999999999]", f"n[0-{10**300}]x"],
)
def test_a_huge_hostlist_is_refused_without_being_expanded(text: str) -> None:
    with at_most(0.5), pytest.raises(FormatError):
        parse_hostlist(text)


def test_a_huge_product_of_ranges_is_refused_without_being_expanded() -> None:
    with at_most(0.5), pytest.raises(FormatError):
        parse_hostlist("n[0-9999][0-9999]")


@st.composite
def hostlists(draw: st.DrawFn) -> tuple[str, tuple[str, ...]]:
    # Single-bracket expressions, and what they expand to.
    letters = st.text("abcxyz.-_", min_size=1, max_size=4).filter(lambda name: name[0] != "-")
    parts: list[str] = []
    hosts: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        prefix = draw(letters)
        if draw(st.booleans()):
            parts.append(prefix)
            hosts.append(prefix)
            continue
        suffix = draw(st.just("") | st.just("-eth0"))
        ranges: list[str] = []
        width = draw(st.sampled_from([0, 3]))
        for _ in range(draw(st.integers(1, 3))):
            first = draw(st.integers(0, 400))
            last = first + draw(st.integers(0, 5))
            one = draw(st.booleans())
            ranges.append(f"{first:0{width}d}" if one else f"{first:0{width}d}-{last:0{width}d}")
            members = [first] if one else range(first, last + 1)
            hosts += [f"{prefix}{member:0{width}d}{suffix}" for member in members]
        parts.append(f"{prefix}[{','.join(ranges)}]{suffix}")
    return ",".join(parts), tuple(hosts)


@given(hostlists())
@unhurried
def test_a_hostlist_means_what_it_was_made_of(case: tuple[str, tuple[str, ...]]) -> None:
    text, hosts = case
    assert parse_hostlist(text) == hosts


@given(hostlists())
@unhurried
def test_hostlists_are_read_as_flux_does(case: tuple[str, tuple[str, ...]]) -> None:
    hostlist = pytest.importorskip("flux.hostlist")
    text, _ = case
    assert parse_hostlist(text) == tuple(hostlist.Hostlist(text))


@given(st.lists(st.from_regex(r"[a-z]{1,3}[0-9]{0,3}", fullmatch=True), max_size=12))
@unhurried
def test_a_hostlist_that_flux_wrote_is_read_back(hosts: list[str]) -> None:
    hostlist = pytest.importorskip("flux.hostlist")
    assert parse_hostlist(str(hostlist.Hostlist(hosts))) == tuple(hosts)


@given(st.text("ab01-,[] .", max_size=14) | st.text(max_size=8))
@unhurried
def test_any_text_is_a_hostlist_or_a_format_error(text: str) -> None:
    try:
        hosts = parse_hostlist(text)
    except FormatError:
        return
    assert all(re.fullmatch(r"[!-~]+", host) for host in hosts)


NAMES_OF_HOSTS = (
    st.from_regex(r"[a-z]{0,2}[0-9]{1,3}(-eth[01])?", fullmatch=True)
    | st.from_regex(r"[ab]{1,2}[0-9]{0,2}[.x-]?", fullmatch=True)
    | st.from_regex(r"n[0-9]{15,25}", fullmatch=True)
)


@st.composite
def hosts_in_runs(draw: st.DrawFn) -> list[str]:
    # Hosts as sites have them: numbered in a row, by one width or growing, and some others.
    hosts: list[str] = []
    for _ in range(draw(st.integers(0, 4))):
        prefix, suffix = draw(st.sampled_from(["n", "a1b", ""])), draw(st.sampled_from(["", "x"]))
        first, width = draw(st.integers(0, 1100)), draw(st.sampled_from([0, 2, 4]))
        numbers = range(first, first + draw(st.integers(1, 12)))
        hosts += [f"{prefix}{number:0{width}d}{suffix}" for number in numbers]
        hosts += draw(st.lists(NAMES_OF_HOSTS, max_size=2))
    return hosts


@given(hosts_in_runs() | st.lists(NAMES_OF_HOSTS, max_size=8))
@example(["node1", "node"])
@unhurried
def test_what_is_written_as_a_hostlist_is_read_back_in_its_order(hosts: list[str]) -> None:
    assert parse_hostlist(format_hostlist(hosts)) == tuple(hosts)


ANY_NAME = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="[],"),
    min_size=1,
    max_size=6,
)


@given(st.lists(ANY_NAME, max_size=5))
@unhurried
def test_any_names_that_a_hostlist_can_hold_are_read_back(hosts: list[str]) -> None:
    assert parse_hostlist(format_hostlist(hosts)) == tuple(hosts)


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        ((), ""),
        (("a",), "a"),
        (("a1",), "a1"),
        (("a", "b"), "a,b"),
        (("a", "a"), "a,a"),
        (("lead", "burst0", "burst1", "burst2"), "lead,burst[0-2]"),
        (("n3", "n1", "n2"), "n[3,1-2]"),
        (("n1", "n2", "n4"), "n[1-2,4]"),
        (("n1", "n1"), "n[1,1]"),
        (("n001", "n002"), "n[001-002]"),
        (("n08", "n09", "n10", "n11"), "n[08-11]"),
        (("r1n1", "r1n2", "r2n1"), "r1n[1-2],r2n1"),
        (("n0-eth", "n1-eth"), "n[0-1]-eth"),
        (("0", "1"), "[0-1]"),
        (("node", "node1"), "node,node1"),
        (("node1", "node"), "node1,node"),
        (("n1", "n", "n2"), "n1,n,n2"),
    ],
)
def test_runs_of_numbered_hosts_are_written_in_brackets(hosts: tuple[str, ...], text: str) -> None:
    assert format_hostlist(hosts) == text
    assert parse_hostlist(text) == hosts


def test_many_hosts_are_written_as_one_range() -> None:
    hosts = [f"n{number:06d}" for number in range(100_000)]
    assert format_hostlist(iter(hosts)) == "n[000000-099999]"


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_what_is_written_as_a_hostlist_is_read_by_the_flux_command() -> None:
    cases = [
        ["lead", "burst0", "burst1", "burst2"],
        ["n9", "n10", "n11", "n99", "n100"],
        ["n08", "n09", "n10", "n099", "n100"],
        ["n3", "n1", "n2", "n1", "n1"],
        ["r1n1", "r1n2", "r2n1", "r2n2"],
        ["n0-eth2", "n1-eth2", "n1"],
        ["n99999999999999999", "n100000000000000000"],
        ["node1", "node", "node2"],
    ]
    command = ["flux", "hostlist", "--fallback", "--expand", "--delimiter=,"]
    for hosts in cases:
        written = format_hostlist(hosts)
        read = subprocess.run(
            [*command, written], capture_output=True, text=True, check=False, timeout=60
        )
        assert (read.stdout.strip().split(","), read.stderr) == (hosts, ""), written
