"""What a table is: rows that change a spec, columns that read runs, and its text."""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nidim.reproduce.sets import SetName

if TYPE_CHECKING:
    from nidim.pipeline import Hooks
    from nidim.spec.base import Part

Scale = Literal["small", "full"]
Posthoc = Literal["whitening", "quantiles", "flow"]
Run = Mapping[str, Any]
"""A stored run, see ``Runs.make`` and ``Simulations.make``."""

DATASETS: dict[Scale, str] = {"small": "digits", "full": "mnist"}
"""What a table is made on unless its rows say otherwise: seconds or minutes a run on two cores, or hours in all."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table; ``labels`` fill its first columns.

    ``changes``: of the default spec for ``dataset``, or what is simulated, in the words of the table's store.
    ``posthoc``: a map that is fitted to the training embeddings of the frozen encoder and applied to all. ``classes``:
    the first so many alone; None: all. ``held_out``: share of all images that is held out; None: the dataset's own.
    """

    name: str
    labels: tuple[str, ...]
    changes: Mapping[str, Any]
    dataset: str
    posthoc: Posthoc | None = None
    classes: int | None = None
    held_out: float | None = None

    @property
    def data(self) -> SetName:
        """Which images are trained on and judged by."""
        return SetName(self.dataset, self.changes.get("image_size"), self.classes, self.held_out)


@dataclasses.dataclass(frozen=True)
class Column:
    """A figure of a run, shown as mean ± standard deviation over the seeds; None: it does not apply.

    ``meaning``: in a few words below the table, where the heading does not say it. ``cost``: compares with runs on the
    same machine only.
    """

    heading: str
    value: Callable[[Run], float | None]
    form: str
    meaning: str = ""
    cost: bool = False


Found = Sequence[tuple[Row, Sequence[Run]]]
"""Rows with the runs that there are of them."""


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where datasets come from."""

    datasets_dir: Path | None = None
    allow_downloads: bool = False


class Store(Protocol):
    """The runs of one table: found again, or made and kept."""

    def specs(self, row: Row) -> Mapping[str, tuple[type[Part], Any]]:
        """What the row asks for, as values that are to be checked by a spec, under words for it."""

    def find(self, row: Row, seed: int) -> Run | None:
        """The stored run, if it is the one that the row asks for."""

    def make(self, row: Row, seed: int, hooks: Hooks) -> Run:
        """Make and store the run."""


def trainings(root: Path, sources: Sources) -> Store:
    """The store of a table whose runs are trainings."""
    from nidim.reproduce.runs import Runs

    return Runs(root, datasets_dir=sources.datasets_dir, allow_downloads=sources.allow_downloads)


def of_report(key: str, heading: str, form: str, meaning: str = "") -> Column:
    """A column of the report's summary."""
    return Column(heading, lambda run: run["report"].get(key), form, meaning)


def own_scale(
    key: str, heading: str, form: str, *, part: Literal["value", "floor", "ratio"] = "value"
) -> Column:
    """A column of the comparison in the law's own scale, of the embeddings that the promise is about."""

    def value(run: Run) -> float | None:
        battery = run["report"][run["report"]["tested"]]
        found = None if battery is None else battery["own_scale"][key]
        return found[part] if isinstance(found, dict) else found

    return Column(heading, value, form)


def of_representation(key: str, heading: str, form: str) -> Column:
    """A column of what is measured without labels; None for runs from before it was."""
    return Column(heading, lambda run: (run["report"].get("representation") or {}).get(key), form)


def _seconds(run: Run) -> float | None:
    """Of processors, which other work on the machine does not change; on a GPU by the clock. None: not measured."""
    return run["train_s"] if run["resolved"].get("device") == "cuda" else run.get("train_cpu_s")


def kl_floor(run: Run) -> float | None:
    """The certificate of as many true draws, nats; None where there is none."""
    certified = run["report"]["certificate"]
    found: float | None = None if certified is None else certified.get("kl_floor_nats")
    return found


COST = (
    Column("s", _seconds, ".0f", "processor seconds of the training, by the clock on a GPU", cost=True),
    Column("peak MB", lambda run: run["peak_mb"], ".0f", "the most memory that the process had", cost=True),
)
MATCHING = (
    of_report("hz_p", "HZ p", ".3f", "Henze–Zirkler, mean over subsamples of 64 held-out embeddings"),
    of_report("hz_p_null", "true draws", ".3f", "the same of as many true draws"),
    of_report("hz_reject", "rejected", ".2f", "share of these subsamples whose p is below .05"),
    of_report(
        "sw2_ratio", "SW2 / floor", ".1f", "sliced Wasserstein-2 distance to the law, over that of true draws"
    ),
)
INFORMATION = (
    of_report("capacity_nats", "C", ".2f"),
    of_report("mi_nats", "Î", ".2f"),
    of_report("kl_bound_nats", "KL bound", ".2f"),
    of_report("kl_bound_upper95_nats", "95 %", ".2f", "upper end of the KL bound, one-sided"),
    Column("KL of draws", kl_floor, ".2f", "the KL bound of as many true draws"),
)
REPRESENTATION = (
    of_representation("rankme", "RankMe", ".1f"),
    of_representation("lidar", "LiDAR", ".1f"),
    of_representation("alignment", "alignment", ".3f"),
    of_representation("uniformity", "uniformity", ".2f"),
)
USE = (
    of_report("linear", "linear", ".3f"),
    of_report("knn", "kNN", ".3f"),
    of_report("mlp", "MLP", ".3f"),
)


def markdown(table: Table, found: Found, command: str) -> str:
    """The whole page: title, what it shows, the table, hardware and versions, the command."""
    headings = [*table.headings, "seeds", *(column.heading for column in table.columns)]
    lines = [f"# {table.title}", "", table.about, ""]
    lines += ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    provenances: set[str] = set()
    machine = _machine(found)
    for row, runs in found:
        if not runs:
            continue
        there = [run for run in runs if _processor(run) == machine]
        cells = [*row.labels, str(len(runs))]
        cells += [
            spread([column.value(run) for run in (there if column.cost else runs)], column.form)
            for column in table.columns
        ]
        lines.append("| " + " | ".join(cells) + " |")
        provenances |= {_provenance(run) for run in runs}
    meanings = [f"{column.heading}: {column.meaning}" for column in table.columns if column.meaning]
    if meanings:
        lines += ["", f"{'; '.join(meanings)}."]
    if table.findings is not None:
        lines += ["", table.findings(found)]
    if precisions := _precisions(found):
        lines += ["", precisions]
    if costs := _costs(table, found, machine):
        lines += ["", costs]
    if waiting := [row.name for row, runs in found if not runs]:
        lines += ["", f"Not made yet: {', '.join(waiting)}."]
    notes = {
        r"\| – \|": " A dash: does not apply, or not measured by an earlier version.",
        r"\(\d+ of \d+\) \|": " In brackets: of how many seeds, where the others have a dash.",
    }
    told = "".join(note for sign, note in notes.items() if re.search(sign, "".join(lines)))
    lines += ["", *sorted(provenances), ""]
    lines += [f"Mean ± standard deviation over the seeds.{told} Made by", ""]
    return "\n".join([*lines, f"    {command}", ""])


def figures(table: Table, found: Found) -> list[dict[str, Any]]:
    """The table as values: a list of rows, each with its seeds' figures by column."""
    return [
        {
            "row": row.name,
            "labels": list(row.labels),
            "seeds": [run["seed"] for run in runs],
            "processors": [_processor(run) for run in runs],
            "figures": {column.heading: [column.value(run) for run in runs] for column in table.columns},
        }
        for row, runs in found
    ]


def _precisions(found: Found) -> str:
    """Which rows were trained in which precision, where they differ: ``auto`` takes what is faster on the machine."""
    trained = {
        row.name: tuple(
            sorted({dtype for run in runs if (dtype := (run.get("resolved") or {}).get("dtype"))})
        )
        for row, runs in found
    }
    kinds = Counter(dtypes for dtypes in trained.values() if dtypes)
    if len({dtype for dtypes in kinds for dtype in dtypes}) < 2:
        return ""
    (most, _), *fewer = kinds.most_common()
    said = [
        f"{' and '.join(dtypes)} in runs of {', '.join(name for name in trained if trained[name] == dtypes)}"
        for dtypes, _ in reversed(fewer)
    ]
    said.append(f"{' and '.join(most)} in {'the others' if fewer else 'runs of every row'}")
    return f"`precision: auto` takes what is faster on the machine at the time: {'; '.join(said)}."


def _processor(run: Run) -> str:
    return str(run["provenance"]["processor"])


def _machine(found: Found) -> str:
    """The processor of the most runs, whose costs are compared; of the first of them where two have as many."""
    processors = [_processor(run) for _, runs in found for run in runs]
    return max(dict.fromkeys(processors), key=processors.count, default="")


def _costs(table: Table, found: Found, machine: str) -> str:
    """Where the costs were measured, if not on the machine of every run."""
    if all(_processor(run) == machine for _, runs in found for run in runs):
        return ""
    headings = [column.heading for column in table.columns if column.cost]
    return f"{' and '.join(headings)}: of the runs on {machine} alone." if headings else ""


def _provenance(run: Run) -> str:
    found = run["provenance"]
    dataset = found["dataset"]
    return (
        f"- {dataset['name']}: {dataset['n_train']} training and {dataset['n_test']} test images; "
        f"{found['processor']}, {found['threads']} threads, torch {found['torch']}, nidim {found['nidim']}"
    )


def spread(values: Sequence[float | None], form: str) -> str:
    """mean ± sd, without an sd that rounds to 0; a dash where the figure does not apply, or of how many seeds it is."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = _unsigned_zero(format(statistics.fmean(known), form))
    deviation = format(statistics.stdev(known) if len(known) > 1 else 0.0, form)
    said = mean if float(deviation) == 0 else f"{mean} ± {deviation}"
    return said if len(known) == len(values) else f"{said} ({len(known)} of {len(values)})"


def _unsigned_zero(text: str) -> str:
    return text.removeprefix("-") if float(text) == 0 else text


@dataclasses.dataclass(frozen=True)
class Table:
    """``about`` says what the table shows and how to read it; ``figure``: (rows with their runs, path of a PNG);
    ``findings``: what follows from the runs, in Markdown, below the table.

    ``store`` makes the runs; ``page`` and ``values`` say them as Markdown and as JSON.
    """

    name: str
    title: str
    about: str
    headings: tuple[str, ...]
    rows: Callable[[Scale], Sequence[Row]]
    columns: tuple[Column, ...]
    figure: Callable[[Found, Scale, Path], None] | None = None
    findings: Callable[[Found], str] | None = None
    store: Callable[[Path, Sources], Store] = trainings
    page: Callable[[Table, Found, str], str] = markdown
    values: Callable[[Table, Found], list[dict[str, Any]]] = figures
