"""``nidim embed``, ``sample`` and ``score`` with ``--server``: rows of numbers from a server."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from nidim.client import BadImage, Client
from nidim.remote import scores, vectors
from nidim.remote.options import asks_server


@click.command()
@click.argument("encoder")
@scores.files_argument
@vectors.output_option
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
    vectors.require_place(output, as_json)
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
    lost = np.flatnonzero(np.isnan(rows).all(axis=1)) if skip_bad else ()
    skipped = [str(files[i]) for i in lost]
    vectors.show_rows(rows, "embeddings", found.ref, output=output, as_json=as_json, skipped=skipped)


@click.command()
@click.argument("encoder")
@click.option("-n", default=1000, show_default=True, type=click.IntRange(0, 2**40), help="draws")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1))
@click.option("--offset", default=0, show_default=True, type=click.IntRange(0, 2**62), help="first row")
@click.option("--temperature", default=1.0, show_default=True, type=click.FloatRange(0, 100))
@vectors.output_option
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
    vectors.require_place(output, as_json)
    found = client.encoder(encoder)
    rows = found.prior.sample(n, seed=seed, offset=offset, temperature=temperature)
    vectors.show_rows(rows, "samples", found.ref, output=output, as_json=as_json)


@click.command()
@click.argument("encoder")
@scores.files_argument
@scores.output_option
@asks_server
def score(client: Client, as_json: bool, encoder: str, files: tuple[Path, ...], output: Path | None) -> None:
    """How likely image FILES, or rows in one .npy file, are under the law of ENCODER of a server."""
    rows = scores.embeddings_of(files)
    found = client.encoder(encoder).prior.score(files if rows is None else rows)
    scores.show_scores(
        files, found.log_prob, found.p_value, found.p_conformal, output=output, as_json=as_json
    )
