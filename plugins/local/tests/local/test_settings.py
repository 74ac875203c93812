"""``init --force`` refreshes its own table of ``fluxburst.toml``, and leaves the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluxburst_local.settings import with_settings_of

NEW = '# Ours.\n[plugins.local]\nlauncher = "ssh"\n'


@pytest.mark.parametrize(
    ("old", "kept"),
    [
        ('[plugins.local]\nlauncher = "slurm"\n[limits]\nnodes = 3\n', "[limits]\nnodes = 3\n"),
        ("# Mine.\n[limits]\nnodes = 3\n\n[plugins.local]\nprice = 2\n", "# Mine.\n[limits]\n"),
    ],
)
def test_other_tables_stay_as_they_are(tmp_path: Path, old: str, kept: str) -> None:
    file = tmp_path / "fluxburst.toml"
    file.write_text(old)
    written = with_settings_of(file, NEW)
    assert kept in written
    assert '[plugins.local]\nlauncher = "ssh"\n' in written
    assert "slurm" not in written
    assert "price" not in written


@pytest.mark.parametrize("old", [None, "not toml", 'plugins.local.launcher = "slurm"\n'])
def test_what_cannot_be_merged_is_written_anew(tmp_path: Path, old: str | None) -> None:
    file = tmp_path / "fluxburst.toml"
    if old is not None:
        file.write_text(old)
    assert with_settings_of(file, NEW) == NEW


def test_what_says_the_same_stays_as_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "fluxburst.toml"
    file.write_text(f"{NEW}# Mine.\n[limits]\nnodes = 3\n")
    assert with_settings_of(file, NEW) == file.read_text()
