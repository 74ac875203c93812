"""Writes the directory of an elastic instance, after Flux has checked it."""

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
"""Files that a plugin's ``init`` adds to those written here."""


def write(
    elastic: Elastic,
    directory: Path,
    *,
    curve_cert: Path | None = None,
    files: Mapping[str, str] | None = None,
    config_files: Sequence[Path] = (),
    overwrite: bool = False,
) -> Sequence[str]:
    """Write an elastic instance's directory, after Flux has checked it.

    It holds ``config/system.toml`` for the brokers, the resource set ``R``, the certificate
    ``curve.cert`` (mode 0600), and ``elastic.toml``, from which
    :func:`fluxburst.provider.elastic.load` reads ``elastic``. If Flux has Fluxion,
    ``config/fluxion.toml`` makes it wait for nodes. Other users'
    files stay. If this host is rank 0, a lead broker is started on it once,
    and ended.

    Args:
        elastic: The description of the instance.
        directory: Where to write it; its parent must exist.
        curve_cert: An existing certificate (flux-keygen(1)) instead of a new one.
        files: Additional files: name to content, mode 0600, or 0700 for a script.
        config_files: Additional files for ``config/``, for Flux to read.
        overwrite: Replace the files of an earlier call.

    Returns:
        A summary for the user.

    Raises:
        RequestError: if an argument is invalid; nothing is left behind.
        FluxUnavailableError: if Flux is not found.
        CommandError: if Flux rejects it; nothing is left behind.
    """
    check_replaceable(directory, overwrite=overwrite)
    return _write(elastic, directory, curve_cert, files or {}, config_files)


def add_nodes(
    elastic: Elastic, directory: Path, *, config_files: Sequence[Path] = ()
) -> Sequence[str]:
    """Rewrite an elastic instance's directory with additional burst nodes.

    The others keep their ranks, and the certificate, the logs and all files stay except
    ``config/system.toml``, ``config/fluxion.toml``, ``R`` and ``elastic.toml``.

    Args:
        elastic: The current description, with more burst nodes after the existing ones.
        directory: The directory, written by :func:`write`. Its instance must not run.
        config_files: Additional files for ``config/``, for Flux to read.

    Returns:
        A summary for the user.

    Raises:
        RequestError: or another error of :func:`write`; the directory is unchanged then.
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
        raise RequestError(f"cannot write {directory}: {error.strerror}") from error
    try:
        _fill(made, elastic, curve_cert, files)
        notes = _configure(made, elastic, directory, given)
        if curve_cert is None and (directory / "curve.cert").is_file():
            notes.append("Its certificate, curve.cert, is new: copies of the old one are useless")
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
    """Check that a directory does not exist, is empty, or may be replaced.

    Raises:
        RequestError: if not.
    """
    try:
        there = directory.exists()
        empty = there and not any(directory.iterdir())
    except OSError as error:
        raise RequestError(f"cannot use {directory}: {error.strerror}") from error
    if not there or empty:
        return
    if not (directory / RECORD).is_file():
        raise RequestError(f"{directory} is not empty, and is not an elastic instance's directory")
    old = load(directory) if overwrite else None
    if old is not None and _is_rank_0(old) and _listens(old):
        raise RequestError(f"the instance in {directory} runs on this host: end it first")
    if not overwrite:
        raise RequestError(f"{directory} already has an elastic instance; replace it with --force")


def check_here(elastic: Elastic) -> None:
    """Check that this host can be rank 0: its address, its network device, and its port.

    Raises:
        RequestError: for the first problem.
    """
    try:
        _addresses(elastic.address)
    except OSError as error:
        raise RequestError(
            f"cannot resolve the address {elastic.address} on this host ({error.strerror}): "
            "use a name or IP address at which burst nodes reach it, with --address"
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
    """Check that rank 0, on this host, can listen on its port.

    Raises:
        RequestError: if the port is in use.
    """
    address = elastic.address if is_loopback(elastic.address) else "0.0.0.0"  # noqa: S104
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, elastic.port))
        except OSError as error:
            raise RequestError(
                f"cannot use port {elastic.port} on this host ({error.strerror}): "
                "choose another one with --port, or end the process that listens on it"
            ) from error


def why_unreachable(address: str) -> str:
    """Return why burst nodes on other hosts may not reach an address; empty if they may.

    Names may resolve differently on other hosts, which cannot be checked here.
    """
    try:
        found = _addresses(address)
    except OSError as error:
        return f"cannot resolve {address} on this host ({error.strerror})"
    if not all(is_loopback(one) for one in found):
        return ""
    means = "" if address in found else f", which is {min(found)},"
    return f"at {address}{means} each host reaches only itself"


# --- their steps -----------------------------------------------------------------------


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
    """Add other users' configuration to ours; return notes for the user."""
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
    # With the final paths of the files, for the user who has to change one.
    flux_configuration.check_together({**texts, SYSTEM: system_toml(elastic, directory)})
    if flux_configuration.lacks_imp(flux_configuration.merged(others)):
        _log.warning("%s", flux_configuration.NO_IMP)
    for name, text in texts.items():
        (made / "config" / name).write_text(text)
    return notes


def _keep_changed(made: Path, directory: Path) -> None:
    """Keep a changed file of ours, under a name that nothing reads."""
    if not (directory / RECORD).is_file():
        return
    written = {f"config/{SYSTEM}": system_toml(load(directory), directory)}
    for name in (f"config/{SYSTEM}", "fluxburst.toml"):
        path, new = directory / name, made / name
        if path.is_file() and path.read_text() not in (written.get(name), new.read_text()):
            shutil.copy2(path, new.with_name(f"{new.name}.old"))
            _log.warning("%s was overwritten; its former content is in %s.old", path, path)


def _resource_set(elastic: Elastic) -> str:
    """Have Flux write R: the lead hosts' part, followed by the burst nodes'."""
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
    """Have Flux read the result: R always, everything if this host is rank 0."""
    said = run([elastic.flux, "R", "decode", "--nodelist"], stdin=(made / "R").read_text())
    if parse_hostlist(said.strip()) != elastic.hosts:
        raise RequestError(f"Flux created an R for hosts {said.strip()}, not the requested ones")
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
    """Return the first errors in a broker's log, on one line; empty if there are none."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [line for line in lines if re.search(r"\.(err|crit|alert|emerg)\[", line)]
    return "; ".join(line.partition(" UTC ")[2] or line for line in errors[:3])


def _give_to(made: Path, user: str) -> None:
    """Make the instance's user the owner of all files."""
    uid = pwd.getpwnam(user).pw_uid
    if uid == os.getuid():
        return
    for path in (made, *made.rglob("*")):
        os.chown(path, uid, -1)


def _put_in_place(made: Path, directory: Path, *, keep_logs: bool) -> None:
    """Move the new files into a directory, without replacing the directory itself.

    Other existing files stay.
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
        raise RequestError(f"cannot write {directory}: {error.strerror}") from error


def _keep_others(old: Path, directory: Path) -> None:
    """Move back old files that were not rewritten, in ``config/`` as well."""
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
    """Return the IP addresses of a name or an address on this host."""
    try:
        return {str(where[0]) for *_, where in socket.getaddrinfo(address, None)}
    except UnicodeError as error:  # an impossible name, such as a..b
        raise OSError(errno.EINVAL, "it is not a hostname") from error


def _listens(elastic: Elastic) -> bool:
    try:
        check_port_free(elastic)
    except RequestError:
        return True
    return False


def _is_rank_0(elastic: Elastic) -> bool:
    return elastic.lead_hosts[0] in (this_host(), socket.gethostname())
