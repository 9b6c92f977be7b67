"""Ingestion: go once through a file of images, decode every one, and write down what is usable.

Nothing is extracted, and never more than a few batches are in memory. The result is an :class:`Index`; the pixels
are made from file and index when a training wants them (``materialise``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nidim.data import layout
from nidim.data.arrays import KEYS, ArraySource
from nidim.data.index import Format, ImageShape, Index, Splits
from nidim.data.limits import DEFAULT_LIMITS, ImageLimits, OverLimit
from nidim.data.members import Member
from nidim.data.parallel import decode, map_members
from nidim.data.progress import Progress, quiet
from nidim.data.sources import open_source, sniff
from nidim.data.survey import Seen, SkippedLog, Survey, pack_members
from nidim.errors import BadImage, DataError


def ingest(
    path: Path,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    seed: int = 0,
    progress: Progress | None = None,
    digest: str | None = None,
) -> Index:
    """Validate every image of an archive, array, table or folder.

    ``seed`` chooses the held-out tenth of a file without a test split; ``digest`` is the file's SHA-256 where the
    caller has it already (``sha256:…``). A bad image is skipped and counted. Raises DataError when the file as a
    whole cannot be used, OverLimit when it is over a limit.
    """
    kind = sniff(path)
    ingest_kind = _ingest_arrays if kind in ("npy", "npz") else _ingest_members
    return ingest_kind(path, kind, limits, seed, progress or quiet, digest or file_digest(path))


def file_digest(path: Path) -> str:
    """``sha256:`` and the SHA-256 of a file; of a folder, that of its names, sizes and contents."""
    if not path.is_dir():
        with path.open("rb") as stream:
            return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
    whole = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink()):
        name = file.relative_to(path).as_posix()
        whole.update(f"{file_digest(file)} {file.stat().st_size} {name}\n".encode("utf-8", "surrogateescape"))
    return "sha256:" + whole.hexdigest()


def _ingest_members(
    path: Path, kind: Format, limits: ImageLimits, seed: int, report: Progress, digest: str
) -> Index:
    with open_source(path, kind, limits) as source:
        survey = Survey(kind, limits=limits, class_names=getattr(source, "class_names", ()))
        examine = _examiner(limits)
        for done, (member, seen) in enumerate(map_members(examine, source.read()), start=1):
            survey.add(member, seen)
            report(done, source.total)
    return survey.index(digest=digest, seed=seed)


def _examiner(limits: ImageLimits) -> Callable[[Member], Seen | str]:
    def examine(member: Member) -> Seen | str:
        """Decode the whole image; its size, or why it is not usable."""
        if member.data is None:
            return member.problem or "no data"
        try:
            image = decode(member.data, limits=limits)
        except BadImage as exc:
            return str(exc)
        return Seen(image.height, image.width, image.mode == "L")

    return examine


def _ingest_arrays(
    path: Path, kind: Format, limits: ImageLimits, seed: int, report: Progress, digest: str
) -> Index:
    with ArraySource(path, limits) as source:
        n_train, n_test = source.train.shape[0], source.test.shape[0] if source.test else 0
        items = n_train + n_test
        classes, labels = _array_labels(source, n_train, n_test, limits)
        skipped = SkippedLog()
        for name in source.unknown:
            skipped.add(f"{name}.npy", f"not one of the arrays {', '.join(KEYS)}")
        done = 0
        for chunk in source.chunks():
            done += len(chunk)
            report(done, items)
        colour = source.train.shape[3:] not in ((), (1,))
        height, width = source.train.shape[1:3]
    is_test = np.arange(items) >= n_train if n_test else layout.held_out(items, seed=seed)
    return Index(
        format=kind,
        digest=digest,
        items=items,
        classes=classes,
        splits=Splits(train=int((~is_test).sum()), test=int(is_test.sum())),
        image=ImageShape(height=height, width=width, channels=3 if colour else 1),
        skipped=skipped.frozen(),
        seed=seed,
        members=pack_members(np.arange(items), labels, is_test),
    )


def _array_labels(
    source: ArraySource, n_train: int, n_test: int, limits: ImageLimits
) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the classes and a label for every image, -1 where there is none."""
    parts = [(source.labels("labels"), n_train), (source.labels("test_labels"), n_test)]
    given = [_as_text_or_int(values) for values, _ in parts if values is not None]
    if not given:
        return (), np.full(n_train + n_test, -1)
    names, codes = np.unique(np.concatenate(given), return_inverse=True)
    if len(names) > limits.max_classes:
        raise OverLimit(f"The labels have more than {limits.max_classes} values.")
    if len(names) < 2:
        return (), np.full(n_train + n_test, -1)
    ends = np.cumsum([len(g) for g in given])[:-1]
    coded = iter(np.split(codes, ends))
    labels = [next(coded) if values is not None else np.full(n, -1) for values, n in parts]
    return tuple(str(name) for name in names), np.concatenate(labels)


def _as_text_or_int(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind == "U":
        return values
    if values.size and int(values.min()) < 0:
        raise DataError("Labels must not be negative; leave the array out where there are none.")
    if values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise DataError("Labels must be below 2^63.")
    return values.astype(np.int64)
