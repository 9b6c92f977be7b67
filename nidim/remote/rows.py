"""``nidim embed``, ``sample`` and ``score`` with ``--server``: rows of numbers from a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from nidim.client import BadImage, Client
from nidim.given import SKIP_HINT, images_argument
from nidim.remote import scores, vectors
from nidim.remote.options import asks_server


@click.command()
@click.argument("encoder")
@images_argument("files")
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
    """Embed image FILES with ENCODER of a server; row i is file i.

    A folder stands for the images in it and below, sorted by path: --json gives them as "files".
    """
    vectors.require_place(output, as_json)
    found = client.encoder(encoder)
    with _naming_bad(files, as_json):
        rows = found.embed(
            files, noisy=noisy, seed=seed if noisy else None, on_error="null" if skip_bad else "fail"
        )
    lost = np.flatnonzero(np.isnan(rows).all(axis=1)).tolist() if skip_bad else []
    shown = vectors.Files(files, lost)
    vectors.show_rows(rows, "embeddings", found.ref, output=output, as_json=as_json, files=shown)


@click.command()
@click.argument("encoder")
@vectors.draw_options(most=2**40)
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
@images_argument("files")
@scores.skip_option
@scores.output_option
@asks_server
def score(
    client: Client,
    as_json: bool,
    encoder: str,
    files: tuple[Path, ...],
    skip_bad: bool,
    output: Path | None,
) -> None:
    """How likely image FILES, or rows in one .npy file, are under the law of ENCODER of a server."""
    rows, found = scores.embeddings_of(files), client.encoder(encoder)
    if rows is None and skip_bad:
        rows = found.embed(files, on_error="null")
    if rows is None:
        with _naming_bad(files, as_json):
            scored, there = found.prior.score(files), np.ones(len(files), bool)
    else:
        there = scores.readable(rows)
        scored = found.prior.score(rows[there])
    scores.show_scores(
        files,
        scored.log_prob,
        scored.p_value,
        scored.p_conformal,
        there=there,
        output=output,
        as_json=as_json,
    )


@contextlib.contextmanager
def _naming_bad(files: tuple[Path, ...], as_json: bool) -> Iterator[None]:
    """For people, a bad image by its file, with what can be done."""
    try:
        yield
    except BadImage as error:
        if error.index is not None and not as_json:
            raise click.ClickException(f"{files[error.index]}: {error.detail} {SKIP_HINT}") from None
        raise
