"""What ``nidim embed`` and ``nidim sample`` take and show, here and at a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nidim.given import NewFile, save_array
from nidim.remote import show

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

output_option = click.option(
    "-o",
    "--output",
    type=NewFile(".npy"),
    help="float32 (n, d), .npy; may be left out with --json, which then prints the rows",
)


def require_place(output: Path | None, as_json: bool) -> None:
    """Raises UsageError where the rows would go nowhere."""
    if output is None and not as_json:
        raise click.UsageError("Missing option '-o' / '--output': where the rows go (or --json).")


def show_rows(
    rows: NDArray[np.float32],
    name: str,
    encoder: str,
    *,
    output: Path | None,
    as_json: bool,
    skipped: list[str] | None = None,
) -> None:
    """The rows (n, d) as .npy, or under ``name`` as JSON. ``skipped``: files that have no row; None: not of files."""
    if output is not None:
        save_array(output, rows, tell=not as_json)
    if not as_json:
        return
    told: dict[str, Any] = {} if skipped is None else {"skipped": skipped}
    if output is None:
        show.echo_json({"encoder": encoder, "dim": rows.shape[1], name: rows.tolist(), **told})
    else:
        show.echo_json({"encoder": encoder, "output": str(output), "shape": list(rows.shape), **told})
