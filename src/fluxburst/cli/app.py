"""The group of commands, the options all commands share, and the exit statuses of errors."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fluxburst.cli import logs
from fluxburst.cli.complaints import complain

if TYPE_CHECKING:
    from fluxburst.client import FluxBurst
    from fluxburst.config.file import Config
    from fluxburst.flux.protocol import Instance
    from fluxburst.hooks.manager import Manager

_log = logging.getLogger(__name__)

OK, FAILED, WRONG_REQUEST = 0, 1, 2
"""Exit statuses: done, something failed, the request itself is wrong."""

_COMMANDS = {
    "cost": ("ledger", "Show what bursts cost and how much of it was idle."),
    "demo": ("demo", "Show one burst from start to finish, on this machine alone."),
    "doctor": ("doctor", "Check everything fluxburst depends on and suggest fixes."),
    "jobs": ("queue", "Show the jobs that are candidates for bursting."),
    "ledger": ("ledger", "Show the bursts in the ledger, the history of one, or export all."),
    "params": ("packages", "Show the parameters of a burst plugin and where they come from."),
    "plan": ("queue", "Show what a run would do, and why. Changes nothing."),
    "plugins": ("packages", "Show the installed packages and whether they take part."),
    "record": ("queue", "Record the queue and nodes of a live instance to FILE."),
    "run": ("queue", "Run one burst cycle: plan, assign jobs, provision capacity."),
    "status": ("status", "Show current bursts, jobs, limits, breakers and spending."),
    "unburst": ("queue", "Terminate bursts."),
    "watch": ("watch", "Run as a service: watch the queue, burst and unburst as needed."),
    "why": ("why", "Show the decisions and events of one job, in order of time."),
}
"""Built-in commands: the module here, and the help text in the list of commands."""


@dataclass
class Settings:
    """Values of the options that every command takes."""

    config: Path | None = None
    plugins: list[str] = field(default_factory=list)
    block: list[str] = field(default_factory=list)
    mock: str | None = None
    json: bool = False
    verbose: int = 0
    quiet: bool = False
    state_dir: Path | None = None
    log_format: logs.Format = "text"
    pace: float = 0.0

    @property
    def directory(self) -> Path | None:
        """The ledger's directory, if an option or the environment names one."""
        from fluxburst.ledger.location import named_directory

        return named_directory(self.state_dir)

    def load_config(self) -> Config:
        """Return the configuration named by these settings, or the one in the usual places."""
        from fluxburst.config import file as config_file

        return config_file.find(self.config)

    def instance(self) -> Instance:
        """Return the instance to work on."""
        from fluxburst.flux.live import LiveInstance
        from fluxburst.ledger.clock import virtual_time_in
        from fluxburst.simulation import recordings
        from fluxburst.simulation.embedded import EmbeddedInstance

        if self.mock is None:
            return LiveInstance()
        path = Path(self.mock) if self.mock else recordings.BUNDLED
        recording = recordings.load(path)
        return EmbeddedInstance(recording, start=virtual_time_in(self.directory), pace=self.pace)

    def manager(self) -> Manager:
        """Return the hooks of the installed packages, without a client."""
        from fluxburst.config import file as config_file
        from fluxburst.hooks.manager import Manager

        blocked = [*self.load_config().block, *config_file.blocked_by_environment(), *self.block]
        manager = Manager(blocked)
        manager.discover()
        return manager

    def client(self, *, plugins: bool = True, some_will_do: bool = False) -> FluxBurst:
        """Return a client with the plugins loaded that are named here or in the configuration.

        With ``some_will_do``, plugins that cannot be loaded are logged and skipped unless all fail.
        """
        from fluxburst.client import FluxBurst
        from fluxburst.errors import ConfigError, FluxburstError, RequestError

        instance = self.instance()
        try:
            config = self.load_config()
        except ConfigError:
            _tell_guest(instance)
            raise
        client = FluxBurst(instance, config=config, block=self.block, state_dir=self.directory)
        context = click.get_current_context(silent=True)
        if context is not None:
            context.find_root().call_on_close(client.close)
        names = self.plugin_names(client)
        if plugins and not names:
            _tell_guest(instance)
            offered = client.choices.replace("|", ", ") or "none; install a fluxburst_* package"
            raise RequestError(
                "no burst plugin selected: use --plugin NAME, or [plugins.NAME] in the config "
                f"[available: {offered}]"
            )
        for name in names if plugins else ():
            try:
                client.load(name)
            except FluxburstError as error:
                if not some_will_do or (name == names[-1] and not client.plugins):
                    raise
                for line in lines_of(error):
                    _log.error("skipping plugin %s: %s", name, line)
        return client

    def plugin_names(self, client: FluxBurst) -> list[str]:
        """Return the plugins named here, or else in the configuration, without duplicates."""
        from fluxburst.formats.spelling import known_name

        spelled = (known_name(name, client.hooks.offers) for name in self.plugins)
        return list(dict.fromkeys(spelled)) or list(client.config.plugins)


def _tell_guest(instance: Instance) -> None:
    """Check ownership first: a guest need not fix any other problem.

    Raises:
        NotOwnerError: if the user is a guest of the instance.
    """
    from fluxburst.errors import FluxUnavailableError, InstanceError

    with contextlib.suppress(FluxUnavailableError, InstanceError):
        instance.check_owner()


def settings_of(context: click.Context) -> Settings:
    """Return the settings of this invocation."""
    return context.find_root().ensure_object(Settings)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Store an option, whether it came before or after the command."""
    settings = settings_of(context)
    name = parameter.name or ""
    if isinstance(value, tuple):
        getattr(settings, name).extend(value)
    elif value not in (None, False, 0):
        setattr(settings, name, value)


def _global_options(*, hidden: bool) -> list[click.Option]:
    def option(*names: str, **attributes: Any) -> click.Option:
        return click.Option(
            list(names), expose_value=False, callback=_remember, hidden=hidden, **attributes
        )

    return [
        option(
            "--config",
            type=click.Path(path_type=Path),
            help="Configuration file (TOML). Default: the first that exists of $FLUXBURST_CONFIG, "
            "~/.config/fluxburst/fluxburst.toml, /etc/fluxburst/fluxburst.toml.",
        ),
        option("--plugin", "plugins", multiple=True, help="Burst plugin to load; repeatable."),
        option("--block", multiple=True, help="Package to ignore; repeatable."),
        option(
            "--mock",
            metavar="[=FILE]",
            help="Work without Flux, on a recorded queue: FILE, or the bundled one.",
        ),
        option(
            "--state-dir",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Directory of the ledger. Default: $FLUXBURST_STATE_DIR, or one directory per "
            "instance in ~/.local/state/fluxburst; in memory with --mock.",
        ),
        option("--json", is_flag=True, help="Print JSON."),
        option("-v", "--verbose", count=True, help="Log more; -vv for debugging."),
        option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            help="Format of the log lines on standard error.",
        ),
        option("-q", "--quiet", is_flag=True, help="Print only the result and errors."),
    ]


def _with_mock_value(arguments: Sequence[str]) -> list[str]:
    """Give a bare ``--mock`` an empty value, as click expects ``--mock=FILE``."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    return [
        "--mock=" if argument == "--mock" and position < end else argument
        for position, argument in enumerate(arguments)
    ]


class Command(click.Command):
    """A command that also takes the global options."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.params += _global_options(hidden=True)
        self.epilog = self.epilog or "All options of 'fluxburst --help' work here, too."

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; a bare ``--mock`` is allowed."""
        return super().parse_args(ctx, _with_mock_value(args))

    def invoke(self, ctx: click.Context) -> Any:
        """Set up logging, then run the command."""
        settings = settings_of(ctx)
        level = logging.WARNING - 10 * min(settings.verbose, 2)
        logs.set_up(logging.ERROR if settings.quiet else level, settings.log_format)
        return super().invoke(ctx)


class Application(click.Group):
    """The group of commands; packages are searched only for commands that are not built in."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; a bare ``--mock`` is allowed."""
        return super().parse_args(ctx, _with_mock_value(args))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the built-in commands."""
        return sorted(_COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in sorted(_COMMANDS)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; search the packages only if it is not built in."""
        if cmd_name in _COMMANDS:
            module = importlib.import_module(f"fluxburst.cli.{_COMMANDS[cmd_name][0]}")
            command: click.Command = getattr(module, cmd_name)
            return command
        if ctx.resilient_parsing:
            return None
        for command in settings_of(ctx).manager().commands():
            if command.name is not None and _as_command(command.name) == _as_command(cmd_name):
                return _adopted(command)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest the closest name if there is none."""
        from fluxburst.errors import did_you_mean

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            own = (command.name or "" for command in settings_of(ctx).manager().commands())
            raise click.UsageError(
                error.message.rstrip(".") + did_you_mean(args[0], [*_COMMANDS, *own]), ctx
            ) from error


def _as_command(name: str) -> str:
    """Return a command's name with dashes, since plugin names may contain underscores."""
    return name.replace("_", "-")


def _adopted(command: click.Command) -> click.Command:
    """Add the global options to a package's command, except those it defines itself."""
    own = {name for parameter in command.params for name in parameter.opts}
    command.params += [o for o in _global_options(hidden=True) if not own.intersection(o.opts)]
    return command


@click.pass_context
def _print_help(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


cli = Application(
    "fluxburst",
    callback=_print_help,
    invoke_without_command=True,
    help="Extend a Flux instance with capacity from elsewhere, and terminate it after use.",
    epilog="Installed packages may add commands; 'fluxburst plugins' lists the packages.",
    params=_global_options(hidden=False),
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"fluxburst {version('fluxburst')}")
        context.exit()


cli.params.append(
    click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_version,
        help="Print the version.",
    )
)


class Terminated(KeyboardInterrupt):
    """SIGTERM; handled like Ctrl-C."""


def _terminated(*_: object) -> None:
    raise Terminated


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 success, 1 failure, 2 invalid request."""
    from fluxburst.errors import FluxburstError

    signal.signal(signal.SIGTERM, _terminated)
    if sys.stdout is None:  # the parent process closed it
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until exit
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # better a ? in a name than no output
    try:
        status = cli.main(
            list(sys.argv[1:] if arguments is None else arguments),
            prog_name="fluxburst",
            standalone_mode=False,
        )
    except click.ClickException as error:
        complain(f"{error.format_message()}")
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:  # click turns the latter into the former
        terminated = isinstance(error, Terminated) or isinstance(error.__cause__, Terminated)
        complain(f"{'terminated' if terminated else 'interrupted'}")
        sys.exit(128 + (signal.SIGTERM if terminated else signal.SIGINT))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(FAILED)
    except OSError as error:
        complain(f"cannot write: {error.strerror or error}")
        sys.exit(FAILED)
    except FluxburstError as error:
        for line in lines_of(error):
            complain(line)
        sys.exit(status_of(error))
    sys.exit(status if isinstance(status, int) else OK)


def lines_of(error: BaseException) -> list[str]:
    """Return the lines to print for an error: one for each problem."""
    from fluxburst.errors import BurstErrors, ParameterError

    if isinstance(error, BurstErrors):
        return list(dict.fromkeys(line for inner in error.errors for line in lines_of(inner)))
    if isinstance(error, ParameterError):
        return [f"plugin {error.plugin}: {problem}" for problem in error.problems]
    return [" ".join(str(error).split("\n"))]


def status_of(error: BaseException) -> int:
    """Return the exit status for an error."""
    from fluxburst.errors import BurstErrors, RequestError

    if isinstance(error, BurstErrors):
        return max((status_of(inner) for inner in error.errors), default=FAILED)
    return WRONG_REQUEST if isinstance(error, RequestError) else FAILED
