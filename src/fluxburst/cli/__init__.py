"""The command line: commands without logic of their own.

Modules are imported when a command runs, so that help and completion answer at once.
"""

from __future__ import annotations

from fluxburst.cli.app import cli, main

__all__ = ["cli", "main"]
