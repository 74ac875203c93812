"""The directory of an elastic instance: writing it, and having Flux check it before it is there."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import pwd
import re
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from fluxburst.errors import RequestError
from fluxburst.formats import flux_configuration
from fluxburst.formats.flux_configuration import FLUXION, OURS, SYSTEM
from fluxburst.formats.hostlist import parse_hostlist
from fluxburst.formats.process import CommandError, run
from fluxburst.provider import fluxion
from fluxburst.provider.elastic import (
    BURST_PROPERTY,
    RECORD,
    Elastic,
    check,
    check_certificate,
    encode_resources,
    is_loopback,
    lead_command,
    load,
    record,
    system_toml,
    this_host,
    without_flux,
)

TRIAL_SECONDS = 60.0

_log = logging.getLogger(__name__)

KEPT = ("fluxburst.toml", "start")
"""What a plugin's ``init`` writes beside what is written here."""


def write(
    elastic: Elastic,
    directory: Path,
    *,
    curve_cert: Path | None = None,
    files: Mapping[str, str] | None = None,
    config_files: Sequence[Path] = (),
    overwrite: bool = False,
) -> Sequence[str]:
    """Write an elastic instance's directory, and have Flux check it before it is there.

    It holds ``config/system.toml`` for the brokers, the resource set ``R``, the certificate
    ``curve.cert`` (mode 0600), and ``elastic.toml``, from which
    :func:`fluxburst.provider.elastic.load` reads ``elastic``. Where Flux has Fluxion,
    ``config/fluxion.toml`` has it wait for nodes. What
    somebody else put there stays. Where this host is rank 0, a lead broker is started on it once,
    and ended.

    Args:
        elastic: What the instance is made of.
        directory: Where to write it; its parent must exist.
        curve_cert: A certificate to use (flux-keygen(1)), rather than a new one.
        files: More files to put there: name to content, mode 0600, or 0700 for a script.
        config_files: More files to put into ``config/``, for Flux to read.
        overwrite: Replace what this function wrote there before.

    Returns:
        What is to be said of it.

    Raises:
        RequestError: if something is wrong with what was given; nothing is left behind.
        FluxUnavailableError: if there is no such Flux.
        CommandError: if Flux refuses it; nothing is left behind.
    """
    check_replaceable(directory, overwrite=overwrite)
    return _write(elastic, directory, curve_cert, files or {}, config_files)


def add_nodes(
    elastic: Elastic, directory: Path, *, config_files: Sequence[Path] = ()
) -> Sequence[str]:
    """Write an elastic instance's directory anew, with burst nodes that it had not.

    The ranks of the others stay theirs, as do the certificate, the logs and all files but
    ``config/system.toml``, ``config/fluxion.toml``, ``R`` and ``elastic.toml``.

    Args:
        elastic: What is there now, with more burst nodes after those that it has.
        directory: The directory, as :func:`write` made it. Its instance must not run.
        config_files: More files to put into ``config/``, for Flux to read.

    Returns:
        What is to be said of it.

    Raises:
        RequestError: and what else :func:`write` raises; it is left as it was then.
    """
    check_replaceable(directory, overwrite=True)
    files = {name: (directory / name).read_text() for name in KEPT if (directory / name).is_file()}
    certificate = directory / "curve.cert"
    return _write(elastic, directory, certificate, files, config_files, keep_logs=True)


def _write(
    elastic: Elastic,
    directory: Path,
    curve_cert: Path | None,
    files: Mapping[str, str],
    config_files: Sequence[Path],
    *,
    keep_logs: bool = False,
) -> Sequence[str]:
    check(elastic)
    directory = directory.absolute()
    _check_name(directory)
    given = flux_configuration.given(config_files)
    if _is_rank_0(elastic):
        check_here(elastic)
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    except OSError as error:
        raise RequestError(f"{directory} cannot be written: {error.strerror}") from error
    try:
        _fill(made, elastic, curve_cert, files)
        notes = _configure(made, elastic, directory, given)
        if curve_cert is None and (directory / "curve.cert").is_file():
            notes.append("Its certificate, curve.cert, is new: copies of the old one are of no use")
        _try_out(made, elastic)
        (made / "config" / SYSTEM).write_text(system_toml(elastic, directory))
        _keep_changed(made, directory)
        _give_to(made, elastic.user)
        _put_in_place(made, directory, keep_logs=keep_logs)
        os.chown(directory, made.stat().st_uid, -1)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return notes


def check_replaceable(directory: Path, *, overwrite: bool) -> None:
    """Check that a directory is not there, is empty, or may be replaced.

    Raises:
        RequestError: if it is none of these.
    """
    try:
        there = directory.exists()
        empty = there and not any(directory.iterdir())
    except OSError as error:
        raise RequestError(f"{directory} cannot be used: {error.strerror}") from error
    if not there or empty:
        return
    if not (directory / RECORD).is_file():
        raise RequestError(f"{directory} is not empty, and is no elastic instance's directory")
    old = load(directory) if overwrite else None
    if old is not None and _is_rank_0(old) and _listens(old):
        raise RequestError(f"the instance in {directory} runs on this host: end it first")
    if not overwrite:
        raise RequestError(
            f"{directory} has an elastic instance already; give --force to replace it"
        )


def check_here(elastic: Elastic) -> None:
    """Check that this host can be rank 0: its address, its network device, and its port.

    Raises:
        RequestError: for the first that is wrong.
    """
    try:
        _addresses(elastic.address)
    except OSError as error:
        raise RequestError(
            f"the address {elastic.address} cannot be resolved on this host ({error.strerror}): "
            "give a name or an IP address of it, by which burst nodes reach it, with --address"
        ) from error
    devices = [name for _, name in socket.if_nameindex()]
    named = elastic.network_device and not elastic.network_device[0].isdigit()
    if named and elastic.network_device not in devices:
        raise RequestError(
            f"this host has no network device {elastic.network_device!r} "
            f"[choose from {', '.join(devices)}]"
        )
    check_port_free(elastic)


def check_port_free(elastic: Elastic) -> None:
    """Check that rank 0, on this host, could listen on its port.

    Raises:
        RequestError: if something listens on it already.
    """
    address = elastic.address if is_loopback(elastic.address) else "0.0.0.0"  # noqa: S104
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, elastic.port))
        except OSError as error:
            raise RequestError(
                f"port {elastic.port} cannot be used on this host ({error.strerror}): "
                "choose another one with --port, or end what listens on it"
            ) from error


def why_unreachable(address: str) -> str:
    """Return why burst nodes on other hosts may not reach an address; empty where it may do.

    That is as far as can be told here, where names may resolve to something else than there.
    """
    try:
        found = _addresses(address)
    except OSError as error:
        return f"{address} cannot be resolved on this host ({error.strerror})"
    if not all(is_loopback(one) for one in found):
        return ""
    means = "" if address in found else f", which is {min(found)},"
    return f"at {address}{means} each host reaches itself alone"


# --- the steps of these ----------------------------------------------------------------


def _check_name(directory: Path) -> None:
    try:
        str(directory).encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{str(directory)!a} is not UTF-8, as configurations are") from error


def _fill(made: Path, elastic: Elastic, curve_cert: Path | None, files: Mapping[str, str]) -> None:
    for name in ("config", "log"):
        (made / name).mkdir(mode=0o700)
    (made / "config" / SYSTEM).write_text(system_toml(elastic, made))
    (made / "R").write_text(_resource_set(elastic))
    (made / RECORD).write_text(record(elastic))
    certificate = made / "curve.cert"
    if curve_cert is None:
        run([elastic.flux, "keygen", f"--name={elastic.lead_hosts[0]}", str(certificate)])
    else:
        check_certificate(curve_cert)
        certificate.touch(mode=0o600)
        certificate.write_bytes(curve_cert.read_bytes())
    certificate.chmod(0o600)
    for name, content in files.items():
        (made / name).write_text(content)
        (made / name).chmod(0o700 if content.startswith("#!") else 0o600)


def _configure(
    made: Path, elastic: Elastic, directory: Path, given: Mapping[str, str]
) -> list[str]:
    """Put what others configure beside what we do; return what is to be said of it."""
    there = flux_configuration.texts_in(directory / "config")
    others = {**{name: text for name, text in there.items() if name not in OURS}, **given}
    texts = {**others, SYSTEM: system_toml(elastic, made)}
    notes = []
    if fluxion.is_in(elastic.flux):
        policies = fluxion.policies_in(flux_configuration.merged(others))
        if "" not in policies:
            texts[FLUXION] = fluxion.configuration()
        refusals = list(fluxion.why_none_would_begin(policies))
        for refusal in refusals:
            _log.warning("%s: %s", refusal, fluxion.ADVICE)
        if not refusals:
            policy = policies.get("", fluxion.WAITING_POLICIES[0])
            notes.append(
                f"Fluxion schedules it: under its queue-policy {policy!r} jobs wait for burst nodes"
            )
    # With the paths that files have in the end, as they are told to whoever has to change one.
    flux_configuration.check_together({**texts, SYSTEM: system_toml(elastic, directory)})
    if flux_configuration.lacks_imp(flux_configuration.merged(others)):
        _log.warning("%s", flux_configuration.NO_IMP)
    for name, text in texts.items():
        (made / "config" / name).write_text(text)
    return notes


def _keep_changed(made: Path, directory: Path) -> None:
    """Keep what somebody wrote into a file of ours, under a name that nobody reads it by."""
    if not (directory / RECORD).is_file():
        return
    written = {f"config/{SYSTEM}": system_toml(load(directory), directory)}
    for name in (f"config/{SYSTEM}", "fluxburst.toml"):
        path, new = directory / name, made / name
        if path.is_file() and path.read_text() not in (written.get(name), new.read_text()):
            shutil.copy2(path, new.with_name(f"{new.name}.old"))
            _log.warning("%s is written anew; what it said is in %s.old", path, path)


def _resource_set(elastic: Elastic) -> str:
    """Have Flux write R: the lead hosts' part, and the burst nodes' after it."""
    leads = len(elastic.lead_hosts)
    lead = encode_resources(
        elastic.flux,
        elastic.lead_hosts,
        range(leads),
        elastic.lead_cores or elastic.cores,
        elastic.lead_gpus,
        ["lead"],
    )
    rank_of = {host: rank for rank, host in enumerate(elastic.hosts)}
    parts = [lead]
    for shape in elastic.all_shapes:
        hosts = sorted(shape.hosts, key=rank_of.__getitem__)
        properties = [BURST_PROPERTY, *([shape.name] if shape.name else [])]
        ranks = [rank_of[host] for host in hosts]
        part = (elastic.flux, hosts, ranks, shape.cores, shape.gpus, properties)
        parts.append(encode_resources(*part))
    return run([elastic.flux, "R", "append"], stdin="\n".join(parts))


def _try_out(made: Path, elastic: Elastic) -> None:
    """Have Flux read what was written: R always, all of it where this host is rank 0."""
    said = run([elastic.flux, "R", "decode", "--nodelist"], stdin=(made / "R").read_text())
    if parse_hostlist(said.strip()) != elastic.hosts:
        raise RequestError(f"Flux made an R of the hosts {said.strip()}, not of those asked for")
    if not _is_rank_0(elastic):
        return
    alone = dataclasses.replace(elastic, lead_hosts=elastic.lead_hosts[:1])
    command = lead_command(alone, made, elastic.lead_hosts[0])
    command += [elastic.flux, "resource", "status", "--no-header", "--format={nnodes}"]
    try:
        run(command, timeout=TRIAL_SECONDS, environment=without_flux(os.environ))
    except CommandError as error:
        said = _failures_in(made / "log" / f"{elastic.lead_hosts[0]}.log") or str(error)
        raise RequestError(f"a Flux broker does not start with this: {said}") from error
    (made / "log" / f"{elastic.lead_hosts[0]}.log").unlink(missing_ok=True)


def _failures_in(log: Path) -> str:
    """Return the first errors that a broker logged, on one line; empty where it logged none."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [line for line in lines if re.search(r"\.(err|crit|alert|emerg)\[", line)]
    return "; ".join(line.partition(" UTC ")[2] or line for line in errors[:3])


def _give_to(made: Path, user: str) -> None:
    """Give all of it to the user whose instance it is to be."""
    uid = pwd.getpwnam(user).pw_uid
    if uid == os.getuid():
        return
    for path in (made, *made.rglob("*")):
        os.chown(path, uid, -1)


def _put_in_place(made: Path, directory: Path, *, keep_logs: bool) -> None:
    """Move what was made into a directory, which stays the one that somebody may stand in.

    What is there and was not made stays.
    """
    if keep_logs and (directory / "log").is_dir():
        (made / "log").rmdir()
    old = made / "old"
    try:
        directory.mkdir(exist_ok=True)
        directory.chmod(0o700)
        old.mkdir()
        _move_content(directory, old)
        try:
            _move_content(made, directory, but=old)
            _keep_others(old, directory)
        except OSError:
            _move_content(old, directory)
            raise
    except OSError as error:
        raise RequestError(f"{directory} cannot be written: {error.strerror}") from error


def _keep_others(old: Path, directory: Path) -> None:
    """Move back what was there and has not been made anew, in ``config/`` as well."""
    for place in (Path(), Path("config")):
        for path in (old / place).glob("*"):
            target = directory / place / path.name
            if not target.exists() and path.name not in OURS:
                path.rename(target)


def _move_content(source: Path, target: Path, but: Path | None = None) -> None:
    for path in source.iterdir():
        if path != but:
            path.rename(target / path.name)


def _addresses(address: str) -> set[str]:
    """Return the IP addresses that a name or an address stands for on this host."""
    try:
        return {str(where[0]) for *_, where in socket.getaddrinfo(address, None)}
    except UnicodeError as error:  # a name that cannot be one, such as a..b
        raise OSError(errno.EINVAL, "it is not a hostname") from error


def _listens(elastic: Elastic) -> bool:
    try:
        check_port_free(elastic)
    except RequestError:
        return True
    return False


def _is_rank_0(elastic: Elastic) -> bool:
    return elastic.lead_hosts[0] in (this_host(), socket.gethostname())
