from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxburst.config import file as config_file
from fluxburst.config.file import Config
from fluxburst.errors import ConfigError, RequestError

unhurried = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # fmt: skip


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_says_what_it_says(tmp_path: Path) -> None:
    path = written(
        tmp_path / "c.toml",
        """
        block = ["fluxburst-noisy"]
        ordering = "by_price"
        selector = { all = ["burstable", { waited = "5m" }] }

        [plugins.second]
        size = 3

        [plugins.first]
        """,
    )
    loaded = config_file.load(path)
    assert loaded == Config(
        source=str(path),
        block=("fluxburst-noisy",),
        selector={"all": ["burstable", {"waited": "5m"}]},
        ordering="by_price",
        plugins={"second": {"size": 3}, "first": {}},
    )
    assert list(loaded.plugins) == ["second", "first"], "in the order they are written"
    assert loaded.source_of("second") == f"{path} [plugins.second]"


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "c.toml", "# nothing\n")
    assert config_file.load(path) == Config(source=str(path))


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_file.load(path)
    assert caught.value.source == str(path)
    assert isinstance(caught.value, RequestError)
    for part in (str(path), *parts):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["block = ", "= 5", "[plugins", "{}", "a = 1\na = 2", "block: []", "x = 'y", "\x00"]
)
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, text: str) -> None:
    refused(written(tmp_path / "c.toml", text), "is not TOML")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"block = ['\xff\xfe']")
    refused(path, "is not UTF-8 text")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.toml", "cannot be read", "No such file")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "cannot be read", "directory")


def test_a_file_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> str:
        raise PermissionError(13, os.strerror(13))

    path = written(tmp_path / "c.toml", "")
    monkeypatch.setattr(Path, "read_text", forbidden)
    refused(path, "cannot be read", "Permission denied")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("plugin", "plugins"), ("blocked", "block"), ("orderings", "ordering"), ("selecter",
     "selector")],
)  # fmt: skip
def test_an_unknown_key_is_refused_with_the_nearest_name(
    tmp_path: Path, key: str, nearest: str
) -> None:
    path = written(tmp_path / "c.toml", f"{key} = 1")
    refused(path, f"unknown key {key!r}", f"did you mean {nearest!r}?")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("block = 'a'", "'block' must be a list of names"),
        ("block = 5", "'block' must be a list of names"),
        ("block = [1]", "'block' must be a list of names"),
        ("block = ['a', ['b']]", "'block' must be a list of names"),
        ("[block]", "'block' must be a list of names"),
        ("plugins = 5", "'plugins' must be a table of tables"),
        ("plugins = ['mock']", "'plugins' must be a table of tables"),
        ("[[plugins]]", "'plugins' must be a table of tables"),
        ("plugins.mock = true", "'plugins.mock' must be a table, [plugins.mock]"),
        ("[[plugins.mock]]", "'plugins.mock' must be a table, [plugins.mock]"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    refused(written(tmp_path / "c.toml", text), problem)


@given(
    st.binary(max_size=40) | st.text("[]{}=.\"'abc\n pluginsblock1", max_size=40).map(str.encode)
)
@unhurried
def test_any_file_is_a_config_or_a_config_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    try:
        config_file.load(path)
    except ConfigError as error:
        assert error.source == str(path)  # noqa: PT017


@pytest.mark.parametrize("text", ["block = " + "9" * 5000, "block = " + "[" * 50_000])
def test_a_file_that_no_reader_bears_is_refused(tmp_path: Path, text: str) -> None:
    refused(written(tmp_path / "c.toml", text))


# --- where a file is looked for ------------------------------------------------------------


def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    # The two usual places, the second moved from /etc to where a test may write.
    home, system = tmp_path / "xdg/fluxburst/fluxburst.toml", tmp_path / "etc/fluxburst.toml"
    assert config_file.usual_places({"XDG_CONFIG_HOME": str(tmp_path / "xdg")})[0] == home
    monkeypatch.setattr(config_file, "usual_places", lambda environ=None: [home, system])
    return home, system


def test_the_usual_places_are_the_users_and_then_the_systems() -> None:
    system = Path("/etc/fluxburst/fluxburst.toml")
    assert config_file.usual_places({"HOME": "/home/u"}) == [
        Path("/home/u/.config/fluxburst/fluxburst.toml"),
        system,
    ]
    xdg = {"HOME": "/home/u", "XDG_CONFIG_HOME": "/cfg"}
    assert config_file.usual_places(xdg) == [Path("/cfg/fluxburst/fluxburst.toml"), system]
    assert (
        config_file.usual_places({"HOME": "/home/u", "XDG_CONFIG_HOME": ""})[0].parts[1] == "home"
    )


def test_places_are_tried_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, system = places(tmp_path, monkeypatch)
    named = written(tmp_path / "named.toml", "")
    variable = written(tmp_path / "variable.toml", "")
    environ = {"FLUXBURST_CONFIG": str(variable)}
    assert config_file.find(None, {}) == Config(), "no file is no error"
    written(system, "")
    assert config_file.find(None, {}).source == str(system)
    written(home, "")
    assert config_file.find(None, {}).source == str(home)
    assert config_file.find(None, environ).source == str(variable)
    assert config_file.find(named, environ).source == str(named)


def test_a_file_that_was_named_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _ = places(tmp_path, monkeypatch)
    written(home, "")
    missing = tmp_path / "missing.toml"
    for explicit, environ in ((missing, {}), (None, {"FLUXBURST_CONFIG": str(missing)})):
        with pytest.raises(ConfigError) as caught:
            config_file.find(explicit, environ)
        assert caught.value.source == str(missing)


def test_an_empty_variable_names_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, _ = places(tmp_path, monkeypatch)
    written(home, "")
    assert config_file.find(None, {"FLUXBURST_CONFIG": ""}).source == str(home)


def test_a_directory_in_a_usual_place_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, system = places(tmp_path, monkeypatch)
    home.mkdir(parents=True)
    written(system, "")
    assert config_file.find(None, {}).source == str(system)


def test_a_broken_file_in_a_usual_place_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, system = places(tmp_path, monkeypatch)
    written(home, "block = ")
    written(system, "")
    with pytest.raises(ConfigError, match="is not TOML"):
        config_file.find(None, {})


def test_the_environment_of_the_process_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "c.toml", "")
    monkeypatch.setenv("FLUXBURST_CONFIG", str(path))
    monkeypatch.setenv("FLUXBURST_BLOCK", "a,b")
    assert config_file.find(None).source == str(path)
    assert config_file.blocked_by_environment() == ("a", "b")


@pytest.mark.parametrize(
    ("text", "names"),
    [("", ()), ("a", ("a",)), ("a,b", ("a", "b")), (" a , b ", ("a", "b")), (",a,,", ("a",)),
     (" , ", ())],
)  # fmt: skip
def test_blocked_names_are_between_commas(text: str, names: tuple[str, ...]) -> None:
    assert config_file.blocked_by_environment({"FLUXBURST_BLOCK": text}) == names
    assert config_file.blocked_by_environment({}) == ()
