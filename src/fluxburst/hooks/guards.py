"""Guards around hook implementations: they know the distribution to blame.

An exception in an implementation becomes a :class:`~fluxburst.errors.HookError` that names its
distribution, and so does an answer of the wrong type. fluxburst's own errors pass unchanged. An
implementation gets its own copy of a job and cannot affect others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Literal

from fluxburst.errors import FluxburstError, HookAnswerError, HookError, text_of
from fluxburst.hooks.views import own
from fluxburst.model.burst import Burst
from fluxburst.plugin.base import PluginType
from fluxburst.plugin.implementers import calling

TOLD = frozenset(
    {
        "fluxburst_configure",
        "fluxburst_job_scheduled",
        "fluxburst_jobs_unmatched",
        "fluxburst_jobs_not_started",
        "fluxburst_burst_changed",
        "fluxburst_phase_failed",
    }
)
"""Hooks of observers: their errors are recorded and stop nothing."""

COLLECTED = frozenset({"fluxburst_register_plugins", "fluxburst_register_commands"})
"""Hooks that ask every package separately."""


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda answer: (
        isinstance(answer, Sequence)
        and not isinstance(answer, str)
        and all(isinstance(item, kind) for item in answer)
    )


def _is_bool(answer: object) -> bool:
    return isinstance(answer, bool)


def _is_list_of_commands(answer: object) -> bool:
    """Whether these are click commands; importing click is left to the command line."""
    return isinstance(answer, list) and all(
        hasattr(item, "params") and callable(getattr(item, "make_context", None)) for item in answer
    )


_ANSWERS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "fluxburst_select_job": ("True, False or None", _is_bool),
    "fluxburst_schedule_job": ("True, False or None", _is_bool),
    "fluxburst_order_plugins": ("a list of plugin names or None", _is_list_of(str)),
    "fluxburst_run_plugin": ("a list of Burst or None", _is_list_of(Burst)),
    "fluxburst_unburst_plugin": ("a list of burst names or None", _is_list_of(str)),
    "fluxburst_register_commands": ("a list of click commands or None", _is_list_of_commands),
    "fluxburst_register_plugins": ("a list of PluginType or None", _is_list_of(PluginType)),
}
"""For each hook with an answer: what an answer other than None must be."""


def guard_answer(
    function: Callable[..., Any],
    hook: str,
    distribution: str,
    note: Callable[[str], None],
    *,
    trusted: bool = False,
) -> Callable[..., Any]:
    """Guard an implementation with an answer; ``note`` learns which distribution answered.

    A trusted implementation, such as fluxburst's own, gets its arguments uncopied.
    """
    call = function if trusted else _as_its_own(function)

    @functools.wraps(function)
    def guarded(*arguments: Any) -> Any:
        try:
            answer = call(*arguments)
            if hook in COLLECTED and isinstance(answer, Iterable):
                answer = list(answer)
        except FluxburstError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _blame(error, hook, distribution) from error
        if answer is not None:
            note(distribution)
        return _checked(answer, hook, distribution)

    return guarded


def guard_observer(
    function: Callable[..., Any], hook: str, distribution: str, record: Callable[[HookError], None]
) -> Callable[..., None]:
    """Guard an observer: its errors are recorded and stop nothing."""
    call = _as_its_own(function)

    @functools.wraps(function)
    def guarded(*arguments: Any) -> None:
        try:
            call(*arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a package may raise anything
            record(_blame(error, hook, distribution))

    return guarded


def guard_wrapper(function: Callable[..., Any], hook: str, distribution: str) -> Callable[..., Any]:
    """Guard a wrapper of a hook with an answer: its errors, and the answer it returns."""

    @functools.wraps(function)
    def guarded(*arguments: Any) -> Generator[Any, Any, Any]:
        wrapper = _Wrapper(hook, distribution, function, arguments)
        wrapper.begin()
        try:
            answer = yield
        except GeneratorExit:  # the caller has stopped
            wrapper.close()
            raise
        except BaseException as error:  # noqa: BLE001 - the wrapper must see any exception
            answer = wrapper.end("throw", error)
        else:
            answer = wrapper.end("send", answer)
        return _checked(answer, hook, distribution)

    return guarded


def guard_observing_wrapper(
    function: Callable[..., Any], hook: str, distribution: str, record: Callable[[HookError], None]
) -> Callable[..., Any]:
    """Guard a wrapper of observers: its errors are recorded, and all observers are called."""

    @functools.wraps(function)
    def guarded(*arguments: Any) -> Generator[Any, Any, Any]:
        wrapper = _Wrapper(hook, distribution, function, arguments)
        try:
            wrapper.begin()
        except FluxburstError as error:
            record(_blame(error, hook, distribution))
            return (yield)
        answer = yield
        try:
            wrapper.end("send", answer)
        except FluxburstError as error:
            record(_blame(error, hook, distribution))
        return answer

    return guarded


class _Wrapper:
    """A package's wrapper, which yields once; its errors are blamed on the package."""

    def __init__(
        self, hook: str, distribution: str, function: Callable[..., Any], arguments: Iterable[Any]
    ) -> None:
        self._hook = hook
        self._distribution = distribution
        self._implementer = _implementer_of(function)
        self._steps: Generator[Any, Any, Any] = function(*map(own, arguments))

    def close(self) -> None:
        """Close it."""
        self._steps.close()

    def begin(self) -> None:
        """Run the part before the implementations."""
        over, _ = self._go_on("send", None)
        if over:
            raise HookError(self._hook, self._distribution, "its wrapper did not yield")

    def end(self, how: Literal["send", "throw"], answer: Any) -> Any:
        """Run the part after them, with their answer or exception; return the answer."""
        over, answer = self._go_on(how, answer)
        if over:
            return answer
        self.close()
        raise HookError(self._hook, self._distribution, "its wrapper yielded twice")

    def _go_on(self, how: Literal["send", "throw"], value: Any) -> tuple[bool, Any]:
        """Resume until the next yield or the end; return whether it ended, and its answer."""
        try:
            with calling(self._implementer):
                getattr(self._steps, how)(value)
        except StopIteration as end:
            return True, end.value
        except (FluxburstError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise _blame(error, self._hook, self._distribution) from error
        return False, None


def _implementer_of(function: Callable[..., Any]) -> object:
    return getattr(function, "__self__", function)


def _as_its_own(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls an implementation with its own copies of the arguments."""
    implementer = _implementer_of(function)

    def call(*arguments: Any) -> Any:
        with calling(implementer):
            return function(*map(own, arguments))

    return call


def _blame(error: BaseException, hook: str, distribution: str) -> HookError:
    if isinstance(error, HookError):
        return error
    failure = HookError(hook, distribution, f"{type(error).__name__}: {text_of(error)}")
    failure.__cause__ = error
    return failure


def _checked(answer: Any, hook: str, distribution: str) -> Any:
    """Return a valid answer; a list becomes immutable."""
    expected, is_answer = _ANSWERS.get(hook, ("", None))
    if answer is None or is_answer is None:
        return answer
    try:
        if isinstance(answer, Sequence) and not isinstance(answer, str):
            answer = list(answer)
        right = is_answer(answer)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _blame(error, hook, distribution) from error
    if right:
        return answer
    raise HookAnswerError(hook, distribution, f"returned {_shown(answer)}, expected {expected}")


def _shown(answer: object) -> str:
    """Describe a package's object for people; its repr() may fail."""
    kind = type(answer).__name__
    try:
        return f"{answer!r} ({kind})"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - described by its type
        return f"a {kind} (whose repr() raises {type(error).__name__})"
