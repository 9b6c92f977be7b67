"""What ``nidim score`` takes and shows, here and at a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from nidim.given import NewFile, read_array, save_array
from nidim.remote import show

UNRANKED = (
    "There is no conformal p: it needs a calibration, made in training from at least 100 held-out images."
)
FIGURES = ("log p / nats", "p-value", "conformal p")

skip_option = click.option(
    "--skip-bad", is_flag=True, help="A bad image has no scores (NaN, null, –), instead of an error."
)
output_option = click.option(
    "-o",
    "--output",
    type=NewFile(".npy"),
    help="float64 (n, 3), .npy: log p in nats, p-value, conformal p-value (NaN: never calibrated, or no row)",
)


def embeddings_of(files: tuple[Path, ...]) -> NDArray[np.float32] | None:
    """The rows (n, d) of a single .npy file of numbers, of a bad image NaN; None: these are images."""
    if len(files) > 1 and any(file.suffix == ".npy" for file in files):
        raise click.ClickException(
            "An .npy file of embeddings stands alone; score images in a call of their own."
        )
    if files[0].suffix != ".npy":
        return None
    rows = read_array(files[0])
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise click.ClickException(f"{files[0]} must hold floats (n, d); it holds {rows.dtype} {rows.shape}.")
    with np.errstate(over="ignore"):
        found: NDArray[np.float32] = rows.astype(np.float32)
    if not np.isfinite(found[readable(rows)]).all():
        raise click.ClickException(
            f"{files[0]} must hold finite values within float32; NaN stands for whole rows alone."
        )
    return found


def readable(rows: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Which rows (n, d) are embeddings: that of an image that could not be read is NaN."""
    return ~np.isnan(rows).all(axis=1)


def _with_gaps(values: NDArray[np.floating[Any]], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """``values`` of the rows that are ``there``, NaN for the others, (n,)."""
    found = np.full(len(there), np.nan)
    found[there] = values
    return found


def show_scores(
    files: tuple[Path, ...],
    log_prob: NDArray[np.floating[Any]],
    p_value: NDArray[np.floating[Any]],
    p_conformal: NDArray[np.floating[Any]] | None,
    *,
    there: NDArray[np.bool_],
    output: Path | None,
    as_json: bool,
) -> None:
    """As .npy, as JSON, or as a table, with gaps where a row is not ``there``.

    ``p_conformal``: None for an encoder without a calibration.
    """
    log_prob, p_value = _with_gaps(log_prob, there), _with_gaps(p_value, there)
    if p_conformal is not None:
        p_conformal = _with_gaps(p_conformal, there)
    if output is not None:
        ranks = np.full(len(p_value), np.nan) if p_conformal is None else p_conformal
        save_array(output, np.stack([log_prob, p_value, ranks], axis=1), tell=not as_json)
    if p_conformal is None:
        click.secho(UNRANKED, fg="yellow", err=True)
    names = None if files[0].suffix == ".npy" else [str(file) for file in files]
    ranked = None if p_conformal is None else p_conformal.tolist()
    if as_json:
        scores = {"log_prob": log_prob.tolist(), "p_value": p_value.tolist(), "p_conformal": ranked}
        show.echo_json(scores if names is None else {**scores, "files": names})
    elif output is None:
        columns = (log_prob.tolist(), p_value.tolist(), ranked or [None] * len(log_prob))
        shown = ([None if value != value else value for value in column] for column in columns)
        show.table(
            ("image or row", *FIGURES), zip(names or range(len(log_prob)), *shown, strict=True), right=FIGURES
        )
