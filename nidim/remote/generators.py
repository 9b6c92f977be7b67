"""``nidim generators``, and ``nidim generate`` with ``--server``."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import click
import numpy as np

from nidim.client import Client, Generator
from nidim.given import NewFile, read_array
from nidim.remote import show, vectors
from nidim.remote.options import asks_server, confirmed

SUFFIXES = (".png", ".npy", ".zip")
COLUMNS = ("generator", "encoder", "d", "prior", "model", "image", "prior gap", "created")


@click.group()
def generators() -> None:
    """Generators of a server: look, download, delete. `nidim generate NAME --server URL` makes images.

    GENERATOR is name (its newest version), name@3 or gen_….
    """


@generators.command("list")
@click.option("--name", help="versions of this name only")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@asks_server
def list_generators(client: Client, as_json: bool, name: str | None, limit: int) -> None:
    """The newest generators."""
    found = list(itertools.islice(client.generators(name=name), limit))
    if as_json:
        show.echo_json([generator.info.as_json() for generator in found])
    else:
        show.table(COLUMNS, map(_row, found), right=("d", "prior gap"))


@generators.command("show")
@click.argument("generator")
@click.option("--report", is_flag=True, help="The whole report instead, as JSON.")
@asks_server
def show_generator(client: Client, as_json: bool, generator: str, report: bool) -> None:
    """Everything about GENERATOR, with the key figures of its report."""
    found = client.generator(generator)
    if report:
        show.echo_json(found.report())
    elif as_json:
        show.echo_json(found.info.as_json())
    else:
        show.fields(found.info.as_json())


@generators.command()
@click.argument("generator")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="directory"
)
@asks_server
def download(client: Client, as_json: bool, generator: str, output: Path) -> None:
    """Write the files of GENERATOR into a directory, verified; `nidim generate DIRECTORY` works with them."""
    paths = client.generator(generator).download(output)
    if as_json:
        show.echo_json([str(path) for path in paths])
    else:
        click.echo("".join(f"{path}\n" for path in paths), nl=False)


@generators.command()
@click.argument("generator")
@click.option("--yes", is_flag=True, help="Do not ask.")
@asks_server
def delete(client: Client, as_json: bool, generator: str, yes: bool) -> None:
    """Delete the version that GENERATOR means now, with its files."""
    found = client.generator(generator)
    confirmed(f"Delete {found.ref} ({found.id}) for ever?", yes=yes, as_json=as_json)
    found.delete()
    show.echo_json({"deleted": found.id}) if as_json else click.echo(f"Deleted {found.ref}.")


def generate_options(command: Any) -> Any:
    """What ``nidim generate`` takes beside the generator, here or at a server."""
    options = (
        vectors.draw_options(default=16, most=100_000),
        click.option(
            "--embeddings",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Images of these rows, an .npy file (n, d), instead of draws.",
        ),
        click.option(
            "--same-noise",
            is_flag=True,
            help="One noise for all of --embeddings: on a walk only the embedding changes.",
        ),
        click.option("--columns", type=click.IntRange(1, 1024), help="Of the grid; default: a square."),
        click.option(
            "-o",
            "--output",
            type=NewFile(),
            required=True,
            help=".png: one grid; .npy: uint8 (n, h, w, c); .zip: a PNG each.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("generator")
@generate_options
@asks_server
def generate(
    client: Client,
    as_json: bool,
    generator: str,
    n: int,
    seed: int,
    offset: int,
    temperature: float,
    embeddings: Path | None,
    same_noise: bool,
    columns: int | None,
    output: Path,
) -> None:
    """Make images with GENERATOR of a server, from draws of its prior."""
    from nidim.generate.pictures import as_file

    require_suffix(output)
    found = client.generator(generator)
    if embeddings is not None:
        images = found.from_embeddings(rows_of(embeddings, found.dim), seed=seed, same_noise=same_noise)
    else:
        images = found.generate(n, seed=seed, offset=offset, temperature=temperature)
    output.write_bytes(as_file(images, output.suffix, columns))
    show_images(list(images.shape), found.ref, output=output, as_json=as_json)


def show_images(shape: list[int], generator: str, *, output: Path, as_json: bool) -> None:
    """What was written; ``shape`` is (n, h, w, c)."""
    if as_json:
        show.echo_json({"generator": generator, "output": str(output), "shape": shape})
    else:
        click.echo(
            f"Wrote {output}: {shape[0]} image{'s' * (shape[0] != 1)} of {'x'.join(map(str, shape[1:]))}."
        )


def require_suffix(output: Path) -> None:
    """Raises BadParameter for a file of another kind."""
    if output.suffix not in SUFFIXES:
        raise click.BadParameter(f"{output.name} must end in one of {', '.join(SUFFIXES)}", param_hint="-o")


def rows_of(path: Path, dim: int) -> Any:
    """The rows (n, ``dim``) of an .npy file. Raises click.ClickException."""
    rows = read_array(path)
    if rows.ndim != 2 or rows.shape[1] != dim or rows.dtype.kind not in "fiu" or not np.isfinite(rows).all():
        raise click.ClickException(
            f"{path} must hold finite numbers (n, {dim}); it holds {rows.dtype} {rows.shape}."
        )
    return rows


def _row(generator: Generator) -> tuple[Any, ...]:
    info = generator.info
    size = info.resolved["image_size"]
    return (
        generator.ref,
        generator.source,
        info.dim,
        info.prior.get("kind"),
        info.spec["model"]["kind"],
        f"{size}×{size}×{info.resolved['channels']}",
        info.report.get("prior_gap"),
        info.created_at,
    )
