"""What ``nidim embed`` and ``nidim sample`` take and show, here and at a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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


def draw_options(*, most: int, default: int = 1000) -> Callable[[Any], Any]:
    """Which draws of the prior a command takes: a page of the stream of a seed, of ``most`` rows."""
    options = (
        click.option(
            "-n", default=default, show_default=True, type=click.IntRange(0, most), help="draws of the prior"
        ),
        click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1)),
        click.option(
            "--offset", default=0, show_default=True, type=click.IntRange(0, 2**62), help="first row"
        ),
        click.option(
            "--temperature",
            default=1.0,
            show_default=True,
            type=click.FloatRange(0, 100),
            help="above 1 farther from the middle of the law, below 1 nearer",
        ),
    )

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


class Files(NamedTuple):
    """Whose rows are shown, in their order, and the indices of those that have none."""

    paths: tuple[Path, ...]
    bad: list[int]

    def told(self) -> dict[str, list[str]]:
        """For programs."""
        return {
            "files": [str(path) for path in self.paths],
            "skipped": [str(self.paths[i]) for i in self.bad],
        }


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
    files: Files | None = None,
) -> None:
    """The rows (n, d) as .npy, or under ``name`` as JSON. ``files``: whose they are; None: not of files."""
    if output is not None:
        save_array(output, rows, tell=not as_json)
    if not as_json:
        return
    told: dict[str, Any] = {} if files is None else files.told()
    if output is None:
        show.echo_json({"encoder": encoder, "dim": rows.shape[1], name: rows.tolist(), **told})
    else:
        show.echo_json({"encoder": encoder, "output": str(output), "shape": list(rows.shape), **told})
