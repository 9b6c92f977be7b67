"""``nidim score``: how likely images or embeddings are under the law of an encoder, without any server."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nidim.given import SKIP_HINT, images_argument, read_images
from nidim.remote.scores import (
    embeddings_of,
    output_option,
    readable,
    show_scores,
    skip_option,
)
from nidim.remote.show import json_option
from nidim.remote.switch import LocalOrServer

if TYPE_CHECKING:
    from nidim.conformal import Conformal


@click.command(cls=LocalOrServer, remote="nidim.remote.rows:score")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@images_argument("files")
@skip_option
@output_option
@json_option
def score(
    directory: Path, files: tuple[Path, ...], skip_bad: bool, output: Path | None, as_json: bool
) -> None:
    """How likely image FILES, or rows in one .npy file, are under the law of the encoder in DIRECTORY.

    log p is in nats; p = P(χ²_d ≥ ‖s‖²), small for an outlier, holds where embeddings follow the law exactly. The
    conformal p is the rank among held-out images, valid for the encoder as it is: decide by it.

    \b
      nidim score runs/digits pictures/
      nidim score digits embeddings.npy -o scores.npy --server http://127.0.0.1:8000
    """
    from nidim import stored

    rows = embeddings_of(files)
    if rows is None:
        from nidim import bundle

        encoder = bundle.load(directory)
        prior, report = encoder.prior, encoder.report
        bad: list[int] = []
        rows = encoder.embed(
            read_images(encoder.preprocessing, files, bad=bad if skip_bad else None, hint=SKIP_HINT)
        )
        rows[bad] = math.nan
    else:
        stored.require_kind(directory, "encoder")
        prior = stored.read_prior(directory, stored.read_config(directory))
        report = stored.read_report(directory)
    if rows.shape[1] != prior.dim:
        raise click.ClickException(
            f"{files[0]} has rows of {rows.shape[1]} values; the encoder has {prior.dim}."
        )
    ranks, there = _calibrated(report), readable(rows)
    known = rows[there]
    show_scores(
        files,
        prior.log_prob(known),
        prior.p_value(known),
        None if ranks is None else ranks.p_value(prior.outlyingness(known)),
        there=there,
        output=output,
        as_json=as_json,
    )


def _calibrated(report: dict[str, Any]) -> Conformal | None:
    """A calibration that is not understood is told and left out, as a server does: the rest stands without it."""
    from pydantic import ValidationError

    from nidim.conformal import calibrated

    try:
        return calibrated(report)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        click.secho(f"The calibration of the encoder is not used: {reason}", fg="yellow", err=True)
        return None
