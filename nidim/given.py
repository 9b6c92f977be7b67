"""What a command line gives and gets beside a spec: the dataset that it names, images, arrays, a place. No torch.

Raises click's exceptions, with what to do.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nidim.spec_file import filled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nidim.capacity import Advice
    from nidim.data import Dataset
    from nidim.spec import FullSpec, TrainSpec


class NewFile(click.Path):
    """A file that is going to be written, in a directory that is there: better asked before the work than after it."""

    def __init__(self, ending: str | None = None) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)
        self._ending = ending

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not found.parent.is_dir():
            self.fail(f"there is no directory {found.parent}; make it first.", param, ctx)
        if not os.access(found.parent, os.W_OK):
            self.fail(f"{found.parent} cannot be written; choose another place.", param, ctx)
        if self._ending is not None and found.suffix != self._ending:
            self.fail(f"what is written is {self._ending}; call it {found.stem}{self._ending}.", param, ctx)
        return found


IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def images_argument(name: str, *, required: bool = True) -> Any:
    """Image files, as many as one likes; a folder stands for the images in it and below, sorted by path."""
    path = click.Path(exists=True, path_type=Path)
    return click.argument(name, nargs=-1, required=required, type=path, callback=_with_folders)


def _with_folders(
    context: click.Context, parameter: click.Parameter, given: tuple[Path, ...]
) -> tuple[Path, ...]:
    found: list[Path] = []
    for path in given:
        inside = sorted(_images_below(path)) if path.is_dir() else [path]
        if not inside:
            raise click.BadParameter(f"{path} holds no {', '.join(IMAGE_ENDINGS)}", context, parameter)
        found.extend(inside)
    return tuple(found)


def _images_below(folder: Path) -> Iterator[Path]:
    """Hidden files and folders are left out, as are files of other endings."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file() and not hidden:
            yield path


_dataset_options = [
    click.option(
        "--data",
        type=click.Path(exists=True, path_type=Path),
        help="Your own images: a class folder, .zip, .tar(.gz), .npz, .npy or .parquet.",
    ),
    click.option(
        "--datasets-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Where torchvision's sets (MNIST, CIFAR-10, ...) are looked up.",
    ),
    click.option("--allow-downloads", is_flag=True, help="Download a built-in set that is not there."),
]


def dataset_options(command: Any) -> Any:
    """The options that say where images are."""
    for option in reversed(_dataset_options):
        command = option(command)
    return command


def require_free(out: Path, spec_digest: str, files: Sequence[str]) -> None:
    """Make the directory ``out``, where a training will leave ``files``.

    Raises click.ClickException where it cannot be written, or holds what another spec or a stranger has written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as exc:
        raise click.ClickException(
            f"{out} cannot be written ({exc.strerror}); choose another --out."
        ) from exc
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


def load_dataset(
    spec: TrainSpec,
    *,
    data: Path | None,
    datasets_dir: Path | None,
    allow_downloads: bool,
    channels: int | None = None,
) -> tuple[FullSpec, Dataset, list[Advice]]:
    """The filled spec, its dataset at the spec's size, and what is to be said of that size.

    Given images have ``channels``; None: their own.
    """
    from nidim.capacity import shrunk
    from nidim.data import BUILTINS, builtin_facts, load_builtin, open_path

    if data is None:
        if spec.dataset not in BUILTINS:
            raise click.ClickException(
                f"{spec.dataset} is not built in ({', '.join(BUILTINS)}); give your own images with --data."
            )
        facts = builtin_facts(spec.dataset)
        full = filled(spec, facts)
        dataset = load_builtin(
            spec.dataset, root=datasets_dir, allow_downloads=allow_downloads, image_size=full.image_size
        )
        return full, dataset, shrunk(spec, full, facts)
    dataset = open_path(data, name=spec.dataset, image_size=spec.image_size, channels=channels)
    full = filled(spec, dataset.facts)
    advice = shrunk(spec, full, dataset.facts)
    if full.image_size != dataset.facts.height:
        dataset = open_path(data, name=spec.dataset, image_size=full.image_size, channels=channels)
    return full, dataset, advice


def tell_other_name(spec: TrainSpec, data: Path | None) -> None:
    """Say that the spec's dataset has the name of a built-in, where the images are given ones."""
    from nidim.data import BUILTINS

    if data is not None and spec.dataset in BUILTINS:
        click.secho(
            f"{spec.dataset} is the name of a built-in set, but the images are those of {data}; give them a name of "
            "their own, e.g. --set dataset=mine.",
            fg="yellow",
            err=True,
        )


def require_trained_on(provenance: Mapping[str, Any], dataset: Dataset, data: Path | None) -> None:
    """Of the images that an encoder with this ``provenance`` meets: refuse others that nobody has named.

    ``data``: where they were given from; None: ``dataset`` is the built-in of the name in the spec, which must be what
    the encoder was trained on. Others that were given are told. Raises click.ClickException.
    """
    trained_on = provenance.get("dataset") or {}
    if trained_on.get("digest", dataset.digest) == dataset.digest:
        return
    if data is None:
        raise click.ClickException(
            f"The encoder was trained on other images than the built-in {dataset.name}: give the folder or file of its "
            "training with --data, or with --data others that you choose."
        )
    click.secho(
        f"{data} is not the folder or file that the encoder was trained on: figures are of the images in it.",
        fg="yellow",
        err=True,
    )


def tell_skipped(dataset: Dataset) -> None:
    """Say which files of a folder or archive are not among the images: how many, and the first three."""
    skipped = dataset.skipped
    if skipped is not None and skipped.count:
        first = "; ".join(f"{file.member}: {file.reason}" for file in skipped.first[:3])
        told = "1 file is not used" if skipped.count == 1 else f"{skipped.count} files are not used"
        click.secho(told + (f"; the first: {first}." if first else "."), fg="yellow", err=True)


SKIP_HINT = "Leave it out, or give --skip-bad."
"""Of a bad image, to commands with that option."""


def read_images(
    preprocessing: Any, paths: tuple[Path, ...], *, bad: list[int] | None = None, hint: str = "Leave it out."
) -> NDArray[np.uint8]:
    """Image files as an encoder takes them, (n, size, size, c).

    With ``bad``, one that cannot be read is black, told, and its index is added there; else it ends the command, which
    gives ``hint``.
    """
    import numpy as np

    from nidim.data import pixels
    from nidim.errors import BadImage

    size, channels = preprocessing.image_size, preprocessing.channels
    rows = np.zeros((len(paths), size, size, channels), np.uint8)
    for i, path in enumerate(paths):
        try:
            rows[i] = pixels.to_array(path.read_bytes(), size=size, channels=channels)
        except BadImage as exc:
            if bad is None:
                raise click.ClickException(f"{path}: {exc}. {hint}") from exc
            bad.append(i)
            click.secho(f"{path}: {exc}", fg="yellow", err=True)
    return rows


def read_array(path: Path) -> NDArray[Any]:
    """The array of an .npy file. Raises click.ClickException for any other file."""
    import zipfile

    import numpy as np

    with path.open("rb") as file:
        try:
            found = np.load(file, allow_pickle=False)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as exc:
            raise click.ClickException(f"{path} is no .npy file: {exc}") from exc
        if not isinstance(found, np.ndarray):
            raise click.ClickException(f"{path} is no .npy file but an .npz; save one of its arrays alone.")
    return found


def save_array(output: Path, values: NDArray[Any], *, tell: bool = True) -> None:
    """Write an array as .npy, exactly where asked."""
    import numpy as np

    with output.open("wb") as file:
        np.save(file, values, allow_pickle=False)
    if tell:
        click.echo(f"Wrote {output}: {values.dtype} {values.shape}.")
