"""The ledger: its location, its holder, and whether the clock agrees with it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from fluxburst.formats.units import counted, format_duration
from fluxburst.ledger.clock import is_virtual, time_of
from fluxburst.ledger.location import FILE, LOCK
from fluxburst.ledger.lock import holder_of
from fluxburst.plugin.base import Finding
from fluxburst.reports.doctor.findings import ok, utc, warning, wrong
from fluxburst.reports.doctor.installation import Installation
from fluxburst.reports.doctor.state_directory import check_absent, check_directory

CLOCK_SECONDS = 60.0
"""How far clocks may differ without a finding."""


def check_state_directory(installation: Installation) -> Iterator[Finding]:
    """Check the ledger's directory."""
    directory = installation.client.state_dir
    if directory is None:
        yield ok("the ledger is in memory and ends with this process")
    elif directory.is_dir():
        yield from check_directory(directory)
    elif directory.exists():
        yield wrong(f"{directory} is not a directory", "use another --state-dir")
    else:
        yield from check_absent(directory)


def check_ledger(installation: Installation) -> Iterator[Finding]:
    """Check that the ledger is readable."""
    directory = installation.client.state_dir
    if directory is not None and not (directory / FILE).exists():
        yield ok(f"{directory / FILE} does not exist yet: no burst was ever requested")
        return
    ledger = installation.ledger
    entries = ledger.entries()
    live = sum(entry.live for entry in entries)
    where = ledger.path or "in memory"
    bursts = counted(len(entries), "burst")
    yield ok(f"{where}: schema {ledger.schema}, {bursts}, {live} live")


def check_holder(installation: Installation) -> Iterator[Finding]:
    """Report the instance's holder."""
    directory = installation.client.state_dir
    if installation.reached or directory is None:
        holder = installation.client.holder()
    else:
        holder = holder_of([directory / LOCK])
    yield ok(f"held by {holder}" if holder else "not held")


def check_clock(installation: Installation) -> Iterator[Finding]:
    """Compare this clock with the times in the ledger and of the jobs."""
    client = installation.client
    if not installation.reached and is_virtual(installation.ledger):
        yield ok(
            f"the ledger is of an embedded instance: {utc(time_of(installation.ledger))} there"
        )
        return
    now = client.now()
    advice = "set the clock right (NTP): leases, limits and idle times depend on it"
    last = installation.ledger.last_recorded()
    ahead = 0.0 if last is None else last - now
    if ahead > CLOCK_SECONDS:
        text = f"the ledger's last record is {format_duration(ahead)} in the future"
        yield wrong(f"{text}: this clock was set back, or the other was ahead", advice)
    times = [step.at for step in installation.ledger.transitions()]
    back = [a for a, b in itertools.pairwise(times) if a - b > CLOCK_SECONDS]
    if back:
        text = f"the clock was set back {counted(len(back), 'time')}, last at {utc(back[-1])}"
        yield warning(f"according to the ledger, {text}", advice)
    yield ok(f"it is {utc(now)}")
    if not installation.reached:
        return
    submitted = [float(job.get("t_submit", 0.0)) for job in client.instance.pending_jobs()]
    ahead = max(submitted, default=now) - now
    if ahead > CLOCK_SECONDS:
        text = f"a job was submitted {format_duration(ahead)} in the future"
        yield warning(f"{text}: this clock is behind the broker's", advice)
