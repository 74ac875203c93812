"""A package that learns of a client does no harm beyond itself, whatever it does with it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest
from tests.support import Elsewhere, at_most, client_with, job, spec

from fluxburst import FluxBurst, NodeType, hookimpl

MakePackage = Callable[..., str]

KEEPS = """
from fluxburst import hookimpl

client = None

@hookimpl
def fluxburst_configure(client):
    globals()["client"] = client
    {}
"""

DOES = [
    "raise ValueError('boom')",
    "raise SystemExit(3)",
    "import asyncio; raise asyncio.CancelledError",
    "client.load('mock')",
    "client.plugins['cloud'] = None",
    "client.plan()",
    "client.run_burst()",
    "client.run_unburst()",
    "client.reconcile()",
    "client.hold()",
    "client.set_selector(bool)",
    "client.set_ordering(dict.items)",
    "client.reconfigure(client.config)",
    "client.wait_for_jobs()",
    "client.close()",
    "client.config = None",
    "client.instance = None",
    "client.hooks = None",
    "client.hooks.offers.clear()",
    "client.there_is_no_such_thing",
]


def works(client: FluxBurst) -> None:
    """Assert that a client does what it is for."""
    client.load("mock")
    assert len(client.plan().selected) == 1
    assert client.run_burst() is not None
    assert client.run_unburst()


@pytest.mark.parametrize("does", DOES)
def test_what_a_package_does_when_it_learns_of_a_client_is_its_own_failure(
    does: str, make_package: MakePackage
) -> None:
    make_package("fluxburst_aaa", KEEPS.format(does))
    make_package("fluxburst_zzz", KEEPS.format(""))
    with FluxBurst(mock=True) as client:
        (error,) = client.hooks.observer_errors
        assert str(error).startswith("fluxburst-aaa: fluxburst_configure: ")
        assert sys.modules["fluxburst_zzz"].client is client
        assert list(client.plugins) == []
        assert client.holder() == ""
        works(client)


@pytest.mark.parametrize("answer", ["5", "'mock'", "[client]", "client", "object()", "iter([1])"])
def test_what_a_package_answers_when_it_learns_of_a_client_is_nobodys_concern(
    answer: str, make_package: MakePackage
) -> None:
    make_package("fluxburst_aaa", KEEPS.format(f"return {answer}"))
    with FluxBurst(mock=True) as client:
        assert list(client.hooks.observer_errors) == []
        works(client)


def test_a_package_may_look_at_the_client_and_register_more_hooks(
    make_package: MakePackage,
) -> None:
    make_package(
        "fluxburst_aaa",
        """
        from fluxburst import hookimpl

        class OfOneClient:
            def __init__(self, client):
                self.began = client.now()
                self.name = client.instance.name
                self.limits = client.policy.limits
                self.said = []

            @hookimpl
            def fluxburst_select_job(self, job):
                self.said.append(job.id)
                return False

        made = []

        @hookimpl
        def fluxburst_configure(client):
            made.append(OfOneClient(client))
            client.hooks.register(made[-1], "fluxburst-aaa")
        """,
    )
    with FluxBurst(mock=True) as one, FluxBurst(mock=True) as two:
        assert list(one.hooks.observer_errors) == []
        assert one.plan().selected == ()
        first, second = sys.modules["fluxburst_aaa"].made
        assert len(first.said) == 1
        assert second.said == []
        assert two.plan().selected == ()


def test_a_client_that_is_kept_can_be_used_later(make_package: MakePackage) -> None:
    make_package("fluxburst_aaa", KEEPS.format(""))
    with FluxBurst(mock=True) as client:
        client.load("mock")
        kept = sys.modules["fluxburst_aaa"].client
        assert [name for name, _ in kept.iter_plugins()] == ["mock"]
        works(kept)


def test_a_package_that_uses_the_client_in_a_thread_of_its_own_does_not_come_between() -> None:
    said: list[BaseException] = []

    class Threaded:
        client: FluxBurst

        @hookimpl
        def fluxburst_configure(self, client: FluxBurst) -> None:
            self.client = client

        @hookimpl
        def fluxburst_select_job(self) -> None:
            def act() -> None:
                try:
                    self.client.run_unburst()
                except RuntimeError as error:
                    said.append(error)

            thread = threading.Thread(target=act)
            thread.start()
            thread.join()

    cloud = Elsewhere("cloud", NodeType("node", cores=8))
    with client_with(cloud, jobs=(job(1, spec(1, 8, burstable=1)),)) as client, at_most(30.0):
        client.hooks.register(Threaded(), "fluxburst-threaded")
        client.run_burst()
        assert cloud.deleted == []
        assert "cannot be called from another thread" in str(said[0])
        assert len(client.run_unburst()) == 1
