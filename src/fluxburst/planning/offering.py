"""Offering jobs to plugins, one after the other, until one accepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fluxburst.errors import FluxburstError, InstanceError, OrderingError, did_you_mean
from fluxburst.formats.spelling import known_name
from fluxburst.model.plan import Outcome
from fluxburst.planning.draft import Candidate, Draft
from fluxburst.planning.plan_context import PlanContext
from fluxburst.planning.plan_inputs import Votes
from fluxburst.planning.refusals import Refusals


class Offers:
    """Offers candidates to plugins; a candidate that comes again is offered to the next.

    Args:
        votes: The hooks to ask.
        context: What the plan knows.
        draft: What is decided of each job.
        refusals: Why plugins are not asked, or decline.
    """

    def __init__(
        self, votes: Votes, context: PlanContext, draft: Draft, refusals: Refusals
    ) -> None:
        self._votes = votes
        self._plugins = context.plugins
        self._limits = context.limits
        self._requests = context.requests
        self._draft = draft
        self._refusals = refusals

    def make(self, candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
        """Offer each candidate on until a plugin accepts it; return who accepted what.

        Raises:
            OrderingError: if the ordering that was set names a plugin that is not loaded.
            InstanceError: if the instance goes away meanwhile.
        """
        accepted: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            try:
                if candidate.offers is None:
                    candidate.offers = iter(self._names_for(candidate))
                taker = self._first_taker(candidate, candidate.offers)
            except (OrderingError, InstanceError):
                raise
            except FluxburstError as error:
                self._draft.fail(candidate.id, error)
                continue
            if taker:
                accepted.setdefault(taker, []).append(candidate)
            else:
                reasons = candidate.reasons or ["no burst plugin is offered it"]
                self._draft.decide(candidate.id, Outcome.UNMATCHED, *reasons)
        return accepted

    def _names_for(self, candidate: Candidate) -> list[str]:
        """Return the plugins a job is offered to, in order: those that it names, as it does."""
        if why := self._limits.why_not_again(candidate.id, ""):
            candidate.reasons.append(why)
            return []
        names = self._votes.order_plugins(self._plugins, candidate.job)
        asked = dict.fromkeys(known_name(n, self._plugins) for n in candidate.job.asks_for)
        candidate.reasons += [
            f"asks for plugin {name!r}, which is not loaded{did_you_mean(name, self._plugins)}"
            for name in asked
            if name not in self._plugins
        ]
        return [name for name in asked if name in names] if asked else list(names)

    def _first_taker(self, candidate: Candidate, offers: Iterator[str]) -> str:
        """Return the first plugin that accepts a job; empty for none."""
        job, jobid = candidate.job, candidate.id
        for name in offers:
            if why := self._refusals.why_not_asked(candidate, name):
                candidate.reasons.append(why)
                continue
            plugin = self._plugins[name]
            if self._votes.schedule_job(job, plugin):
                # What a plugin could not tell of its constraint costs this job.
                self._requests.constraint_with(name, jobid)
                plugin.jobs[jobid] = job
                return name
            candidate.reasons.append(self._refusals.why_declined(candidate, name))
        return ""
