from __future__ import annotations

import functools
import importlib
import logging
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

MakePackage = Callable[..., str]

# How long an example takes says more of the machine than of what is tested; and each run tries
# others, so that none has to try many.
settings.register_profile("fluxburst", deadline=None, max_examples=40)
settings.load_profile("fluxburst")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Have one process run each file, and all files of a plugin that need an API server.

    That server takes seconds of a processor to start, and some of one as long as it runs.
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByServer(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return str(Path(file).parent) if _needs_api_server(config.rootpath / file) else file

    config.option.loadscopereorder = False  # which puts files of a few long tests last
    return ByServer(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes run the tests, have them begin with what takes long."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (not _needs_api_server(item.path), not _is_live(item.path)))


@functools.cache
def _needs_api_server(file: Path) -> bool:
    return "pytest.mark.kubernetes" in file.read_text()


@functools.cache
def _is_live(file: Path) -> bool:
    marks = r"pytest\.mark\.(accounting|flux|guests|slurm|ssh|long)"
    return re.search(marks, file.read_text()) is not None


@pytest.fixture(autouse=True)
def _own_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Keep the environment, configuration and state of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith("FLUXBURST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what the command line sets up, for the tests after one that runs it in this process."""
    logger = logging.getLogger("fluxburst")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = propagate


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePackage]:
    """Install a package: a module and, unless it is to have none, an entry point for it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    made: list[str] = []

    def make(
        module: str,
        source: str,
        *,
        entry_point: bool = True,
        distribution: str = "",
        group: str = "fluxburst",
    ) -> str:
        distribution = distribution or module.replace("_", "-")
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        if entry_point:
            info = site / f"{distribution.replace('-', '_')}-1.2.3.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2.3\n"
            )
            name = module.removeprefix("fluxburst_")
            (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
        made.append(module)
        importlib.invalidate_caches()
        return distribution

    yield make
    for module in made:
        sys.modules.pop(module, None)
