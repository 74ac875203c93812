"""Running commands: what comes back, and what is said where nothing does."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from tests.support import at_most

from fluxburst.errors import FluxburstError, RequestError
from fluxburst.formats.process import CommandError, run


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_what_a_command_prints_is_returned_as_it_is() -> None:
    assert run(python(r"print('a\n b', end='\n\n')")) == "a\n b\n\n"


def test_what_a_command_that_goes_well_says_on_standard_error_is_left_out() -> None:
    assert run(python("import sys; print('warning', file=sys.stderr); print('out')")) == "out\n"


def test_output_that_is_no_text_is_read_all_the_same() -> None:
    said = run(python(r"import sys; sys.stdout.buffer.write(b'a\xffb')"))
    assert (said[0], said[-1]) == ("a", "b")


def test_a_command_reads_what_it_is_given() -> None:
    echo = python("import sys; sys.stdout.write(sys.stdin.read())")
    text = "líne\n" * 100_000
    assert run(echo, stdin=text) == text


def test_a_command_that_is_given_nothing_reads_nothing() -> None:
    with at_most(60):
        assert run(python("import sys; print(repr(sys.stdin.read()))")) == "''\n"


def test_a_command_that_reads_nothing_of_what_it_is_given_goes_well() -> None:
    assert run(python("print('done')"), stdin="x" * 1_000_000) == "done\n"


def test_a_command_has_the_environment_it_is_given_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLUXBURST_TEST", "inherited")
    show = python("import os; print(os.environ.get('FLUXBURST_TEST'), 'HOME' in os.environ)")
    monkeypatch.setenv("HOME", "/")
    assert run(show) == "inherited True\n"
    assert run(show, environment={"FLUXBURST_TEST": "given"}) == "given False\n"
    assert run(show, environment={}) == "None False\n"


def test_arguments_reach_a_command_as_they_are() -> None:
    arguments = ["a b", "$HOME", "*", "", "'\"", ";", "é\n"]
    said = run([*python("import sys; print(ascii(sys.argv[1:]))"), *arguments])
    assert said == ascii(arguments) + "\n"


def test_a_failing_command_is_named_with_its_status_and_its_last_lines() -> None:
    script = "import sys\nfor n in range(9): print(f' line {n}', file=sys.stderr)\nsys.exit(7)"
    command = [*python(script), "an argument", "--another"]
    with pytest.raises(CommandError) as caught:
        run(command)
    message = str(caught.value)
    assert message.startswith(sys.executable)
    assert message.endswith("failed with status 7: line 6; line 7; line 8")
    assert "an argument" not in message
    assert (caught.value.command, caught.value.status) == (tuple(command), 7)
    assert "line 0" in caught.value.output


def test_a_failing_command_that_only_printed_is_told_by_what_it_printed() -> None:
    with pytest.raises(CommandError, match=r"failed with status 1: no luck$"):
        run(python("print('no luck'); raise SystemExit(1)"))
    with pytest.raises(CommandError, match=r"failed with status 1: why$"):
        run(python("import sys; print('half of it'); sys.exit('why')"))


def test_a_failing_command_that_says_nothing_is_told_by_its_status() -> None:
    with pytest.raises(CommandError, match=r"failed with status 3$"):
        run(python("raise SystemExit(3)"))


def test_a_command_that_a_signal_ends_has_failed() -> None:
    with pytest.raises(CommandError) as caught:
        run(python("import os; os.kill(os.getpid(), 9)"))
    assert caught.value.status == -9


def test_a_command_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as caught:
        run(["no-such-command", "--really"])
    assert str(caught.value) == (
        "no-such-command --really: cannot be run: No such file or directory"
    )
    assert caught.value.status is None
    (tmp_path / "plain").touch()
    with pytest.raises(CommandError, match="plain: cannot be run: Permission denied"):
        run([str(tmp_path / "plain")])


def test_a_command_is_found_on_the_path_of_the_environment_it_is_given(tmp_path: Path) -> None:
    tool = tmp_path / "my-tool"
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o755)
    assert run(["my-tool"], environment={"PATH": str(tmp_path)}) == "mine\n"
    with pytest.raises(CommandError, match="cannot be run"):
        run(["my-tool"])


def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    command = ["/bin/sh", "-c", f"echo $$ > {note}; exec sleep 600"]
    with at_most(60), pytest.raises(CommandError) as caught:
        run(command, timeout=1)
    assert str(caught.value).endswith("did not end within 1 seconds")
    assert caught.value.status is None
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_a_command_that_will_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluxburst.formats.process.END_SECONDS", 0.2)
    note = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ > {note}; exec sleep 600"
    with at_most(60), pytest.raises(CommandError, match="did not end within 1 seconds"):
        run(["/bin/sh", "-c", script], timeout=1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_what_a_command_that_did_not_end_has_left_running_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluxburst.formats.process.END_SECONDS", 0.2)
    note = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {note}; wait"
    try:
        with at_most(15), pytest.raises(CommandError, match="did not end within 1 seconds"):
            run(["/bin/sh", "-c", script], timeout=1)
    finally:
        os.kill(int(note.read_text()), signal.SIGKILL)


def test_an_interrupt_ends_the_command(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"read go; echo $$ > {note}; kill -INT $PPID; exec sleep 600"
    with at_most(60), pytest.raises(KeyboardInterrupt):
        run(["/bin/sh", "-c", script], stdin="go\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_a_failing_command_is_no_wrong_request() -> None:
    assert issubclass(CommandError, FluxburstError)
    assert not issubclass(CommandError, RequestError)
