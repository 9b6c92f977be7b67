"""``nidim embed``, ``sample`` and ``score`` with ``--server``: rows of numbers from a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from nidim.client import BadImage, Client
from nidim.given import NewFile, save_array
from nidim.remote import show
from nidim.remote.options import asks_server
from nidim.remote.scores import embeddings_of, files_argument, output_option, show_scores

OUTPUT = click.option(
    "-o",
    "--output",
    type=NewFile(".npy"),
    help="float32 (n, d), .npy; may be left out with --json, which then prints the rows",
)


@click.command()
@click.argument("encoder")
@files_argument
@OUTPUT
@click.option("--noisy", is_flag=True, help="f(x) + Z instead of f(x).")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="of the noise")
@click.option("--skip-bad", is_flag=True, help="The row of a bad image is NaN (null), instead of an error.")
@asks_server
def embed(
    client: Client,
    as_json: bool,
    encoder: str,
    files: tuple[Path, ...],
    output: Path | None,
    noisy: bool,
    seed: int,
    skip_bad: bool,
) -> None:
    """Embed image FILES with ENCODER of a server; row i is file i."""
    _needs_place(output, as_json)
    found = client.encoder(encoder)
    try:
        rows = found.embed(
            files, noisy=noisy, seed=seed if noisy else None, on_error="null" if skip_bad else "fail"
        )
    except BadImage as error:
        if error.index is not None and not as_json:
            raise click.ClickException(
                f"{files[error.index]}: {error.detail} Leave it out, or give --skip-bad."
            ) from None
        raise
    _given(rows, "embeddings", found.ref, output, as_json)


@click.command()
@click.argument("encoder")
@click.option("-n", default=1000, show_default=True, type=click.IntRange(0, 2**40), help="draws")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1))
@click.option("--offset", default=0, show_default=True, type=click.IntRange(0, 2**62), help="first row")
@click.option("--temperature", default=1.0, show_default=True, type=click.FloatRange(0, 100))
@OUTPUT
@asks_server
def sample(
    client: Client,
    as_json: bool,
    encoder: str,
    n: int,
    seed: int,
    offset: int,
    temperature: float,
    output: Path | None,
) -> None:
    """Draw from the law that the embeddings of ENCODER of a server follow, the same everywhere for a seed."""
    _needs_place(output, as_json)
    found = client.encoder(encoder)
    rows = found.prior.sample(n, seed=seed, offset=offset, temperature=temperature)
    _given(rows, "samples", found.ref, output, as_json)


@click.command()
@click.argument("encoder")
@files_argument
@output_option
@asks_server
def score(client: Client, as_json: bool, encoder: str, files: tuple[Path, ...], output: Path | None) -> None:
    """How likely image FILES, or rows in one .npy file, are under the law of ENCODER of a server."""
    rows = embeddings_of(files)
    found = client.encoder(encoder).prior.score(files if rows is None else rows)
    show_scores(files, found.log_prob, found.p_value, found.p_conformal, output=output, as_json=as_json)


def _needs_place(output: Path | None, as_json: bool) -> None:
    if output is None and not as_json:
        raise click.UsageError("Missing option '-o' / '--output': where the rows go (or --json).")


def _given(rows: np.ndarray[Any, Any], name: str, encoder: str, output: Path | None, as_json: bool) -> None:
    if output is None:
        show.echo_json({"encoder": encoder, "dim": rows.shape[1], name: rows.tolist()})
        return
    if as_json:
        save_array(output, rows, tell=False)
        show.echo_json({"encoder": encoder, "output": str(output), "shape": list(rows.shape)})
    else:
        save_array(output, rows)
