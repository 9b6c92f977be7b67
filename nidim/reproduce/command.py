"""``nidim reproduce``: run what is missing of a table, then write it."""

from __future__ import annotations

import copy
import dataclasses
import json
import shlex
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from nidim.remote import show
from nidim.spec_file import changes_option, problems_told

if TYPE_CHECKING:
    from nidim.reproduce.table import Row, Run, Scale, Store

NAMES = (
    "tradeoff",
    "targets",
    "bounds",
    "plugins",
    "rivals",
    "injection",
    "augmentation",
    "scale",
    "predict",
    "power",
    "separability",
    "prior-gap",
)
"""Known without importing torch; a test compares them with the tables."""
RESULTS, TRIALS = Path("docs/results"), Path("reproduce-trial")


@click.command("reproduce", epilog=f"Tables: {', '.join(NAMES)}.")
@click.argument("table", type=click.Choice(NAMES), metavar="TABLE")
@click.option(
    "--scale",
    type=click.Choice(["small", "full"]),
    default="small",
    show_default=True,
    help="small: handwritten digits or fewer simulations, half an hour to hours (scale: MNIST and colour images, too); "
    "full: MNIST.",
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 100), help="0 to SEEDS − 1.")
@click.option(
    "--only", multiple=True, metavar="ROW", help="These rows alone; the names are those of the stored files."
)
@changes_option("Change a field of every row's spec, e.g. --set epochs=2 for a trial (power: --set sets=5).")
@click.option(
    "--datasets-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where torchvision's sets (MNIST, ...) are looked up.",
)
@click.option("--allow-downloads", is_flag=True, help="Download a built-in set that is not there.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of TABLE-SCALE.md, .json and .png; single runs lie below it.  [default: docs/results, or "
    "reproduce-trial where the page there was made with other changes by --set]",
)
@click.option("--write-only", is_flag=True, help="Write the table from what is stored, run nothing.")
@show.json_option
def reproduce(
    table: str,
    scale: str,
    seeds: int,
    only: tuple[str, ...],
    changes: tuple[str, ...],
    datasets_dir: Path | None,
    allow_downloads: bool,
    out: Path | None,
    write_only: bool,
    as_json: bool,
) -> None:
    """Make TABLE anew: train every row with every seed, evaluate on the test images, write the table.

    The tables power and separability train nothing: they draw from known laws.

    A table that is made in pieces, by --only, is pooled: the command below it is that of the whole.

    \b
    Runs are kept, so Ctrl-C costs one run and the same command goes on:
      nidim reproduce targets                                  half an hour, on handwritten digits
      nidim reproduce power                                    hours, simulations
      nidim reproduce tradeoff --scale full --datasets-dir DIR     hours, on MNIST
    """
    from nidim.reproduce.table import Sources
    from nidim.reproduce.tables import TABLES

    wanted, at = TABLES[table], cast("Scale", scale)
    rows = [_changed(row, changes) for row in wanted.rows(at)]
    _check_names(only, rows)
    out = out or _place(f"{table}-{scale}", changes)
    store = wanted.store(out / "runs" / f"{table}-{scale}", Sources(datasets_dir, allow_downloads))
    _check_specs(store, rows)
    if not write_only:
        _run_missing(store, [row for row in rows if not only or row.name in only], seeds)
    found = [(row, [run for seed in range(seeds) if (run := _find(store, row, seed))]) for row in rows]
    if write_only and not any(runs for _, runs in found):
        raise click.ClickException(
            f"No run of {table} is stored below {out}; leave --write-only out to make them."
        )
    command = " ".join(
        [
            f"nidim reproduce {table} --scale {scale} --seeds {max(len(runs) for _, runs in found)}",
            *(f"--set {shlex.quote(change)}" for change in changes),
            *(
                ["--datasets-dir DIR"]
                if any(row.dataset not in ("digits", "simulated") for row in rows)
                else []
            ),
        ]
    )
    page = out / f"{table}-{scale}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    text, figure = wanted.page(wanted, found, command), None
    if wanted.figure is not None:
        figure = page.with_suffix(".png")
        wanted.figure(found, at, figure)
        text += f"\n![{wanted.title}]({page.stem}.png)\n"
    page.write_text(text)
    page.with_suffix(".json").write_text(json.dumps(wanted.values(wanted, found), indent=1) + "\n")
    if not as_json:
        click.echo(text)
        return
    paths = {"page": str(page), "values": str(page.with_suffix(".json")), "figure": figure and str(figure)}
    missing = [{"row": row.name, "seed": seed} for row, seed in _missing(store, rows, seeds)]
    show.echo_json({"table": table, "scale": scale, **paths, "missing": missing})


def _place(name: str, changes: tuple[str, ...]) -> Path:
    """Where a table goes that was told no place: never over a page that was made with other changes."""
    page = RESULTS / f"{name}.md"
    made_with = _changes_of(page.read_text()) if page.is_file() else ()
    if changes == made_with:
        return RESULTS
    how = " ".join(f"--set {change}" for change in made_with) or "no --set"
    reason = f", since {page} was made with {how}" if page.is_file() else ""
    click.secho(f"Writing to {TRIALS}{reason}; --out chooses another place.", fg="yellow", err=True)
    return TRIALS


def _changes_of(page: str) -> tuple[str, ...]:
    """The ``--set`` of the command by which a page says that it was made."""
    commands = [line for line in page.splitlines() if line.startswith("    nidim reproduce ")]
    words = shlex.split(commands[-1]) if commands else []
    return tuple(word for before, word in pairwise(words) if before == "--set")


def _changed(row: Row, changes: tuple[str, ...]) -> Row:
    from nidim.spec_file import apply_change

    values = copy.deepcopy(dict(row.changes))
    for change in changes:
        apply_change(values, change)
    return dataclasses.replace(row, changes=values)


def _check_names(only: tuple[str, ...], rows: Any) -> None:
    known = [row.name for row in rows]
    for name in only:
        if name not in known:
            raise click.BadParameter(f"{name} is no row; there are {', '.join(known)}", param_hint="--only")


def _missing(store: Store, rows: list[Row], seeds: int) -> list[tuple[Row, int]]:
    """Rows and seeds without a run."""
    return [(row, seed) for seed in range(seeds) for row in rows if _find(store, row, seed) is None]


def _check_specs(store: Store, rows: list[Row]) -> None:
    """Raises click.ClickException where what a row asks for, with its changes, is no spec."""
    for row in rows:
        for what, (spec, values) in store.specs(row).items():
            with problems_told(spec, values, f"{what} is not a valid spec"):
                spec.model_validate(values)


def _find(store: Store, row: Row, seed: int) -> Run | None:
    """The stored run; says where the defaults for the row's dataset contradict its changes."""
    from nidim.spec import TrainSpec

    with problems_told(TrainSpec, dict(row.changes), f"Row {row.name} does not fit its defaults"):
        return store.find(row, seed)


def _run_missing(store: Store, rows: list[Row], seeds: int) -> None:
    """Seed by seed, so that a table that is stopped has whole columns."""
    from nidim.pipeline import Hooks
    from nidim.progress import TrainingDisplay

    missing = _missing(store, rows, seeds)
    for number, (row, seed) in enumerate(missing, start=1):
        click.echo(f"{number}/{len(missing)}  {row.name}, seed {seed}", err=True)
        with TrainingDisplay() as display:
            store.make(row, seed, Hooks(on_step=display.step, on_phase=display.phase))
