"""Who is told what: the instance's owner everything, a guest what he needs, and all by one rule."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from fluxburst.cli.app import Settings
from fluxburst.errors import NotOwnerError
from fluxburst.flux import access
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

GUEST, OWNER, ROOT_OWNER = 2 | 4, 1 | 4, 1 | 4
NOBODY = pwd.getpwnam("nobody").pw_uid


class Broker:
    """What a broker answers: which roles a connection has, and whose the instance is."""

    def __init__(self, rolemask: int, owner: int, user: int = 0) -> None:
        self._answers = {
            "broker.ping": {"userid": user, "rolemask": rolemask, "rank": 0},
            "attr.get": {"value": str(owner), "flags": 1},
        }

    def ask(self, topic: str, payload: Any) -> Any:
        return self._answers[topic]


def refusal(monkeypatch: pytest.MonkeyPatch, uid: int, owner: int) -> str:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    broker: Any = Broker(GUEST, owner)
    with pytest.raises(NotOwnerError) as refused:
        access.check_owner(broker)
    return str(refused.value)


def test_whom_flux_takes_for_the_owner_may_do_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    broker: Any = Broker(ROOT_OWNER, NOBODY)
    access.check_owner(broker)


def test_root_with_the_owners_rights_may_read_and_not_burst() -> None:
    """Brokers of root's run no guests' jobs, and his ledger knows nothing of the owner's bursts."""
    broker: Any = Broker(ROOT_OWNER, NOBODY)
    with pytest.raises(NotOwnerError) as refused:
        access.check_owner(broker, to_act=True)
    assert f"only the instance's owner, nobody (user {NOBODY}), may burst" in str(refused.value)
    assert str(refused.value).endswith("use: sudo -u nobody fluxburst …")


def test_the_owner_may_burst_as_the_broker_knows_him(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4242)  # his id where he came from
    broker: Any = Broker(OWNER, NOBODY, user=NOBODY)
    access.check_owner(broker, to_act=True)


def test_an_owner_without_a_name_is_given_to_sudo_by_his_number() -> None:
    broker: Any = Broker(ROOT_OWNER, 4294967290)
    with pytest.raises(NotOwnerError, match=r"use: sudo -u '#4294967290' fluxburst"):
        access.check_owner(broker, to_act=True)


def test_a_guest_is_told_whose_rights_it_takes_and_what_he_can_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = refusal(monkeypatch, NOBODY, 1)
    owner = pwd.getpwuid(1).pw_name
    assert f"the rights of the instance's owner, {owner} (user 1)" in said
    assert f"nobody (user {NOBODY}) is a guest of it" in said
    assert "flux submit --setattr=burstable" in said
    assert "flux jobs -ao '{id.f58} {user.fluxburst}'" in said
    assert f"ask {owner} to run 'fluxburst why JOBID'" in said


def test_root_is_told_how_he_becomes_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, 0, NOBODY)
    assert "unless allow-root-owner = true in the instance's table [access]" in said
    assert "run it as nobody (runuser -u nobody -- fluxburst" in said


def test_a_user_without_a_name_is_called_by_his_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "owner, user 4294967290;" in refusal(monkeypatch, NOBODY, 4294967290)


def test_an_instance_that_lets_nobody_in_is_told_from_one_that_is_away() -> None:
    shut = access.refused(PermissionError(errno.EPERM, "Operation not permitted"))
    assert "allow-guest-user" in str(shut)
    closed = access.refused(PermissionError(errno.EACCES, "Permission denied"))
    assert "cannot enter the directory" in str(closed)
    assert access.refused(FileNotFoundError(errno.ENOENT, "No such file or directory")) is None


@pytest.mark.parametrize("config", ["", "[plugins"])
def test_a_guest_is_told_so_before_what_is_wrong_with_his_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: str
) -> None:
    file = tmp_path / "fluxburst.toml"
    file.write_text(config)
    instance = EmbeddedInstance(Recording(()))

    def refuse(*, to_act: bool = False) -> None:
        raise NotOwnerError("this needs the rights of the instance's owner")

    monkeypatch.setattr(instance, "check_owner", refuse)
    settings = Settings(config=file)
    monkeypatch.setattr(settings, "instance", lambda: instance)
    with pytest.raises(NotOwnerError):
        settings.client()
