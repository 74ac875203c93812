from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxburst.errors import JobspecError, RequestError
from fluxburst.model.job import Job
from fluxburst.model.node import Node
from fluxburst.plugin.selectors import (
    AllOf,
    AnyOf,
    AsksMoreThanFree,
    FromUsers,
    InBanks,
    InQueues,
    Not,
    WaitedLongerThan,
    from_config,
    is_burstable,
)

unhurried = settings(deadline=None)


@dataclass
class Around:
    time: float = 1000.0
    has: tuple[Node, ...] = ()

    def now(self) -> float:
        return self.time

    def nodes(self) -> tuple[Node, ...]:
        return self.has


def job(cores: int = 1, burstable: Any = None, **changes: Any) -> Job:
    system = {} if burstable is None else {"burstable": burstable}
    for name in ("queue", "bank", "constraints"):
        if name in changes:
            system[name] = changes.pop(name)
    resources = [
        {"type": "slot", "count": 1, "label": "a", "with": [{"type": "core", "count": cores}]}
    ]
    spec = {"resources": resources, "tasks": [], "attributes": {"system": system}, "version": 1}
    return Job({"id": 1, "userid": 1000, "t_submit": 900.0, "state": 8, "spec": spec, **changes})


def yes(_: Job) -> bool:
    return True


def no(_: Job) -> bool:
    return False


AROUND = Around(has=(Node(0, "a", 8, free_cores=4), Node(1, "b", 8, free_cores=2)))
NAME = pwd.getpwuid(os.getuid()).pw_name


# --- as callables --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "selected"), [(1, True), ("gke", True), (0, False), (False, False), (None, False)]
)
def test_jobs_flagged_burstable_are_selected(flag: object, selected: bool) -> None:
    assert is_burstable(job(burstable=flag)) is selected


@pytest.mark.parametrize(("cores", "selected"), [(1, False), (4, False), (5, True)])
def test_jobs_that_ask_for_more_than_is_free_are_selected(cores: int, selected: bool) -> None:
    assert AsksMoreThanFree(AROUND)(job(cores)) is selected


def test_nodes_that_are_down_or_drained_are_not_free() -> None:
    away = (Node(0, "a", 8, free_cores=8, up=False), Node(1, "b", 8, free_cores=8, drained=True))
    assert AsksMoreThanFree(Around(has=away))(job(1))


def test_only_what_matches_a_jobs_constraints_is_free_to_it() -> None:
    assert not AsksMoreThanFree(AROUND)(job(2, constraints={"hostlist": ["b"]}))
    assert AsksMoreThanFree(AROUND)(job(3, constraints={"hostlist": ["b"]}))
    assert AsksMoreThanFree(AROUND)(job(1, constraints={"properties": ["gpu"]}))
    with pytest.raises(JobspecError, match=r"job 1: .*'host' is not an operator"):
        AsksMoreThanFree(AROUND)(job(1, constraints={"host": ["b"]}))


def test_what_is_free_is_asked_for_each_time() -> None:
    around = Around()
    selector = AsksMoreThanFree(around)
    assert selector(job(4))
    around.has = AROUND.has
    assert not selector(job(4))


@pytest.mark.parametrize(("seconds", "selected"), [(99, True), (100, False), (101, False)])
def test_jobs_that_waited_longer_are_selected(seconds: float, selected: bool) -> None:
    assert WaitedLongerThan(seconds, AROUND)(job(t_submit=900.0)) is selected


def test_jobs_of_users_are_selected_by_name_and_by_id() -> None:
    mine, other = job(userid=os.getuid()), job(userid=os.getuid() + 1)
    for users in ([NAME], [os.getuid()], [str(os.getuid())], ["4242", NAME]):
        assert FromUsers(users)(mine)
        assert not FromUsers(users)(other)


def test_a_user_who_is_not_there_is_a_request_error() -> None:
    with pytest.raises(RequestError, match=r"selector 'user'.*'no-such-user-anywhere'"):
        FromUsers(["no-such-user-anywhere"])


@pytest.mark.parametrize("user", ["²", "a\x00b"])
def test_a_name_that_cannot_be_a_users_is_a_request_error(user: str) -> None:
    with pytest.raises(RequestError):
        FromUsers([user])


def test_jobs_of_queues_and_banks_are_selected() -> None:
    assert InQueues(["batch", "debug"])(job(queue="debug"))
    assert not InQueues(["batch"])(job(queue="debug"))
    assert not InQueues(["batch"])(job())
    assert InBanks(["physics"])(job(bank="physics"))
    assert not InBanks(["physics"])(job(bank="chemistry"))
    assert not InBanks(["physics"])(job())


@given(st.lists(st.booleans(), max_size=4))
@unhurried
def test_all_any_and_not_are_those_of_logic(votes: list[bool]) -> None:
    selectors: list[Callable[[Job], bool]] = [yes if vote else no for vote in votes]
    assert AllOf(selectors)(job()) is all(votes)
    assert AnyOf(selectors)(job()) is any(votes)
    assert Not(AllOf(selectors))(job()) is not all(votes)


def test_selectors_are_equal_if_they_say_the_same() -> None:
    assert FromUsers(["0"]) == FromUsers([0])
    assert WaitedLongerThan(5, AROUND) == WaitedLongerThan(5, AROUND)
    assert InQueues(["a"]) != InQueues(["b"])


# --- from the config -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("description", "selected", "left"),
    [
        ("burstable", job(burstable=1), job()),
        ("more_than_free", job(8), job(1)),
        ({"waited": "90s"}, job(t_submit=900.0), job(t_submit=950.0)),
        ({"waited": "1.5m"}, job(t_submit=900.0), job(t_submit=950.0)),
        ({"waited": 90}, job(t_submit=900.0), job(t_submit=950.0)),
        ({"waited": 90.5}, job(t_submit=900.0), job(t_submit=950.0)),
        ({"user": NAME}, job(userid=os.getuid()), job(userid=4242)),
        ({"user": [NAME, 7]}, job(userid=7), job(userid=4242)),
        ({"user": 7}, job(userid=7), job(userid=4242)),
        ({"user": "7"}, job(userid=7), job(userid=4242)),
        ({"queue": "batch"}, job(queue="batch"), job(queue="debug")),
        ({"queue": ["a", "batch"]}, job(queue="batch"), job()),
        ({"bank": ["physics"]}, job(bank="physics"), job(queue="physics")),
        ({"not": "burstable"}, job(), job(burstable=1)),
        ({"not": {"not": "burstable"}}, job(burstable=1), job()),
        ({"all": ["burstable", {"queue": "b"}]}, job(burstable=1, queue="b"), job(queue="b")),
        ({"any": ["burstable", {"queue": "b"}]}, job(queue="b"), job(queue="c")),
        (
            {"all": ["burstable", {"not": {"user": ["0"]}}, {"any": [{"queue": ["batch"]}]}]},
            job(burstable=1, queue="batch", userid=5),
            job(burstable=1, queue="batch", userid=0),
        ),
    ],
    ids=repr,
)
def test_a_description_selects_as_it_says(description: Any, selected: Job, left: Job) -> None:
    selector = from_config(description, AROUND)
    assert selector(selected) is True
    assert selector(left) is False


@pytest.mark.parametrize(
    ("description", "problem"),
    [
        ("burstible", "'burstible' is not known; did you mean 'burstable'"),
        ("more_then_free", "did you mean 'more_than_free'"),
        ("", "'' is not known"),
        ("all", "'all' is not known"),
        ({"wated": "5m"}, "'wated' is not known; did you mean 'waited'"),
        ({"users": "x"}, "did you mean 'user'"),
        ({}, "a name or a table with one name"),
        ({"queue": "a", "bank": "b"}, "a name or a table with one name"),
        (None, "a name or a table with one name"),
        (5, "a name or a table with one name"),
        (True, "a name or a table with one name"),
        ([], "a name or a table with one name"),
        (["burstable"], "a name or a table with one name"),
        ({"waited": "soon"}, "selector 'waited': 'soon' is not a Flux Standard Duration"),
        ({"waited": -5}, "selector 'waited'"),
        ({"waited": True}, "selector 'waited'"),
        ({"waited": None}, "selector 'waited'"),
        ({"waited": []}, "selector 'waited'"),
        ({"user": []}, "selector 'user': expected a name or a list of names"),
        ({"user": [1.5]}, "selector 'user': expected a name or a list of names"),
        ({"user": None}, "selector 'user'"),
        ({"user": "no-such-user-anywhere"}, "there is no user 'no-such-user-anywhere'"),
        ({"queue": {}}, "selector 'queue': expected a name or a list of names"),
        ({"bank": [["a"]]}, "selector 'bank': expected a name or a list of names"),
        ({"all": []}, "selector 'all': expected a list of selectors"),
        ({"all": "burstable"}, "selector 'all': expected a list of selectors"),
        ({"any": {"queue": "a"}}, "selector 'any': expected a list of selectors"),
        ({"any": ["burstable", "x"]}, "selector 'x' is not known"),
        ({"not": ["burstable"]}, "a name or a table with one name"),
        ({"not": {"not": {"quue": "a"}}}, "did you mean 'queue'"),
    ],
    ids=repr,
)
def test_a_wrong_description_is_refused_and_says_what_is_wrong(
    description: Any, problem: str
) -> None:
    with pytest.raises(RequestError) as caught:
        from_config(description, AROUND)
    assert problem in str(caught.value)


@pytest.mark.parametrize("description", [{"queue": True}, {"bank": [5]}, {"user": True}])
def test_what_is_no_name_is_refused(description: Any) -> None:
    with pytest.raises(RequestError):
        from_config(description, AROUND)


@pytest.mark.parametrize("description", [{"waited": "0x."}, {5: "a"}, {None: "a"}])
def test_a_description_that_breaks_its_reading_is_refused(description: Any) -> None:
    with pytest.raises(RequestError):
        from_config(description, AROUND)


names = st.sampled_from(["burstable", "waited", "queue", "bank", "all", "any", "not", "x"])
descriptions = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | names | st.text("abc5m", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=2),
    max_leaves=8,
)


@given(descriptions)
@unhurried
def test_any_description_is_a_selector_or_a_request_error(description: object) -> None:
    try:
        selector = from_config(description, AROUND)
    except RequestError:
        return
    assert selector(job(burstable=1, queue="a", bank="b")) in (True, False)
