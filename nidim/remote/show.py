"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import click

WIDE = 160
"""Columns of a table that goes into a file or a pipe."""

json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


class Problem(click.ClickException):
    """An error as one line of JSON on standard error."""

    def __init__(self, shown: dict[str, Any]) -> None:
        super().__init__(str(shown["detail"]))
        self.shown = shown

    def show(self, file: Any = None) -> None:
        """Write it."""
        click.echo(as_json_text(self.shown), file=file or sys.stderr)


class WrongCall(Problem):
    """The same of a call that cannot be read."""

    exit_code = click.UsageError.exit_code


def problem(error: click.ClickException) -> Problem:
    """Any other error of a command, under the name of what is behind it; the exit status is the same."""
    behind = error.__cause__ or error
    name = "NidimError" if type(behind) is click.ClickException else type(behind).__name__
    kind = WrongCall if isinstance(error, click.UsageError) else Problem
    return kind({"error": name, "detail": error.format_message()})


def as_json_text(value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON; what is not finite is null."""
    return json.dumps(_finite(value), ensure_ascii=False, indent=indent)


def echo_json(value: Any, *, indent: int | None = None) -> None:
    """One JSON document on standard output."""
    click.echo(as_json_text(value, indent=indent))


def headline(report: dict[str, Any]) -> dict[str, Any]:
    """The figures of a report without its long parts, as a server lists them."""
    return {name: value for name, value in report.items() if not isinstance(value, list | dict)}


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    """A table on standard output; ``right``: columns of numbers."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(header_style="bold", box=None, pad_edge=False)
    for column in columns:
        figures = column in right
        shown.add_column(column, justify="right" if figures else "left", overflow="fold", no_wrap=figures)
    for row in rows:
        shown.add_row(*(_cell(value) for value in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(shown, highlight=False, markup=False)


def fields(values: dict[str, Any]) -> None:
    """Names and values, a line each; those of a section below its name, indented."""
    for line in _field_lines(values):
        click.echo(line)


def _field_lines(values: dict[str, Any]) -> Iterator[str]:
    width = max(map(len, values), default=0)
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield name
            yield from (f"  {line}" for line in _field_lines(value))
        else:
            text = as_json_text(value) if isinstance(value, dict | list) else _cell(value)
            yield f"{name:{width}}  {text}"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
