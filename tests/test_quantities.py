from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fluxburst.errors import FormatError
from fluxburst.formats.units import format_bytes, format_duration, parse_bytes, parse_duration

unhurried = settings(deadline=None)

# --- durations (RFC 23) --------------------------------------------------------------------

RFC23_VECTORS = [
    ("2ms", 0.002),
    ("0.1s", 0.1),
    ("30", 30),
    ("1.2h", 4320),
    ("5m", 300),
    ("0s", 0),
    ("5d", 432000),
    ("inf", math.inf),
    ("INF", math.inf),
    ("infinity", math.inf),
]


@pytest.mark.parametrize(("text", "seconds"), RFC23_VECTORS)
def test_the_test_vectors_of_rfc_23_hold(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1.", 1), (".5m", 30), ("1e3", 1000), ("1E+2s", 100), ("2.5e-1h", 900), ("0x10", 16),
     ("0x1.8p1m", 180), ("0X1P4s", 16), ("007", 7), ("INFINITY", math.inf)],
)  # fmt: skip
def test_a_number_in_a_form_of_strtod_is_a_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


NOT_DURATIONS = [
    "", " ", "s", "ms", "-1", "-1s", "-inf", "nan", "infs", "inf m", "1 s", "1S", "1M", "1D", "1w",
    "1sec", "1h30m", "1,5h", "1_0", "1e", "0x", "--1", "1.2.3", "1s\n", "five",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_DURATIONS)
def test_what_is_not_a_duration_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(FormatError, match="Flux Standard Duration") as caught:
        parse_duration(text)
    assert caught.value.text == text


@pytest.mark.parametrize("text", ["-1", "-1.5h", "-0x10"])
def test_of_a_negative_duration_the_sign_is_said(text: str) -> None:
    with pytest.raises(FormatError, match="and not negative"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["-x", "-", "5x", "--1"])
def test_of_what_is_no_duration_no_sign_is_said(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_duration(text)
    assert "negative" not in str(caught.value)


@pytest.mark.parametrize("text", ["0x.", "0x.s", "0x1.2.3", "0x1p99999", "0x..1h"])
def test_malformed_hexadecimal_is_not_a_duration(text: str) -> None:
    with pytest.raises(FormatError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["٣", "٣s", "1٣m"])
def test_digits_of_other_scripts_are_not_a_duration(text: str) -> None:
    with pytest.raises(FormatError):
        parse_duration(text)


@given(
    st.decimals(0, 10**6, allow_nan=False, places=3),
    st.sampled_from([("ms", "0.001"), ("s", "1"), ("", "1"), ("m", "60"), ("h", "3600"),
                     ("d", "86400")]),
)  # fmt: skip
@unhurried
def test_a_number_and_a_unit_are_multiplied(number: object, unit: tuple[str, str]) -> None:
    exact = Fraction(str(number)) * Fraction(unit[1])
    assert parse_duration(f"{number}{unit[0]}") == pytest.approx(float(exact), rel=1e-12)


@given(st.text("0123456789.eE+-xXpaf smhdin", max_size=10) | st.text(max_size=8))
@unhurried
def test_any_text_is_a_duration_or_a_format_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except FormatError:
        return
    except ValueError:
        assert text[:2].lower() == "0x"  # see the test of malformed hexadecimal
        return
    assert isinstance(seconds, float)
    assert seconds >= 0


@given(st.floats(1e-6, 1e8).map(repr), st.sampled_from(["", "ms", "s", "m", "h", "d"]))
@unhurried
def test_durations_are_read_as_flux_does(number: str, unit: str) -> None:
    util = pytest.importorskip("flux.util")
    theirs = util.parse_fsd(number + unit)  # to the microsecond
    assert parse_duration(number + unit) == pytest.approx(theirs, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.002, "0.002s"), (1.5, "1.5s"), (59, "59s"), (60, "1m"), (90, "1m30s"),
     (3600, "1h"), (5400, "1h30m"), (3661, "1h1m"), (86400, "1d"), (90000, "1d1h"),
     (86460, "1d"), (10 * 86400, "10d"), (3599.6, "1h"), (math.inf, "inf")],
)  # fmt: skip
def test_a_duration_is_written_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_just_below_a_minute_is_written_as_a_minute() -> None:
    assert format_duration(59.99) == "1m"


@given(st.integers(0, 10**7))
@unhurried
def test_a_written_duration_is_no_further_off_than_its_smaller_unit(seconds: int) -> None:
    text, total, digits = format_duration(seconds), 0, ""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    written = []
    for letter in text:
        if letter in units:
            total += int(digits) * units[letter]
            written.append(units[letter])
            digits = ""
        else:
            digits += letter
    assert not digits
    assert written == sorted(written, reverse=True)
    assert len(written) <= 2
    smaller = {86400: 3600, 3600: 60, 60: 1, 1: 1}[written[0]]
    assert 0 <= seconds - total < smaller or seconds == total


# --- byte sizes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512", 512), ("512B", 512), ("1K", 1024), ("1KiB", 1024), ("1KB", 1000),
     ("4GB", 4 * 10**9), ("4GiB", 4 * 2**30), ("4G", 4 * 2**30), ("16MB", 16 * 10**6),
     ("1.5GiB", 3 * 2**29), ("1.5GB", 1_500_000_000), (".5K", 512), ("2.K", 2048), ("1TiB", 2**40),
     ("1PB", 10**15), ("1EiB", 2**60), ("4gib", 4 * 2**30), ("4gb", 4 * 10**9), (" 4 GiB ", 2**32),
     ("1.0", 1)],
)  # fmt: skip
def test_a_byte_size_is_read_with_its_unit(text: str, size: int) -> None:
    parsed = parse_bytes(text)
    assert parsed == size
    assert type(parsed) is int


@pytest.mark.parametrize(
    "text",
    ["", " ", "B", "GB", "-1", "-1GB", "+1", "1ZB", "1GiBs", "1 G B", "1,5GB", "1e3", "0x10",
     "nan", "inf", "1..5", "four", "1_000"],
)  # fmt: skip
def test_what_is_not_a_byte_size_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(FormatError, match="byte size") as caught:
        parse_bytes(text)
    assert caught.value.text == text


@pytest.mark.parametrize("text", ["1.5", "0.5B", "1.0005KB", "0.1KiB", "0.0001"])
def test_a_size_that_is_not_a_whole_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 400 + ".5", "9" * 400 + ".0GB"])
def test_an_absurdly_long_number_is_not_a_byte_size(text: str) -> None:
    with pytest.raises(FormatError):
        parse_bytes(text)


@given(st.integers(0, 999_999), st.sampled_from([("MB", 10**6), ("TB", 10**12), ("EB", 10**18)]))
@example(1_100_000, ("EB", 10**18))
@unhurried
def test_a_fraction_of_a_unit_is_exact_to_the_byte(millionths: int, unit: tuple[str, int]) -> None:
    text = f"{millionths // 10**6}.{millionths % 10**6:06d}{unit[0]}"
    assert parse_bytes(text) == millionths * unit[1] // 10**6


def test_a_thousandth_of_a_kilobyte_is_a_byte() -> None:
    assert parse_bytes("1.001KB") == 1001


@given(st.integers(0, 2**62), st.sampled_from(["", "B", "K", "KB", "KiB", "M", "MB", "GiB", "TB"]))
@unhurried
def test_a_whole_number_of_units_is_exact(number: int, unit: str) -> None:
    base = 1000 if len(unit) == 2 else 1024
    power = "KMGT".find(unit[:1]) + 1 if unit[:1] in "KMGT" and unit else 0
    assert parse_bytes(f"{number}{unit}") == number * base**power


@given(st.text("0123456789.eKMGTPEiB -", max_size=10) | st.text(max_size=8))
@unhurried
def test_any_text_is_a_byte_size_or_a_format_error(text: str) -> None:
    try:
        size = parse_bytes(text)
    except FormatError:
        return
    assert type(size) is int
    assert size >= 0


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1, "1B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (2**30, "1GiB"),
     (5 * 2**40, "5TiB"), (2**60, "1EiB"), (2**20 - 2**10, "1023KiB")],
)  # fmt: skip
def test_a_size_is_written_in_its_largest_binary_unit(size: int, text: str) -> None:
    assert format_bytes(size) == text


@given(st.integers(1, 1023), st.integers(0, 6))
@unhurried
def test_a_written_size_is_read_back(number: int, power: int) -> None:
    assert parse_bytes(format_bytes(number * 1024**power)) == number * 1024**power
