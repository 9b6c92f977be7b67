"""What a command line gives and gets: a spec from a file, the dataset that it names, images, arrays. No torch.

Raises click's exceptions, with what to do.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydantic import ValidationError

    from nidim.data import Dataset
    from nidim.spec import DatasetFacts, FullSpec, TrainSpec
    from nidim.spec.base import Part
    from nidim.spec.generator import GeneratorSpec

S = TypeVar("S", bound="Part")


class NewFile(click.Path):
    """A file that is going to be written, in a directory that is there: better asked before the work than after it."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not found.parent.is_dir():
            self.fail(f"there is no directory {found.parent}; make it first.", param, ctx)
        return found


def changes_option(help_text: str) -> Any:
    """``--set FIELD=VALUE``, as often as one likes."""
    return click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help=help_text)


def read_spec(path: Path, changes: tuple[str, ...] = (), *, prior_sample: Path | None = None) -> TrainSpec:
    """A spec from TOML or JSON, with ``field.field=value`` changes; values are read as JSON, else as text.

    ``prior_sample``: an .npy file whose rows are the points of a prior of kind flow.
    """
    from nidim.spec import TrainSpec

    values = _values(path, changes)
    if values.get("kind") == "generator":
        raise click.ClickException(f"{path} describes a generator; use nidim generator.")
    if prior_sample is not None:
        values["prior"] = {"kind": "flow", "points": _points(prior_sample)}
    return _validated(TrainSpec, values, path)


def read_generator_spec(path: Path, changes: tuple[str, ...] = ()) -> GeneratorSpec:
    """The same for a generator."""
    from nidim.spec.generator import GeneratorSpec

    values = _values(path, changes)
    if values.get("kind", "train") == "train":
        raise click.ClickException(
            f'{path} describes an encoder (kind = "generator" is missing); use nidim train.'
        )
    return _validated(GeneratorSpec, values, path)


def _values(path: Path, changes: tuple[str, ...]) -> dict[str, Any]:
    try:
        text = path.read_text()
        values: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, UnicodeDecodeError) as exc:
        raise click.ClickException(f"{path} cannot be read: {exc}") from exc
    for change in changes:
        apply_change(values, change)
    return values


def _validated(spec: type[S], values: dict[str, Any], path: Path) -> S:
    from pydantic import ValidationError

    _name_kinds(spec, values)
    try:
        return spec.model_validate(values)
    except ValidationError as exc:
        raise click.ClickException(f"{path} is not a valid spec:\n{_problems(exc)}") from exc


def _name_kinds(spec: type[S], values: dict[str, Any]) -> None:
    """Name the kind of each section that has none, where one kind alone has its fields: {sigma: .2} is gaussian noise.

    Raises click.ClickException where several have, or none.
    """
    for field, section in values.items():
        kinds = _kinds(spec, field)
        if not kinds or not isinstance(section, dict) or "kind" in section:
            continue
        fitting = [kind for kind, part in kinds.items() if section.keys() <= part.model_fields.keys()]
        if len(fitting) != 1:
            raise click.ClickException(
                f"{field} needs a kind, as in {field}.kind = {(fitting or list(kinds))[0]}: one of "
                f"{', '.join(fitting or kinds)}."
            )
        section["kind"] = fitting[0]


def _kinds(spec: type[S], field: str) -> dict[str, type[Part]]:
    """The parts that may stand in ``field`` by their kind; empty where no kinds are told apart."""
    from nidim.spec.base import Part

    if field not in spec.model_fields:
        return {}
    found: dict[str, type[Part]] = {}
    waiting = [spec.model_fields[field].annotation]
    while waiting:
        kind = waiting.pop(0)
        if isinstance(kind, type) and issubclass(kind, Part):
            found[kind.model_fields["kind"].default] = kind
        else:
            waiting += get_args(kind)
    return found


def require_free(out: Path, spec_digest: str, files: Sequence[str]) -> None:
    """Raises click.ClickException where ``out`` holds what a training of another spec has written, or a stranger."""
    there = [name for name in files if (out / name).exists()]
    if not there:
        return
    try:
        made_by = _digest_of_stored(out)
    except (OSError, ValueError, KeyError, TypeError):  # no config.json, or not one of ours
        made_by = None
    if made_by != spec_digest:
        held = "another encoder or generator" if made_by else there[0]
        raise click.ClickException(
            f"{out} holds {held}, which would be lost: choose another --out, or remove it."
        )


def _digest_of_stored(out: Path) -> str:
    from nidim.spec import FullSpec
    from nidim.spec.generator import FullGeneratorSpec

    values = json.loads((out / "config.json").read_text())
    spec = FullGeneratorSpec if values.get("kind") == "generator" else FullSpec
    return spec.model_validate(values["spec"]).digest


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
    from pydantic import ValidationError

    try:
        return spec.filled(facts)
    except ValidationError as exc:
        raise click.ClickException(f"The spec does not fit its defaults:\n{_problems(exc)}") from exc


def _problems(error: ValidationError) -> str:
    return "\n".join(f"  {'.'.join(map(str, e['loc'])) or 'spec'}: {e['msg']}" for e in error.errors())


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


def load_dataset(
    spec: TrainSpec, *, data: Path | None, datasets_dir: Path | None, allow_downloads: bool
) -> tuple[FullSpec, Dataset]:
    """The filled spec and its dataset at the spec's size."""
    from nidim.data import BUILTINS, builtin_facts, load_builtin, open_path

    if data is None:
        if spec.dataset not in BUILTINS:
            raise click.ClickException(
                f"{spec.dataset} is not built in ({', '.join(BUILTINS)}); give your own images with --data."
            )
        full = filled(spec, builtin_facts(spec.dataset))
        return full, load_builtin(
            spec.dataset, root=datasets_dir, allow_downloads=allow_downloads, image_size=full.image_size
        )
    dataset = open_path(data, name=spec.dataset, image_size=spec.image_size)
    full = filled(spec, dataset.facts)
    if full.image_size != dataset.facts.height:
        dataset = open_path(data, name=spec.dataset, image_size=full.image_size)
    return full, dataset


def read_images(preprocessing: Any, paths: tuple[Path, ...]) -> NDArray[np.uint8]:
    """Image files as an encoder takes them, (n, size, size, c)."""
    import numpy as np

    from nidim.data import pixels
    from nidim.errors import BadImage

    rows = []
    for path in paths:
        try:
            rows.append(
                pixels.to_array(
                    path.read_bytes(), size=preprocessing.image_size, channels=preprocessing.channels
                )
            )
        except BadImage as exc:
            raise click.ClickException(f"{path}: {exc}") from exc
    return np.stack(rows)


def save_array(output: Path, values: NDArray[Any], *, tell: bool = True) -> None:
    """Write an array as .npy, exactly where asked."""
    import numpy as np

    with output.open("wb") as file:
        np.save(file, values, allow_pickle=False)
    if tell:
        click.echo(f"Wrote {output}: {values.dtype} {values.shape}.")
