"""What plugins list that is not ours is said, and left alone; two instances never meet."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Elsewhere, client_on, job, named, spec

from fluxburst import Burst, BurstState, FluxBurst, NodeType
from fluxburst.cli import main
from fluxburst.errors import BurstError, BurstErrors, RequestError
from fluxburst.model.burst import burst_name, is_name_of, prefix_of, tag_of
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

EXAMPLE = Path(__file__).parents[1] / "docs" / "example_plugin" / "fluxburst_example.py"

NODE = NodeType("node", cores=8)
THEIRS = ["prod-db-1", "web-2", "cloud-1", "cloud-0a1b2c3d4e5f", named("cloud", 1, "another")]


class Lists(Elsewhere):
    """A plugin that lists all that its provider has, and tells how it is if ``adopts``."""

    def __init__(self, *there: str, adopts: bool = False) -> None:
        super().__init__("cloud", NODE)
        self.there = list(there)
        self.adopts = adopts

    def list_bursts(self) -> Collection[str]:
        return list(self.there)

    def adopt(self) -> Sequence[Burst] | None:
        ready = Burst("", "cloud", "node", 1, state=BurstState.READY)
        return [replace(ready, name=name) for name in self.there] if self.adopts else None

    def create(self, burst: Burst) -> Burst:
        self.there.append(burst.name)
        return super().create(burst)

    def delete(self, burst: Burst) -> None:
        super().delete(burst)
        if burst.name in self.there:
            self.there.remove(burst.name)


def an_instance(name: str = "embedded") -> EmbeddedInstance:
    return EmbeddedInstance(Recording((job(1, spec(1, 8, burstable=1)),), ()), name=name)


# --- names ---------------------------------------------------------------------------------------


@given(
    plugin=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,15}", fullmatch=True),
    instance=st.text(max_size=50),
    jobs=st.sets(st.integers(0, 2**63 - 1)),
    number=st.integers(2, 10**6),
)
def test_a_name_tells_plugin_and_instance_and_is_a_short_hostname(
    plugin: str, instance: str, jobs: set[int], number: int
) -> None:
    tag = tag_of(instance)
    name = burst_name(plugin, tag, "node", jobs)
    assert name == burst_name(plugin, tag, "node", jobs)
    for one in name, f"{name}-{number}", f"{prefix_of(plugin, tag)}{number}":
        assert is_name_of(one, plugin, tag)
        assert not is_name_of(one, plugin, tag_of(f"{instance}x"))
        assert not is_name_of(one, f"{plugin}x", tag)
        assert not is_name_of(f"{one}.", plugin, tag)
        assert set(one) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert len(one) <= len(plugin) + 26


# --- a plugin that lists what is others' ---------------------------------------------------------


@pytest.mark.parametrize("adopts", [True, False])
def test_what_is_not_ours_is_never_deleted_whatever_is_done(adopts: bool) -> None:
    cloud = Lists(*THEIRS, adopts=adopts)
    client = client_on(an_instance(), cloud)
    client.run_burst()
    client.reconcile()
    client.adopt_bursts()
    client.run_pass(everything=True, patience=60.0)
    (ours,) = cloud.created
    assert client.run_unburst() == [ours]
    with pytest.raises(RequestError, match="there is no burst 'prod-db-1' of this instance"):
        client.run_unburst(["prod-db-1"])
    assert (cloud.deleted, cloud.there) == ([ours], THEIRS)
    assert [entry.burst.name for entry in client.ledger.entries()] == [ours]
    assert {*cloud.bursts} == {ours}


def test_a_plugin_itself_takes_down_only_what_is_ours() -> None:
    ours = named("cloud", "0a")
    cloud = Lists(*THEIRS, ours)
    assert cloud.unburst() == [ours]
    for name in THEIRS:
        with pytest.raises(BurstError, match="is not a burst of this instance"):
            cloud.cleanup(name)
    assert cloud.there == THEIRS


def test_what_is_not_ours_is_said_once_as_long_as_it_is_listed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def said() -> list[str]:
        found = [r for r in caplog.records if "lists bursts of others" in r.getMessage()]
        assert all(record.levelno == logging.WARNING for record in found)
        return [record.getMessage() for record in found]

    cloud = Lists(*(f"prod-{n}" for n in range(100)))
    client = client_on(an_instance(), cloud)
    for _ in range(3):
        client.reconcile()
    (text,) = said()
    assert "plugin cloud" in text
    assert "and 95 more" in text
    cloud.there.append("web-2")
    client.reconcile()
    assert "web-2" in said()[-1]
    assert len(said()) == 2


def test_a_name_of_another_plugin_is_not_deleted_by_one_that_lists_it() -> None:
    instance = an_instance()
    cloud, liar = Lists(), Lists()
    liar.name = "liar"
    client = client_on(instance, cloud, liar)
    client.request_burst("cloud", 1, None)
    liar.there = list(cloud.there)
    client.reconcile()
    assert (liar.deleted, cloud.deleted) == ([], [])


def test_names_of_the_ledger_are_ours_whatever_their_form() -> None:
    instance = an_instance()
    old, ended, shared = "cloud-0123456789ab", "cloud-ba9876543210", "cloud-7"
    cloud = Lists(old, ended, shared)
    client = client_on(instance, cloud)
    up = Burst(old, "cloud", "node", 1, state=BurstState.READY)
    for name in old, ended, shared:
        client.ledger.request(replace(up, name=name), instance.now(), None, "")
    for name in ended, shared:
        gone = replace(up, name=name, state=BurstState.ENDED)
        client.ledger.record(gone, instance.now())
    client.reconcile()
    # Every instance called its first by hand so: what has ended here may be another's now.
    assert (cloud.deleted, cloud.there) == ([ended], [old, shared])
    assert client.run_unburst() == [old]


def test_an_orphan_of_our_form_is_taken_down() -> None:
    ours = named("cloud", "0a")
    cloud = Lists(ours)
    client = client_on(an_instance(), cloud)
    client.reconcile()
    client.reconcile()
    assert cloud.deleted == [ours]


def test_an_orphan_that_would_not_go_and_went_by_itself_is_settled_by_the_next_process() -> None:
    class Stuck(Lists):
        def delete(self, burst: Burst) -> None:
            raise BurstError("will not go")

    instance = an_instance()
    first = client_on(instance, Stuck(named("cloud", "0a")))
    for _ in range(2):
        with suppress(BurstErrors):
            first.reconcile()
    first.close()
    second = client_on(instance, Lists())
    second.reconcile()
    assert [entry.live for entry in second.ledger.entries()] == [False]
    assert second.remaining() == []


def test_what_is_not_ours_does_not_keep_unburst_from_proving_that_nothing_is_left() -> None:
    client = client_on(an_instance(), Lists(*THEIRS))
    assert client.remaining() == []
    assert client.strangers() == {"cloud": sorted(THEIRS)}


def test_of_a_plugin_that_cannot_tell_its_instance_nothing_is_presumed_ours_or_gone() -> None:
    class Blind(Lists):
        @property
        def instance_tag(self) -> str:
            raise OSError("no certificate")

    blind = Blind(named("cloud", "0a"))
    client = client_on(an_instance(), blind)
    with pytest.raises(BurstErrors, match="no certificate"):
        client.reconcile()
    with pytest.raises(BurstErrors, match="no certificate"):
        client.run_unburst()
    assert blind.deleted == []
    assert [left.burst for left in client.remaining()] == [""]


# --- two instances -------------------------------------------------------------------------------


def example_on(name: str, directory: Path) -> FluxBurst:
    client = FluxBurst(an_instance(name))
    parameters = importlib.import_module("fluxburst_example").Parameters
    client.load("example", parameters(directory=directory))
    return client


@pytest.fixture
def example(make_package: Callable[..., str]) -> None:
    make_package("fluxburst_example", EXAMPLE.read_text())


@pytest.mark.usefixtures("example")
def test_two_instances_that_share_a_directory_never_touch_each_others(tmp_path: Path) -> None:
    shared = tmp_path / "machines"
    shared.mkdir()
    one, two = example_on("one", shared), example_on("two", shared)
    (shared / "prod-db-1.json").write_text("[]")
    for client in one, two:
        client.run_burst()
        client.request_burst("example", 1, None)
    assert len(list(shared.iterdir())) == 5
    for client in one, two, one:
        client.reconcile()
        client.reconcile()
    assert len(list(shared.iterdir())) == 5
    assert len(one.run_unburst()) == 2
    assert len(list(shared.iterdir())) == 3
    assert len(two.run_unburst()) == 2
    assert [path.name for path in shared.iterdir()] == ["prod-db-1.json"]


# --- what is shown of it -------------------------------------------------------------------------

LISTING = """
from dataclasses import replace
from fluxburst import BurstParameters, BurstPlugin, BurstState, NodeType, PluginType, hookimpl

class Cloud(BurstPlugin):
    name = "cloud"
    def node_types(self): return (NodeType("node", 64),)
    def create(self, burst): return replace(burst, state=BurstState.READY)
    def delete(self, burst): raise OSError(f"deleted {burst.name}")
    def list_bursts(self): return ["prod-db-1"]

@hookimpl
def fluxburst_register_plugins():
    return [PluginType("cloud", BurstParameters, Cloud)]
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as exited:
        main([*arguments])
    out, err = capsys.readouterr()
    return exited.value.code, out, err


def test_unburst_and_doctor_show_what_is_not_ours(
    make_package: Callable[..., str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_package("fluxburst_cloud", LISTING)
    at = ("--mock", "--plugin", "cloud", "--state-dir", str(tmp_path))
    code, out, err = run(capsys, "unburst", "--all", "--verify", *at)
    assert code == 0
    assert "Nothing is left." in out
    assert "plugin cloud lists bursts of others, left alone: prod-db-1" in err
    code, out, _ = run(capsys, "unburst", "--all", "--verify", "--json", *at)
    assert json.loads(out)["strangers"] == {"cloud": ["prod-db-1"]}
    out = run(capsys, "doctor", *at)[1]
    assert "it lists bursts that are not this instance's: prod-db-1" in out
