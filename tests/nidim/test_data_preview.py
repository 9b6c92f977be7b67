"""Previews: the same rows as a training sees, from every format, as pictures or arrays."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nidim.data.builtin_files import load_builtin
from nidim.data.ingestion import ingest
from nidim.data.materialise import load_archive
from nidim.data.preview import Preview, Wanted, of_archive, of_dataset
from nidim.errors import DataError

PICTURES = np.random.default_rng(0).integers(0, 256, (50, 6, 6), np.uint8)


def _png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as target:
        for i, picture in enumerate(PICTURES):
            target.writestr(f"{'even' if i % 2 == 0 else 'odd'}/{i:02}.png", _png(picture))


def _tar(path: Path) -> None:
    with tarfile.open(path, "w:gz") as target:
        for i, picture in enumerate(PICTURES):
            member, data = tarfile.TarInfo(f"a/{i:02}.png"), _png(picture)
            member.size = len(data)
            target.addfile(member, io.BytesIO(data))


def _npz(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, images=PICTURES, labels=np.arange(50) % 3)


@pytest.mark.parametrize("write", [_zip, _tar, _npz])
@pytest.mark.parametrize("split", ["train", "test"])
def test_rows_are_those_of_the_arrays(write: Callable[[Path], None], split: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path)
    index = ingest(path)
    whole = load_archive(path, index, name="x", cache_dir=tmp_path / "cache", image_size=4)
    arrays = getattr(whole, split)
    found = of_archive(path, index, Wanted(split, 1, 3, 4))
    np.testing.assert_array_equal(found.images, arrays.images[1:4])
    wanted = np.full(3, -1) if arrays.labels is None else arrays.labels[1:4]
    np.testing.assert_array_equal(found.labels, wanted)
    np.testing.assert_array_equal(of_dataset(whole, Wanted(split, 1, 3, 4)).images, found.images)


def test_after_the_last_row_there_is_none(tmp_path: Path) -> None:
    _zip(tmp_path / "file")
    index = ingest(tmp_path / "file")
    assert (
        len(of_archive(tmp_path / "file", index, Wanted("test", 3, 100, 6)).images) == index.splits.test - 3
    )
    none = of_archive(tmp_path / "file", index, Wanted("test", 1000, 10, 6))
    assert none.images.shape == (0, 6, 6, 1)
    assert Image.open(io.BytesIO(none.png())).size == (6, 6)


def test_another_file_than_the_indexed_one_is_refused(tmp_path: Path) -> None:
    _zip(tmp_path / "file")
    index = ingest(tmp_path / "file")
    with zipfile.ZipFile(tmp_path / "other", "w") as target:
        target.writestr("a.png", _png(PICTURES[0]))
    with pytest.raises(DataError, match="not the one that was indexed"):
        of_archive(tmp_path / "other", index, Wanted("train", 0, 10, 6))


def test_a_sheet_has_the_pictures_row_by_row() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    sheet = np.asarray(Image.open(io.BytesIO(Preview(images, np.full(5, -1)).png())))
    assert sheet.shape == (4, 6, 3)
    np.testing.assert_array_equal(sheet[::2, ::2, 0], [[0, 1, 2], [3, 4, 0]])


def test_a_built_in_has_its_labels() -> None:
    digits = load_builtin("digits", root=None)
    found = of_dataset(digits, Wanted("test", 0, 20, 8))
    np.testing.assert_array_equal(found.images, digits.test.images[:20])
    np.testing.assert_array_equal(found.labels, digits.test.labels[:20])
