"""Network file systems: found when a ledger is opened, and by doctor, with what to do."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Elsewhere, client_on, job

from fluxburst.cli import main
from fluxburst.config.file import Config
from fluxburst.errors import LedgerError
from fluxburst.ledger import media
from fluxburst.ledger.lock import holder_of
from fluxburst.ledger.media import network_file_system
from fluxburst.reports.doctor import Doctor
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

ADVICE = "keep it in a local directory, set by --state-dir or FLUXBURST_STATE_DIR"


def mounts(file: Path, mounted: Mapping[str, str]) -> Path:
    """Write what is mounted where, as proc_pid_mountinfo(5) has it."""
    lines = [
        f"{number} 1 0:{number} / {where} rw,relatime shared:{number} - {kind} server:/x rw"
        for number, (where, kind) in enumerate(mounted.items(), start=20)
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        ("nfs", True),
        ("nfs4", True),
        ("cifs", True),
        ("lustre", True),
        ("gpfs", True),
        ("beegfs", True),
        ("fuse.sshfs", True),
        ("fuse.glusterfs", True),
        ("ext4", False),
        ("xfs", False),
        ("tmpfs", False),
        ("overlay", False),
        ("fuse.fuse-overlayfs", False),
        ("fuseblk", False),
    ],
)
def test_what_a_directory_is_on_is_told_by_its_mount(
    kind: str, network: bool, tmp_path: Path
) -> None:
    table = mounts(tmp_path / "mountinfo", {"/": "ext4", str(tmp_path): kind})
    for path in (tmp_path, tmp_path / "not" / "there"):
        assert network_file_system(path, table) == (kind if network else "")
    assert network_file_system(Path("/"), table) == ""


def test_the_nearest_mount_and_the_last_counts_and_spaces_and_links_are_understood(
    tmp_path: Path,
) -> None:
    home, local = tmp_path / "a home", tmp_path / "a home" / "local"
    local.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(home)
    escaped = str(home).replace(" ", "\\040")
    table = mounts(
        tmp_path / "mountinfo",
        {"/": "ext4", escaped: "ext4", escaped + "/": "nfs4", f"{escaped}/local": "xfs"},
    )
    assert network_file_system(home, table) == "nfs4"
    assert network_file_system(link, table) == "nfs4"
    assert network_file_system(local, table) == ""
    assert network_file_system(home, tmp_path / "none") == ""


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_table_of_mounts_can_be_read(text: str) -> None:
    class Table:
        def read_text(self, errors: str) -> str:
            return text

    assert isinstance(network_file_system(Path("/"), Table()), str)  # type: ignore[arg-type]


@pytest.fixture
def on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    table = mounts(tmp_path / "mountinfo", {"/": "ext4", str(tmp_path): "nfs4"})
    real = network_file_system
    for module in (
        "fluxburst.ledger.location",
        "fluxburst.reports.doctor.state_directory",
        "fluxburst.ledger.media",
    ):
        monkeypatch.setattr(f"{module}.network_file_system", lambda path: real(path, table))
    return tmp_path / "state"


def test_a_ledger_on_a_network_file_system_is_said_when_it_is_opened_and_by_doctor(
    on_nfs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_that_doctor_warns(on_nfs)
    instance, plugin = EmbeddedInstance(Recording((job(1),))), Elsewhere("cloud")
    with client_on(instance, plugin, state_dir=on_nfs) as client:
        client.run_burst()
    assert len(plugin.created) == 1
    (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert f"the ledger in {on_nfs} is on a network file system (nfs4)" in line
    assert line.endswith(ADVICE)
    check_that_doctor_warns(on_nfs)


def check_that_doctor_warns(on_nfs: Path) -> None:
    found = Doctor(Config, EmbeddedInstance(), state_dir=on_nfs).examine()
    (finding, *_) = [one.finding for one in found if one.check == "state directory"]
    assert (finding.level, finding.advice) == ("warning", ADVICE)
    assert "network file system (nfs4)" in finding.what


# --- no locks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["flock", "lockf"])
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_files_cannot_be_locked_nothing_is_done_and_the_reason_is_said(
    call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, call, fails)
    plugin = Elsewhere("cloud")
    client = client_on(EmbeddedInstance(Recording((job(1),))), plugin, state_dir=tmp_path)
    with client, pytest.raises(LedgerError) as caught:
        client.run_burst()
    assert f"cannot lock files ({os.strerror(code)}): {ADVICE}" in str(caught.value)
    assert plugin.created == []
    if call == "flock":
        with pytest.raises(LedgerError, match="cannot lock files"):
            holder_of([tmp_path / "lock"])


def test_a_lock_that_another_has_is_no_sign_of_missing_ones(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    holder = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{holder}; print(flush=True); sys.stdin.read()", str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with lock.open("r+b") as file:
            media.check_locks(file.fileno(), lock)
        child.kill()


NO_LOCKS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

/* What fcntl(2) does on NFS whose server offers no locks. */
#define WITHOUT_LOCKS(name)                                                  \\
  int name(int file, int command, ...) {                                     \\
    va_list rest;                                                            \\
    va_start(rest, command);                                                 \\
    void *argument = va_arg(rest, void *);                                   \\
    va_end(rest);                                                            \\
    if (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK) { \\
      errno = ENOLCK;                                                        \\
      return -1;                                                             \\
    }                                                                        \\
    int (*real)(int, int, ...) = dlsym(RTLD_NEXT, #name);                    \\
    return real(file, command, argument);                                    \\
  }
WITHOUT_LOCKS(fcntl)
WITHOUT_LOCKS(fcntl64)
"""


@pytest.fixture(scope="module")
def without_locks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return an environment in which files cannot be locked."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    directory = tmp_path_factory.mktemp("preload")
    (directory / "no_locks.c").write_text(NO_LOCKS)
    library = directory / "no_locks.so"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-o",
        str(library),
        str(library.with_suffix(".c")),
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


@pytest.mark.parametrize("command", ["run", "unburst --all", "watch", "status", "cost", "doctor"])
def test_a_command_where_there_are_no_locks_says_so_in_one_line_at_once(
    command: str, tmp_path: Path, without_locks: Mapping[str, str]
) -> None:
    pytest.importorskip("fluxburst_mock")
    with pytest.raises(SystemExit):
        main(["run", "--mock", "--plugin=mock", "--quiet", f"--state-dir={tmp_path}"])
    words = [*command.split(), "--mock", "--plugin=mock", f"--state-dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "fluxburst", *words],
        env=without_locks,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    said = done.stderr if command != "doctor" else " ".join(done.stdout.split())
    assert "cannot lock files (No locks available)" in said
    assert "another client holds" not in said
    assert "Traceback" not in done.stderr
    if command != "doctor":
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("made", [True, False])
def test_a_directory_without_locks_is_an_error_of_doctor_before_there_is_a_ledger(
    made: bool, tmp_path: Path, without_locks: Mapping[str, str]
) -> None:
    state = tmp_path / "state"
    if made:
        state.mkdir(mode=0o700)
    words = ["doctor", "--mock", f"--state-dir={state}", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "fluxburst", *words],
        env=without_locks,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [one for one in json.loads(done.stdout) if one["check"] == "state directory"]
    assert (done.returncode, found[0]["level"], found[0]["advice"]) == (1, "error", ADVICE)
    assert "cannot lock files (No locks available)" in found[0]["what"]
    assert list(tmp_path.rglob("*")) == ([state] if made else [])
