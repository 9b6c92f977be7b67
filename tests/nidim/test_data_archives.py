"""Archives and folders: every layout that we read, and every trick that we do not fall for."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nidim.data import Dataset, ImageLimits, Index, OverLimit, ingest, load_archive
from nidim.data.members import clean, folders, is_junk, leads_outside
from nidim.errors import DataError

Files = Mapping[str, bytes]


def png(level: int = 0, *, size: tuple[int, int] = (6, 6), mode: str = "L") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, level if mode == "L" else (level,) * 3).save(stream, "PNG")
    return stream.getvalue()


def write_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, files: Files, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_tar_gz(path: Path, files: Files) -> Path:
    return write_tar(path, files, "w:gz")


def write_folder(path: Path, files: Files) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


WRITERS = {"zip": write_zip, "tar": write_tar, "tar.gz": write_tar_gz, "folder": write_folder}


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Files], Path]:
    """Write files as an archive of each kind; its name never says which."""
    return lambda files: WRITERS[request.param](tmp_path / "upload", files)


def load(path: Path, tmp_path: Path, **options: int) -> tuple[Index, Dataset]:
    index = ingest(path)
    return index, load_archive(path, index, name="x", cache_dir=tmp_path / "cache", **options)


def levels(dataset: Dataset, split: str) -> list[int]:
    """The gray level of each image, which tells the images apart."""
    return [int(image[0, 0, 0]) for image in getattr(dataset, split).images]


def test_split_and_class_folders(write: Callable[[Files], Path], tmp_path: Path) -> None:
    files = {
        "train/cat/1.png": png(1),
        "train/dog/2.png": png(2),
        "test/dog/3.png": png(3),
        "test/cat/deep/below/4.png": png(4),
    }
    index, dataset = load(write(files), tmp_path)
    assert index.classes == dataset.classes == ("cat", "dog")
    assert (index.splits.train, index.splits.test) == (2, 2)
    found = {
        split: dict(zip(levels(dataset, split), getattr(dataset, split).labels.tolist(), strict=True))
        for split in ("train", "test")
    }
    assert found == {"train": {1: 0, 2: 1}, "test": {3: 1, 4: 0}}
    assert dataset.facts == index.facts("x")


def test_class_folders_alone_lose_a_tenth(write: Callable[[Files], Path], tmp_path: Path) -> None:
    files = {f"{'ab'[i % 2]}/{i}.png": png(i) for i in range(40)}
    index, dataset = load(write(files), tmp_path)
    assert (index.splits.train, index.splits.test) == (36, 4)
    assert sorted(levels(dataset, "train") + levels(dataset, "test")) == list(range(40))
    assert dataset.train.labels is not None
    assert all(
        label == level % 2
        for label, level in zip(dataset.train.labels, levels(dataset, "train"), strict=True)
    )


def test_a_flat_folder_has_no_labels(write: Callable[[Files], Path], tmp_path: Path) -> None:
    index, dataset = load(write({f"{i}.png": png(i) for i in range(5)}), tmp_path)
    assert index.classes == ()
    assert dataset.train.labels is None
    assert dataset.test.labels is None
    assert len(dataset.test) == 1


def test_wrapping_folders_are_taken_off(write: Callable[[Files], Path]) -> None:
    files = {
        "my set/v2/train/a/1.png": png(),
        "my set/v2/train/b/1.png": png(),
        "my set/v2/test/a/1.png": png(),
    }
    index = ingest(write(files))
    assert index.classes == ("a", "b")
    assert (index.splits.train, index.splits.test) == (2, 1)


@pytest.mark.parametrize(
    ("names", "classes", "test"),
    [
        (["one/1.png", "one/2.png"], (), 1),
        (["train/1.png", "train/2.png", "test/3.png"], (), 1),
        (["Train/a/1.png", "Train/b/2.png", "VAL/a/3.png"], ("a", "b"), 1),
        (["test/train/a/1.png", "test/train/b/2.png", "test/test/a/3.png"], ("a", "b"), 1),
        (["train/1.png", "plane/2.png", "car/3.png"], ("car", "plane", "train"), 1),
        (["train/a/1.png", "train/b/2.png"], ("a", "b"), 1),
        (["a\\1.png", "b\\2.png"], ("a", "b"), 1),
        (["./a/1.png", "./b/2.png"], ("a", "b"), 1),
        (["only.png"], (), 0),
    ],
)
def test_layouts(tmp_path: Path, names: list[str], classes: tuple[str, ...], test: int) -> None:
    index = ingest(write_zip(tmp_path / "z", {name: png() for name in names}))
    assert index.classes == classes
    assert index.splits.test == test
    assert index.items == len(names)


@pytest.mark.parametrize("split", ["test", "Val"])
def test_images_that_are_declared_as_test_are_never_trained_on(tmp_path: Path, split: str) -> None:
    archive = write_zip(tmp_path / "z", {f"{split}/{name}.png": png() for name in ("a/1", "b/2")})
    with pytest.raises(DataError, match="none is left to train on"):
        ingest(archive)


def test_labels_may_be_missing_from_the_test_split_alone(tmp_path: Path) -> None:
    names = ["train/a/1.png", "train/b/2.png", "test/3.png"]
    _, dataset = load(write_zip(tmp_path / "z", {name: png() for name in names}), tmp_path)
    assert dataset.train.labels is not None
    assert dataset.test.labels is None


def test_junk_is_ignored_and_the_rest_is_counted(write: Callable[[Files], Path]) -> None:
    files = {
        "a/1.png": png(),
        "b/2.png": png(),
        "__MACOSX/a/._1.png": b"x",
        "a/.DS_Store": b"x",
        ".git/config.png": png(),
        "b/Thumbs.db": b"x",
        "README.txt": b"hello",
        "b/broken.png": png()[:30],
        "b/empty.jpg": b"",
        "b/inner.zip": b"PK\x03\x04",
    }
    index = ingest(write(files))
    assert index.items == 2
    assert index.skipped.count == 4
    reasons = {s.member.split("/")[-1]: s.reason for s in index.skipped.first}
    assert set(reasons) == {"README.txt", "broken.png", "empty.jpg", "inner.zip"}
    assert "not a PNG" in reasons["README.txt"]
    assert "empty" in reasons["empty.jpg"]


def test_images_beside_class_folders_are_skipped_and_counted(tmp_path: Path) -> None:
    files = {name: png() for name in ("a/1.png", "b/2.png", "cover.png", "back.png")}
    index = ingest(write_zip(tmp_path / "z", files))
    assert index.items == 2
    assert index.skipped.count == 2
    assert "has no class (2 images here)" in index.skipped.first[0].reason


def test_only_the_first_hundred_skipped_are_named(tmp_path: Path) -> None:
    files = {f"{i:03}.png": b"no" for i in range(130)} | {"good.png": png()}
    skipped = ingest(write_zip(tmp_path / "z", files)).skipped
    assert skipped.count == 130
    assert [s.member for s in skipped.first] == [f"{i:03}.png" for i in range(100)]


def test_no_usable_image_says_why(write: Callable[[Files], Path]) -> None:
    with pytest.raises(DataError, match=r"No usable image .*1 members skipped.*a\.txt: not a PNG"):
        ingest(write({"a.txt": b"hello"}))


def test_sizes_and_channels(tmp_path: Path) -> None:
    same = ingest(write_zip(tmp_path / "same", {f"{i}.png": png(size=(9, 7)) for i in range(3)}))
    assert same.image.model_dump() == {"height": 7, "width": 9, "channels": 1}
    sizes = [(10, 20), (30, 12), (50, 14)]
    files = {f"{i}.png": png(size=size, mode="RGB" if i else "L") for i, size in enumerate(sizes)}
    mixed = ingest(write_zip(tmp_path / "mixed", files))
    assert mixed.image.model_dump() == {"height": 12, "width": 12, "channels": 3}


def test_the_held_out_tenth_is_seeded(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "z", {f"{i}.png": png() for i in range(50)})
    first, again, other = (ingest(path, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.members.is_test != other.members.is_test
    assert np.flatnonzero(first.members.is_test.unpack()).tolist() == [0, 2, 21, 38, 43]


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "z", {f"{i}.png": png() for i in range(7)})
    seen: list[tuple[int, int | None]] = []
    ingest(path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 7) for i in range(1, 8)]


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "z", {"1.png": png()})
    digest = ingest(path).digest
    assert digest.startswith("sha256:")
    assert len(digest) == 71
    assert ingest(path, digest="sha256:given").digest == "sha256:given"


HOSTILE = [
    "../../etc/evil.png",
    "/etc/evil.png",
    "a/../../evil.png",
    "..\\evil.png",
    "C:\\evil.png",
    "C:evil.png",
]


@pytest.mark.parametrize("writer", [write_zip, write_tar, write_tar_gz])
@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_lead_outside_are_skipped(tmp_path: Path, writer: Callable, name: str) -> None:
    (tmp_path / "inner").mkdir()
    path = writer(tmp_path / "inner" / "upload", {name: png(), "ok.png": png()})
    before = sorted(tmp_path.rglob("*"))
    index = ingest(path)
    assert index.items == 1
    assert "out of the archive" in index.skipped.first[0].reason
    assert sorted(tmp_path.rglob("*")) == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40),
        min_size=1,
        max_size=4,
        unique=True,
    )
)
def test_any_name_is_only_ever_text(tmp_path: Path, names: list[str]) -> None:
    image = png()
    for writer in (write_zip, write_tar):
        path = writer(tmp_path / "upload", dict.fromkeys(names, image) | {"k/1.png": image, "m/2.png": image})
        index = ingest(path)
        assert 1 <= index.items <= len(names) + 2
        assert Index.model_validate_json(index.model_dump_json()) == index
        assert all(name.isprintable() for name in index.classes)


@given(name=st.text())
def test_names_are_cleaned(name: str) -> None:
    cleaned = clean(name)
    assert cleaned.isprintable()
    assert cleaned.encode().decode() == cleaned
    assert "\\" not in cleaned
    assert len(folders(cleaned)) <= 16
    if not leads_outside(cleaned):
        assert ".." not in folders(cleaned)
    is_junk(cleaned)


def test_a_name_of_broken_bytes_is_shown_with_question_marks(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t", "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("b\udcff/1.png", "c/2.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png())
            archive.addfile(info, io.BytesIO(png()))
    assert ingest(tmp_path / "t").classes == ("b?", "c")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_the_first_of_two_equal_names_is_taken(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "twice"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("1.png", png(10))
            archive.writestr("1.png", png(20))
    else:
        with tarfile.open(path, "w") as tar:
            for level in (10, 20):
                info = tarfile.TarInfo("1.png")
                info.size = len(png(level))
                tar.addfile(info, io.BytesIO(png(level)))
    index, dataset = load(path, tmp_path)
    assert levels(dataset, "train") == [10]
    assert "same name" in index.skipped.first[0].reason


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE"])
def test_links_and_devices_in_a_tar_are_skipped(tmp_path: Path, kind: str) -> None:
    path = write_tar(tmp_path / "t", {"ok.png": png()})
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("odd.png")
        info.type, info.linkname = getattr(tarfile, kind), "/etc/passwd"
        archive.addfile(info)
    index = ingest(path)
    assert index.items == 1
    assert "links and devices" in index.skipped.first[0].reason


@pytest.mark.parametrize(
    "mode", [0o120777, 0o020666, 0o060666, 0o010666], ids=["link", "char", "block", "fifo"]
)
def test_links_and_devices_in_a_zip_are_skipped(tmp_path: Path, mode: int) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("ok.png", png())
        info = zipfile.ZipInfo("odd.png")
        info.create_system, info.external_attr = 3, mode << 16
        archive.writestr(info, png())
    index = ingest(tmp_path / "z")
    assert index.items == 1
    assert "links and devices" in index.skipped.first[0].reason


def test_links_in_a_folder_are_skipped(tmp_path: Path) -> None:
    write_folder(tmp_path / "secret", {"s.png": png()})
    folder = write_folder(tmp_path / "set", {"ok.png": png()})
    (folder / "link.png").symlink_to(tmp_path / "secret" / "s.png")
    (folder / "more").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe.png")
    index = ingest(folder)
    assert index.items == 1
    assert index.skipped.count == 2


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "z", {"1.png": png()})
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        ingest(path)


def lie(path: Path, name: str, *, size: int | None = None, packed: int | None = None) -> None:
    """Change what the directory of a zip says about a member's sizes."""
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    while data[at + 46 : at + 46 + len(name)] != name.encode():
        at = data.index(b"PK\x01\x02", at + 1)
    if packed is not None:
        data[at + 20 : at + 24] = struct.pack("<I", packed)
    if size is not None:
        data[at + 24 : at + 28] = struct.pack("<I", size)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "change", [{"size": 10}, {"size": 10**6}, {"size": 2**31}, {"packed": 5}, {"packed": 2**31}, {"size": 0}]
)
def test_a_zip_that_lies_about_sizes(tmp_path: Path, change: dict[str, int]) -> None:
    path = write_zip(tmp_path / "z", {"lie.png": png(1), "ok.png": png(2)})
    lie(path, "lie.png", **change)
    try:
        index = ingest(path)
    except DataError:
        return
    # A claim of too many packed bytes alone does no harm: deflate ends where it ends.
    assert [s.member for s in index.skipped.first] == ["lie.png"] or "packed" in change


def test_a_member_without_a_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "z", {"a.png": png(1), "b.png": png(2)})
    path.write_bytes(path.read_bytes().replace(b"a.png", b"\0.png"))
    assert ingest(path).items == 1


def test_a_lying_zip64_size(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        with archive.open("lie.png", "w", force_zip64=True) as stream:
            stream.write(png())
        archive.writestr("ok.png", png())
    data = (tmp_path / "z").read_bytes()
    extra = struct.pack("<HHQ", 1, 8, 2**60)
    at = data.index(b"PK\x01\x02")
    entry = bytearray(data[at : at + 46 + 7])
    entry[24:28], entry[30:32] = b"\xff" * 4, struct.pack("<H", len(extra))
    end = bytearray(data[data.index(b"PK\x05\x06") :])
    rest = data[at + 46 + 7 : data.index(b"PK\x05\x06")]
    end[12:16] = struct.pack("<I", len(entry) + len(extra) + len(rest))
    (tmp_path / "z").write_bytes(data[:at] + bytes(entry) + extra + rest + bytes(end))
    with pytest.raises(OverLimit, match="unpacks to"):
        ingest(tmp_path / "z")


def test_a_bomb_among_images_is_skipped(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "z", {"bomb.bmp": bytes(20 * 2**20), "ok.png": png()})
    with pytest.raises(OverLimit, match="decompression bomb"):
        ingest(path)
    padded = write_zip(
        tmp_path / "z", {"bomb.bmp": bytes(20 * 2**20), "ok.png": png(), "n.bin": os.urandom(2**18)}
    )
    skipped = {s.member: s.reason for s in ingest(padded).skipped.first}
    assert "decompression bomb" in skipped["bomb.bmp"]


def test_members_that_share_their_bytes_count_each(tmp_path: Path) -> None:
    """The overlapping bomb: many directory entries for one compressed block."""
    path = write_zip(tmp_path / "z", {"a.png": zlib.compress(bytes(100)) + bytes(10**6)})
    data = path.read_bytes()
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entries = data[at:end] * 500
    tail = bytearray(data[end:])
    tail[8:10] = tail[10:12] = struct.pack("<H", 500)
    tail[12:16] = struct.pack("<I", len(entries))
    path.write_bytes(data[:at] + entries + bytes(tail))
    with pytest.raises(OverLimit, match="decompression bomb"):
        ingest(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_cannot_be_bounded_are_not_read(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("odd.png", png(), compress_type=method)
        archive.writestr("ok.png", png())
    index = ingest(tmp_path / "z")
    assert index.items == 1
    assert "use deflate" in index.skipped.first[0].reason


def test_a_tar_gz_bomb_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t", "w:gz") as archive:
        info = tarfile.TarInfo("zeros.png")
        info.size = 40 * 2**20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(OverLimit, match="decompression bomb"):
        ingest(tmp_path / "t")


def test_a_tar_header_that_asks_for_gigabytes(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    with gzip.open(tmp_path / "t", "wb") as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(10**6))
    with pytest.raises(DataError, match="damaged"):
        ingest(tmp_path / "t")


def test_a_tar_of_headers_about_headers(tmp_path: Path) -> None:
    link = tarfile.TarInfo("x")
    link.type, link.size = tarfile.GNUTYPE_LONGNAME, 1
    block = link.tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")
    (tmp_path / "t").write_bytes(block * 5000)
    with pytest.raises(DataError):
        ingest(tmp_path / "t")


@pytest.mark.parametrize("size", [2**20, 2**40])
def test_a_tar_that_lies_about_a_size(tmp_path: Path, size: int) -> None:
    info = tarfile.TarInfo("lie.png")
    info.size = size
    (tmp_path / "t").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + png().ljust(1024, b"\0"))
    with pytest.raises(DataError):
        ingest(tmp_path / "t")


@pytest.mark.parametrize("writer", [write_zip, write_tar, write_tar_gz])
def test_half_an_archive_is_refused(tmp_path: Path, writer: Callable) -> None:
    path = writer(tmp_path / "upload", {f"{i}.png": png(i) + os.urandom(3000) for i in range(30)})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError):
        ingest(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 3000), junk=st.binary(min_size=1, max_size=20))
def test_damage_is_a_data_error_or_nothing(tmp_path: Path, at: int, junk: bytes) -> None:
    files = {"a/1.png": png(1), "b/2.png": png(2), "b/3.png": png(3)}
    for name, writer in WRITERS.items():
        if name == "folder":
            continue
        path = writer(tmp_path / "upload", files)
        data = path.read_bytes()
        at_ = at % len(data)
        path.write_bytes(data[:at_] + junk + data[at_ + len(junk) :])
        try:
            assert 1 <= ingest(path).items <= 3
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (ImageLimits(max_members=2), "limit"),
        (ImageLimits(max_bytes=1000), "limit"),
        (ImageLimits(max_classes=2), "more than 2"),
    ],
)
@pytest.mark.parametrize("writer", [write_zip, write_tar])
def test_limits_on_the_whole(tmp_path: Path, writer: Callable, limits: ImageLimits, message: str) -> None:
    files = {f"{name}/1.png": png() + bytes(400) for name in "abc"}
    with pytest.raises(OverLimit, match=message):
        ingest(writer(tmp_path / "upload", files), limits=limits)


def test_limits_on_a_member(write: Callable[[Files], Path]) -> None:
    path = write({"large.png": png() + bytes(5000), "wide.png": png(size=(40, 40)), "ok.png": png()})
    index = ingest(path, limits=ImageLimits(max_member_bytes=4000, max_pixels=100))
    assert index.items == 1
    reasons = {s.member: s.reason for s in index.skipped.first}
    assert "4000 bytes" in reasons["large.png"]
    assert "100 pixels" in reasons["wide.png"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello", "Neither a zip"),
        (png(), "single image"),
        (b"PK\x03\x04 cut", "zip is damaged"),
        (gzip.compress(b"no tar in here", mtime=0), "Neither"),
        (b"7z\xbc\xaf\x27\x1c", "Neither"),
        (b"\x80\x05\x95pickle", "Neither"),
    ],
)
def test_other_files_are_refused_with_advice(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "upload.zip").write_bytes(data)
    with pytest.raises(DataError, match=message):
        ingest(tmp_path / "upload.zip")


def test_a_torch_file_holds_no_image(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02cos\nsystem\n")
        archive.writestr("archive/version", b"3")
    with pytest.raises(DataError, match="No usable image"):
        ingest(tmp_path / "m.pt")


def test_a_real_archive(real_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "subset.zip"
    with zipfile.ZipFile(real_data / "tiny-imagenet-100.zip") as whole, zipfile.ZipFile(path, "w") as part:
        for name in whole.namelist()[::97]:
            part.writestr(name, whole.read(name))
    index, dataset = load(path, tmp_path, image_size=32)
    assert index.image.model_dump() == {"height": 64, "width": 64, "channels": 3}
    assert index.items == 299
    assert index.skipped.count == 0
    assert len(index.classes) == 100
    assert dataset.train.images.shape[1:] == (32, 32, 3)
    assert len(dataset.train) + len(dataset.test) == 299
