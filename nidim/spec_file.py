"""A spec from a file, TOML or JSON, with changes from a command line; what is wrong with it, by place. No torch.

Raises click's exceptions, with what to do.
"""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from nidim.spec import DatasetFacts, FullSpec, TrainSpec
    from nidim.spec.base import Part
    from nidim.spec.generator import GeneratorSpec

S = TypeVar("S", bound="Part")


def changes_option(help_text: str) -> Any:
    """``--set FIELD=VALUE``, as often as one likes."""
    return click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help=help_text)


def read_spec(
    path: Path, changes: tuple[str, ...] = (), *, prior_sample: Path | None = None, data: Path | None = None
) -> TrainSpec:
    """A spec from TOML or JSON, with ``field.field=value`` changes; values are read as JSON, else as text.

    ``prior_sample``: an .npy file whose rows are the points of a prior of kind flow. ``data``: images by whose file or
    folder the dataset is called where the spec has no name for them.
    """
    from nidim.spec import TrainSpec

    values = _values(path, changes)
    if values.get("kind") == "generator":
        raise click.ClickException(
            f"{path} describes a generator; use nidim generator, or of a server nidim jobs submit --generator NAME."
        )
    if data is not None:
        values.setdefault("dataset", _name_of(data))
    if prior_sample is not None:
        values["prior"] = {"kind": "flow", "points": _points(prior_sample)}
    return _validated(TrainSpec, values, path)


def _name_of(data: Path) -> str:
    """A name for images of that file or folder."""
    from nidim.spec.names import MOST

    known = re.sub(r"[^a-z0-9._-]+", "-", data.resolve().name.partition(".")[0].lower())
    return known.strip("._-")[:MOST] or "images"


def read_generator_spec(path: Path, changes: tuple[str, ...] = ()) -> GeneratorSpec:
    """The same for a generator."""
    from nidim.spec.generator import GeneratorSpec

    values = _values(path, changes)
    if values.get("kind", "train") == "train":
        raise click.ClickException(
            f'{path} describes an encoder (kind = "generator" is missing); use nidim train, or of a server '
            "nidim jobs submit --encoder NAME."
        )
    return _validated(GeneratorSpec, values, path)


def _values(path: Path, changes: tuple[str, ...]) -> dict[str, Any]:
    try:
        text = path.read_text()
        values: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, UnicodeDecodeError) as exc:
        kind = "" if path.suffix in (".json", ".toml") else " A spec is a .toml or a .json file."
        raise click.ClickException(f"{path} cannot be read: {exc}.{kind}") from exc
    if not isinstance(values, dict):
        raise click.ClickException(f'{path} must hold an object of fields, such as {{"dataset": "digits"}}.')
    for change in changes:
        apply_change(values, change)
    return values


def _validated(spec: type[S], values: dict[str, Any], path: Path) -> S:
    _name_kinds(spec, values)
    with problems_told(spec, values, f"{path} is not a valid spec"):
        return spec.model_validate(values)


@contextlib.contextmanager
def problems_told(spec: type[Part], values: Any, what: str) -> Iterator[None]:
    """What pydantic has against ``values`` as a click.ClickException: ``what``, and a line a place."""
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as exc:
        raise click.ClickException(f"{what}:\n{_problems(exc, spec, values)}") from exc


def _name_kinds(spec: type[S], values: dict[str, Any]) -> None:
    """Name the kind of each section that has none, where one kind alone has its fields: {sigma: .2} is gaussian noise.

    A section that is the name of a kind is one of that kind: ``regularizer=none``. Raises click.ClickException where
    several kinds have the fields, or none.
    """
    for field, section in values.items():
        kinds = _kinds(spec, field)
        if not kinds or section is None or (isinstance(section, dict) and "kind" in section):
            continue
        if isinstance(section, str) and section in kinds:
            values[field] = {"kind": section}
            continue
        given = section.keys() if isinstance(section, dict) else None
        fitting = [kind for kind, part in kinds.items() if given is None or given <= part.model_fields.keys()]
        if given is None or len(fitting) != 1:
            raise click.ClickException(f"{field} {_kind_needed(field, fitting or list(kinds))}")
        section["kind"] = fitting[0]


def _kind_needed(field: str, kinds: Sequence[str]) -> str:
    return f"needs a kind, as in {field}.kind = {kinds[0]}: one of {', '.join(kinds)}."


def _kinds(spec: type[S], field: str) -> dict[str, type[BaseModel]]:
    """The parts that may stand in ``field`` by their kind; empty where no kinds are told apart."""
    from nidim.spec.problems import parts_of

    if field not in spec.model_fields:
        return {}
    parts = parts_of(spec.model_fields[field].annotation)
    return {part.model_fields["kind"].default: part for part in parts}


def _points(path: Path) -> list[list[float]]:
    """The rows of an .npy file."""
    import numpy as np

    from nidim.spec.targets import MOST_VALUES

    try:
        found = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiu":
            raise ValueError("it must be one array of numbers (n, d)")
        if found.size > MOST_VALUES:
            raise ValueError(f"{found.size:,} values are over the limit of {MOST_VALUES:,}; take fewer rows")
        rows: list[list[float]] = np.asarray(found, dtype=np.float64).tolist()
    except (ValueError, OSError, EOFError) as exc:
        raise click.BadParameter(f"{path} cannot be used: {exc}", param_hint="--prior-sample") from exc
    return rows


def filled(spec: TrainSpec, facts: DatasetFacts) -> FullSpec:
    """The spec with its defaults; says where a default contradicts what was given."""
    with problems_told(type(spec), spec.model_dump(mode="json"), "The spec does not fit its defaults"):
        return spec.filled(facts)


def _problems(error: ValidationError, spec: type[Part], values: dict[str, Any]) -> str:
    """A line a place."""
    from nidim.spec.problems import place, words

    found: dict[str, list[str]] = {}
    for item in error.errors():
        path = [str(step) for step in place(item, values)]
        line = words(item, spec, values)
        if item["type"] == "model_attributes_type" and len(path) == 1 and (kinds := _kinds(spec, path[0])):
            line = _kind_needed(path[0], list(kinds))
        lines = found.setdefault(".".join(path) or "spec", [])
        if line not in lines:
            lines.append(line)
    return "\n".join(f"  {at}: {' or '.join(lines)}" for at, lines in found.items())


def apply_change(values: dict[str, Any], change: str) -> None:
    """Set a field of ``values`` as ``field.field=value`` says; the value is JSON, else text."""
    field, equals, text = change.partition("=")
    if not equals:
        raise click.BadParameter(f"{change!r} is not FIELD=VALUE", param_hint="--set")
    *parents, last = field.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise click.BadParameter(f"{parent} of {change!r} holds no fields", param_hint="--set")
    try:
        values[last] = json.loads(text)
    except ValueError:
        values[last] = text
