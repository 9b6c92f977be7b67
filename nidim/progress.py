"""What a person sees in the terminal while a training runs, and after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from nidim.loop import Moment

WIDE = 140
"""Columns that the table of figures fits into."""
COLUMNS = (
    ("mi_nats", "Î", ".2f"),
    ("capacity_nats", "C", ".2f"),
    ("kl_bound_nats", "KL bound", ".3f"),
    ("kl_bound_upper95_nats", "95 %", ".3f"),
    ("hz_p", "HZ p", ".3f"),
    ("hz_p_null", "true draws", ".3f"),
    ("sw2_ratio", "SW2 / floor", ".2f"),
    ("linear", "linear", ".3f"),
    ("knn", "kNN", ".3f"),
    ("mlp", "MLP", ".3f"),
)


class TrainingDisplay:
    """A progress bar with the speed and Î against C; then the phases after training. A context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
        )
        self.task = self.bar.add_task("starting", total=None, note="")
        self.trained = False
        self.after: TaskID | None = None

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        if kind is None and self.trained and self.after is not None:
            self.bar.remove_task(self.after)  # it is over; after an error it says where
        self.bar.stop()

    def step(self, at: Moment) -> None:
        """Show where the training of an encoder is, or that of a generator, which has no Î."""
        self.show(
            epoch=at.epoch,
            epochs=at.epochs,
            step=at.step,
            steps=at.steps,
            images_per_s=at.images_per_s,
            mi_nats=getattr(at, "mi_nats", None),
            capacity_nats=getattr(at, "capacity_nats", None),
        )

    def show(
        self,
        *,
        epoch: int,
        epochs: int,
        step: int,
        steps: int,
        images_per_s: float,
        mi_nats: float | None,
        capacity_nats: float | None,
        title: str = "",
    ) -> None:
        """Show the same from any source, e.g. the events of a job."""
        ceiling = f" / C {capacity_nats:.2f} nats" if capacity_nats is not None else ""
        information = f"Î {mi_nats:.2f}{ceiling}" if mi_nats is not None else ""
        self.trained = True
        self.bar.update(
            self.task,
            visible=True,
            description=f"{title} epoch {epoch}/{epochs}".strip(),
            total=steps,
            completed=step,
            note=f"{information}  {images_per_s:,.0f} images/s",
        )

    def phase(self, name: str, fraction: float | None) -> None:
        """Show a phase beside the training, on a line of its own."""
        if name == "training":
            return
        if self.after is None:
            self.after = self.bar.add_task(name, note="")
            self.bar.update(self.task, visible=self.trained)
        total = None if fraction is None else 1.0
        self.bar.update(self.after, description=name, total=total, completed=fraction or 0.0)


def wide_console(*, stderr: bool = False) -> Console:
    """The terminal as wide as it is; what goes into a file or a pipe is as wide as the table of figures."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(width=WIDE, stderr=stderr)


def report_table(rows: list[tuple[str, dict[str, Any]]], console: Console | None = None) -> None:
    """One line of key figures an encoder, or a column where the terminal is too narrow for that.

    A dash stands where a figure does not apply. ``law of``: the embeddings, clean or noisy, that HZ p, its true draws
    and SW2 / floor speak of.
    """
    console = console or wide_console()
    heads = ["", "d", "σ or ε", "law of", *(heading for _, heading, _form in COLUMNS)]
    body = [
        [name, str(values.get("dim", "–")), _strength(values), _judged(values)]
        + [_shown(values.get(key), form) for key, _, form in COLUMNS]
        for name, values in rows
    ]
    table = _table(heads, body, right=[False, True, True, False, *(True for _ in COLUMNS)])
    if console.measure(table, options=console.options.update(width=WIDE)).maximum > console.width:
        upright = list(zip(heads, *body, strict=True))
        table = _table(upright[0], upright[1:], right=[False, *(True for _ in body)])
    console.print(table)


def _table(heads: Sequence[str], body: Sequence[Sequence[str]], *, right: Sequence[bool]) -> Table:
    table = Table(title=None, header_style="bold")
    for heading, figures in zip(heads, right, strict=True):
        table.add_column(heading, justify="right" if figures else "left")
    for cells in body:
        table.add_row(*cells)
    return table


def _strength(values: dict[str, Any]) -> str:
    """σ or ε; in brackets that of the certificate, where the training had none."""
    for key in ("sigma", "epsilon"):
        if values.get(key) is not None:
            return format(values[key], ".3g")
    judged = values.get("certificate_sigma")
    return "–" if judged is None else f"({judged:.3g})"


def _judged(values: dict[str, Any]) -> str:
    return str(values.get("tested", "–"))


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
