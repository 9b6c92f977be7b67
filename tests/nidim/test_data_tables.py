"""Arrays and tables: npy, npz and parquet, honest and not."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nidim.data import Dataset, ImageLimits, Index, OverLimit, ingest, load_archive
from nidim.errors import DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(20) % 3


def load(path: Path, tmp_path: Path, **options: int) -> tuple[Index, Dataset]:
    index = ingest(path)
    return index, load_archive(path, index, name="x", cache_dir=tmp_path / "cache", **options)


def save(tmp_path: Path, *, compressed: bool = False, **arrays: np.ndarray) -> Path:
    """An .npz under a name that does not say so."""
    with (tmp_path / "upload").open("wb") as stream:
        (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return tmp_path / "upload"


def save_npy(tmp_path: Path, array: np.ndarray) -> Path:
    with (tmp_path / "upload").open("wb") as stream:
        np.save(stream, array)
    return tmp_path / "upload"


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_with_every_array(tmp_path: Path, compressed: bool) -> None:
    square = IMAGES[:, :5]
    path = save(
        tmp_path,
        compressed=compressed,
        images=square[:15],
        labels=LABELS[:15],
        test_images=square[15:],
        test_labels=LABELS[15:],
    )
    index, dataset = load(path, tmp_path)
    assert index.format == "npz"
    assert index.classes == ("0", "1", "2")
    assert np.array_equal(dataset.train.images, square[:15])
    assert np.array_equal(dataset.test.images, square[15:])
    assert dataset.train.labels is not None
    assert dataset.test.labels is not None
    assert dataset.train.labels.dtype == np.int64
    assert np.array_equal(dataset.train.labels, LABELS[:15])
    assert np.array_equal(dataset.test.labels, LABELS[15:])


def test_npz_arrays_of_other_names_are_skipped_by_name(tmp_path: Path) -> None:
    index, dataset = load(save(tmp_path, images=IMAGES[:, :5], label=LABELS, names=LABELS), tmp_path)
    assert index.skipped.count == 2
    assert [(skip.member, "test_labels" in skip.reason) for skip in index.skipped.first] == [
        ("label.npy", True),
        ("names.npy", True),
    ]
    assert dataset.train.labels is None


def test_npz_labels_of_test_images_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="test_labels without test_images"):
        load(save(tmp_path, images=IMAGES[:, :5], labels=LABELS, test_labels=LABELS), tmp_path)


def test_npz_without_a_test_split_holds_out_a_tenth(tmp_path: Path) -> None:
    index, dataset = load(save(tmp_path, images=IMAGES[:, :5], labels=LABELS), tmp_path)
    is_test = index.members.is_test.unpack().astype(bool)
    assert is_test.sum() == 2
    assert np.array_equal(dataset.test.images, IMAGES[is_test, :5])
    assert np.array_equal(dataset.train.labels, LABELS[~is_test])


@pytest.mark.parametrize("shape", [(7, 4, 4), (7, 4, 4, 1), (7, 4, 4, 3), (7, 4, 4, 4), (1, 4, 4), (7, 1, 1)])
def test_npy_of_every_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = RNG.integers(0, 256, shape, dtype=np.uint8)
    index, dataset = load(save_npy(tmp_path, images), tmp_path)
    assert index.format == "npy"
    channels = 1 if shape[3:] in ((), (1,)) else 3
    assert index.image.channels == channels
    assert dataset.train.images.shape[1:] == (*shape[1:3], channels)
    assert len(dataset.train) + len(dataset.test) == shape[0]
    if shape[3:] != (4,):
        train = images[~index.members.is_test.unpack().astype(bool)]
        assert np.array_equal(dataset.train.images.reshape(train.shape), train)


def test_array_images_are_resized_by_the_rule(tmp_path: Path) -> None:
    index, dataset = load(save_npy(tmp_path, IMAGES), tmp_path, image_size=4, channels=1)
    assert index.image.model_dump() == {"height": 6, "width": 5, "channels": 3}
    assert dataset.train.images.shape == (18, 4, 4, 1)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array(["b", "a"] * 10), ("a", "b")),
        (np.array([b"b", b"a"] * 10), ("a", "b")),
        (np.array([7, 100] * 10, np.uint8), ("7", "100")),
        (np.array([7, 100] * 10, ">i8").reshape(20, 1), ("7", "100")),
        (np.array([5] * 20), ()),
    ],
)
def test_labels_of_every_kind(tmp_path: Path, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    index = ingest(save(tmp_path, images=IMAGES, labels=labels))
    assert index.classes == classes
    if classes:
        names = [classes[i] for i in index.members.labels.unpack()]
        given_names = [v.decode() if isinstance(v, bytes) else str(v) for v in labels.reshape(-1)]
        assert names == given_names


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES.astype(np.float32)}, "must be uint8"),
        ({"images": IMAGES[0, 0]}, "must have shape"),
        ({"images": IMAGES[..., :2]}, "must have shape"),
        ({"images": IMAGES[:, :0]}, "must have shape"),
        ({"images": IMAGES[:0]}, "no image"),
        ({"images": np.asfortranarray(IMAGES)}, "Fortran"),
        ({"x_train": IMAGES}, 'no array "images".*x_train'),
        ({"images": IMAGES, "labels": LABELS[:5]}, r"must have shape \(20,\)"),
        ({"images": IMAGES, "labels": LABELS / 2}, "integers or short strings"),
        ({"images": IMAGES, "labels": LABELS - 1}, "negative"),
        ({"images": IMAGES, "labels": LABELS.astype(np.uint64) + 2**63}, "below 2"),
        ({"images": IMAGES, "test_images": IMAGES[:, :3]}, "same height"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_advice(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        ingest(save(tmp_path, **arrays))


class Explosive:
    """What it would do when it is unpickled shows in ``armed``."""

    armed: list[str] = []  # noqa: RUF012

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Explosive.armed.append, ("boom",)


@pytest.mark.parametrize("inside", ["npy", "images", "labels"])
def test_objects_are_refused_and_never_unpickled(tmp_path: Path, inside: str) -> None:
    objects = np.array([Explosive()] * 20, dtype=object)
    arrays = {"images": IMAGES, inside: objects}
    path = save_npy(tmp_path, objects) if inside == "npy" else save(tmp_path, **arrays)
    with pytest.raises(DataError, match="Python objects"):
        ingest(path)
    assert Explosive.armed == []


def header(descr: Any, shape: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        header("|u1", (10**6, 1000, 1000)) + bytes(100),
        header("|u1", (2**62, 2**62, 2**62)) + bytes(100),
        header("|u1", (-4, 5, 5)) + bytes(100),
        header("|u1", (4, 5, 5)) + bytes(99),
        header("|u1", (4, 5, 5)) + bytes(101),
        header("|u1", ()) + bytes(1),
        header([("a", "|u1")], (4, 5, 5)) + bytes(100),
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{" * 500,
        b"\x93NUMPY\x03\x00" + struct.pack("<I", 10) + b"{}" * 5,
        b"\x93NUMPY\x09\x00" + bytes(200),
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000,
        b"\x93NUMPY",
    ],
)
def test_npy_headers_that_lie(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "upload").write_bytes(data)
    with pytest.raises(DataError):
        ingest(tmp_path / "upload")


def write_npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


@pytest.mark.parametrize("size", [99, 101, 10**6])
def test_npz_members_of_another_size_than_their_header(tmp_path: Path, size: int) -> None:
    path = write_npz(tmp_path / "upload", images=header("|u1", (4, 5, 5)) + bytes(size))
    with pytest.raises(DataError, match="should have"):
        ingest(path)


@pytest.mark.parametrize("claimed", [100, 10**6])
def test_npz_members_of_another_size_than_the_zip_says(tmp_path: Path, claimed: int) -> None:
    """The header of the array agrees with the directory of the zip; the compressed bytes do not."""
    start = header("|u1", (claimed // 25, 5, 5))
    path = write_npz(tmp_path / "upload", images=start + bytes(50_000))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", len(start) + claimed)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged|early|longer"):
        ingest(path)


def test_a_compressed_bomb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OverLimit, match="decompression bomb"):
        ingest(save(tmp_path, compressed=True, images=np.zeros((200, 400, 400), np.uint8)))


def test_limits_hold_for_arrays(tmp_path: Path) -> None:
    path = save(tmp_path, images=IMAGES, labels=LABELS)
    for limits in (
        ImageLimits(max_members=10),
        ImageLimits(max_bytes=500),
        ImageLimits(max_pixels=20),
        ImageLimits(max_classes=2),
    ):
        with pytest.raises(OverLimit):
            ingest(path, limits=limits)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 400), junk=st.binary(min_size=1, max_size=30), kind=st.sampled_from(["npy", "npz"]))
def test_damaged_arrays_are_a_data_error_or_other_pixels(
    tmp_path: Path, at: int, junk: bytes, kind: str
) -> None:
    path = save_npy(tmp_path, IMAGES[:2]) if kind == "npy" else save(tmp_path, images=IMAGES[:2])
    data = path.read_bytes()
    path.write_bytes(data[:at] + junk + data[at + len(junk) :])
    try:
        ingest(path)
    except DataError as error:
        assert str(error)  # noqa: PT017


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (6, 6), level).save(stream, "PNG")
    return stream.getvalue()


PNGS = [png(i) for i in range(20)]


def write_table(tmp_path: Path, columns: dict[str, Any], **options: Any) -> Path:
    metadata = options.pop("metadata", None)
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "upload", **options)
    return tmp_path / "upload"


@pytest.mark.parametrize("struct_", [False, True])
@pytest.mark.parametrize("row_group_size", [3, 1000])
def test_parquet(tmp_path: Path, struct_: bool, row_group_size: int) -> None:
    images = [{"bytes": data, "path": "/etc/passwd"} for data in PNGS] if struct_ else PNGS
    columns = {"note": ["x"] * 20, "image": images, "label": LABELS}
    index, dataset = load(write_table(tmp_path, columns, row_group_size=row_group_size), tmp_path)
    assert index.format == "parquet"
    assert index.classes == ("0", "1", "2")
    levels = [int(image[0, 0, 0]) for image in dataset.train.images]
    assert dataset.train.labels is not None
    assert dataset.train.labels.tolist() == [level % 3 for level in levels]
    assert (index.splits.train, index.splits.test) == (18, 2)


def test_parquet_with_splits_and_text_labels(tmp_path: Path) -> None:
    labels = pa.array(["dog", "cat"] * 10).dictionary_encode()
    splits = ["train"] * 15 + ["validation"] * 5
    index, dataset = load(write_table(tmp_path, {"img": PNGS, "class": labels, "split": splits}), tmp_path)
    assert index.classes == ("cat", "dog")
    assert (index.splits.train, index.splits.test) == (15, 5)
    assert dataset.test.labels is not None
    assert dataset.test.labels.tolist() == [0, 1, 0, 1, 0]


def test_parquet_keeps_the_names_of_integer_labels(tmp_path: Path) -> None:
    features = {"label": {"names": ["ant", "bee", "cow"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path = write_table(tmp_path, {"image": PNGS, "label": LABELS}, metadata=metadata)
    assert ingest(path).classes == ("ant", "bee", "cow")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"info": {"features": {"label": {"names": 3}}}}', '{"info": null}']
)
def test_odd_metadata_is_no_metadata(tmp_path: Path, text: str) -> None:
    path = write_table(tmp_path, {"image": PNGS, "label": LABELS}, metadata={"huggingface": text})
    assert ingest(path).classes == ("0", "1", "2")


def test_parquet_rows_that_cannot_be_used_are_skipped(tmp_path: Path) -> None:
    images = [*PNGS[:17], None, b"no image", PNGS[19]]
    labels = [*LABELS[:19].tolist(), -1]
    index = ingest(write_table(tmp_path, {"image": images, "label": labels}))
    assert index.items == 17
    reasons = {s.member: s.reason for s in index.skipped.first}
    assert "no image bytes" in reasons["row 17"]
    assert "not a PNG" in reasons["row 18"]
    assert "no label" in reasons["row 19"]


def test_parquet_without_labels(tmp_path: Path) -> None:
    _, dataset = load(write_table(tmp_path, {"image": PNGS, "label": [-1] * 20}), tmp_path)
    assert dataset.train.labels is None
    assert dataset.classes == ()


@pytest.mark.parametrize("label", [[True, False] * 10, [1.0, 2.0] * 10, [[1], [2]] * 10])
def test_parquet_labels_of_another_kind_are_refused_with_advice(tmp_path: Path, label: list[Any]) -> None:
    with pytest.raises(DataError, match=r'column "label" holds .*integers or strings'):
        ingest(write_table(tmp_path, {"image": PNGS, "label": label}))


def test_parquet_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column of image bytes"):
        ingest(write_table(tmp_path, {"label": LABELS, "path": ["a.png"] * 20}))


def test_limits_hold_for_tables(tmp_path: Path) -> None:
    path = write_table(tmp_path, {"image": PNGS, "label": LABELS})
    for limits in (ImageLimits(max_members=10), ImageLimits(max_bytes=500), ImageLimits(max_classes=2)):
        with pytest.raises(OverLimit):
            ingest(path, limits=limits)
    assert ingest(path, limits=ImageLimits(max_classes=3)).items == 20


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(at=st.integers(0, 3000), junk=st.binary(min_size=1, max_size=20))
def test_damaged_tables_are_a_data_error_or_fewer_rows(tmp_path: Path, at: int, junk: bytes) -> None:
    path = write_table(tmp_path, {"image": PNGS, "label": LABELS})
    data = path.read_bytes()
    at %= len(data)
    path.write_bytes(data[:at] + junk + data[at + len(junk) :])
    try:
        assert ingest(path).items >= 1
    except DataError as error:
        assert str(error)  # noqa: PT017
