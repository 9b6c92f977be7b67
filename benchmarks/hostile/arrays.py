"""Mutants of .npy, .npz and parquet files: to embed and score, and uploaded as datasets."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np

from benchmarks.hostile import pictures
from benchmarks.hostile.archives import NOT_CREATED, zipped
from benchmarks.hostile.cases import (
    BAD_VALUE,
    EITHER,
    EMBED,
    OK,
    SCORE,
    Case,
    Family,
    Rng,
    Statuses,
    cut,
    flipped,
    pick,
    upload,
)

NPY = {"Content-Type": "application/x-npy"}
IMAGES = np.arange(6 * 8 * 8, dtype=np.uint8).reshape(6, 8, 8)
ROWS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2)
PICKLE = (
    b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94."
)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def header(text: str, *, version: int = 1, length: int | None = None, data: bytes = b"") -> bytes:
    """An .npy of any header at all."""
    raw = text.encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(raw) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + raw + data


def described(rng: Rng) -> bytes:
    """A header whose words lie: dtype, order, shape."""
    kind = pick(
        rng, ["|O", "|u1", ">u2", "<f8", "|V9", "<U9", "|b1", "<c16", "O8", "|u1, |u1", "<M8[ns]", "|S0", "x"]
    )
    order = pick(rng, ["False", "True", "None", "1", "__import__('os')"])
    shape = pick(
        rng,
        [
            "(6, 8, 8)",
            "(-1, 8, 8)",
            "(2**40,)",
            "(9999999999, 9999999999, 9)",
            "(6, 8, 8, 2)",
            "(6.0, 8, 8)",
            "()",
            "(0, 8, 8)",
            "(True, 8, 8)",
            "(1, 0, 8)",
            "[6, 8, 8]",
            "(6, 8, 8,",
            "((6,),)",
            "(1, 1, 384)",
            "(6, 8, 7)",
            "(6, 8, 9)",
        ],
    )
    text = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}"
    return header(text, version=int(rng.integers(1, 4)), data=IMAGES.tobytes())


def monstrous(rng: Rng) -> bytes:
    """Headers of a gigabyte, of nothing, of a thousand brackets."""
    what = int(rng.integers(5))
    if what == 0:
        return header("{", version=2, length=int(pick(rng, [2**30, 2**31, 2**32 - 1])))  # type: ignore[call-overload]
    if what == 1:
        return header("(" * int(rng.integers(100, 9000)))
    if what == 2:
        return header("{'descr': '|u1', 'fortran_order': False, 'shape': (" + "1," * 4000 + ")}", data=b"\0")
    if what == 3:
        return header("-" * 9000 + "1")
    return header("", version=int(rng.integers(0, 255)), length=0)


def embed_array(rng: Rng) -> Case:
    return Case(family="npy/described", path=EMBED, body=described(rng), headers=NPY, allowed=EITHER)


def embed_monster(rng: Rng) -> Case:
    path = str(pick(rng, [EMBED, SCORE]))
    return Case(family="npy/monstrous", path=path, body=monstrous(rng), headers=NPY, allowed=BAD_VALUE)


def embed_flips(rng: Rng) -> Case:
    data = flipped(npy(IMAGES), rng, 4, head=140)
    return Case(
        family="npy/bit-flips", path=str(pick(rng, [EMBED, SCORE])), body=data, headers=NPY, allowed=EITHER
    )


def embed_cut(rng: Rng) -> Case:
    data = npy(IMAGES)
    data = data[: -int(rng.integers(1, 380))] if rng.integers(2) else data + bytes(int(rng.integers(1, 99)))
    return Case(family="npy/length", path=EMBED, body=data, headers=NPY, allowed=BAD_VALUE)


def fortran(rng: Rng) -> Case:
    data = npy(np.asfortranarray(IMAGES)) if rng.integers(2) else npy(np.asfortranarray(ROWS))
    return Case(family="npy/fortran", path=SCORE, body=data, headers=NPY, allowed=BAD_VALUE)


def poisoned_rows(rng: Rng) -> Case:
    """NaN, infinities, the largest numbers, another width, another type."""
    rows = ROWS.copy()
    poison = pick(rng, [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, 0.0])
    rows[int(rng.integers(6)), int(rng.integers(2))] = poison
    kind = pick(rng, ["<f4", ">f4", "<f8", "<f2", "<i4"])
    with np.errstate(all="ignore"):
        made = rows.astype(kind)  # type: ignore[call-overload]
    fine = kind == "<f4" and bool(np.isfinite(rows).all())
    return Case(
        family="npy/poison", path=SCORE, body=npy(made), headers=NPY, allowed=OK if fine else BAD_VALUE
    )


def empty(rng: Rng) -> Case:
    shape = pick(rng, [(0, 8, 8), (0, 1, 1, 3), (0, 0, 0)])
    return Case(family="npy/empty", path=EMBED, body=npy(np.zeros(shape, np.uint8)), headers=NPY, allowed=OK)  # type: ignore[call-overload]


def no_pixels(rng: Rng) -> Case:
    shape = pick(rng, [(3, 0, 8), (3, 8, 0), (3, 8, 8, 0), (3, 8, 8, 2), (3, 8), (3,), (1, 1, 1, 1, 1)])
    return Case(
        family="npy/no-pixels",
        path=EMBED,
        body=npy(np.zeros(shape, np.uint8)),
        headers=NPY,
        allowed=BAD_VALUE,  # type: ignore[call-overload]
    )


def stored_array(rng: Rng) -> Case:
    data = described(rng) if rng.integers(2) else monstrous(rng)
    return upload("npy/stored", data)


def stored_flips(rng: Rng) -> Case:
    data = npy(IMAGES)
    return upload("npy/stored-flips", flipped(data, rng, 4, head=140) if rng.integers(2) else cut(data, rng))


def npz(rng: Rng) -> Case:
    """One of the arrays of an .npz is not what it should be."""
    arrays = {
        "images": npy(IMAGES),
        "labels": npy(np.arange(6)),
        "test_images": npy(IMAGES[:2]),
        "test_labels": npy(np.arange(2)),
    }
    bad: list[bytes] = [
        described(rng),
        monstrous(rng),
        PICKLE,
        b"",
        npy(np.full(6, np.nan)),
        npy(np.full(6, 2**63, np.uint64)),
        npy(np.full(6, -1)),
        npy(np.arange(5)),
        npy(np.array(["x" * 300] * 6)),
        npy(IMAGES[:, :4]),
        npy(np.arange(6)),
    ]
    arrays[str(pick(rng, list(arrays)))] = pick(rng, bad)  # type: ignore[assignment]
    if rng.integers(4) == 0:
        arrays["weights"] = PICKLE
    return upload("npz/arrays", zipped([(f"{name}.npy", data) for name, data in arrays.items()]))


def npz_flips(rng: Rng) -> Case:
    data = zipped([("images.npy", npy(IMAGES)), ("labels.npy", npy(np.arange(6)))], zipfile.ZIP_STORED)
    return upload("npz/bit-flips", flipped(data, rng, 8))


def npz_bomb(rng: Rng) -> Case:
    side = int(rng.integers(4000, 7000))
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': (4, {side}, {side}), }}"
    data = header(text, data=bytes(4 * side * side))
    return upload("npz/bomb", zipped([("images.npy", data)]), NOT_CREATED)


def table(rng: Rng | None = None) -> bytes:
    """A parquet file of images and labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = 8
    codec = "snappy" if rng is None else str(pick(rng, ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]))
    columns = {"image": [pictures.of("PNG")[1]] * n, "label": list(range(n))}
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, compression=codec)
    return stream.getvalue()


def parquet_flips(rng: Rng) -> Case:
    return upload("parquet/bit-flips", flipped(table(rng), rng, 12))


def parquet_footer(rng: Rng) -> Case:
    """The footer, where row counts, sizes and offsets stand."""
    data = bytearray(table(rng))
    length = struct.unpack("<I", data[-8:-4])[0]
    start = len(data) - 8 - length
    for _ in range(int(rng.integers(1, 6))):
        data[start + int(rng.integers(length))] = int(rng.integers(256))
    if rng.integers(6) == 0:
        data[-8:-4] = struct.pack("<I", int(pick(rng, [0, 1, 2**31, 2**32 - 1])))  # type: ignore[call-overload]
    return upload("parquet/footer", bytes(data))


def parquet_cut(rng: Rng) -> Case:
    return upload("parquet/truncated", cut(table(rng), rng), NOT_CREATED)


def parquet_columns(rng: Rng) -> Case:
    """Columns that are no images: numbers, nested lists, paths, nothing; NaN and huge labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = 4
    png = pictures.of("PNG")[1]
    odd: list[dict[str, Any]] = [
        {"image": [1.0] * n},
        {"image": ["/etc/passwd"] * n},
        {"image": [{"path": "/etc/passwd"}] * n},
        {"image": [[png]] * n},
        {"image": pa.array([None] * n, pa.binary())},
        {"image": [png] * n, "label": [2**62] * n},
        {"image": [png] * n, "label": ["../x", "a\0b", "", "x" * 9000]},
        {"image": [png] * n, "label": [float("nan")] * n},
        {"image": [png] * n, "split": ["train", "test", "../x", None]},
        {"image": [b""] * n},
        {"image": []},
        {"image": [png] * n, "label": [-1, None, 3, 4]},
    ]
    stream = io.BytesIO()
    pq.write_table(pa.table(pick(rng, odd)), stream)  # type: ignore[arg-type]
    return upload("parquet/columns", stream.getvalue())


def parquet_bomb(rng: Rng) -> Case:
    """Many large rows in few bytes: a dictionary page, repeated."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    big = bytes(int(rng.integers(1, 4)) * 2**20)
    stream = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array([big] * 60, pa.binary())}), stream, compression="zstd")
    return upload("parquet/bomb", stream.getvalue(), NOT_CREATED)


UPLOADED: Statuses = frozenset({201, 413, 422})
FAMILIES = (
    Family("npy/described", 4, embed_array),
    Family("npy/monstrous", 1.5, embed_monster),
    Family("npy/bit-flips", 3, embed_flips),
    Family("npy/length", 1.5, embed_cut),
    Family("npy/fortran", 0.5, fortran),
    Family("npy/poison", 2, poisoned_rows),
    Family("npy/empty", 0.3, empty),
    Family("npy/no-pixels", 0.7, no_pixels),
    Family("npy/stored", 1, stored_array),
    Family("npy/stored-flips", 0.7, stored_flips),
    Family("npz/arrays", 1, npz),
    Family("npz/bit-flips", 0.7, npz_flips),
    Family("npz/bomb", 0.1, npz_bomb),
    Family("parquet/bit-flips", 1, parquet_flips),
    Family("parquet/footer", 1.5, parquet_footer),
    Family("parquet/truncated", 0.4, parquet_cut),
    Family("parquet/columns", 0.7, parquet_columns),
    Family("parquet/bomb", 0.1, parquet_bomb),
)
