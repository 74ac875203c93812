from __future__ import annotations

import os
from pathlib import Path

import pytest

from fluxburst.provider.isolation import output_finding


def test_a_directory_that_can_be_made_is_as_it_should_be_and_is_not_made(tmp_path: Path) -> None:
    finding = output_finding(tmp_path / "a" / "b")
    assert (finding.level, "created on first use" in finding.what) == ("ok", True)
    assert list(tmp_path.iterdir()) == []
    assert output_finding(tmp_path).what == f"the output of jobs is kept in {tmp_path}"


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "below"):
        finding = output_finding(path)
        assert finding.level == "error"
        assert f"{file} is a file" in finding.what
        assert "output_dir" in finding.advice


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    finding = output_finding(tmp_path / "a")
    tmp_path.chmod(0o700)
    assert (finding.level, f"{tmp_path} cannot be written" in finding.what) == ("error", True)
