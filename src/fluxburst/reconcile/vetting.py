"""What plugins say of their bursts, held against the clock and what else there is.

A plugin that named the lead's host, or a stranger's, would have it drained with its burst, and the
jobs on it ended. So a host is not taken for a burst's if it was up when that was asked for. Where
that is not known, as of what is in no record, one that is up has to have the burst's name. What an
answer says in itself is looked at where it comes in (:mod:`fluxburst.plugin.validation`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from fluxburst.errors import BurstError
from fluxburst.flux.protocol import Instance
from fluxburst.formats.units import format_duration
from fluxburst.model.burst import COMING_STATES, LIVE_STATES, Burst, BurstState
from fluxburst.plugin.validation import why_not_ended_there, why_too_many
from fluxburst.reconcile.burst_store import BurstStore
from fluxburst.reconcile.standing import Standing

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
            raise BurstError(f"{what} answered {problem}", plugin=burst.plugin, burst=burst.name)
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
