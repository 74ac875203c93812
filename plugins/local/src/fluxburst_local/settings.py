"""Rewrites ``fluxburst.toml``, keeping an administrator's tables beside ours."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_OURS = re.compile(r"^\[plugins\.local\][^\n]*\n.*?(?=^\[|\Z)", re.MULTILINE | re.DOTALL)


def with_settings_of(path: Path, new: str) -> str:
    """Return a new configuration that keeps everything but our table from an existing file.

    Returns ``new`` itself if there is no such file, or if its layout is unknown.

    Args:
        path: The file, existing or not.
        new: The new contents: only the table ``[plugins.local]``.
    """
    try:
        old = path.read_text(encoding="utf-8")
        before = tomllib.loads(old)
        ours = tomllib.loads(new)["plugins"]["local"]
        expected = {**before, "plugins": {**before.get("plugins", {}), "local": ours}}
        if before == expected:
            return old
        table = _OURS.search(new)
        assert table is not None
        merged = _OURS.sub(
            lambda was: f"{table[0]}\n" if was.end() < len(old) else table[0], old, count=1
        )
        return merged if tomllib.loads(merged) == expected else new
    except (OSError, ValueError, TypeError):
        return new
