"""One tree of exceptions that carry data; the command line turns them into text and a status.

Everything raised on purpose is a :class:`FluxburstError`. A :class:`RequestError` means that the
request itself is wrong (exit status 2); every other error means a failure (exit status 1).

Any exception in a package's or plugin's code is a failure of that package, even a cancelled task
or ``sys.exit()``, which are not :class:`Exception`. Only :class:`KeyboardInterrupt` passes: it
comes from the user, or from stopping the service.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluxburst.model.burst import Burst


def writable(text: str) -> str:
    r"""Return a text that UTF-8 can encode: lone surrogates are escaped.

    The output of a provider's command may contain any bytes, which Python decodes to lone
    surrogates: ``\udce9``. Neither the ledger nor Flux accepts them.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def text_of(error: BaseException) -> str:
    """Return an error's text; str() of a foreign error may fail."""
    try:
        return writable(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - reported by its type
        return "its text is not available"


def described(error: BaseException) -> str:
    """Return an error's text for people; with its type if it is foreign."""
    ours = isinstance(error, FluxburstError)
    return text_of(error) if ours else f"{type(error).__name__}: {text_of(error)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``name``, or ``""``."""
    spelled = {one.lower(): one for one in known}
    matches = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f"; did you mean {spelled[matches[0]]!r}?" if matches else ""


class FluxburstError(Exception):
    """The root of all errors that fluxburst raises on purpose; UTF-8 can encode its text."""

    def __str__(self) -> str:
        return writable(super().__str__())


class RequestError(FluxburstError):
    """The request itself is wrong: nothing was changed, and the user must correct it."""


class ConfigError(RequestError):
    """A configuration is invalid; ``source`` is its file or variable."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source
        self.problem = problem


class UnknownPluginError(RequestError):
    """No installed package offers the named burst plugin, or it is not loaded.

    ``known`` are the names to choose from.
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
    """The ordering yields something other than a loaded plugin with its name."""


class JobspecError(RequestError):
    """A jobspec violates RFC 14, 25 or 31, so its request is unknown."""

    def __init__(self, job: int | None, problem: str) -> None:
        where = "jobspec" if job is None else f"job {job}: jobspec"
        super().__init__(f"{where}: {problem}")
        self.job = job
        self.problem = problem


class FormatError(RequestError):
    """A text violates its format (an idset, a hostlist, a duration, a byte size, an R)."""

    def __init__(self, text: object, expected: str) -> None:
        super().__init__(f"{text!r} is not {expected}")
        self.text = text
        self.expected = expected


class RecordingError(RequestError):
    """A recorded queue is unreadable or unwritable; ``line`` counts from 1; 0 is the whole file."""

    def __init__(self, path: str, problem: str, *, line: int = 0) -> None:
        super().__init__(f"{path}{f', line {line}' if line else ''}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem


class FluxUnavailableError(RequestError):
    """A live instance is needed, but there is no Flux, or an unsuitable one."""


class FluxVersionError(FluxUnavailableError):
    """The running Flux is older than the oldest supported, or does not match its binding."""

    def __init__(self, problem: str, *, broker: str, binding: str) -> None:
        super().__init__(f"{problem} (running Flux: {broker}, Python binding: {binding})")
        self.broker = broker
        self.binding = binding


class InstanceError(FluxburstError):
    """The instance refused a request, or disappeared during it."""


class NotOwnerError(RequestError):
    """Only the instance's owner may do this, and this process belongs to another user."""


class LedgerError(FluxburstError):
    """The ledger is unreadable or unwritable: nothing is provisioned without it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"ledger {path}: {problem}" if path else f"ledger: {problem}")
        self.path = path
        self.problem = problem


class UnknownJobError(FluxburstError):
    """Nothing is known about a job: it has no decisions, and is not pending."""

    def __init__(self, job: str, where: str) -> None:
        super().__init__(f"unknown job {job}: it is not pending, and {where} has no record of it")
        self.job = job


class HeldError(RequestError):
    """Another client holds the instance; ``holder`` describes it for people."""

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(
            f"another client holds the instance ({holder}), and only one may act at a time: "
            f"wait for it, or stop it [lock: {path}]"
        )
        self.path = path
        self.holder = holder


class HookError(FluxburstError):
    """A hook implementation raised an exception or returned an invalid answer.

    ``distribution`` is the package to blame, ``subject`` the job, burst or plugin concerned
    (empty if there is none). The original error is the ``__cause__``.
    """

    def __init__(self, hook: str, distribution: str, problem: str, *, subject: str = "") -> None:
        about = f" for {subject}" if subject else ""
        super().__init__(f"{distribution}: {hook}{about}: {problem}")
        self.hook = hook
        self.distribution = distribution
        self.problem = problem
        self.subject = subject


class HookAnswerError(HookError, RequestError):
    """A hook implementation returned an invalid answer: the package is wrong."""


class UnexpectedError(FluxburstError):
    """An unexpected exception: a fault of fluxburst, or of a package.

    The original error is the ``__cause__``.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(f"unexpected {type(error).__name__}: {text_of(error)}")
        self.__cause__ = error


class BurstError(FluxburstError):
    """A burst plugin failed. ``burst`` is empty unless a single burst is concerned.

    ``nodes`` is how many nodes came up although creation failed half-way, if known: they cost
    money until they are terminated. ``asked`` is whether the provider received any request, as
    far as is known: if not, there is nothing to delete. ``final`` is whether an accepted request
    will never be fulfilled.
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
    """The request would exceed a configured limit: nothing was asked of the provider."""


class PatienceError(BurstError):
    """The provider did not answer in time; the request may still succeed."""


class UnreachableError(BurstError):
    """The provider could not be reached or did not answer: the request may still succeed."""


class AuthError(BurstError):
    """The provider does not accept these credentials: the user must act."""


@dataclass(frozen=True)
class Problem:
    """One problem with one parameter: the field, the source of its value, and the reason."""

    field: str
    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field} (from {self.source}): {self.reason}"


class ParameterError(BurstError, RequestError):
    """A burst plugin's parameters are invalid; ``problems`` holds every problem at once."""

    def __init__(self, plugin: str, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems), plugin=plugin)
        self.problems = tuple(problems)


class BurstErrors(FluxburstError):  # noqa: N818 - it is several
    """All failures of one run, unburst or cleanup; the rest went on.

    ``errors`` holds no nested :class:`BurstErrors`. ``bursts`` are those that came up (or are
    gone) nevertheless.
    """

    errors: tuple[FluxburstError, ...]

    def __init__(self, errors: Sequence[FluxburstError], bursts: Sequence[Burst] = ()) -> None:
        flat: list[FluxburstError] = []
        for error in errors:
            flat += error.errors if isinstance(error, BurstErrors) else [error]
        super().__init__("; ".join(str(error) for error in flat))
        self.errors = tuple(flat)
        self.bursts = tuple(bursts)
