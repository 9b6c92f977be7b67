"""What a command line gives and gets: a spec from a file, the dataset that it names, images, arrays. No torch.

Raises click's exceptions, with what to do.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

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

    try:
        return spec.model_validate(values)
    except ValidationError as exc:
        raise click.ClickException(f"{path} is not a valid spec:\n{_problems(exc)}") from exc


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
