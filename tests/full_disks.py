"""Disks that are full or cannot be written, for tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fluxburst import FluxBurst


def full_ledger(client: FluxBurst) -> Callable[[], None]:
    """Let the file of a ledger that is held grow no more; return what makes room."""
    connection = client.ledger._connection
    (most,) = connection.execute("PRAGMA max_page_count").fetchone()
    connection.execute("PRAGMA max_page_count = 1").fetchone()  # as many as there are, that is

    def make_room() -> None:
        connection.execute(f"PRAGMA max_page_count = {most}").fetchone()

    return make_room


def unwritable_ledger(client: FluxBurst) -> Callable[[], None]:
    """Let nothing be written to the file of a ledger that is held; return what mends that."""
    connection = client.ledger._connection
    connection.execute("PRAGMA query_only = ON")

    def mend() -> None:
        connection.execute("PRAGMA query_only = OFF")

    return mend


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Have a directory be a file system of its own, of a few pages; only root can."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k,mode=0700", "none", str(directory)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=False)


def fill(directory: Path) -> Path:
    """Fill a small file system; return the file whose end makes room."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 1024):
            pass
    assert not shutil.disk_usage(directory).free
    return filler


def make_read_only(directory: Path) -> None:
    """Have a small file system taken to be broken, as the kernel does."""
    subprocess.run(["mount", "-o", "remount,ro", str(directory)], check=True)
