"""One tree of exceptions, which carry data; the command line turns them into text and a status.

Everything raised on purpose is a :class:`FluxburstError`. A :class:`RequestError` says that the
request itself is wrong (exit status 2); everything else says that something failed (exit status 1).

What code of a package or plugin raises is a failure of that package, whatever it is: a cancelled
task and ``sys.exit()`` are no :class:`Exception`. Only :class:`KeyboardInterrupt` passes: it is the
user's, or the service's that is stopped.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluxburst.model.burst import Burst


def writable(text: str) -> str:
    r"""Return a text as UTF-8 can write it: what stands for a byte that is none is escaped.

    What a provider's command printed may hold any bytes, which Python reads as lone surrogates:
    ``\udce9``. Neither the ledger nor Flux takes them.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def text_of(error: BaseException) -> str:
    """Return what an error says; one of foreign code may not even be able to say it."""
    try:
        return writable(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the error itself is told of, by its type
        return "it cannot be put into words"


def described(error: BaseException) -> str:
    """Return what an error says to a person; one of foreign code is told of with its type."""
    ours = isinstance(error, FluxburstError)
    return text_of(error) if ours else f"{type(error).__name__}: {text_of(error)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``name``, or ``""``."""
    spelled = {one.lower(): one for one in known}
    matches = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f"; did you mean {spelled[matches[0]]!r}?" if matches else ""


class FluxburstError(Exception):
    """The root of every error that fluxburst raises on purpose; what it says can be written."""

    def __str__(self) -> str:
        return writable(super().__str__())


class RequestError(FluxburstError):
    """The request itself is wrong: nothing was changed, and a person must correct it."""


class ConfigError(RequestError):
    """A configuration cannot be used; ``source`` is the file or variable it came from."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source
        self.problem = problem


class UnknownPluginError(RequestError):
    """A burst plugin was named that no installed package offers, or that is not loaded.

    ``known`` are the names that could have been meant.
    """

    def __init__(self, name: str, known: Sequence[str], *, why: str = "") -> None:
        choices = f"choose from {', '.join(known)}" if known else "none is available"
        super().__init__(
            f"unknown burst plugin {name!r}{why and f' ({why})'}"
            f"{did_you_mean(name, known)} [{choices}]"
        )
        self.name = name
        self.known = tuple(known)


class OrderingError(RequestError):
    """The ordering that was set yields something that is not a loaded plugin with its name."""


class JobspecError(RequestError):
    """A jobspec does not follow RFC 14, 25 or 31, so what it asks for cannot be told."""

    def __init__(self, job: int | None, problem: str) -> None:
        where = "jobspec" if job is None else f"job {job}: jobspec"
        super().__init__(f"{where}: {problem}")
        self.job = job
        self.problem = problem


class FormatError(RequestError):
    """A text does not follow its format (an idset, a hostlist, a duration, a byte size, an R)."""

    def __init__(self, text: object, expected: str) -> None:
        super().__init__(f"{text!r} is not {expected}")
        self.text = text
        self.expected = expected


class RecordingError(RequestError):
    """A recorded queue cannot be read or written; ``line`` counts from 1, 0 for the whole file."""

    def __init__(self, path: str, problem: str, *, line: int = 0) -> None:
        super().__init__(f"{path}{f', line {line}' if line else ''}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem


class FluxUnavailableError(RequestError):
    """A live instance was asked for, and there is no Flux to talk to, or not one that fits."""


class FluxVersionError(FluxUnavailableError):
    """The running Flux is older than the oldest supported, or does not match its binding."""

    def __init__(self, problem: str, *, broker: str, binding: str) -> None:
        super().__init__(f"{problem} (running Flux: {broker}, Python binding: {binding})")
        self.broker = broker
        self.binding = binding


class InstanceError(FluxburstError):
    """The instance did not do what was asked of it, or went away while being asked."""


class NotOwnerError(RequestError):
    """Only the instance's owner may do what was asked, and this process is somebody else's."""


class LedgerError(FluxburstError):
    """The ledger cannot be read or written: nothing is brought up without it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"ledger {path}: {problem}" if path else f"ledger: {problem}")
        self.path = path
        self.problem = problem


class UnknownJobError(FluxburstError):
    """Nothing is known of a job: it was never decided on, and is not pending."""

    def __init__(self, job: str, where: str) -> None:
        super().__init__(
            f"job {job} is not known: it is not pending, and nothing was recorded of it in {where}"
        )
        self.job = job


class HeldError(RequestError):
    """Another client holds the instance; ``holder`` says who, for a person."""

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(
            f"the instance is held by another client ({holder}), and one at a time may act: "
            f"wait for it, or stop it [lock: {path}]"
        )
        self.path = path
        self.holder = holder


class HookError(FluxburstError):
    """A hook implementation raised, or answered with something that is not an answer.

    ``distribution`` is the package to blame, ``subject`` the job, burst or plugin it was asked
    about (empty where there is none). The original error is the ``__cause__``.
    """

    def __init__(self, hook: str, distribution: str, problem: str, *, subject: str = "") -> None:
        about = f" for {subject}" if subject else ""
        super().__init__(f"{distribution}: {hook}{about}: {problem}")
        self.hook = hook
        self.distribution = distribution
        self.problem = problem
        self.subject = subject


class HookAnswerError(HookError, RequestError):
    """A hook implementation answered with something that is not an answer: the package is wrong."""


class UnexpectedError(FluxburstError):
    """Something was raised that is nobody's answer: a fault of fluxburst, or of a package.

    The original error is the ``__cause__``.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(f"unexpected {type(error).__name__}: {text_of(error)}")
        self.__cause__ = error


class BurstError(FluxburstError):
    """A burst plugin could not do its work. ``burst`` is empty where no single one is meant.

    ``nodes`` is how many of its nodes came up all the same, where creation failed half-way and that
    is known: they cost until they are taken down. ``asked`` is whether anything was asked of the
    provider, as far as is known: where nothing was, there is nothing to delete. ``final`` is
    whether what was asked for will not come any more, though it was accepted at first.
    """

    asked = True
    final = False

    def __init__(
        self, message: str, *, plugin: str = "", burst: str = "", nodes: int | None = None
    ) -> None:
        super().__init__(message)
        self.plugin = plugin
        self.burst = burst
        self.nodes = nodes

    def __str__(self) -> str:
        where = ", ".join(
            part
            for part in (
                self.plugin and f"plugin {self.plugin}",
                self.burst and f"burst {self.burst}",
            )
            if part
        )
        return writable(f"{where}: {super().__str__()}" if where else super().__str__())


class CapacityError(BurstError):
    """The provider has no machines of this kind now: try the next plugin."""


class QuotaError(BurstError):
    """The provider would exceed a quota of this account: try the next plugin."""


class LimitError(BurstError):
    """A limit of the configuration would be passed: nothing was asked of the provider."""


class PatienceError(BurstError):
    """The provider did not answer in time; what it was asked for may still happen."""


class UnreachableError(BurstError):
    """The provider could not be asked, or did not answer: what was asked for may still happen."""


class AuthError(BurstError):
    """The provider does not accept these credentials: a person must act."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one parameter: which field, where its value came from, and why."""

    field: str
    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field} (from {self.source}): {self.reason}"


class ParameterError(BurstError, RequestError):
    """The parameters of a burst plugin cannot be used; ``problems`` holds all of them at once."""

    def __init__(self, plugin: str, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems), plugin=plugin)
        self.problems = tuple(problems)


class BurstErrors(FluxburstError):  # noqa: N818 - it is several
    """Everything that failed in one run, unburst or cleanup; what did not fail went on.

    ``errors`` holds no other :class:`BurstErrors`: theirs are taken in. ``bursts`` are those that
    did come up (or did go down) all the same.
    """

    errors: tuple[FluxburstError, ...]

    def __init__(self, errors: Sequence[FluxburstError], bursts: Sequence[Burst] = ()) -> None:
        flat: list[FluxburstError] = []
        for error in errors:
            flat += error.errors if isinstance(error, BurstErrors) else [error]
        super().__init__("; ".join(str(error) for error in flat))
        self.errors = tuple(flat)
        self.bursts = tuple(bursts)
