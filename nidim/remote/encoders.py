"""``nidim encoders``: what a server has trained."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import click

from nidim.client import Client, Encoder
from nidim.remote import show
from nidim.remote.options import asks_server, confirmed

FIGURES = (
    ("mi_nats", "Î"),
    ("capacity_nats", "C"),
    ("kl_bound_upper95_nats", "KL ≤"),
    ("hz_p", "HZ p"),
    ("sw2_ratio", "SW2 / floor"),
    ("linear", "linear"),
)
COLUMNS = ("encoder", "aliases", "d", "prior", *(heading for _, heading in FIGURES), "created")


@click.group()
def encoders() -> None:
    """Encoders of a server: look, download, alias, delete.

    ENCODER is name (its newest version), name@3, name:alias or enc_….
    """


@encoders.command("list")
@click.option("--name", help="versions of this name only")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@asks_server
def list_encoders(client: Client, as_json: bool, name: str | None, limit: int) -> None:
    """The newest encoders."""
    found = list(itertools.islice(client.encoders(name=name), limit))
    if as_json:
        show.echo_json([encoder.info.as_json() for encoder in found])
    else:
        show.table(COLUMNS, map(_row, found), right=("d", *(heading for _, heading in FIGURES)))


@encoders.command("show")
@click.argument("encoder")
@click.option("--report", is_flag=True, help="The whole report instead, as JSON.")
@asks_server
def show_encoder(client: Client, as_json: bool, encoder: str, report: bool) -> None:
    """Everything about ENCODER, with the key figures of its report."""
    found = client.encoder(encoder)
    if report:
        show.echo_json(found.report(), indent=2)
    elif as_json:
        show.echo_json(found.info.as_json())
    else:
        show.fields(found.info.as_json())


@encoders.command()
@click.argument("encoder")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="directory"
)
@click.option("--file", "names", multiple=True, help="only this one; may be repeated")
@asks_server
def download(client: Client, as_json: bool, encoder: str, output: Path, names: tuple[str, ...]) -> None:
    """Write the files of ENCODER into a directory, verified; `nidim embed DIRECTORY` works with them."""
    paths = client.encoder(encoder).download(output, names=names or None)
    if as_json:
        show.echo_json([str(path) for path in paths])
    else:
        click.echo("".join(f"{path}\n" for path in paths), nl=False)


@encoders.command()
@click.argument("encoder")
@click.argument("alias")
@asks_server
def alias(client: Client, as_json: bool, encoder: str, alias: str) -> None:
    """Point ALIAS of its name to the version that ENCODER means now."""
    found = client.encoder(encoder).alias(alias)
    show.echo_json(found.as_json()) if as_json else click.echo(
        f"{found.name}:{found.alias} is {found.name}@{found.version}."
    )


@encoders.command()
@click.argument("encoder")
@click.argument("alias")
@asks_server
def unalias(client: Client, as_json: bool, encoder: str, alias: str) -> None:
    """Delete ALIAS of the name of ENCODER; every version stays."""
    client.encoder(encoder).unalias(alias)
    show.echo_json({"deleted": alias}) if as_json else click.echo(f"Deleted the alias {alias}.")


@encoders.command()
@click.argument("encoder")
@click.option("--yes", is_flag=True, help="Do not ask.")
@asks_server
def delete(client: Client, as_json: bool, encoder: str, yes: bool) -> None:
    """Delete the version that ENCODER means now, with its files."""
    found = client.encoder(encoder)
    confirmed(f"Delete {found.ref} ({found.id}) for ever?", yes=yes, as_json=as_json)
    found.delete()
    show.echo_json({"deleted": found.id}) if as_json else click.echo(f"Deleted {found.ref}.")


def _row(encoder: Encoder) -> tuple[Any, ...]:
    info = encoder.info
    figures = (info.report.get(key) for key, _ in FIGURES)
    return (encoder.ref, info.aliases, info.dim, info.prior.get("kind"), *figures, info.created_at)
