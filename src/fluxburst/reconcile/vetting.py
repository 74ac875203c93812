"""Vets plugins' answers about bursts: their ownership, and their plausibility.

If a plugin named the lead's host, or another user's, that host would be drained with its burst, and
its jobs ended. So a host that was up before the request is not taken for the burst's. If
that is unknown, as for bursts that no ledger has, a host that is up needs the burst's name. The
answer itself is validated on arrival (:mod:`fluxburst.plugin.validation`).
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
"""How many seconds a provider's clock may be ahead of ours."""


class Vetting:
    """Vets plugins' answers for one client.

    Args:
        instance: The instance.
        store: The client's store.
        standing: Remembers which nodes were up before bursts were requested.
    """

    def __init__(self, instance: Instance, store: BurstStore, standing: Standing) -> None:
        self._instance = instance
        self._store = store
        self._standing = standing

    def note_before(self, bursts: Collection[str]) -> frozenset[str]:
        """Note which nodes are up before bursts are requested: these are not theirs.

        Returns their hostnames.
        """
        up = self._up()
        self.note_asked(bursts, up)
        return up

    def note_asked(self, bursts: Collection[str], up: frozenset[str]) -> None:
        """Note which nodes were up before the request of bursts that only now have names."""
        if bursts:
            live = {entry.burst.name for entry in self._store.ledger.live()}
            self._standing.note(bursts, up, live)

    def vetted(self, burst: Burst, known: Burst, what: str) -> Burst:
        """Return a plausible burst from a plugin's answer.

        Args:
            burst: The burst in the answer.
            known: The burst as known before.
            what: The method called.

        Raises:
            BurstError: for impossible values; names plugin, burst and value.
        """
        for problem in self._problems(burst, known):
            raise BurstError(f"{what} returned {problem}", plugin=burst.plugin, burst=burst.name)
        burst = replace(burst, isolated=known.isolated)
        if burst.since is not None and burst.since != known.since:
            burst = replace(burst, since=min(burst.since, self._store.now()))
        return self._as_seen(burst, known)

    def _as_seen(self, burst: Burst, known: Burst) -> Burst:
        """Return a burst updated from its nodes in the instance.

        If its hosts are known, they decide whether it is ready, not its plugin: a burst whose
        nodes never join must end by its timeout. A ready burst may lose nodes.
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
                yield f"the hostname {host!r}, which was up before the request"
            if before is None and host in self._up() and not _named_after(host, burst.name):
                yield f"the hostname {host!r}, which is up, without proof that it is its own"
            if host in taken:
                yield f"the hostname {host!r}, which belongs to burst {taken[host]}"

    def _taken(self, name: str) -> dict[str, str]:
        """Return the hosts of other bursts: starting ones, and those that are up."""
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
    """Whether a host has a burst's name, which is unique and includes the instance."""
    return host == burst or host.startswith(f"{burst}-")


UP_BEFORE = "up-before.json"
"""An object: the nodes that were up, as a hostlist (RFC 29), and the bursts requested then."""

_log = logging.getLogger(__name__)


class Standing:
    """Remembers, beside the ledger, which nodes were up before each burst's request.

    A plugin may name the hosts of a burst long after its request, and to another process. Without
    the file, only the proof in it is lost.

    Args:
        place: Location of the ledger; in memory, nothing outlasts this object.
    """

    def __init__(self, place: LedgerPlace) -> None:
        self._place = place
        self._before: dict[str, frozenset[str]] = {}

    def before(self, burst: str) -> frozenset[str] | None:
        """Return the hostnames that were up before a burst's request; None if unknown."""
        if burst not in self._before:
            self._before = {**self._read(), **self._before}
        return self._before.get(burst)

    def note(self, bursts: Collection[str], up: frozenset[str], live: Collection[str]) -> None:
        """Note what is up before bursts are requested; forget all but ``live`` ones."""
        known = {**self._read(), **self._before}
        self._before = {name: hosts for name, hosts in known.items() if name in live}
        self._before.update(dict.fromkeys(bursts, up))
        path = self._path
        if path is not None:
            try:
                self._write(path)
            except OSError as error:  # then hosts named after a restart are refused
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
            _log.warning("ignoring %s, which cannot be read: %s", path, error)
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
    """Return some of the names, for people."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]) + more


class Ownership:
    """Decides which bursts in plugins' lists are ours, and warns once of others.

    Only ours are adopted, or terminated.

    Args:
        store: The client's store.

    Attributes:
        strangers: Names in each plugin's last list that are not ours.
    """

    def __init__(self, store: BurstStore) -> None:
        self._store = store
        self._warned: dict[str, set[str]] = {}
        self.strangers: dict[str, frozenset[str]] = {}

    def ours(self, plugin: BurstPlugin, names: Iterable[str]) -> set[str]:
        """Return the names in a plugin's list that are ours.

        Raises:
            LedgerError: if the ledger is unreadable.
        """
        listed = set(names)
        ours = {name for name in listed if is_ours(self._store.ledger, plugin, name)}
        self.strangers[plugin.name] = frozenset(listed - ours)
        self._warn(plugin.name, listed - ours)
        return ours

    def _warn(self, plugin: str, strangers: set[str]) -> None:
        before = self._warned.get(plugin, set())
        self._warned[plugin] = strangers  # warn again when something disappears and returns
        if strangers - before:
            _log.warning(
                "plugin %s lists bursts of others, leaving them alone: %s; it must list only its "
                "own for this instance: to get rid of these, "
                "delete them at the provider",
                plugin,
                strangers_text(strangers - before),
                extra={"plugin": plugin},
            )
