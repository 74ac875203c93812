from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import at_most

from fluxburst.errors import FluxburstError, FormatError
from fluxburst.formats.fluid import format_f58, parse_fluid

unhurried = settings(deadline=None)
ids = st.integers(0, 2**64 - 1)


# The examples of RFC 19: its F58 forms beside the hexadecimal forms of the same ids.
RFC19_EXAMPLES = [
    ("ƒuZZybuNNy", 6731191091817518),
    ("ƒuZZybuNNy", 0x17E9FB8DF16C2E),
    ("ƒ278oEf7zGf", None),
    ("ƒZemgA8Bzf", None),
]


@pytest.mark.parametrize(("text", "value"), RFC19_EXAMPLES)
def test_the_examples_of_rfc_19_hold(text: str, value: int | None) -> None:
    parsed = parse_fluid(text)
    assert format_f58(parsed) == text
    assert parse_fluid("f" + text[1:]) == parsed
    assert value is None or parsed == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("ƒ1", 0), ("f1", 0), ("ƒ2", 1), ("ƒz", 57), ("ƒ21", 58), ("6731191091817518",
     6731191091817518), (str(2**64 - 1), 2**64 - 1), ("007", 7)],
)  # fmt: skip
def test_a_job_id_is_read_in_decimal_and_in_f58(text: str, value: int) -> None:
    assert parse_fluid(text) == value


@pytest.mark.parametrize(
    "text",
    ["0x17e9fb8df16c2e", "0X17E9FB8DF16C2E", "0017.e9fb.8df1.6c2e", "job.0017.e9fb.8df1.6c2e"],
)
def test_a_job_id_is_read_in_hexadecimal(text: str) -> None:
    assert parse_fluid(text) == 6731191091817518


@pytest.mark.parametrize("text", ["0x", "0xg", "0x1" + 16 * "0", "17.e9fb.8df1.6c2e", "job.1"])
def test_what_is_not_quite_hexadecimal_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="job id"):
        parse_fluid(text)


@given(ids)
@unhurried
def test_what_is_written_in_f58_is_read_back(value: int) -> None:
    text = format_f58(value)
    assert text.startswith("ƒ")
    assert parse_fluid(text) == parse_fluid("f" + text[1:]) == parse_fluid(str(value)) == value


@pytest.mark.parametrize(
    "text",
    ["", "f", "ƒ", "f0", "fO", "fI", "fl", "ƒƒ1", "-1", "+1", "1.5", "1e3", "g123", "F123", "x",
     "1_0", "٣", "²", "f1 2", "f1\n2", str(2**64), "f" + "z" * 12, "ƒ" + "z" * 3000],
)  # fmt: skip
def test_what_is_not_a_job_id_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="job id"):
        parse_fluid(text)


def test_an_absurdly_long_number_is_not_a_job_id() -> None:
    with pytest.raises(FormatError):
        parse_fluid("9" * 5000)


@pytest.mark.parametrize("text", [" 12", "12 ", "\tƒD\n"])
def test_whitespace_around_a_job_id_is_ignored(text: str) -> None:
    assert parse_fluid(text) == 12


def test_a_negative_id_cannot_be_written_and_is_refused_at_once() -> None:
    with at_most(0.3), pytest.raises((FluxburstError, ValueError)):
        format_f58(-1)


@given(st.text(max_size=14) | st.text("fƒ0123456789OIlABCxyz", max_size=14))
@unhurried
def test_any_text_is_a_job_id_or_a_format_error(text: str) -> None:
    try:
        value = parse_fluid(text)
    except FormatError:
        return
    assert 0 <= value < 2**64


@given(ids)
@unhurried
def test_job_ids_are_written_and_read_as_flux_does(value: int) -> None:
    job_id = pytest.importorskip("flux.job").JobID
    assert format_f58(value) == str(job_id(value).f58)
    assert parse_fluid(str(job_id(value).f58)) == int(job_id(str(value)))
