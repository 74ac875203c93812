from __future__ import annotations

import copy
import dataclasses
import enum
import json
import math
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fluxburst.config.aliases import accept_aliases
from fluxburst.config.parameters import RESERVED, Value, build, describe, variables
from fluxburst.errors import ParameterError
from fluxburst.formats.units import ByteSize, Duration

unhurried = settings(deadline=None)


MINUTE, GIB = Duration(60.0), ByteSize(2**30)


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


@dataclass
class Pool:
    name: str
    size: int = 1
    wait: Duration = MINUTE
    disk: Optional[ByteSize] = None  # noqa: UP045


@dataclass
class Everything:
    flag: bool = False
    number: int = 1
    ratio: float = 0.5
    word: str = "w"
    place: Path = Path("/here")
    perhaps: Optional[int] = 7  # noqa: UP045
    maybe: int | None = None
    choice: Literal["slow", "fast"] = "slow"
    step: Literal[1, 2, 4] = 1
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    numbers: list[int] = field(default_factory=list)
    words: list[str] = field(default_factory=lambda: ["a"])
    waits: list[Duration] = field(default_factory=list)
    unique: frozenset[int] = frozenset()
    pools: list[Pool] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    pool: Pool = field(default_factory=lambda: Pool("main"))
    wait: Duration = MINUTE
    memory: ByteSize = GIB


def of(field_name: str, **sources: Any) -> Any:
    built = build("demo", Everything, environ=sources.pop("environ", {}), **sources)
    return getattr(built, field_name)


def from_config(name: str, value: Any) -> Any:
    return of(name, config={name: value}, config_source="fluxburst.toml [plugins.demo]")


def from_environment(name: str, text: str) -> Any:
    return of(name, environ={f"FLUXBURST_DEMO_{name.upper()}": text})


def from_object(name: str, value: Any) -> Any:
    return of(name, given=dataclasses.replace(Everything(), **{name: value}))


def same(value: Any, expected: Any) -> bool:
    return bool(value == expected) and type(value) is type(expected)


# --- every type, from every source ---------------------------------------------------------

# Right values, as they stand in a config file and in an object: (field, given, built).
TYPED = [
    ("flag", True, True),
    ("number", 5, 5), ("number", -5, -5), ("number", 0, 0),
    ("ratio", 2.5, 2.5), ("ratio", 2, 2.0), ("ratio", math.inf, math.inf),
    ("word", "x", "x"), ("word", "", ""), ("word", "5", "5"),
    ("place", "/tmp/x", Path("/tmp/x")), ("place", Path("/tmp/x"), Path("/tmp/x")),
    ("place", "a/b", Path("a/b")),
    ("perhaps", 5, 5), ("perhaps", None, None), ("maybe", 5, 5),
    ("choice", "fast", "fast"), ("step", 4, 4),
    ("colour", "b", Colour.BLUE), ("colour", "BLUE", Colour.BLUE), ("colour", "blue", Colour.BLUE),
    ("colour", Colour.BLUE, Colour.BLUE),
    ("level", 2, Level.HIGH), ("level", "HIGH", Level.HIGH), ("level", Level.HIGH, Level.HIGH),
    ("numbers", [1, 2], [1, 2]), ("numbers", [], []), ("numbers", (1, 2), [1, 2]),
    ("words", ["x", "y"], ["x", "y"]), ("words", [], []),
    ("waits", ["5m", 2], [Duration(300.0), Duration(2.0)]),
    ("unique", [1, 1, 2], frozenset({1, 2})),
    ("pools", [{"name": "a"}, {"name": "b", "size": 3, "wait": "5m", "disk": "1GiB"}],
     [Pool("a"), Pool("b", 3, Duration(300.0), ByteSize(2**30))]),
    ("pools", [Pool("a")], [Pool("a")]),
    ("sizes", {"a": 1}, {"a": 1}), ("sizes", {}, {}),
    ("pool", {"name": "x", "disk": 5}, Pool("x", disk=ByteSize(5))), ("pool", Pool("x"), Pool("x")),
    ("wait", "5m", 300.0), ("wait", 90, 90.0), ("wait", 1.5, 1.5), ("wait", "inf", math.inf),
    ("memory", "4GiB", 4 * 2**30), ("memory", "4GB", 4 * 10**9), ("memory", 512, 512),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "built"), TYPED, ids=repr)
def test_a_right_value_in_the_config_is_built(name: str, given: Any, built: Any) -> None:
    assert same(from_config(name, given), built)


@pytest.mark.parametrize(("name", "given", "built"), TYPED, ids=repr)
def test_a_right_value_in_the_object_is_built(name: str, given: Any, built: Any) -> None:
    assert same(from_object(name, given), built)


TEXTS = [
    *(("flag", text, True) for text in ("1", "true", "True", "TRUE", "yes", "on", " true ")),
    *(("flag", text, False) for text in ("0", "false", "False", "FALSE", "no", "off")),
    ("number", "5", 5), ("number", "-5", -5), ("number", " 5 ", 5),
    ("ratio", "2.5", 2.5), ("ratio", "2", 2.0), ("ratio", "1e3", 1000.0),
    ("word", "x", "x"), ("word", "", ""), ("word", " 5, ", " 5, "), ("word", "false", "false"),
    ("place", "/tmp/x", Path("/tmp/x")),
    ("perhaps", "5", 5), ("perhaps", "", None), ("maybe", "5", 5), ("maybe", "", None),
    ("choice", "fast", "fast"), ("step", "4", 4),
    ("colour", "b", Colour.BLUE), ("colour", "BLUE", Colour.BLUE), ("colour", "Blue", Colour.BLUE),
    ("level", "2", Level.HIGH), ("level", "high", Level.HIGH),
    ("numbers", "1,2", [1, 2]), ("numbers", "[1, 2]", [1, 2]), ("numbers", " 1 , 2 ", [1, 2]),
    ("numbers", "", []), ("numbers", "[]", []), ("numbers", "3", [3]),
    ("words", "x,y", ["x", "y"]), ("words", '["x,y", "z"]', ["x,y", "z"]), ("words", "", []),
    ("waits", "5m,2", [Duration(300.0), Duration(2.0)]),
    ("waits", '["5m", 2]', [Duration(300.0), Duration(2.0)]),
    ("unique", "1,1,2", frozenset({1, 2})),
    ("pools", '[{"name": "a", "size": 2, "wait": "5m"}]', [Pool("a", 2, Duration(300.0))]),
    ("sizes", '{"a": 1}', {"a": 1}), ("sizes", "{}", {}),
    ("pool", '{"name": "x", "disk": "1KiB"}', Pool("x", disk=ByteSize(1024))),
    ("wait", "5m", 300.0), ("wait", "90", 90.0), ("wait", "1.5h", 5400.0),
    ("memory", "4GiB", 4 * 2**30), ("memory", "512", 512),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "built"), TEXTS, ids=repr)
def test_a_right_text_in_the_environment_is_built(name: str, text: str, built: Any) -> None:
    assert same(from_environment(name, text), built)


def test_a_path_may_start_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert from_environment("place", "~/x") == Path("/home/someone/x")
    assert from_config("place", "~/x") == Path("/home/someone/x")


def each(name: str, expected: str, *values: Any) -> list[tuple[str, Any, str]]:
    return [(name, value, expected) for value in values]


# Wrong values: (field, given, what must be said to have been expected).
WRONG_TYPED = [
    *each("flag", "true or false", 1, 0, "true", None, []),
    *each("number", "integer", "5", 5.0, True, None, [5]),
    *each("ratio", "number", "0.5", True, None),
    *each("word", "text", 5, True, None, ["x"]),
    *each("place", "path", 5, None, "", ["x"]),
    *each("perhaps", "integer", "5", 5.5, True),
    ("maybe", "5", "integer"),
    *each("choice", "one of slow, fast", "medium", 1, None, "SLOW"),
    *each("step", "one of 1, 2, 4", 3, "1", True, 1.0),
    *each("colour", "one of r, b", "green", 1, None, []),
    *each("level", "one of 1, 2", 3, "MIDDLE", None),
    *each("numbers", "list of integer", "1,2", 5, None, {}),
    *each("numbers", "integer", ["1"], [1, None], [True], [[1]]),
    *each("words", "list of text", "a,b", 5),
    ("waits", ["soon"], "Flux Standard Duration"),
    *each("pools", "list of", {"name": "a"}, "a"),
    *each("pools", "expected", [5], ["a"], [{"name": 5}], [{"name": "a", "size": "x"}]),
    ("pools", [{"name": "a", "wait": "soon"}], "wait: expected a Flux Standard Duration"),
    ("pools", [{"size": 5}], "lacks 'name'"),
    ("pools", [{"name": "a", "sise": 5}], "unknown key 'sise'; did you mean 'size'?"),
    *each("sizes", "table of integer", [], "a=1", 5),
    ("sizes", {"a": "1"}, "integer"),
    ("pool", {"name": "a", "size": 1.5}, "size: expected integer"),
    *each("pool", "expected", 5, "x", None),
    *each("wait", "duration (30s, 5m, 1.5h), and not negative", -1, -0.5),
    *each("wait", "duration", True, None, [], math.nan),
    *each("wait", "Flux Standard Duration", "soon", "-5", "", "5 minutes"),
    *each("memory", "byte size", -1, 1.5, True, None, "many", "4XB", ""),
]  # fmt: skip


def told(error: ParameterError, name: str, source: str, expected: str) -> None:
    [problem] = error.problems
    assert (problem.field, problem.source) == (name, source)
    for part in ("plugin demo", name, source, expected):
        assert part in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(("name", "given", "expected"), WRONG_TYPED, ids=repr)
def test_a_wrong_value_in_the_config_is_told_in_full(name: str, given: Any, expected: str) -> None:
    with pytest.raises(ParameterError) as caught:
        from_config(name, given)
    told(caught.value, name, "fluxburst.toml [plugins.demo]", expected)
    assert repr(given) in str(caught.value)


def equals_default(name: str, value: object) -> bool:
    return bool(getattr(Everything(), name) == value)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [case for case in WRONG_TYPED if not equals_default(case[0], case[1])],
    ids=repr,
)
def test_a_wrong_value_in_the_object_is_told_in_full(name: str, given: Any, expected: str) -> None:
    with pytest.raises(ParameterError) as caught:
        from_object(name, given)
    told(caught.value, name, "the object passed to load", expected)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [case for case in WRONG_TYPED if equals_default(case[0], case[1])],
    ids=repr,
)
def test_a_wrong_value_that_equals_the_default_is_refused_too(
    name: str, given: Any, expected: str
) -> None:
    with pytest.raises(ParameterError, match=expected):
        from_object(name, given)


WRONG_TEXTS = [
    *each("flag", "true or false", "2", "", "maybe", "tru"),
    *each("number", "integer", "five", "", "5.0", "1e3", "0x5", "9" * 5000),
    *each("ratio", "number", "half", "", "1/2"),
    ("place", "", "path"),
    ("perhaps", "five", "integer"),
    *each("choice", "one of slow, fast", "medium", "", "FAST"),
    *each("step", "one of 1, 2, 4", "3", "", "one"),
    *each("colour", "one of r, b", "green", ""),
    *each("level", "one of 1, 2", "3", "middle"),
    *each("numbers", "integer", "1,x", "1,,2", '["x"]', "[1.5]"),
    *each("numbers", "list of integer, as JSON", "[1,", "[1 2]", "["),
    ("waits", "5m,soon", "Flux Standard Duration"),
    *each("pools", "expected", "a", "[5]", '[{"name": 5}]', "[{]"),
    ("pools", '[{"size": 5}]', "lacks 'name'"),
    *each("sizes", "table of integer, as JSON", "a=1", "", "{"),
    *each("sizes", "table of integer", "[]", "5", "null"),
    ("sizes", '{"a": "x"}', "integer"),
    *each("pool", "expected", "x", "[]", "5", ""),
    *each("wait", "Flux Standard Duration", "soon", "", "-5"),
    *each("memory", "byte size", "many", "", "-5", "4XB"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "expected"), WRONG_TEXTS, ids=lambda v: repr(v)[:30])
def test_a_wrong_text_in_the_environment_is_told_in_full(
    name: str, text: str, expected: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        from_environment(name, text)
    told(caught.value, name, f"environment variable FLUXBURST_DEMO_{name.upper()}", expected)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wait", "0x1p99999"),
        ("memory", "9" * 400 + ".5"),
        ("place", "~no-such-user-anywhere/x"),
        ("numbers", "[" * 100_000),
    ],
    ids=lambda v: v[:12],
)
def test_a_text_that_breaks_its_conversion_is_a_parameter_error(name: str, text: str) -> None:
    with pytest.raises(ParameterError):
        from_environment(name, text)


@pytest.mark.parametrize(("name", "text"), [("wait", "0x."), ("memory", "9" * 5000)])
def test_a_text_that_breaks_its_conversion_is_told_in_full(name: str, text: str) -> None:
    with pytest.raises(ParameterError, match="expected"):
        from_environment(name, text)


@pytest.mark.parametrize(
    ("name", "value"),
    [("pool", Pool(5)), ("pool", Pool("a", size="x")), ("pools", [Pool("a", wait="soon")])],  # type: ignore[arg-type]
)
def test_a_wrong_value_in_a_nested_object_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ParameterError):
        from_object(name, value)


def test_a_value_in_a_nested_object_is_converted() -> None:
    assert from_object("pool", Pool("a", wait="5m")).wait == 300.0  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [True, 1.0])
def test_a_bool_is_not_a_member_of_an_enum_of_integers(value: object) -> None:
    with pytest.raises(ParameterError):
        from_config("level", value)


@dataclass
class Strange:
    either: int | str = 1
    pair: tuple[int, str] = (1, "a")
    bare: list = field(default_factory=list)  # type: ignore[type-arg]
    when: complex = 1j


@pytest.mark.parametrize(("name", "value"), [("either", 1), ("either", "x"), ("when", 2)])
def test_a_field_of_any_type_is_built_or_refused_by_name(name: str, value: object) -> None:
    try:
        built = build("demo", Strange, config={name: value}, environ={})
    except ParameterError as error:
        assert error.problems[0].field == name  # noqa: PT017
        return
    assert getattr(built, name) == value


def test_a_tuple_of_several_types_is_built() -> None:
    assert build("demo", Strange, config={"pair": [2, "b"]}, environ={}).pair == (2, "b")


def test_a_text_is_not_a_list_of_letters() -> None:
    with pytest.raises(ParameterError):
        build("demo", Strange, config={"bare": "abc"}, environ={})


# --- text → value, for any value -----------------------------------------------------------


@given(st.integers())
@unhurried
def test_any_integer_is_read_back_from_its_text(value: int) -> None:
    assert same(from_environment("number", str(value)), value)


@given(st.floats(allow_nan=False))
@unhurried
def test_any_number_is_read_back_from_its_text(value: float) -> None:
    assert same(from_environment("ratio", repr(value)), value)


@given(st.text())
@unhurried
def test_any_text_is_read_back_as_it_is(value: str) -> None:
    assert from_environment("word", value) == value


@given(st.lists(st.integers()))
@unhurried
def test_any_list_of_integers_is_read_back_from_json_and_from_commas(value: list[int]) -> None:
    assert from_environment("numbers", json.dumps(value)) == value
    assert from_environment("numbers", ",".join(map(str, value))) == value


@given(st.lists(st.text()))
@unhurried
def test_any_list_of_texts_is_read_back_from_json(value: list[str]) -> None:
    assert from_environment("words", json.dumps(value)) == value


@given(st.dictionaries(st.text(), st.integers()))
@unhurried
def test_any_table_is_read_back_from_json(value: dict[str, int]) -> None:
    assert from_environment("sizes", json.dumps(value)) == value


@given(st.builds(Pool, st.text(), st.integers(), st.floats(0, 1e9), st.none() | st.integers(0)))
@unhurried
def test_any_nested_dataclass_is_read_back_from_json(value: Pool) -> None:
    assert from_environment("pool", json.dumps(dataclasses.asdict(value))) == value
    assert from_config("pools", [dataclasses.asdict(value)]) == [value]


@given(st.floats(0, 1e12))
@unhurried
def test_any_duration_is_read_back_from_its_seconds(value: float) -> None:
    assert from_environment("wait", repr(value)) == value


@given(
    st.sampled_from([f.name for f in dataclasses.fields(Everything)]),
    st.text(max_size=8) | st.text('0123456789.eE-+[]{}",: smhdGiB', max_size=10),
)
@example("place", "~no-such-user-anywhere")
@unhurried
def test_any_text_is_a_value_or_a_parameter_error(name: str, text: str) -> None:
    try:
        from_environment(name, text)
    except ParameterError as error:
        assert {problem.field for problem in error.problems} == {name}  # noqa: PT017


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(st.sampled_from([f.name for f in dataclasses.fields(Everything)]), json_values)
@example("place", "~no-such-user-anywhere")
@unhurried
def test_any_value_in_a_config_is_built_or_a_parameter_error(name: str, value: object) -> None:
    before = copy.deepcopy(value)
    try:
        from_config(name, value)
    except ParameterError as error:
        assert {problem.field for problem in error.problems} == {name}  # noqa: PT017
    assert repr(value) == repr(before), "what was given is not changed"


# --- which source counts -------------------------------------------------------------------

SOURCES = ["default", "config", "object", "general", "own"]


def with_sources(*present: str) -> int:
    environ = {}
    if "general" in present:
        environ["FLUXBURST_NUMBER"] = "40"
    if "own" in present:
        environ["FLUXBURST_DEMO_NUMBER"] = "50"
    built = build(
        "demo",
        Everything,
        config={"number": 20} if "config" in present else {},
        given=Everything(number=30) if "object" in present else None,
        environ=environ,
    )
    return built.number


@pytest.mark.parametrize("stronger", SOURCES)
@pytest.mark.parametrize("weaker", SOURCES)
def test_of_two_sources_the_stronger_counts(weaker: str, stronger: str) -> None:
    value = {"default": 1, "config": 20, "object": 30, "general": 40, "own": 50}
    strongest = max((weaker, stronger), key=SOURCES.index)
    assert with_sources(weaker, stronger) == value[strongest]


def test_all_sources_together_give_the_strongest() -> None:
    assert with_sources(*SOURCES) == 50


def test_a_field_of_the_object_that_has_its_default_counts_as_not_given() -> None:
    assert of("number", config={"number": 20}, given=Everything(number=1)) == 20
    assert of("words", config={"words": ["b"]}, given=Everything()) == ["b"]
    assert of("words", config={"words": ["b"]}, given=Everything(words=[])) == []


def test_each_field_is_taken_from_its_own_source() -> None:
    built = build(
        "demo",
        Everything,
        config={"number": 20, "word": "config"},
        given=Everything(word="object", ratio=3.5),
        environ={"FLUXBURST_RATIO": "4.5", "FLUXBURST_DEMO_FLAG": "yes"},
    )
    assert (built.number, built.word, built.ratio, built.flag) == (20, "object", 4.5, True)


def test_what_a_weaker_source_got_wrong_does_not_matter() -> None:
    assert of("number", config={"number": "wrong"}, environ={"FLUXBURST_NUMBER": "5"}) == 5


def test_a_variable_that_is_empty_is_given_all_the_same() -> None:
    assert of("word", config={"word": "x"}, environ={"FLUXBURST_WORD": ""}) == ""


def test_variables_of_another_plugin_are_not_read() -> None:
    environ = {"FLUXBURST_OTHER_NUMBER": "9", "NUMBER": "9", "fluxburst_number": "9"}
    assert of("number", environ=environ) == 1


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXBURST_DEMO_NUMBER", "77")
    assert build("demo", Everything).number == 77


def test_the_variables_of_a_plugin_with_hyphens_have_underscores() -> None:
    assert variables("my-cloud", "size") == ("FLUXBURST_MY_CLOUD_SIZE", "FLUXBURST_SIZE")
    built = build("my-cloud", Everything, environ={"FLUXBURST_MY_CLOUD_NUMBER": "5"})
    assert built.number == 5


@dataclass
class Clashing:
    block: str = ""
    config: str = ""
    state_dir: str = ""


def test_variables_of_fluxburst_itself_are_not_taken_for_parameters() -> None:
    environ = {f"FLUXBURST_{name}": "theirs" for name in RESERVED}
    assert build("demo", Clashing, environ=environ) == Clashing()
    assert {"BLOCK", "CONFIG", "STATE_DIR"} <= RESERVED
    own = {f"FLUXBURST_DEMO_{name}": "mine" for name in RESERVED}
    assert build("demo", Clashing, environ=environ | own) == Clashing("mine", "mine", "mine")
    assert variables("demo", "block") == ("FLUXBURST_DEMO_BLOCK",)


# --- the caller's object -------------------------------------------------------------------


def test_the_object_of_the_caller_is_never_changed() -> None:
    mine = Everything(number=5, numbers=[1], sizes={"a": 1}, pools=[Pool("a")], wait="5m")  # type: ignore[arg-type]
    before = copy.deepcopy(mine)
    environ = {"FLUXBURST_NUMBER": "9", "FLUXBURST_NUMBERS": "1,2", "FLUXBURST_SIZES": "{}"}
    built = build("demo", Everything, config={"word": "x"}, given=mine, environ=environ)
    assert mine == before
    assert built is not mine
    assert (built.number, built.word, built.wait) == (9, "x", 300.0)


def test_lists_and_tables_are_not_shared_with_the_object_of_the_caller() -> None:
    mine = Everything(numbers=[1], sizes={"a": 1}, pools=[Pool("a")])
    built = build("demo", Everything, given=mine, environ={})
    built.numbers.append(2)
    built.sizes["b"] = 2
    built.pools.append(Pool("b"))
    assert (mine.numbers, mine.sizes, mine.pools) == ([1], {"a": 1}, [Pool("a")])


def test_nested_objects_are_not_shared_with_the_object_of_the_caller() -> None:
    mine = Everything(pool=Pool("a"))
    built = build("demo", Everything, given=mine, environ={})
    built.pool.size = 99
    assert mine.pool.size == 1


@pytest.mark.parametrize("given", [{"number": 5}, "x", 5, Pool("a"), Everything])
def test_an_object_of_another_class_is_refused_by_both_names(given: Any) -> None:
    with pytest.raises(ParameterError, match=r"expected an object of .*Everything, got ") as caught:
        build("demo", Everything, given=given, environ={})
    assert caught.value.problems[0].source == "the object passed to load"


def test_an_object_of_a_subclass_will_do() -> None:
    @dataclass
    class More(Everything):
        extra: int = 1

    built = build("demo", Everything, given=More(number=5), environ={})
    assert built.number == 5


# --- problems ------------------------------------------------------------------------------


@dataclass
class Needy:
    project: str
    region: str
    size: int = 1


def test_a_required_parameter_that_is_missing_says_where_to_set_it() -> None:
    with pytest.raises(ParameterError) as caught:
        build("my-cloud", Needy, config={"region": "north"}, environ={})
    [problem] = caught.value.problems
    assert problem.field == "project"
    for part in ("required", "config", "FLUXBURST_MY_CLOUD_PROJECT", "FLUXBURST_PROJECT"):
        assert part in problem.reason


def test_a_required_parameter_may_come_from_any_source() -> None:
    built = build("p", Needy, config={"region": "n"}, environ={"FLUXBURST_PROJECT": "x"})
    assert built == Needy("x", "n")
    assert build("p", Needy, given=Needy("x", "n"), environ={}) == Needy("x", "n")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ParameterError) as caught:
        build(
            "demo",
            Needy,
            config={"size": "big", "regoin": "north", "zzz": 1},
            config_source="here.toml",
            environ={"FLUXBURST_DEMO_SIZE": "big"},
        )
    fields = sorted(problem.field for problem in caught.value.problems)
    assert fields == ["project", "region", "regoin", "size", "zzz"]
    for name in fields:
        assert name in str(caught.value)


def test_all_problems_within_one_value_are_told_at_once() -> None:
    with pytest.raises(ParameterError) as caught:
        from_config("pool", {"name": 5, "size": "x", "wait": "soon"})
    text = str(caught.value)
    assert all(part in text for part in ("name: expected", "size: expected", "wait: expected"))


def test_an_unknown_key_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ParameterError, match="is not a parameter; did you mean 'number'") as caught:
        build("demo", Everything, config={"numbr": 5}, config_source="here.toml", environ={})
    [problem] = caught.value.problems
    assert (problem.field, problem.source) == ("numbr", "here.toml")


def test_an_unknown_key_that_is_near_to_nothing_suggests_nothing() -> None:
    with pytest.raises(ParameterError) as caught:
        build("demo", Everything, config={"xyzzy_42": 5}, environ={})
    assert "did you mean" not in str(caught.value)


@accept_aliases
@dataclass
class Renamed:
    disk: int = field(default=1, metadata={"help": "the disk", "aliases": ("disk_gb", "block")})
    other: int = 0


@pytest.mark.parametrize("name", ["disk", "disk_gb", "block"])
def test_a_parameter_can_be_set_by_each_of_its_names(name: str) -> None:
    own = {f"FLUXBURST_DEMO_{name.upper()}": "5"}
    assert build("demo", Renamed, config={name: 5}, environ={}).disk == 5
    assert build("demo", Renamed, environ=own).disk == 5
    made = Renamed(**{name: 5})
    assert build("demo", Renamed, given=made, environ={}).disk == 5
    assert getattr(made, name) == 5
    setattr(made, name, 6)
    assert made == Renamed(disk=6)


def test_a_variable_for_all_plugins_may_have_a_former_name_unless_that_is_reserved() -> None:
    general = {"FLUXBURST_DISK_GB": "5"}
    assert build("demo", Renamed, environ=general).disk == 5
    assert build("demo", Renamed, environ={"FLUXBURST_BLOCK": "5"}).disk == 1
    for stronger in ("FLUXBURST_DISK", "FLUXBURST_DEMO_DISK_GB"):
        assert build("demo", Renamed, environ={**general, stronger: "7"}).disk == 7
    [disk, _] = describe("demo", Renamed, environ=general)
    assert (disk.value, disk.source) == ("5", "environment variable FLUXBURST_DISK_GB")
    assert set(general) < set(disk.environment)


def test_the_environment_is_stronger_than_the_config_whatever_the_names() -> None:
    made = build("demo", Renamed, config={"disk": 1}, environ={"FLUXBURST_DEMO_DISK_GB": "5"})
    assert made.disk == 5


@pytest.mark.parametrize("names", [("disk", "disk_gb"), ("disk_gb", "disk"), ("disk_gb", "block")])
def test_two_names_of_one_parameter_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(ParameterError, match="name the same parameter: set only disk") as caught:
        build("demo", Renamed, config=dict.fromkeys(names, 5), config_source="here", environ={})
    [problem] = caught.value.problems
    assert (problem.field, problem.source) == (names[1], "here")
    if "disk" in names:
        with pytest.raises(TypeError, match="former name of disk"):
            Renamed(**dict.fromkeys(names, 5))


def test_a_wrong_value_is_told_of_the_parameter_whatever_the_name() -> None:
    with pytest.raises(ParameterError) as caught:
        build("demo", Renamed, config={"disk_gb": "x"}, config_source="here", environ={})
    [problem] = caught.value.problems
    assert (problem.field, problem.source) == ("disk", "here")


@dataclass
class Combined:
    low: int = 1
    high: int = 5

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low must not be above high")


def test_a_combination_that_the_dataclass_refuses_is_a_parameter_error() -> None:
    with pytest.raises(ParameterError, match="low must not be above high") as caught:
        build("demo", Combined, config={"low": 9}, environ={})
    assert caught.value.plugin == "demo"
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_combination_is_looked_at_with_all_sources_in_place() -> None:
    assert build("demo", Combined, config={"low": 9}, environ={"FLUXBURST_HIGH": "10"}).low == 9


def test_parameters_that_are_no_dataclass_are_refused() -> None:
    with pytest.raises(ParameterError, match="is not a dataclass"):
        build("demo", dict, environ={})


# --- secrets -------------------------------------------------------------------------------

SECRET = "hunter2"


@dataclass
class Inner:
    user: str = ""
    password: str = field(default="", metadata={"secret": True})
    port: int = 1


@dataclass
class Guarded:
    token: str = field(default="", metadata={"secret": True, "help": "from the console"})
    pin: int = field(default=0, metadata={"secret": True})
    keys: list[int] = field(default_factory=list, metadata={"secret": True})
    ttl: Duration = field(default=Duration(1), metadata={"secret": True})
    size: ByteSize = field(default=ByteSize(1), metadata={"secret": True})
    mode: Literal["a", "b"] = field(default="a", metadata={"secret": True})
    shade: Colour = field(default=Colour.RED, metadata={"secret": True})
    table: dict[str, int] = field(default_factory=dict, metadata={"secret": True})
    home: Path = field(default=Path(), metadata={"secret": True})
    inner: Inner = field(default_factory=Inner)
    open: int = 1


def everything_shown(error: ParameterError) -> str:
    parts = [str(error), repr(error), repr(error.problems), repr(error.args)]
    return "\n".join([*parts, *traceback.format_exception(error)])


SECRET_FIELDS = [
    f.name for f in dataclasses.fields(Guarded) if f.metadata.get("secret") and f.name != "token"
]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (name, wrong)
        for name in SECRET_FIELDS
        for wrong in (SECRET, [SECRET], f"[{SECRET}", f'["{SECRET}"]')
        if name != "home" or isinstance(wrong, list)  # any text is a path
    ],
)
def test_a_secret_that_is_wrong_is_not_in_the_error(name: str, wrong: Any) -> None:
    sources: dict[str, Any]
    for sources in (
        {"config": {name: wrong}, "environ": {}},
        {"given": Guarded(**{name: wrong}), "environ": {}},
        {"environ": {f"FLUXBURST_DEMO_{name.upper()}": str(wrong)}},
        {"environ": {f"FLUXBURST_{name.upper()}": str(wrong)}},
    ):
        if name == "home" and set(sources) == {"environ"}:
            continue
        with pytest.raises(ParameterError) as caught:
            build("demo", Guarded, **sources)
        assert name in str(caught.value)
        assert SECRET not in everything_shown(caught.value)


def test_a_secret_that_is_right_is_not_in_the_error_of_another_field() -> None:
    with pytest.raises(ParameterError) as caught:
        build("demo", Guarded, config={"token": SECRET, "open": "x"}, environ={})
    assert SECRET not in everything_shown(caught.value)


def test_a_secret_table_with_a_secret_key_is_not_in_the_error() -> None:
    with pytest.raises(ParameterError) as caught:
        build("demo", Guarded, config={"table": {SECRET: SECRET}}, environ={})
    assert SECRET not in everything_shown(caught.value)


def test_a_nested_secret_is_not_in_the_error_of_a_field_beside_it() -> None:
    with pytest.raises(ParameterError) as caught:
        build("demo", Guarded, config={"inner": {"password": SECRET, "port": "high"}}, environ={})
    assert SECRET not in everything_shown(caught.value)


@pytest.mark.parametrize(
    "sources",
    [
        {"config": {"inner": {"password": SECRET}}, "environ": {}},
        {"environ": {"FLUXBURST_DEMO_INNER": f'{{"password": "{SECRET}"}}'}},
    ],
)
def test_a_nested_secret_is_masked_where_it_is_described(sources: dict[str, Any]) -> None:
    assert SECRET not in repr(describe("demo", Guarded, **sources))


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Guarded)][:9])
@pytest.mark.parametrize("value", [SECRET, [SECRET], {"a": SECRET}])
def test_a_secret_is_masked_where_it_is_described(name: str, value: object) -> None:
    sources: dict[str, Any]
    for sources in (
        {"config": {name: value}, "environ": {}},
        {"environ": {f"FLUXBURST_DEMO_{name.upper()}": str(value)}},
    ):
        described = describe("demo", Guarded, **sources)
        assert SECRET not in repr(described)
        assert SECRET not in str([dataclasses.asdict(each) for each in described])
        [one] = [each for each in described if each.field == name]
        assert one.value == "********"


def test_a_secret_default_is_masked_too() -> None:
    @dataclass
    class Careless:
        token: str = field(default=SECRET, metadata={"secret": True})

    [value] = describe("demo", Careless, environ={})
    assert (value.default, value.value) == ("********", "********")
    assert SECRET not in repr(value)


def test_whether_a_secret_is_set_can_be_seen() -> None:
    assert describe("demo", Guarded, environ={})[0].value == ""


# --- describing ----------------------------------------------------------------------------


@dataclass
class Shown:
    project: str = field(metadata={"help": "the project to bill"})
    size: int | None = None
    wait: Duration = MINUTE
    words: list[str] = field(default_factory=lambda: ["a"])


def test_a_parameter_is_described_with_all_that_is_known() -> None:
    values = describe(
        "demo",
        Shown,
        config={"size": 5},
        config_source="here.toml",
        environ={"FLUXBURST_WAIT": "5m"},
    )
    assert values[0] == Value(
        field="project",
        type="text",
        required=True,
        default=None,
        environment=("FLUXBURST_DEMO_PROJECT", "FLUXBURST_PROJECT"),
        help="the project to bill",
        value=None,
        source="",
    )
    told = [(v.field, v.type, v.required, v.default, v.value, v.source) for v in values[1:]]
    assert told == [
        ("size", "integer or none", False, None, 5, "here.toml"),
        (
            "wait",
            "duration (30s, 5m, 1.5h)",
            False,
            60.0,
            "5m",
            "environment variable FLUXBURST_WAIT",
        ),
        ("words", "list of text", False, ["a"], ["a"], "default"),
    ]


def test_describing_shows_values_that_are_wrong() -> None:
    values = describe("demo", Shown, config={"size": "big", "unknown": 1}, environ={})
    assert values[1].value == "big"


@pytest.mark.parametrize(
    ("name", "text"),
    [("flag", "true or false"), ("number", "integer"), ("ratio", "number"), ("word", "text"),
     ("place", "path"), ("perhaps", "integer or none"), ("maybe", "integer or none"),
     ("choice", "one of slow, fast"), ("step", "one of 1, 2, 4"), ("colour", "one of r, b"),
     ("numbers", "list of integer"), ("pools", "list of Pool"), ("sizes", "table of integer"),
     ("wait", "duration (30s, 5m, 1.5h)"), ("memory", "byte size (512MiB, 4GB)")],
)  # fmt: skip
def test_types_are_named_as_a_person_would(name: str, text: str) -> None:
    types = {value.field: value.type for value in describe("demo", Everything, environ={})}
    assert types[name] == text
