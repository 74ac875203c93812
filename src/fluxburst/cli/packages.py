"""Commands about packages: ``plugins`` and ``params``."""

from __future__ import annotations

import dataclasses

import click

from fluxburst.cli.app import Command, settings_of
from fluxburst.cli.output import console, print_json, shown, table
from fluxburst.config import parameters
from fluxburst.hooks.packages import Package


def _status(package: Package) -> str:
    if package.blocked:
        return "blocked"
    return "broken" if package.problem else "registered"


@click.command(cls=Command)
@click.pass_context
def plugins(context: click.Context) -> None:
    """Show the installed packages and whether they take part."""
    settings = settings_of(context)
    packages = settings.manager().packages
    if settings.json:
        print_json(
            [
                {
                    "name": package.name,
                    "distribution": package.distribution,
                    "version": package.version or None,
                    "status": _status(package),
                    "plugins": list(package.plugins),
                    "hooks": list(package.hooks),
                    "problem": package.problem or None,
                }
                for package in packages
            ]
        )
        return
    rows = [
        (
            f"{package.distribution} {package.version}",
            ", ".join(package.plugins) or "-",
            _status(package),
            package.problem or ", ".join(hook.removeprefix("fluxburst_") for hook in package.hooks),
        )
        for package in packages
    ]
    columns = ["package", "burst plugins", "status", "hooks or problem"]
    console().print(table("Packages", columns, rows))


@click.command(cls=Command)
@click.argument("name")
@click.pass_context
def params(context: click.Context, name: str) -> None:
    """Show the parameters of the burst plugin NAME, their values and where these come from."""
    settings = settings_of(context)
    manager = settings.manager()
    config = settings.load_config().spelled(manager.offers)
    offer = manager.offer(name)
    name = offer.plugin_type.name
    values = parameters.describe(
        name,
        offer.parameters(),
        config=config.plugins.get(name),
        config_source=config.source_of(name),
    )
    if settings.json:
        print_json([dataclasses.asdict(value) for value in values])
        return
    rows = [
        (
            value.field + (" (required)" if value.required else ""),
            value.type,
            "" if value.required else shown(value.default),
            "\n".join(value.environment),
            value.help,
            f"{shown(value.value)}\n({value.source})" if value.source else "not set",
        )
        for value in values
    ]
    columns = ["parameter", "type", "default", "environment", "meaning", "value (source)"]
    console().print(table(f"Parameters of {name}", columns, rows))
