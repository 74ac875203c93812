"""Real parts of a site on this machine, for tests: a Slurm cluster, and an sshd.

Each is started by the current user, root or not, on loopback and on ports that are free, in a
temporary directory of its own, so that several can be up at once; and each is ended whole, with
whatever was started through it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SLURM = ["sbatch", "squeue", "scancel", "scontrol", "srun", "slurmctld", "slurmd", "munged"]
SSH = ["ssh", "sshd", "ssh-keygen"]
START = 30.0  # seconds for a part to come up, on a busy machine
GRACE = 3.0  # seconds between asking a process to end and ending it


def slurm_available() -> bool:
    """Whether there is a Slurm to test with, daemons included."""
    return all(map(_find, SLURM))


def ssh_available() -> bool:
    """Whether there is an ssh to test with, and an sshd for it to talk to."""
    return all(map(_find, SSH))


def _find(program: str) -> str | None:
    """Return the path of a program; daemons are often off the PATH of ordinary users."""
    places = [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    return shutil.which(program, path=os.pathsep.join(places))


def _path_of(program: str) -> str:
    found = _find(program)
    assert found is not None, f"no {program} on this machine"
    return found


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


class Daemons:
    """The daemons of a part, and the directory that everything of the part names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._output = directory / "output"
        self._started: list[subprocess.Popen[bytes]] = []
        self._known: set[tuple[int, str]] = set()

    def start(self, program: str, *arguments: str, environment: Mapping[str, str]) -> None:
        """Start a daemon that stays in the foreground, in a session of its own."""
        with self._output.open("ab") as output:
            process = subprocess.Popen(
                [_path_of(program), *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt of the tests must not end it before them
            )
        self._started.append(process)

    def wait_for(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait until something is up; fail where a daemon ends, or nothing comes in time."""
        deadline = time.monotonic() + START
        while not ready():
            ended = [str(daemon.args) for daemon in self._started if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                why = f"ended: {', '.join(ended)}" if ended else f"not in {START:g} s"
                tail = self._output.read_text(errors="replace")[-4000:]
                raise AssertionError(f"{what} did not come up, {why}\n{tail}")
            time.sleep(0.02)

    def processes(self) -> list[int]:
        """Return what runs of the part: it names the directory, or descends from what does."""
        running = _running()
        # Once known, always known: an sshd's session, say, bears no trace when its parent is gone.
        pids = {pid for pid, (_, started) in running.items() if (pid, started) in self._known}
        pids.update(pid for pid in running if pid not in pids and _names(pid, self.directory))
        while True:
            children = {pid for pid, (parent, _) in running.items() if parent in pids} - pids
            if not children:
                break
            pids |= children
        pids.discard(os.getpid())
        self._known.update((pid, running[pid][1]) for pid in pids)
        return sorted(pids)

    def end(self) -> None:
        """End every process of the part, and wait until it has gone."""
        self._signal(signal.SIGTERM, GRACE, self._guests)
        # Nobody needs the daemons' own state; asked politely, a slurmd takes seconds to end.
        self._signal(signal.SIGKILL, START, self.processes)
        left = self.processes()
        assert not left, f"these processes could not be ended: {left}"
        for daemon in self._started:
            daemon.wait(START)  # of one that has ended since it was last asked, too

    def _guests(self) -> list[int]:
        """Return what runs of the part and is neither a daemon nor a helper of one."""
        own = {daemon.pid for daemon in self._started}
        helpers = (b"slurmctld:", b"slurmstepd:")
        others = (pid for pid in self.processes() if pid not in own)
        return [pid for pid in others if not _command_line(pid).startswith(helpers)]

    def _signal(self, number: int, seconds: float, chosen: Callable[[], list[int]]) -> None:
        """Signal the chosen, also those started only meanwhile, until they have gone."""
        signalled: set[int] = set()
        deadline = time.monotonic() + seconds
        while (pids := chosen()) and time.monotonic() < deadline:
            for pid in set(pids) - signalled:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            signalled.update(pids)
            time.sleep(0.02)
            for daemon in self._started:
                daemon.poll()  # takes its exit status: nothing of it is left then


def _running() -> dict[int, tuple[int, str]]:
    """Return the parent and the start time of each process that runs, which zombies do not."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if fields[0] not in ("Z", "X"):
                    found[int(folder.name)] = int(fields[1]), fields[19]
    return found


def _command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _names(pid: int, directory: Path) -> bool:
    """Whether a process has a directory in its environment or command line, or is at work there."""
    folder, sought = Path(f"/proc/{pid}"), os.fsencode(directory)
    if sought in _command_line(pid):
        return True
    with contextlib.suppress(OSError):
        if sought in (folder / "environ").read_bytes():
            return True
    with contextlib.suppress(OSError):
        for link in [folder / "cwd", *(folder / "fd").iterdir()]:
            with contextlib.suppress(OSError):
                if os.fsencode(link.readlink()).startswith(sought):
                    return True
    return False


@contextmanager
def _daemons() -> Iterator[Daemons]:
    with tempfile.TemporaryDirectory(prefix="fluxburst-") as directory:
        Path(directory).chmod(0o755)  # munged insists that others may come by
        daemons = Daemons(Path(directory))
        try:
            yield daemons
        finally:
            daemons.end()


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Keep ports of loopback free for daemons.

    A socket bound with SO_REUSEADDR that does not listen keeps a port from being handed out to
    anyone, and from nobody who asks for that port with SO_REUSEADDR, as daemons do.
    """
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            bound = stack.enter_context(socket.socket())
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(("127.0.0.1", 0))
            ports.append(bound.getsockname()[1])
        yield ports


def _answers(port: int, greeting: bytes = b"") -> bool:
    """Whether someone listens on a port of loopback, and begins with this greeting."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return not greeting or connection.recv(len(greeting)) == greeting
    except OSError:
        return False


SLURM_CONF = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
ReturnToService=2
KillWait=2
MailProg=/bin/true
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.%n.log
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool.%n
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=ALL MaxTime=30 MaxNodes=1 State=UP
"""
NODE = (
    "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=1000"
)


@dataclass(frozen=True)
class Slurm:
    """A running cluster: its commands, and the names of its nodes, of 2 CPUs each.

    The partition main is the default one; short allows 30 minutes, on one node.
    """

    daemons: Daemons
    nodes: list[str]

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which Slurm's commands find the cluster, outside of any job."""
        outside = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
        return {**outside, "SLURM_CONF": str(self.daemons.directory / "slurm.conf")}

    def __call__(self, *command: str, stdin: str | None = None, seconds: float = 60) -> str:
        """Run a command such as srun, and return what it printed."""
        done = subprocess.run(
            command,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        if done.returncode:
            raise AssertionError(f"{shlex.join(command)}: {done.stderr or done.stdout}")
        return done.stdout.strip()

    def in_allocation(
        self, *command: str, nodes: int = 1, seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the first node of an allocation, as a batch script, and return its end.

        A command ended by a signal has the negative number of it as its status.
        """
        script = f"#!/bin/sh\nexec {shlex.join(command)}\n"
        with tempfile.TemporaryDirectory(dir=self.daemons.directory, prefix="job-") as directory:
            output, error = Path(directory) / "output", Path(directory) / "error"
            options = [f"--nodes={nodes}", f"--output={output}", f"--error={error}"]
            jobid = self("sbatch", "--parsable", *options, stdin=script)
            state, status = self._end_of(jobid, seconds)
            stdout, stderr = (file.read_text() if file.exists() else "" for file in (output, error))
        if state not in ("COMPLETED", "FAILED", "CANCELLED"):
            raise AssertionError(f"{shlex.join(command)} was {state}:\n{stdout}\n{stderr}")
        return subprocess.CompletedProcess(command, status, stdout, stderr)

    def _end_of(self, jobid: str, seconds: float) -> tuple[str, int]:
        """Wait until a job has ended; return its state and status. Late ones are cancelled."""
        deadline = time.monotonic() + seconds
        while True:
            told = self("scontrol", "--oneliner", "show", "job", jobid)
            match = re.search(r"JobState=(\S+).* ExitCode=(\d+):(\d+)", told)
            assert match is not None, told
            state, status, number = match[1], int(match[2]), int(match[3])
            if state not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
                return state, -number or status
            if time.monotonic() > deadline:
                self("scancel", "--signal=KILL", "--full", jobid)
                return f"{state} after {seconds:g} s", 1
            time.sleep(0.05)


@contextmanager
def running_slurm(nodes: int = 4) -> Iterator[Slurm]:
    """Start a cluster of nodes n1, n2 and so on, all on this machine, and end it."""
    names = [f"n{number}" for number in range(1, nodes + 1)]
    with _free_ports(nodes + 1) as ports, _daemons() as daemons:
        slurm = Slurm(daemons, names)
        _configure_slurm(daemons.directory, ports[0], dict(zip(names, ports[1:], strict=True)))
        _start_munge(daemons)
        config = ["-f", str(daemons.directory / "slurm.conf")]
        daemons.start("slurmctld", "-D", "-c", *config, environment=slurm.environment)
        # A slurmd that finds no slurmctld tries again only seconds later.
        daemons.wait_for("slurmctld", lambda: _answers(ports[0]))
        for name in names:
            daemons.start("slurmd", "-D", "-N", name, *config, environment=slurm.environment)
        idle = ["idle"] * nodes
        command = ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%T"]
        daemons.wait_for("nodes of Slurm", lambda: slurm(*command).split() == idle)
        yield slurm


def _configure_slurm(directory: Path, controller: int, nodes: Mapping[str, int]) -> None:
    (directory / "state").mkdir()
    text = SLURM_CONF.format(
        directory=directory,
        user=_user(),
        controller=controller,
        nodes="\n".join(NODE.format(name=name, port=port) for name, port in nodes.items()),
    )
    (directory / "slurm.conf").write_text(text)
    # Nothing here asks for control groups, and this plugin for them needs none to be mounted.
    (directory / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")


def _start_munge(daemons: Daemons) -> None:
    key = daemons.directory / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    files = [
        f"--{option}-file={daemons.directory}/munge.{option}"
        for option in ("key", "pid", "log", "seed")
    ]
    socket_file = daemons.directory / "munge.socket"
    # Clients come once the socket is there. Its way may be as open as the temporary directories
    # of this machine are, which munged refuses without --force.
    arguments = ["--foreground", "--force", f"--socket={socket_file}", "--num-threads=2", *files]
    daemons.start("munged", *arguments, environment=os.environ)
    daemons.wait_for("munged", socket_file.exists)


SSHD_CONFIG = """\
{addresses}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/identity.pub
AuthenticationMethods publickey
PermitRootLogin yes
StrictModes no
UsePAM no
UseDNS no
PidFile none
PrintMotd no
LogLevel VERBOSE
MaxStartups 100
SetEnv TEST_SSHD={directory}
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Sshd:
    """A running sshd: where it listens, and what it takes to log in as the current user."""

    daemons: Daemons
    hosts: list[str]
    port: int
    user: str
    identity: Path
    known_hosts: Path
    wrong_known_hosts: Path  # names another host key than the sshd's

    @property
    def options(self) -> list[str]:
        """The options with which ssh gets in, and knows the sshd."""
        return self.options_with(self.known_hosts)

    def options_with(self, known_hosts: Path) -> list[str]:
        """Return the options with another file of known hosts."""
        login = ["-p", str(self.port), "-i", str(self.identity), "-o", "IdentitiesOnly=yes"]
        return [*login, "-o", f"UserKnownHostsFile={known_hosts}"]


@contextmanager
def running_sshd(hosts: int = 1) -> Iterator[Sshd]:
    """Start an sshd that listens on 127.0.0.1, 127.0.0.2 and so on, and end it."""
    addresses = [f"127.0.0.{number}" for number in range(1, hosts + 1)]
    with _free_ports(1) as (port,), _privilege_separation(), _daemons() as daemons:
        directory = daemons.directory
        for name in ("host_key", "other_host_key", "identity"):
            _make_key(directory / name)
        sshd = Sshd(
            daemons=daemons,
            hosts=addresses,
            port=port,
            user=_user(),
            identity=directory / "identity",
            known_hosts=_known_hosts(directory / "host_key.pub", addresses, port),
            wrong_known_hosts=_known_hosts(directory / "other_host_key.pub", addresses, port),
        )
        listen = "\n".join(f"ListenAddress {address}:{port}" for address in addresses)
        config = directory / "sshd_config"
        config.write_text(SSHD_CONFIG.format(addresses=listen, directory=directory))
        daemons.start("sshd", "-D", "-e", "-f", str(config), environment=os.environ)
        daemons.wait_for("sshd", lambda: _answers(port, b"SSH-2.0"))
        yield sshd


def _make_key(file: Path) -> None:
    options = ["-q", "-t", "ed25519", "-N", "", "-C", file.name, "-f", str(file)]
    subprocess.run([_path_of("ssh-keygen"), *options], stdin=subprocess.DEVNULL, check=True)


def _known_hosts(key: Path, addresses: list[str], port: int) -> Path:
    """Write the file by which ssh knows the bearer of a key at these addresses."""
    hosts = ",".join(f"[{name}]:{port}" for name in ["localhost", *addresses])
    kind, text, _ = key.read_text().split()
    file = key.with_name(f"known_hosts.{key.stem}")
    file.write_text(f"{hosts} {kind} {text}\n")
    return file


PRIVILEGE_SEPARATION = Path("/run/sshd")
MADE_HERE = 0o700  # tells a directory of these tests from the system's, of mode 755


@contextmanager
def _privilege_separation() -> Iterator[None]:
    """Lend the directory that an sshd of root wants; one that is made goes with its last user."""
    if os.geteuid() != 0:
        yield
        return
    handle = _shared(PRIVILEGE_SEPARATION)
    try:
        yield
    finally:
        if stat.S_IMODE(os.fstat(handle).st_mode) == MADE_HERE:
            # Refused while an sshd of another process needs it: that one removes it.
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                PRIVILEGE_SEPARATION.rmdir()
        os.close(handle)


def _shared(folder: Path) -> int:
    """Make a directory unless it is there, and return a handle with a shared lock on it."""
    while True:
        folder.mkdir(mode=MADE_HERE, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed by its last user just now
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(handle, fcntl.LOCK_SH)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), folder.stat()):
                    return handle
            os.close(handle)
