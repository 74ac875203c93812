"""What an administrator settles in the configuration, and what is said of what cannot be."""

from __future__ import annotations

import math
import os
import pwd
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from fluxburst.config import file as config_file
from fluxburst.config.policy import (
    LIMITED,
    TABLES,
    Breaking,
    Deciding,
    Lifetimes,
    Limit,
    Limits,
    Metering,
    Placing,
    Policy,
    Timeouts,
    Watching,
)
from fluxburst.errors import ConfigError

Load = Callable[[str], Policy]
Refused = Callable[[str], str]
ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(text: str) -> Policy:
        path = tmp_path / "fluxburst.toml"
        path.write_text(text)
        return config_file.load(path).policy

    return loaded


@pytest.fixture
def refused(load: Load, tmp_path: Path) -> Refused:
    """Return what is said of a configuration, which must name the file."""

    def problem(text: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load(text)
        assert str(caught.value).startswith(f"{tmp_path / 'fluxburst.toml'}: ")
        return caught.value.problem

    return problem


EVERYTHING = f"""
[lifetimes]
lease = "2h"
idle_timeout = "10m"
min_lifetime = 60
max_lifetime = "1d"
cool_down = "90s"
teardown = "5m"
keep = "lead[0-3],gpu7"
startup = "3m"
assumed_duration = "4h"
grace = "2m"
cancel_jobs = true

[timeouts]
create = "1m"
join = 120
delete = 180.5
list = "500ms"
output = "2m"
start = "3m"
request = "inf"

[breakers]
failures = 5
backoff = "30s"
max_backoff = "30m"

[watch]
poll = "1m"
gather = 0
depth = 7
history = "1d"

[policy]
starts = 5

[metrics]
port = 9101
address = "::1"
textfile = "/var/lib/node_exporter/fluxburst.prom"

[placement]
share_nodes = false

[limits]
nodes = 100
bursts = 10
node_hours = 5000
cost_per_hour = 40.5
cost_per_day = 500
cost = 10000

[limits.plugins.aws]
nodes = 50

[limits.users.{ME}]
cost = 100.0

[limits.users."*"]
bursts = 1

[limits.queues.batch]
cost_per_day = 100

[limits.queues."*"]
node_hours = 10
"""


def test_every_key_of_every_table_is_taken(load: Load) -> None:
    assert load(EVERYTHING) == Policy(
        Lifetimes(7200, 600, 60, 86400, 90, 300, "lead[0-3],gpu7", 180, 14400, 120, True),  # type: ignore[arg-type]
        Timeouts(60, 120, 180.5, 0.5, 120, 180, math.inf),  # type: ignore[arg-type]
        Breaking(5, 30, 1800),  # type: ignore[arg-type]
        Watching(60, 0, 7, 86400),  # type: ignore[arg-type]
        Limits(
            100,
            10,
            5000,
            40.5,
            500,
            10000,
            plugins={"aws": Limit(nodes=50)},
            users={ME: Limit(cost=100.0), "*": Limit(bursts=1)},
            queues={"batch": Limit(cost_per_day=100), "*": Limit(node_hours=10)},
        ),
        Metering(9101, "::1", Path("/var/lib/node_exporter/fluxburst.prom")),
        Deciding(5),
        Placing(share_nodes=False),
    )


def test_what_is_tested_is_every_key_there_is() -> None:
    for table in TABLES:
        assert f"[{table}]" in EVERYTHING
        for item in fields(type(getattr(Policy(), table))):
            assert f"\n{item.name} = " in EVERYTHING or f"[limits.{item.name}." in EVERYTHING


def test_by_default_nothing_is_limited(load: Load) -> None:
    policy = load("")
    assert policy == Policy()
    assert not policy.limits.is_set
    assert not policy.limits.by_owner
    assert math.isinf(policy.lifetimes.max_lifetime)


@pytest.mark.parametrize("table", [*TABLES, "limits.users.'*'", "limits.queues.q"])
def test_an_unknown_key_is_refused_with_the_nearest(refused: Refused, table: str) -> None:
    known = fields(Limit if "." in table else type(getattr(Policy(), table)))[0].name
    said = refused(f"[{table}]\n{known}s = 1\n")
    assert f"unknown key '{known}s'; did you mean {known!r}?" in said
    assert f"[{table.partition('.')[0]}]" in said


def test_an_unknown_table_is_refused_with_the_nearest(refused: Refused) -> None:
    assert "unknown key 'lifetime'; did you mean 'lifetimes'?" in refused("[lifetime]\n")
    said = refused("[limits.user.root]\nnodes = 1")
    assert "unknown key 'user'; did you mean 'users'?" in said


@pytest.mark.parametrize("table", TABLES)
def test_a_table_must_be_one(refused: Refused, table: str) -> None:
    assert f"[{table}]: expected " in refused(f"{table} = 3")


DURATIONS = [
    (table, item.name)
    for table in ("lifetimes", "timeouts", "breakers", "watch")
    for item in fields(type(getattr(Policy(), table)))
    if "Duration" in str(item.type)
]


@pytest.mark.parametrize(("table", "key"), DURATIONS)
@pytest.mark.parametrize("value", ["-1", "nan", "true", "'soon'", "[1]", "'-5m'"])
def test_what_is_no_duration_is_refused(refused: Refused, table: str, key: str, value: str) -> None:
    said = refused(f"[{table}]\n{key} = {value}")
    assert f"[{table}]: {key}: expected " in said
    assert "30s" in said
    assert ("and not negative" in said) == ("-" in value)


@pytest.mark.parametrize(("table", "key"), [(t, k) for t, k in DURATIONS if t != "lifetimes"])
def test_no_timeout_and_no_backoff_is_zero(
    load: Load, refused: Refused, table: str, key: str
) -> None:
    text = f"[{table}]\n{key} = 0"
    if key in ("gather", "history"):
        load(text)
    else:
        assert f"{key} must be more than 0" in refused(text)


@pytest.mark.parametrize("key", ["lease", "max_lifetime"])
def test_bursts_live_longer_than_no_time_at_all(refused: Refused, key: str) -> None:
    assert f"{key} must be more than 0" in refused(f"[lifetimes]\n{key} = 0\nteardown = 0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[lifetimes]\nlease = '10m'",
            "teardown (10m) must be shorter than lease (10m), which includes it",
        ),
        (
            "[lifetimes]\nmin_lifetime = '2h'\nmax_lifetime = '1h'",
            "min_lifetime (2h) must not be longer than max_lifetime (1h)",
        ),
        ("[breakers]\nbackoff = '2h'", "backoff must not be longer than max_backoff"),
        ("[breakers]\nfailures = 0", "failures must be 1 or more"),
        ("[watch]\ndepth = 0", "depth must be 1 or more"),
        ("[metrics]\nport = 65536", "port must be from 0 to 65535"),
        ("[metrics]\nport = -1", "port must be from 0 to 65535"),
        ("[limits]\ncost_per_day = 2\ncost = 1", "cost_per_day must not be more than cost"),
        (
            "[limits]\nnodes = 5\n[limits.plugins.aws]\nnodes = 6",
            "plugins.aws.nodes (6) is more than the instance's nodes (5)",
        ),
        (
            "[limits]\ncost = 1.5\n[limits.users.'*']\ncost = 2",
            "users.*.cost (2) is more than the instance's cost (1.5)",
        ),
        (
            "[limits]\nbursts = 0\n[limits.queues.q]\nbursts = 1",
            "queues.q.bursts (1) is more than the instance's bursts (0)",
        ),
        ("[limits.users.no-such-user]\nnodes = 1", "there is no user 'no-such-user'"),
        ("[limits]\nnodes = 1.5", "nodes: expected integer"),
        ("[limits]\nnodes = true", "nodes: expected integer"),
        ("[limits]\ncost = '5'", "cost: expected number"),
        ("[lifetimes]\nkeep = 3", "keep: expected text"),
    ],
)
def test_what_contradicts_itself_is_refused(refused: Refused, text: str, said: str) -> None:
    assert said in refused(text)


def test_a_malformed_keep_list_is_refused_by_its_name(refused: Refused) -> None:
    said = refused("[lifetimes]\nkeep = 'lead[0-'")
    assert "keep" in said
    assert "'lead[0-'" in said


@pytest.mark.parametrize("what", LIMITED)
@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
@pytest.mark.parametrize("table", ["limits", "limits.users.'*'"])
def test_a_limit_is_a_number_that_can_be_counted_to(
    refused: Refused, what: str, value: str, table: str
) -> None:
    said = refused(f"[{table}]\n{what} = {value}")
    assert what in said
    assert "[limits]" in said


@pytest.mark.parametrize("what", ["node_hours", "cost_per_day", "cost"])
@pytest.mark.parametrize("table", ["limits", "limits.plugins.a", "limits.users.'*'"])
def test_what_is_spent_by_the_hour_needs_a_lease_that_ends(
    refused: Refused, load: Load, table: str, what: str
) -> None:
    text = f"[lifetimes]\nlease = 'inf'\n[{table}]\n{what} = 1"
    assert f"limits.{what} needs a finite lease" in refused(text)
    load(f"[lifetimes]\nlease = 'inf'\n[{table}]\nnodes = 1")


def test_all_problems_are_said_at_once(refused: Refused) -> None:
    said = refused(
        """
        [lifetimes]
        lease = "soon"
        idle_timeout = -1
        [timeouts]
        crate = 3
        jion = 4
        [breakers]
        failures = 0
        [limits.users.no-such-user]
        nodes = 1
        """
    )
    for part in (
        "[lifetimes]: lease: expected",
        "[lifetimes]: idle_timeout: expected",
        "'crate'; did you mean 'create'?",
        "'jion'; did you mean 'join'?",
        "[breakers]: failures must be 1 or more",
        "there is no user 'no-such-user'",
    ):
        assert part in said


# --- users and queues --------------------------------------------------------------------------


def limits(users: Mapping[str, Any]) -> Limits:
    return Limits(users={name: Limit(nodes=nodes) for name, nodes in users.items()})


def test_users_are_named_by_name_by_number_or_all_the_others() -> None:
    uid = os.geteuid()
    by_name = limits({ME: 1, "*": 2, "54321": 3})
    assert by_name.of_user(uid) == Limit(nodes=1)
    assert by_name.of_user(54321) == Limit(nodes=3)
    assert by_name.of_user(54322) == Limit(nodes=2)
    assert by_name.name_of_user(uid) == ME
    assert by_name.name_of_user(54321) == "54321"
    assert by_name.name_of_user(54322) == "54322"
    assert limits({str(uid): 1}).of_user(uid) == Limit(nodes=1)
    assert limits({ME: 1}).of_user(54321) is None


def test_a_user_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=f"users.{ME} and users.{os.geteuid()} are the same user"):
        limits({ME: 1, str(os.geteuid()): 2})


def test_queues_are_named_or_all_the_others() -> None:
    both = Limits(queues={"batch": Limit(nodes=1), "*": Limit(nodes=2)})
    assert both.of_queue("batch") == Limit(nodes=1)
    assert both.of_queue("debug") == Limit(nodes=2)
    assert Limits(queues={"batch": Limit(nodes=1)}).of_queue("debug") is None


@pytest.mark.parametrize("kind", ["plugins", "users", "queues"])
def test_any_limit_is_one(kind: str) -> None:
    one: Any = {kind: {"*": Limit(nodes=1)}}
    none: Any = {kind: {"*": Limit()}}
    assert replace(Limits(), **one).is_set
    assert not replace(Limits(), **none).is_set
    assert replace(Limits(), **one).by_owner is (kind != "plugins")
