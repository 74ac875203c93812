"""What plugins say of their bursts: whose these are, and whether what is said of them can be.

A plugin that named the lead's host, or a stranger's, would have it drained with its burst, and the
jobs on it ended. So a host is not taken for a burst's if it was up when that was asked for. Where
that is not known, as of what is in no record, one that is up has to have the burst's name. What an
answer says in itself is looked at where it comes in (:mod:`fluxburst.plugin.validation`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from fluxburst.errors import BurstError, FormatError
from fluxburst.flux.protocol import Instance
from fluxburst.formats.hostlist import format_hostlist, parse_hostlist
from fluxburst.formats.units import format_duration
from fluxburst.ledger.location import LedgerPlace
from fluxburst.model.burst import COMING_STATES, LIVE_STATES, Burst, BurstState
from fluxburst.plugin.base import BurstPlugin
from fluxburst.plugin.validation import why_not_ended_there, why_too_many
from fluxburst.reconcile.burst_store import BurstStore, is_ours

CLOCK_SKEW = 300.0
"""By how many seconds a provider's clock may be ahead of ours."""


class Vetting:
    """Vets what plugins answer for one client.

    Args:
        instance: The instance.
        store: The client's store.
        standing: What remembers which nodes were up before bursts were asked for.
    """

    def __init__(self, instance: Instance, store: BurstStore, standing: Standing) -> None:
        self._instance = instance
        self._store = store
        self._standing = standing

    def note_before(self, bursts: Collection[str]) -> frozenset[str]:
        """Note which nodes are up before bursts are asked for: these are none of theirs.

        Returns their hostnames.
        """
        up = self._up()
        self.note_asked(bursts, up)
        return up

    def note_asked(self, bursts: Collection[str], up: frozenset[str]) -> None:
        """Note which nodes were up before bursts were asked for that only now have names."""
        if bursts:
            live = {entry.burst.name for entry in self._store.ledger.live()}
            self._standing.note(bursts, up, live)

    def vetted(self, burst: Burst, known: Burst, what: str) -> Burst:
        """Return a burst as a plugin answered it, where that can be.

        Args:
            burst: The burst as it was answered.
            known: The burst as it was known before.
            what: The method that answered.

        Raises:
            BurstError: if it says what cannot be; it names plugin, burst and value.
        """
        for problem in self._problems(burst, known):
            raise BurstError(f"{what} returned {problem}", plugin=burst.plugin, burst=burst.name)
        burst = replace(burst, isolated=known.isolated)
        if burst.since is not None and burst.since != known.since:
            burst = replace(burst, since=min(burst.since, self._store.now()))
        return self._as_seen(burst, known)

    def _as_seen(self, burst: Burst, known: Burst) -> Burst:
        """Return a burst with what its nodes in the instance say of it.

        Where its hosts are known, they decide whether it is ready, and not its plugin: one whose
        nodes never join is to end by its timeout. One that was ready may lose nodes.
        """
        coming = burst.state in COMING_STATES
        newly_ready = burst.state is BurstState.READY and known.state is not BurstState.READY
        if burst.isolated or not burst.hostnames or not (coming or newly_ready):
            return burst
        joined = len(self._up().intersection(burst.hostnames))
        state = BurstState.JOINING if newly_ready and joined < burst.nodes else burst.state
        return replace(burst, state=state, joined=joined)

    def _problems(self, burst: Burst, known: Burst) -> Iterator[str]:
        now = self._store.now()
        if burst.since not in (None, known.since) and burst.since - now > CLOCK_SKEW:
            ahead = format_duration(burst.since - now)
            yield f"since = {burst.since!r}, which is {ahead} ahead: is the provider's clock right?"
        yield from filter(None, (why_too_many(burst, known), why_not_ended_there(burst, known)))
        new = set(burst.hostnames) - set(known.hostnames)
        if not new:
            return
        lead = self._instance.name.partition(":")[0]
        before = self._standing.before(burst.name)
        taken = self._taken(burst.name)
        for host in sorted(new):
            if host == lead:
                yield f"the hostname {host!r}, which is the lead's"
            if before is not None and host in before:
                yield f"the hostname {host!r}, which was up before it was asked for"
            if before is None and host in self._up() and not _named_after(host, burst.name):
                yield f"the hostname {host!r}, which is up, and nothing shows that it is its own"
            if host in taken:
                yield f"the hostname {host!r}, which is one of burst {taken[host]}"

    def _taken(self, name: str) -> dict[str, str]:
        """Return the hosts of other bursts: those that are coming, and those that are up."""
        others = [entry.burst for entry in self._store.ledger.live() if entry.burst.name != name]
        staying = [burst for burst in others if burst.state in LIVE_STATES - {BurstState.ENDING}]
        up = self._up() if any(burst.hostnames for burst in staying) else frozenset()
        return {
            host: burst.name
            for burst in staying
            for host in burst.hostnames
            if burst.state in COMING_STATES or host in up
        }

    def _up(self) -> frozenset[str]:
        return frozenset(node.hostname for node in self._instance.nodes() if node.up)


def _named_after(host: str, burst: str) -> bool:
    """Whether a host has a burst's name, which nobody else's has: it tells the instance, too."""
    return host == burst or host.startswith(f"{burst}-")


UP_BEFORE = "up-before.json"
"""An object: the nodes that were up, as a hostlist (RFC 29), and the bursts asked for then."""

_log = logging.getLogger(__name__)


class Standing:
    """Remembers for each burst which nodes stood before it was asked for, beside the ledger.

    A plugin may name the hosts of a burst long after it was asked, and to another process. Without
    the file, nothing is lost but what it proves.

    Args:
        place: Where the ledger is; in memory, nothing outlasts this object.
    """

    def __init__(self, place: LedgerPlace) -> None:
        self._place = place
        self._before: dict[str, frozenset[str]] = {}

    def before(self, burst: str) -> frozenset[str] | None:
        """Return the hostnames that were up before a burst was asked for; None if not known."""
        if burst not in self._before:
            self._before = {**self._read(), **self._before}
        return self._before.get(burst)

    def note(self, bursts: Collection[str], up: frozenset[str], live: Collection[str]) -> None:
        """Note what is up before bursts are asked for; only ``live`` ones are remembered still."""
        known = {**self._read(), **self._before}
        self._before = {name: hosts for name, hosts in known.items() if name in live}
        self._before.update(dict.fromkeys(bursts, up))
        path = self._path
        if path is not None:
            try:
                self._write(path)
            except OSError as error:  # the hosts that are named after a restart are refused then
                _log.warning("%s cannot be written: %s", path, error.strerror)

    @property
    def _path(self) -> Path | None:
        directory = self._place.directory
        return None if directory is None else directory / UP_BEFORE

    def _read(self) -> dict[str, frozenset[str]]:
        path = self._path
        if path is None:
            return {}
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            return {
                name: hosts
                for text, names in told.items()
                for hosts in [frozenset(parse_hostlist(text) if text else ())]
                for name in names
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError, FormatError) as error:
            _log.warning("%s cannot be read, and is not believed: %s", path, error)
            return {}

    def _write(self, path: Path) -> None:
        told: dict[frozenset[str], list[str]] = {}
        for name, hosts in self._before.items():
            told.setdefault(hosts, []).append(name)
        text = json.dumps({format_hostlist(sorted(h)): names for h, names in told.items()})
        descriptor, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(made).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(made).unlink()
            raise


NAMED = 5
"""How many bursts one warning names."""

_log = logging.getLogger(__name__)


def strangers_text(names: Collection[str]) -> str:
    """Return some of the names, for a person."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]) + more


class Ownership:
    """Tells what is ours of what plugins list, and says once what is not.

    Only what is ours is adopted, or taken down.

    Args:
        store: The client's store.

    Attributes:
        strangers: What each plugin listed that is not ours, when it was last asked.
    """

    def __init__(self, store: BurstStore) -> None:
        self._store = store
        self._warned: dict[str, set[str]] = {}
        self.strangers: dict[str, frozenset[str]] = {}

    def ours(self, plugin: BurstPlugin, names: Iterable[str]) -> set[str]:
        """Return those of the names that a plugin lists which are ours.

        Raises:
            LedgerError: if the ledger cannot be read.
        """
        listed = set(names)
        ours = {name for name in listed if is_ours(self._store.ledger, plugin, name)}
        self.strangers[plugin.name] = frozenset(listed - ours)
        self._warn(plugin.name, listed - ours)
        return ours

    def _warn(self, plugin: str, strangers: set[str]) -> None:
        before = self._warned.get(plugin, set())
        self._warned[plugin] = strangers  # what went and comes again is said again
        if strangers - before:
            _log.warning(
                "plugin %s lists what is not of this instance, and is left alone: %s; it is to "
                "list only what it made for this instance: if this is what you want to be rid of, "
                "take it down at the provider",
                plugin,
                strangers_text(strangers - before),
                extra={"plugin": plugin},
            )
