"""``nidim datasets``: images at a server."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import click

from nidim.client import Client, DatasetInfo
from nidim.remote import show
from nidim.remote.options import asks_server, confirmed

COLUMNS = ("name", "kind", "state", "images", "classes", "h × w × c", "license")


@click.group()
def datasets() -> None:
    """Datasets of a server: list, upload, delete."""


@datasets.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1))
@asks_server
def list_datasets(client: Client, as_json: bool, limit: int) -> None:
    """Uploaded datasets, newest first, and the built-in ones."""
    found = list(itertools.islice(client.datasets.list(), limit))
    if as_json:
        show.echo_json([dataset.as_json() for dataset in found])
    else:
        show.table(COLUMNS, map(_row, found), right=("images", "classes"))


@datasets.command("show")
@click.argument("name")
@asks_server
def show_dataset(client: Client, as_json: bool, name: str) -> None:
    """Everything about the dataset NAME, what was skipped of an upload included."""
    found = client.datasets.get(name).as_json()
    show.echo_json(found) if as_json else show.fields(found)


@datasets.command()
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--license", "license_", help="of the images; goes into the card of every encoder")
@click.option("--wait/--no-wait", default=True, show_default=True, help="until the server has read it")
@asks_server
def upload(client: Client, as_json: bool, name: str, file: Path, license_: str | None, wait: bool) -> None:
    """Upload FILE (.zip, .tar, .tar.gz of images, .npz, .npy, .parquet, or a folder) as the dataset NAME.

    \b
      nidim datasets upload flowers pictures.zip --license CC0-1.0
      nidim jobs submit spec.toml --set dataset=flowers --encoder flowers --watch
    """
    found = client.datasets.upload(name, file, license=license_, wait=wait, progress=not as_json)
    if as_json:
        show.echo_json(found.as_json())
        return
    show.table(COLUMNS, [_row(found)])
    skipped = (found.skipped or {}).get("count")
    if skipped:
        left = f"{skipped} member{'s' * (skipped != 1)} could not be used"
        click.echo(f"{left}; `nidim datasets show {name}` says which.", err=True)


@datasets.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@asks_server
def delete(client: Client, as_json: bool, name: str, yes: bool) -> None:
    """Delete the uploaded dataset NAME."""
    confirmed(f"Delete the dataset {name} for ever?", yes=yes, as_json=as_json)
    client.datasets.delete(name)
    show.echo_json({"deleted": name}) if as_json else click.echo(f"Deleted {name}.")


def _row(dataset: DatasetInfo) -> tuple[Any, ...]:
    image = dataset.image or {}
    shape = " × ".join(str(image[side]) for side in ("height", "width", "channels")) if image else None
    state = dataset.state if dataset.available or dataset.state != "ready" else "not here"
    return (dataset.name, dataset.kind, state, dataset.items, len(dataset.classes), shape, dataset.license)
