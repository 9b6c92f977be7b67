"""A command that works on files here, or with ``--server`` asks a server. Costs no import of either."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint
from typing import Any

import click

GROUP = "nidim.commands"
OWN = tuple(
    EntryPoint(name=name, value=value, group=GROUP)
    for name, value in (
        ("jobs", "nidim.remote.jobs:jobs"),
        ("encoders", "nidim.remote.encoders:encoders"),
        ("datasets", "nidim.remote.datasets:datasets"),
        ("score", "nidim.scoring:score"),
        ("export", "nidim.exporting:export"),
        ("generators", "nidim.remote.generators:generators"),
        ("generator", "nidim.generator_commands:generator"),
        ("generate", "nidim.generator_commands:generate"),
    )
)
"""Commands of this package that are imported when they are called."""


def options_of(args: list[str]) -> list[str]:
    """The words of a command line among which options are: those before a ``--``."""
    return args[: args.index("--")] if "--" in args else args


class LocalOrServer(click.Command):
    """With ``--server`` anywhere among its arguments, the command ``remote`` (module:name) takes its place."""

    def __init__(self, *args: Any, remote: str, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self._remote = EntryPoint(name=self.name or "", value=remote, group=GROUP)
        self.params.append(
            click.Option(
                ["--server"],
                metavar="URL",
                expose_value=False,
                help="Ask this server instead (with --key, or NIDIM_KEY); the first argument is then a name there, "
                "name@3 or name:alias.",
            )
        )

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of this command, or of the other one."""
        if any(word == "--server" or word.startswith("--server=") for word in options_of(args)):
            other: click.Command = self._remote.load()
            return other.make_context(info_name, args, parent, **extra)
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.BadParameter as error:
            if error.param is None or error.param.name != "directory":
                raise
            from nidim.client.client import DEFAULT_URL, URL

            there = f"What a server has is asked for with --server {os.environ.get(URL, DEFAULT_URL)}."
            raise click.BadParameter(f"{error.message} {there}", error.ctx, error.param) from error
