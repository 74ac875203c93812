from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support import Elsewhere, client_with, job

from fluxburst import FluxBurst, Job, hookimpl
from fluxburst.errors import HookAnswerError, HookError, ParameterError, UnknownPluginError
from fluxburst.hooks.manager import Manager
from fluxburst.hooks.packages import Package

MakePackage = Callable[..., str]

OFFERS_CLOUD = """
from fluxburst import BurstParameters, BurstPlugin, PluginType, hookimpl

@hookimpl
def fluxburst_register_plugins():
    return [PluginType("cloud", BurstParameters, BurstPlugin)]
"""


def discovered(block: tuple[str, ...] = ()) -> Manager:
    manager = Manager(block)
    manager.discover()
    return manager


def package(manager: Manager, distribution: str) -> Package:
    return next(p for p in manager.packages if p.distribution == distribution)


def test_a_package_with_an_entry_point_takes_part(make_package: MakePackage) -> None:
    distribution = make_package("fluxburst_cloud", OFFERS_CLOUD)
    found = package(discovered(), distribution)
    assert (found.name, found.version, found.problem) == ("cloud", "1.2.3", "")
    assert found.plugins == ("cloud",)
    assert found.hooks == ("fluxburst_register_plugins",)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("raise ValueError('out of order')", "ValueError: out of order"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("def (", "SyntaxError"),
        (
            "from fluxburst import hookimpl\n@hookimpl\ndef fluxburst_select_jbo(job): ...",
            "there is no such hook; did you mean 'fluxburst_select_job'?",
        ),
        (
            "from fluxburst import hookimpl\n@hookimpl\ndef fluxburst_select_job(task): ...",
            "does not fit a hook",
        ),
        (
            "from fluxburst import hookimpl\n@hookimpl\n"
            "def fluxburst_register_plugins(): return ['cloud']",
            "returned ['cloud'] (list), expected a list of PluginType or None",
        ),
        (
            "from fluxburst import hookimpl\n@hookimpl\n"
            "def fluxburst_register_plugins(): raise KeyError('oops')",
            "KeyError: 'oops'",
        ),
    ],
)
def test_a_broken_package_costs_itself_only_and_is_listed_with_the_reason(
    make_package: MakePackage, source: str, reason: str
) -> None:
    make_package("fluxburst_cloud", OFFERS_CLOUD)
    broken = make_package("fluxburst_broken", source)
    manager = discovered()
    assert reason in package(manager, broken).problem
    assert "cloud" in manager.offers
    assert package(manager, "fluxburst-cloud").problem == ""


def test_a_package_with_one_unknown_hook_registers_none_of_its_hooks(
    make_package: MakePackage,
) -> None:
    make_package(
        "fluxburst_half",
        """
        from fluxburst import hookimpl

        @hookimpl
        def fluxburst_select_job(job):
            return True

        @hookimpl
        def fluxburst_unheard_of(job):
            return True
        """,
    )
    client = FluxBurst(mock=True)
    assert not client.hooks.select_job(job(1, {"attributes": {}}))


def test_two_packages_with_one_plugin_name_are_an_error_that_names_both(
    make_package: MakePackage,
) -> None:
    make_package("fluxburst_cloud", OFFERS_CLOUD)
    make_package("fluxburst_cloud2", OFFERS_CLOUD)
    manager = discovered()
    problem = package(manager, "fluxburst-cloud2").problem
    assert "fluxburst-cloud2" in problem
    assert "already taken by fluxburst-cloud;" in problem
    assert manager.offers["cloud"].package.distribution == "fluxburst-cloud"


@pytest.mark.parametrize("name", ["cloud", "fluxburst-cloud", "fluxburst_cloud", "FLUXBURST-Cloud"])
def test_a_package_can_be_blocked_by_any_of_its_names(make_package: MakePackage, name: str) -> None:
    make_package("fluxburst_cloud", "raise RuntimeError('imported although it is blocked')")
    found = package(discovered((name,)), "fluxburst-cloud")
    assert found.blocked
    assert found.problem == "blocked by name"


def test_a_module_of_flux_bursts_convention_is_found_without_an_entry_point(
    make_package: MakePackage,
) -> None:
    make_package(
        "fluxburst_old",
        """
        from dataclasses import dataclass
        import fluxburst.plugin.base as plugins

        @dataclass
        class BurstParameters:
            size: int = 1

        class Old(plugins.BurstPlugin):
            _param_dataclass = BurstParameters

            def schedule(self, job):
                self.jobs[job["id"]] = job
                return True

            def run(self, *args, **kwargs):
                pass

        def init(dataclass, **kwargs):
            return Old(dataclass, **kwargs)
        """,
        entry_point=False,
    )
    client = FluxBurst(mock=True)
    assert "old" in client.choices.split("|")
    plugin = client.load("old")
    assert plugin.params.size == 1
    assert client.run_burst() == []
    assert list(plugin.jobs) == client.list_jobs()


def test_a_module_of_that_name_that_is_neither_is_listed_as_such(
    make_package: MakePackage,
) -> None:
    make_package("fluxburst_neither", "x = 1", entry_point=False)
    problem = package(discovered(), "fluxburst_neither").problem
    assert "neither an entry point" in problem


def test_a_library_that_packages_share_is_neither_imported_nor_listed(
    make_package: MakePackage,
) -> None:
    make_package("fluxburst_shared", "raise AssertionError", group="fluxburst.libraries")
    assert "fluxburst_shared" not in {one.name for one in discovered().packages}


def test_an_old_plugin_without_a_dataclass_to_be_found_asks_for_an_object(
    make_package: MakePackage,
) -> None:
    make_package("fluxburst_bare", "def init(dataclass): ...", entry_point=False)
    with pytest.raises(ParameterError, match="pass an object to load"):
        FluxBurst(mock=True).load("bare")


def test_an_unknown_plugin_is_named_with_the_nearest_and_the_choices(
    make_package: MakePackage,
) -> None:
    make_package("fluxburst_cloud", OFFERS_CLOUD)
    with pytest.raises(UnknownPluginError, match=r"'clod'; did you mean 'cloud'\?.*cloud"):
        FluxBurst(mock=True).load("clod")


def test_loading_a_broken_plugin_says_why_it_is_not_there(make_package: MakePackage) -> None:
    make_package("fluxburst_cloud", "import a_module_that_is_not_there")
    with pytest.raises(UnknownPluginError, match="a_module_that_is_not_there"):
        FluxBurst(mock=True).load("cloud")


class Raises:
    @hookimpl
    def fluxburst_select_job(self, job: Job) -> bool:
        raise ZeroDivisionError("division by zero")


class AnswersText:
    @hookimpl
    def fluxburst_select_job(self, job: Job) -> str:
        return "yes"


def test_an_error_in_a_hook_names_hook_distribution_and_job_and_chains_the_cause() -> None:
    client = client_with()
    client.hooks.register(Raises(), "fluxburst-broken")
    with pytest.raises(HookError) as caught:
        client.hooks.select_job(job(17))
    assert str(caught.value) == (
        "fluxburst-broken: fluxburst_select_job for job 17: ZeroDivisionError: division by zero"
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert (caught.value.hook, caught.value.distribution, caught.value.subject) == (
        "fluxburst_select_job",
        "fluxburst-broken",
        "job 17",
    )


def test_an_answer_of_the_wrong_type_names_who_gave_it_and_what_was_expected() -> None:
    client = client_with()
    client.hooks.register(AnswersText(), "fluxburst-broken")
    with pytest.raises(HookAnswerError, match=r"fluxburst-broken.*'yes' \(str\), expected True"):
        client.hooks.select_job(job(17))


def test_a_wrapper_is_blamed_for_what_it_raises_itself() -> None:
    class Wrapper:
        @hookimpl(wrapper=True)
        def fluxburst_select_job(self, job):  # type: ignore[no-untyped-def]
            yield
            raise LookupError("after")

    client = client_with()
    client.hooks.register(Wrapper(), "fluxburst-wrapper")
    with pytest.raises(HookError, match=r"fluxburst-wrapper.*LookupError: after"):
        client.hooks.select_job(job(1))


def test_a_wrapper_is_not_blamed_for_what_it_wraps() -> None:
    class Wrapper:
        @hookimpl(wrapper=True)
        def fluxburst_select_job(self, job):  # type: ignore[no-untyped-def]
            return (yield)

    client = client_with()
    client.hooks.register(Raises(), "fluxburst-broken")
    client.hooks.register(Wrapper(), "fluxburst-wrapper")
    with pytest.raises(HookError, match=r"^fluxburst-broken"):
        client.hooks.select_job(job(1))


def test_a_wrapper_can_change_the_answer() -> None:
    class Invert:
        @hookimpl(wrapper=True)
        def fluxburst_select_job(self, job):  # type: ignore[no-untyped-def]
            return not (yield)

    client = client_with()
    client.hooks.register(Invert(), "fluxburst-invert")
    assert not client.hooks.select_job(job(1))


def test_one_observers_error_stops_neither_the_others_nor_the_caller() -> None:
    told: list[int] = []

    class Good:
        @hookimpl
        def fluxburst_jobs_unmatched(self, jobs: list[Job]) -> None:
            told.append(len(jobs))

    class Bad:
        @hookimpl
        def fluxburst_jobs_unmatched(self, jobs: list[Job]) -> None:
            raise OSError("disk full")

    client = client_with()
    client.hooks.register(Good(), "fluxburst-good")
    client.hooks.register(Bad(), "fluxburst-bad")
    client.hooks.register(another := Good(), "fluxburst-good")
    client.hooks.jobs_unmatched([job(1)])
    assert told == [1, 1]
    client.hooks.unregister(another)
    assert [str(error) for error in client.hooks.observer_errors] == [
        "fluxburst-bad: fluxburst_jobs_unmatched: OSError: disk full"
    ]


def test_configure_is_called_once_for_each_client_also_for_packages_that_come_later() -> None:
    seen: list[FluxBurst] = []

    class Late:
        @hookimpl
        def fluxburst_configure(self, client: FluxBurst) -> None:
            seen.append(client)

    client = client_with()
    client.hooks.register(Late(), "fluxburst-late")
    assert seen == [client]


def test_unregistering_what_is_not_registered_is_no_error() -> None:
    Manager().unregister(object())


def test_a_collected_hook_cannot_be_wrapped(make_package: MakePackage) -> None:
    make_package(
        "fluxburst_wraps",
        """
        from fluxburst import hookimpl

        @hookimpl(wrapper=True)
        def fluxburst_register_plugins():
            return (yield)
        """,
    )
    assert "cannot be wrapped" in package(discovered(), "fluxburst-wraps").problem


def test_a_wrapper_around_observers_that_raises_stops_nobody() -> None:
    class Wrapper:
        @hookimpl(wrapper=True)
        def fluxburst_jobs_unmatched(self, jobs):  # type: ignore[no-untyped-def]
            yield
            raise LookupError("after")

    client = client_with()
    client.hooks.register(Wrapper(), "fluxburst-wrapper")
    client.hooks.jobs_unmatched([job(1)])
    (error,) = client.hooks.observer_errors
    assert error.distribution == "fluxburst-wrapper"


def test_the_import_that_hides_an_old_plugins_dataclass_is_named(
    make_package: MakePackage,
) -> None:
    make_package(
        "fluxburst_old",
        "def init(dataclass): ...\ndef __getattr__(name): raise AttributeError(name)\n",
        entry_point=False,
    )
    with pytest.raises(ParameterError, match=r"fluxburst_old\.plugin cannot be imported"):
        FluxBurst(mock=True).load("old")


def test_what_is_collected_may_come_from_a_generator(make_package: MakePackage) -> None:
    make_package("fluxburst_cloud", OFFERS_CLOUD.replace("return [", "yield from ["))
    assert "cloud" in discovered().offers


def test_an_answer_that_is_no_command_is_left_out(make_package: MakePackage) -> None:
    wrong = make_package(
        "fluxburst_wrong",
        """
        from fluxburst import hookimpl

        @hookimpl
        def fluxburst_register_commands():
            return ["greet"]
        """,
    )
    assert discovered().commands() == discovered((wrong,)).commands()


@pytest.mark.parametrize("name", ["", "a b", "../x", "x|y", "-x", "ünï"])
def test_a_plugins_name_is_made_of_letters_digits_and_dashes(
    make_package: MakePackage, name: str
) -> None:
    make_package("fluxburst_odd", OFFERS_CLOUD.replace('"cloud"', repr(name)))
    manager = discovered()
    assert "needs a name of letters" in package(manager, "fluxburst-odd").problem
    assert name not in manager.offers


def test_a_distribution_that_was_half_removed_costs_itself_only(
    make_package: MakePackage, tmp_path: Path
) -> None:
    make_package("fluxburst_cloud", OFFERS_CLOUD)
    make_package("fluxburst_gone", "import a_module_that_is_not_there")
    (tmp_path / "site" / "fluxburst_gone-1.2.3.dist-info" / "METADATA").unlink()
    manager = discovered()
    assert "cloud" in manager.offers
    assert any("a_module_that_is_not_there" in p.problem for p in manager.packages)


def test_an_object_that_cannot_be_looked_into_costs_itself_only(
    make_package: MakePackage,
) -> None:
    make_package("fluxburst_cloud", OFFERS_CLOUD)
    make_package("fluxburst_odd", "def __dir__(): raise RuntimeError('no')")
    manager = discovered()
    assert "cloud" in manager.offers
    assert "RuntimeError: no" in package(manager, "fluxburst-odd").problem


def test_an_installed_package_takes_part_in_every_phase(make_package: MakePackage) -> None:
    make_package(
        "fluxburst_site",
        """
        from dataclasses import replace
        from fluxburst import BurstState, hookimpl

        ran = []

        @hookimpl
        def fluxburst_select_job(job):
            return job.id == 2

        @hookimpl
        def fluxburst_order_plugins(plugins):
            return sorted(plugins, reverse=True)

        @hookimpl
        def fluxburst_schedule_job(job, plugin):
            return plugin.name == "b"

        @hookimpl
        def fluxburst_run_plugin(plugin, request):
            ran.append((plugin.name, list(request.jobs)))
            return [replace(burst, state=BurstState.READY) for burst in request.bursts]
        """,
    )
    make_package("fluxburst_broken", "import a_module_that_is_not_there")
    plugins = [Elsewhere(name) for name in ("a", "b", "c")]
    client = client_with(*plugins, jobs=(job(1), job(2)))
    assert next(iter(client.iter_plugins())) == ("c", plugins[2])
    assert client.run_burst() == []
    assert sys.modules["fluxburst_site"].ran == [("b", [2])]
    assert plugins[1].created == []
