"""``nidim score``: how likely images or embeddings are under the law of an encoder, without any server."""

from __future__ import annotations

from pathlib import Path

import click

from nidim.given import read_images
from nidim.remote.scores import embeddings_of, files_argument, output_option, show_scores
from nidim.remote.switch import LocalOrServer


@click.command(cls=LocalOrServer, remote="nidim.remote.rows:score")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@files_argument
@output_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def score(directory: Path, files: tuple[Path, ...], output: Path | None, as_json: bool) -> None:
    """How likely image FILES, or rows in one .npy file, are under the law of the encoder in DIRECTORY.

    log p is in nats; p = P(χ²_d ≥ ‖s‖²), small for an outlier.
    """
    from nidim import bundle

    rows = embeddings_of(files)
    if rows is None:
        encoder = bundle.load(directory)
        prior, rows = encoder.prior, encoder.embed(read_images(encoder.preprocessing, files))
    else:
        prior = bundle.read_prior(directory, bundle.read_config(directory))
    if rows.shape[1] != prior.dim:
        raise click.ClickException(
            f"{files[0]} has rows of {rows.shape[1]} values; the encoder has {prior.dim}."
        )
    show_scores(files, prior.log_prob(rows), prior.p_value(rows), output=output, as_json=as_json)
