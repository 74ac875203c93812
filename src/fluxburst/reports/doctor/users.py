"""The users of an instance: whose jobs run, and as whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fluxburst.formats.flux_configuration import NO_IMP
from fluxburst.model.identity import OWNER, Users
from fluxburst.plugin.base import BurstPlugin, Finding
from fluxburst.reports.doctor.installation import Installation


def findings(users: Users, plugins: Iterable[BurstPlugin]) -> Iterator[Finding]:
    """Report whose jobs an instance runs, and which plugins run guests' jobs as the owner.

    Args:
        users: The users whose jobs the instance accepts and runs.
        plugins: The loaded plugins.
    """
    if not users.allows_guests:
        yield Finding("ok", "only its owner can submit jobs: guests are not allowed")
        return
    if users.runs_guests:
        yield Finding("ok", "it accepts and runs guests' jobs")
    else:
        yield Finding("warning", NO_IMP, "set imp in the table [exec]")
    for plugin in plugins:
        if plugin.isolated and plugin.run_as == OWNER:
            yield Finding(
                "warning",
                f"guests are allowed, and {plugin.name} has run_as = 'owner': anyone who may "
                "submit a job can read and change what the owner can on the machines of its bursts",
                "set run_as = 'submitter', unless you trust all submitters like the owner",
            )


def check_users(installation: Installation) -> Iterable[Finding]:
    """Check the users of the instance, if it can be reached."""
    if not installation.reached:
        return ()
    return findings(installation.client.instance.users(), installation.client.plugins.values())
