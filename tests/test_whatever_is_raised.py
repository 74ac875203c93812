"""Whatever a package raises costs that package only, and it is named; Ctrl-C alone passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from typing import Any, NoReturn

import pytest
from tests.support import Elsewhere, client_with, job, spec

from fluxburst import BurstPlugin, FluxBurst, NodeType, Outcome, hookimpl
from fluxburst.config.file import Config
from fluxburst.errors import BurstError, BurstErrors, HookError
from fluxburst.reports.doctor import Doctor
from fluxburst.reports.leases import unarmed
from fluxburst.reports.status import of_client
from fluxburst.simulation.embedded import EmbeddedInstance


class Cancelled(BaseException):
    """As trio's, which is no Exception and has no text."""

    def __str__(self) -> str:
        raise type(self)


RAISED = [ValueError, SystemExit, asyncio.CancelledError, GeneratorExit, Cancelled]
HERE = [
    "node_types",
    "in_use",
    "instance_tag",
    "isolated",
    "queue",
    "run_as",
    "not_renewable",
    "schedule",
    "constraint_of",
]
"""What is asked of a plugin in the client's own thread, for a plan."""


class Bad(Elsewhere):
    """Raises where it is asked for ``what``, from when it is told to."""

    what = ""
    raised: type[BaseException] | None = None

    def __getattribute__(self, name: str) -> Any:
        raised = object.__getattribute__(self, "raised")
        if raised is None or name != object.__getattribute__(self, "what"):
            return super().__getattribute__(name)
        if not callable(getattr(BurstPlugin, name)):
            raise raised

        def fail(*_: object, **__: object) -> NoReturn:
            raise raised

        return fail


class Constrains(Bad):
    """One that has a say in constraints, so that it is asked."""

    def constraint_of(self, job: Any) -> Any:
        return super().constraint_of(job)


def clients(what: str, raised: type[BaseException]) -> Iterator[tuple[FluxBurst, Elsewhere]]:
    """Yield a client whose first plugin raises, and its other."""
    bad = Constrains("bad", NodeType("bad", cores=8))
    good = Elsewhere("good", NodeType("good", cores=8))
    jobs = (job(1, spec(1, 8, burstable="bad")), job(2, spec(1, 8, burstable="good")))
    with client_with(bad, good, jobs=jobs) as client:
        client.request_bursts(1, None)
        bad.what, bad.raised = what, raised
        yield client, good
        bad.raised = None


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("what", HERE)
def test_what_a_plugin_raises_costs_its_jobs_only_and_it_is_named(
    what: str, raised: type[BaseException]
) -> None:
    for client, _ in clients(what, raised):
        plan = client.plan()
        first, second = plan.decisions
        assert first.outcome is not Outcome.ASSIGNED or what == "not_renewable"
        assert second.outcome is Outcome.ASSIGNED
        said = " ".join([*first.reasons, *map(str, plan.errors)])
        assert "bad" in said
        assert raised.__name__ in said or what == "not_renewable"


ALL = {name for name in dir(BurstPlugin) if not name.startswith("_")} - {"name", "bursts", "jobs"}

CALLS: list[Callable[[FluxBurst], object]] = [
    lambda client: client.plan(),
    lambda client: client.reconcile(),
    lambda client: client.run_burst(),
    lambda client: client.run_pass(everything=True, patience=5.0),
    lambda client: client.adopt_bursts(),
    lambda client: client.refresh_bursts(),
    lambda client: client.request_bursts(1, None),
    lambda client: client.next_due(),
    lambda client: client.remaining(),
    lambda client: list(client.iter_plugins()),
    of_client,
    lambda client: unarmed(client.ledger.live(), client.plugins),
    lambda client: client.run_unburst(),
]


@pytest.mark.parametrize("raised", [ValueError, GeneratorExit, Cancelled])
@pytest.mark.parametrize("what", sorted(ALL))
def test_what_a_plugin_raises_ends_no_pass(what: str, raised: type[BaseException]) -> None:
    for client, good in clients(what, raised):
        said: list[str] = []
        for call in CALLS:
            try:
                call(client)
            except BurstErrors as failures:
                said.append(str(failures))
        assert all("bad" in text for text in said)
        assert len(good.created) == 3
        assert set(good.deleted) == set(good.created)


def test_ctrl_c_passes() -> None:
    for what in HERE:
        for client, _ in clients(what, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                client.plan()


@pytest.mark.parametrize("answer", [None, "bad-1", 5])
def test_what_is_no_burst_by_hand_is_an_error_that_names_the_plugin(answer: Any) -> None:
    bad, good = Elsewhere("bad"), Elsewhere("good")
    bad.by_hand = lambda nodes, tasks: answer  # type: ignore[method-assign]
    with client_with(bad, good) as client:
        with pytest.raises(BurstErrors, match=r"plugin bad: by_hand\(\) returned"):
            client.request_bursts(1, None)
        assert len(good.created) == 1


# --- packages ------------------------------------------------------------------------------------

PACKAGE = """
import asyncio
from fluxburst import BurstParameters, BurstPlugin, PluginType, hookimpl

class Bad(BurstPlugin):
    def __init__(self, dataclass, **kwargs):
        if kwargs.get("where") == "factory":
            raise asyncio.CancelledError
        super().__init__(dataclass)
        self.where = kwargs.get("where")

    def validate(self):
        if self.where == "validate":
            raise asyncio.CancelledError
        return True

    def belongs_to(self, instance_name):
        if self.where == "belongs_to":
            raise asyncio.CancelledError

    def node_types(self):
        raise asyncio.CancelledError

    def diagnose(self):
        yield from ()
        raise GeneratorExit

    @property
    def not_renewable(self):
        raise SystemExit

    @property
    def arms_leases(self):
        raise GeneratorExit

@hookimpl
def fluxburst_register_plugins():
    return [PluginType("bad", BurstParameters, Bad)]
"""


@pytest.mark.parametrize("where", ["factory", "validate", "belongs_to"])
def test_a_plugin_that_cannot_be_made_is_an_error_that_names_it(
    where: str, make_package: Callable[..., str]
) -> None:
    make_package("fluxburst_bad", PACKAGE)
    with FluxBurst(mock=True) as client:
        with pytest.raises(BurstError, match=r"plugin bad: .*CancelledError"):
            client.load("bad", where=where)
        assert list(client.plugins) == []


@pytest.mark.parametrize("raised", ["asyncio.CancelledError", "GeneratorExit", "BaseException"])
@pytest.mark.parametrize("hook", ["", "fluxburst_register_plugins"])
def test_a_package_that_raises_while_it_is_registered_does_not_take_part(
    hook: str, raised: str, make_package: Callable[..., str]
) -> None:
    source = f"import asyncio\nfrom fluxburst import hookimpl\n{{}}    raise {raised}"
    where = f"@hookimpl\ndef {hook}():\n" if hook else "if True:\n"
    make_package("fluxburst_bad", source.format(where))
    with FluxBurst(mock=True) as client:
        (package,) = [p for p in client.hooks.packages if p.distribution == "fluxburst-bad"]
        assert raised.rpartition(".")[2] in package.problem


def test_the_doctor_makes_all_its_checks_whatever_a_plugin_raises(
    make_package: Callable[..., str],
) -> None:
    make_package("fluxburst_bad", PACKAGE)
    checked = Doctor(Config, EmbeddedInstance(), ["bad"]).examine()
    said = {c.finding.what for c in checked if c.finding.level == "error"}
    assert any("CancelledError" in what for what in said)
    assert any(what.startswith("it cannot be examined: GeneratorExit") for what in said)
    assert checked[-1].check == "breakers"


# --- hooks ---------------------------------------------------------------------------------------

ASKED = [
    "fluxburst_select_job",
    "fluxburst_order_plugins",
    "fluxburst_schedule_job",
    "fluxburst_run_plugin",
    "fluxburst_unburst_plugin",
]
TOLD = [
    "fluxburst_job_scheduled",
    "fluxburst_jobs_unmatched",
    "fluxburst_burst_changed",
    "fluxburst_phase_failed",
]


def implementing(hook: str, raised: type[BaseException], how: str) -> object:
    """Return an object with a hook that raises: when it is called, or around the others."""

    def plain(self: object) -> NoReturn:
        raise raised

    def before(self: object) -> Iterator[None]:
        if True:  # what follows makes it a generator
            raise raised
        yield

    def after(self: object) -> Iterator[None]:
        with suppress(HookError):
            yield
        raise raised

    function: Any = {"plain": plain, "before": before, "after": after}[how]
    function.__name__ = hook
    marked = hookimpl(function) if how == "plain" else hookimpl(wrapper=True)(function)
    return type("Implements", (), {hook: marked})()


def used(*implementations: object) -> tuple[FluxBurst, Elsewhere, list[str]]:
    """Return a client that was used throughout, its plugin, and what failed."""
    good, full = Elsewhere("good", NodeType("good", cores=8)), Elsewhere("full")
    full.fails = BurstError("full")
    jobs = [job(n, spec(1, 8, burstable="good")) for n in (1, 2)]
    jobs += [job(3, spec(1, 8, burstable="full")), job(4, spec(1, 99, burstable=1))]
    client = client_with(good, full, jobs=tuple(jobs))
    for implementation, package in zip(implementations, ("fluxburst-bad", "other"), strict=False):
        client.hooks.register(implementation, package)
    said = [reason for decision in client.plan().decisions for reason in decision.reasons]
    for call in (
        lambda: client.run_pass(everything=True, patience=5.0),
        lambda: client.request_burst("good", 1, None),
        client.run_unburst,
    ):
        try:
            call()
        except BurstErrors as failures:
            said += map(str, failures.errors)
    return client, good, said


@pytest.mark.parametrize("how", ["plain", "before", "after"])
@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("hook", ASKED)
def test_what_an_asked_hook_raises_is_a_failure_of_its_package(
    hook: str, raised: type[BaseException], how: str
) -> None:
    client, _, said = used(implementing(hook, raised, how))
    with client:
        assert any(f"fluxburst-bad: {hook}" in text for text in said), said
        assert any(raised.__name__ in text for text in said), said


@pytest.mark.parametrize("raised", [*RAISED, BurstError])
@pytest.mark.parametrize(
    ("hook", "how"),
    [("fluxburst_configure", "plain"), *product(TOLD, ("plain", "before", "after"))],
)
def test_what_a_hook_raises_that_is_told_stops_nobody(
    hook: str, raised: type[BaseException], how: str
) -> None:
    told: list[str] = []

    def listens(self: object) -> None:
        told.append(hook)

    listens.__name__ = hook
    client, good, _ = used(
        implementing(hook, raised, how), type("Listens", (), {hook: hookimpl(listens)})()
    )
    with client:
        assert len(good.created) == 2 == len(good.deleted)
        assert told
        assert {error.distribution for error in client.hooks.observer_errors} == {"fluxburst-bad"}
        assert raised.__name__ in str(client.hooks.observer_errors[0])


# --- what is no hook, and no answer --------------------------------------------------------------


def test_a_wrapper_that_does_not_yield_is_named_when_it_is_registered() -> None:
    class Wrapper:
        @hookimpl(wrapper=True)
        def fluxburst_select_job(self) -> bool:
            return True

    with (
        client_with() as client,
        pytest.raises(HookError, match=r"fluxburst-bad: .*its wrapper does not yield"),
    ):
        client.hooks.register(Wrapper(), "fluxburst-bad")


@pytest.mark.parametrize(("yields", "problem"), [(0, "did not yield"), (2, "yielded twice")])
@pytest.mark.parametrize("hook", ["fluxburst_select_job", "fluxburst_jobs_unmatched"])
def test_a_wrapper_that_yields_never_or_twice_is_named(
    hook: str, yields: int, problem: str
) -> None:
    def wrapper(self: object) -> Iterator[None]:
        for _ in range(yields):
            yield

    wrapper.__name__ = hook
    implementation = type("Wrapper", (), {hook: hookimpl(wrapper=True)(wrapper)})()
    with client_with() as client:
        client.hooks.register(implementation, "fluxburst-bad")
        if hook == "fluxburst_select_job":
            with pytest.raises(HookError, match=f"fluxburst-bad: .*{problem}"):
                client.hooks.select_job(job(1))
        else:
            client.hooks.jobs_unmatched([job(1)])
            (error,) = client.hooks.observer_errors
            assert f"fluxburst-bad: {hook}: its wrapper {problem}" in str(error)


class Unspeakable(list[Any]):
    """An answer that cannot be looked at."""

    def __iter__(self) -> NoReturn:
        raise GeneratorExit

    def __repr__(self) -> NoReturn:
        raise asyncio.CancelledError


@pytest.mark.parametrize("hook", ASKED)
def test_an_answer_that_cannot_be_looked_at_is_a_failure_of_its_package(hook: str) -> None:
    def answers(self: object) -> Any:
        return Unspeakable()

    answers.__name__ = hook
    client, _, said = used(type("Answers", (), {hook: hookimpl(answers)})())
    with client:
        assert any(f"fluxburst-bad: {hook}" in text for text in said), said
