"""A plugin's facts about itself, asked once per plan, so that planning cannot fail half-way."""

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
    """A plugin's facts about itself; empty for a plugin that cannot be asked.

    Attributes:
        types: Its node types; empty for a plugin that sizes its bursts itself.
        in_use: Number of existing and planned nodes of each type, by the type's name.
        tag: This instance's identity in the names of its bursts.
        isolated: Whether its bursts are separate instances.
        run_as: The user for jobs there.
        queue: The queue that jobs move to; empty for none.
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
        BurstError: if it fails to tell any of it.
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
    """Return a plugin's answer.

    Raises:
        BurstError: if it is invalid.
    """
    if not is_right(answer):
        raise BurstError(f"its {what} is {answer!r}, not {expected}")
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
    """Facts about the plugins of a plan; each plugin is asked once.

    Args:
        plugins: The plugins, by name.
        stuck: Plugins that do not answer, with the message; they are not asked.

    Attributes:
        of: The facts about each.
        types: The node types of each.
        in_use: Number of existing and planned nodes of each of its types.
        unusable: Plugins that cannot be asked, with the reason.
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
    """Whether a plugin's bursts are separate instances; true if it cannot tell."""
    try:
        return plugin.isolated
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - planning with it reports this
        return True
