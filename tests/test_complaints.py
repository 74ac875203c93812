"""What is said on standard error moves no terminal's cursor."""

from __future__ import annotations

import logging

import pytest

from fluxburst.cli.complaints import complain
from fluxburst.cli.logs import set_up

FORGED = "boom\x1b[2J\x07\r"


def test_what_a_plugin_raised_is_printed_without_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    complain(FORGED)
    assert capsys.readouterr().err == "fluxburst: boom\ufffd[2J\ufffd\ufffd\n"


def test_log_lines_for_a_person_have_none_either(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("fluxburst")
    before = logger.handlers, logger.level
    try:
        set_up(logging.INFO)
        logging.getLogger("fluxburst.engine").warning("plugin liar: %s", FORGED)
    finally:
        logger.handlers, logger.level = before[0], before[1]
    assert capsys.readouterr().err.startswith("fluxburst: WARNING: plugin liar: boom\ufffd[2J")
