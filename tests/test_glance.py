from __future__ import annotations

import contextvars

import pytest

from fluxburst.errors import AuthError, UnreachableError
from fluxburst.provider import probe


def ask(provider: str, *failures: Exception, part_of: str = "") -> str:
    with probe.asked(provider, part_of=part_of):
        for failure in failures:
            raise failure
        return "answered"


def test_at_a_glance_who_has_not_answered_is_not_asked_again() -> None:
    with probe.at_a_glance() as silent:
        with pytest.raises(UnreachableError, match="no route"):
            ask("A", UnreachableError("no route"))
        assert silent == {"A": "no route"}
        with pytest.raises(UnreachableError, match="A is not asked again"):
            ask("A")
        with pytest.raises(UnreachableError, match="A is not asked again"):
            ask("part", part_of="A")
        assert ask("B") == "answered"
    assert ask("A") == "answered"


def test_a_refusal_is_an_answer() -> None:
    with probe.at_a_glance():
        with pytest.raises(AuthError):
            ask("A", AuthError("who are you?"))
        assert ask("A") == "answered"
        assert ask("A") == "answered"


def test_who_is_still_being_asked_has_not_answered() -> None:
    with probe.at_a_glance(), probe.asked("A"), pytest.raises(UnreachableError):
        contextvars.copy_context().run(ask, "A")


def test_there_is_patience_but_at_a_glance() -> None:
    assert probe.patience(5.0) == 5.0
    with probe.at_a_glance():
        assert probe.patience(5.0) == 0.0
    with pytest.raises(UnreachableError):
        ask("A", UnreachableError("no route"))
    assert ask("A") == "answered"
