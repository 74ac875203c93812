"""Application default credentials: whose they are, and what is said where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fluxburst.errors import AuthError, RequestError
from fluxburst_google import credentials
from fluxburst_google.catalogue import machine_types


def test_the_table_of_machine_types_is_dated_and_has_prices_for_all() -> None:
    table = machine_types()
    assert table.region == "us-central1"
    assert 25 <= len(table.by_name) <= 50
    for one in table.by_name.values():
        assert one.price is not None
        assert one.spot_price is not None
        assert one.spot_price < one.price
    assert table["h3-standard-88"].cores == 88
    assert table["c2-standard-8"].cores == 4
    assert table["a2-highgpu-8g"].gpus == 8


def _service_account(path: Path, project: str) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    content = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": f"burst@{project}.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "http://127.0.0.1:9/token",
    }
    path.write_text(json.dumps(content))
    return path


def test_a_service_account_says_who_it_is_and_its_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = _service_account(tmp_path / "key.json", "some-project")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    identity = credentials.default()
    assert identity.who == "service account burst@some-project.iam.gserviceaccount.com"
    assert identity.require_project() == "some-project"
    assert credentials.default("another").project == "another"


def test_what_is_no_credentials_file_is_an_error_of_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(AuthError, match="gcloud auth application-default login"):
        credentials.default()


def test_without_a_project_the_parameter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = _service_account(tmp_path / "key.json", "")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with pytest.raises(RequestError, match="set the parameter project"):
        credentials.default().require_project()
