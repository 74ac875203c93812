"""What a plugin says of itself, asked once for each plan, so that it cannot fail half-way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from fluxburst.errors import BurstError
from fluxburst.model.burst import is_tag
from fluxburst.model.node import NodeType, check_node_types
from fluxburst.plugin.base import BurstPlugin, as_burst_error

T = TypeVar("T")


@dataclass(frozen=True)
class Facts:
    """What a plugin says of itself; of one that cannot be asked, nothing.

    Attributes:
        types: What it can supply; empty for a plugin that sizes its bursts itself.
        in_use: How many nodes of each type there are, or will be, by the type's name.
        tag: What tells this instance in the names of its bursts.
        isolated: Whether its bursts are instances of their own.
        run_as: As whom these may run jobs.
        queue: The queue that jobs are moved to; empty for none.
    """

    types: tuple[NodeType, ...] = ()
    in_use: Mapping[str, int] = field(default_factory=dict)
    tag: str = ""
    isolated: bool = False
    run_as: str = ""
    queue: str = ""


def facts_of(plugin: BurstPlugin) -> Facts:
    """Ask a plugin about itself.

    Raises:
        BurstError: if it cannot tell all of it.
    """
    try:
        types = tuple(plugin.node_types())
        check_node_types(types)
        return Facts(
            types,
            dict(_checked("in_use()", plugin.in_use(), _are_counts, "numbers of nodes by type")),
            _checked("instance_tag", plugin.instance_tag, is_tag, "letters and digits"),
            _checked("isolated", plugin.isolated, _is_bool, "True or False"),
            _checked("run_as", plugin.run_as, _is_text, "text"),
            _checked("queue", plugin.queue, _is_text, "text"),
        )
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise as_burst_error(error, plugin.name) from error


def _checked(what: str, answer: T, is_right: Callable[[object], bool], expected: str) -> T:
    """Return what a plugin says of itself.

    Raises:
        BurstError: if it is something else.
    """
    if not is_right(answer):
        raise BurstError(f"its {what} is {answer!r}, and not {expected}")
    return answer


def _is_text(answer: object) -> bool:
    return isinstance(answer, str)


def _is_bool(answer: object) -> bool:
    return isinstance(answer, bool)


def _are_counts(answer: object) -> bool:
    return isinstance(answer, Mapping) and all(
        isinstance(name, str) and type(count) is int for name, count in answer.items()
    )


class PluginFacts:
    """What the plugins of a plan say of themselves; each is asked once.

    Args:
        plugins: The plugins, by name.
        stuck: Those that do not answer, with the reason; they are not asked.

    Attributes:
        of: What each says.
        types: What each can supply.
        in_use: How many nodes of each of its types there are, or will be, as far as is planned.
        unusable: Those that cannot be asked, with the reason.
    """

    def __init__(self, plugins: Mapping[str, BurstPlugin], stuck: Mapping[str, BurstError]) -> None:
        self.unusable = dict(stuck)
        self.of = {name: self._ask(plugin) for name, plugin in plugins.items()}
        self.types = {name: facts.types for name, facts in self.of.items()}
        self.in_use = {name: dict(facts.in_use) for name, facts in self.of.items()}

    def _ask(self, plugin: BurstPlugin) -> Facts:
        if plugin.name in self.unusable:
            return Facts()
        try:
            return facts_of(plugin)
        except BurstError as error:
            self.unusable[plugin.name] = error
            return Facts()


def may_be_isolated(plugin: BurstPlugin) -> bool:
    """Whether a plugin's bursts are instances of their own, or it cannot tell."""
    try:
        return plugin.isolated
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it is said where it is planned with
        return True
