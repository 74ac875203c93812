"""TOML and environment to typed policy and parameters."""

from __future__ import annotations

from fluxburst.config.file import Config, find, load, usual_places

__all__ = ["Config", "find", "load", "usual_places"]
