from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from fluxburst.cli import logs

_log = logging.getLogger("fluxburst.executor")


@pytest.fixture(autouse=True)
def _logger_as_before() -> Iterator[None]:
    logger = logging.getLogger("fluxburst")
    handlers, level = logger.handlers, logger.level
    yield
    logger.handlers, logger.level = handlers, level


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_text_is_the_level_and_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(logging.INFO)
    _log.info("burst %s: ready", "b-1", extra={"burst": "b-1", "plugin": "p", "jobs": [1, 2]})
    assert capsys.readouterr().err == "fluxburst: INFO: burst b-1: ready\n"


def test_json_is_one_object_a_line_with_what_the_call_passed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.set_up(logging.INFO, "json")
    _log.info("burst %s: ready\nat last", "b-1", extra={"burst": "b-1", "jobs": [1, 2**63]})
    _log.warning("ƒ2: no", extra={"job": 7, "plugin": "p", "colour": "red"})
    first, second = json_lines(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "level": "INFO",
        "logger": "fluxburst.executor",
        "message": "burst b-1: ready\nat last",
        "burst": "b-1",
        "jobs": [1, 2**63],
    }
    assert second["message"] == "ƒ2: no"
    assert (second["level"], second["job"], second["plugin"]) == ("WARNING", 7, "p")
    assert "colour" not in second
    assert "burst" not in second


def test_json_tells_the_time_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(logging.INFO, "json")
    record = _log.makeRecord(_log.name, logging.INFO, __file__, 1, "then", (), None)
    record.created = 1_700_000_000.5
    _log.handle(record)
    assert json_lines(capsys)[0]["time"] == "2023-11-14T22:13:20.500Z"


def test_json_takes_what_json_has_no_form_for(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(logging.INFO, "json")
    _log.info("x", extra={"jobs": {3}, "burst": ValueError("odd")})
    (line,) = json_lines(capsys)
    assert (line["jobs"], line["burst"]) == ([3], "odd")


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_exception_is_shown(format: logs.Format, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(logging.INFO, format)
    try:
        raise ValueError("broken")
    except ValueError:
        _log.exception("failed")
    if format == "text":
        assert "ValueError: broken" in capsys.readouterr().err
    else:
        (line,) = json_lines(capsys)
        assert line["message"] == "failed"
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("ValueError: broken")


def test_exc_info_without_an_exception_adds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(logging.INFO, "json")
    _log.info("fine", exc_info=True)
    assert "exception" not in json_lines(capsys)[0]


def test_what_is_less_severe_than_the_level_is_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.set_up(logging.WARNING, "json")
    _log.info("chatter")
    _log.warning("beware")
    assert [line["message"] for line in json_lines(capsys)] == ["beware"]


def test_setting_up_again_replaces_what_was_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(logging.INFO, "json")
    logs.set_up(logging.INFO, "text")
    _log.info("once")
    assert capsys.readouterr().err == "fluxburst: INFO: once\n"
