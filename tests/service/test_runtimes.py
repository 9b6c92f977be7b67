"""What computes an encoder: the same rows as the model's, the same bits in every batch, and never a doubtful file."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks.tiny_encoder import SIZE, register, write_bundle
from nidim import bundle
from nidim.errors import BundleError
from nidim.onnx_run import ANSWERS, CHUNK, PARITY, OnnxEncoder, difference, known_images
from service.inference import runtimes
from service.inference.admission import Bound
from service.inference.registry import Registry
from service.inference.runtimes import EngineChoice, Opened, opened
from service.inference.serving import Serving
from service.metrics import Metrics
from service.serve import uncollected
from service.settings import Settings
from service.store import open_store
from tests.service.api.test_engine import Stub, loaded

IMAGES = np.random.default_rng(0).integers(0, 256, (2 * CHUNK + 3, SIZE, SIZE, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An encoder with its exported file, which takes seconds, and what registering it needs."""
    directory = tmp_path_factory.mktemp("stored") / "bundle"
    return directory, write_bundle(directory, onnx=True)


@pytest.fixture
def altered(stored: tuple[Path, Any], tmp_path: Path) -> Callable[[str | None], Path]:
    """A bundle whose exported file gives these answers, or none; whole otherwise."""

    def make(answers: str | None) -> Path:
        directory = tmp_path / "altered"
        shutil.copytree(stored[0], directory)
        model = onnx.load(directory / bundle.ONNX)
        del model.metadata_props[:]
        if answers is not None:
            model.metadata_props.add(key=ANSWERS, value=answers)
        onnx.save(model, directory / bundle.ONNX)
        (directory / bundle.MANIFEST).write_text(bundle.manifest_of(directory).model_dump_json())
        return directory

    return make


def open_with(directory: Path, engine: EngineChoice = "auto", device: str = "cpu") -> Opened:
    return opened(directory, bundle.manifest_of(directory), device=device, threads=1, engine=engine)


def test_the_rows_are_those_of_the_model(stored: tuple[Path, Any]) -> None:
    expected = bundle.load(stored[0]).embed(IMAGES)
    auto, asked = open_with(stored[0]), open_with(stored[0], "torch")
    assert (auto.engine, asked.engine) == ("onnxruntime", "torch")
    np.testing.assert_array_equal(asked.embed(IMAGES), expected)
    assert 0 < difference(auto.embed(IMAGES), expected) < PARITY
    assert auto.preprocessing == asked.preprocessing


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_has_the_same_bits_in_every_batch(stored: tuple[Path, Any], threads: int) -> None:
    path = stored[0] / bundle.ONNX
    together = OnnxEncoder(path).embed(IMAGES)
    encoder = OnnxEncoder(path, threads=threads)
    for size in (1, 3, CHUNK, len(IMAGES)):
        parts = [encoder.embed(IMAGES[low : low + size]) for low in range(0, len(IMAGES), size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)


@pytest.mark.parametrize("answers", ["[[9, 9], [9, 9]]", "[[NaN, 0], [0, 0]]", "[[0, 0, 0]]", "{"])
def test_a_file_that_gives_other_answers_is_not_used(
    altered: Callable[[str | None], Path], answers: str
) -> None:
    directory = altered(answers)
    for engine in ("auto", "onnxruntime"):
        found = open_with(directory, engine)  # type: ignore[arg-type]
        assert found.engine == "torch"
    np.testing.assert_array_equal(found.embed(IMAGES), bundle.load(directory).embed(IMAGES))


def test_a_file_without_answers_is_used_where_it_is_asked_for(
    altered: Callable[[str | None], Path],
) -> None:
    directory = altered(None)
    assert open_with(directory).engine == "torch"
    assert open_with(directory, "onnxruntime").engine == "onnxruntime"


def test_what_cannot_be_run_leaves_it_to_torch_and_what_was_changed_is_refused(
    altered: Callable[[str | None], Path],
) -> None:
    directory = altered(None)
    was = bundle.manifest_of(directory)
    (directory / bundle.ONNX).write_bytes(b"no model")
    assert open_with(directory, "onnxruntime").engine == "torch"
    with pytest.raises(BundleError, match=r"model\.onnx"):
        opened(directory, was, device="cpu", threads=1, engine="auto")


def test_other_devices_keep_torch(stored: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "_in_torch", lambda *_, device, **__: device)
    assert open_with(stored[0], device="cuda") == "cuda"


def test_the_known_images_never_change() -> None:
    """Files that were exported say what the model gave for these very pixels."""
    found = known_images(8, 3)
    assert found.shape == (2, 8, 8, 3)
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == "21d805d35f4a8a0a"


def test_a_first_embedding_imports_neither_torch_nor_scipy(stored: tuple[Path, Any]) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "import service.app\n"
        "from nidim.stored import manifest_of\n"
        "from service.inference.runtimes import opened\n"
        "where = Path(sys.argv[1])\n"
        "found = opened(where, manifest_of(where), device='cpu', threads=1, engine='auto')\n"
        f"found.embed(np.zeros((1, {SIZE}, {SIZE}, 1), np.uint8))\n"
        "print(found.engine, *sorted({'torch', 'scipy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(stored[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["onnxruntime"]


@pytest.mark.parametrize(("engine", "expected"), [("auto", "onnxruntime"), ("torch", "torch")])
def test_the_setting_reaches_the_encoder(
    stored: tuple[Path, dict[str, Any]], tmp_path: Path, engine: Any, expected: str
) -> None:
    settings, watch = Settings(data_dir=tmp_path, engine=engine), Metrics()
    store = open_store(settings)
    encoder = register(store, "mine", *stored)

    async def run() -> np.ndarray[Any, Any]:
        serving = Serving(settings, store.blobs, scratch=tmp_path, watch=watch)
        try:
            return (await serving.embed(encoder, IMAGES)).rows
        finally:
            await serving.close()

    rows = asyncio.run(run())
    store.close()
    np.testing.assert_array_equal(rows, open_with(stored[0], engine).embed(IMAGES))
    counted = watch.render().decode()
    assert f'nidim_load_seconds_count{{engine="{expected}"}} 1.0' in counted
    assert counted.count('nidim_load_seconds_count{engine="') == 2


def test_a_load_that_fails_is_not_counted() -> None:
    watch, outcomes = Metrics(), [MemoryError(), loaded()]

    def load(_: Any) -> Any:
        if isinstance(outcome := outcomes.pop(0), Exception):
            raise outcome
        return outcome

    async def run() -> None:
        kept = Registry(load, max_bytes=25, max_batch=8, bound=Bound(100, 60), watch=watch)
        with pytest.raises(MemoryError):
            async with kept.use(Stub("a")):  # type: ignore[arg-type]
                pass
        async with kept.use(Stub("a")):  # type: ignore[arg-type]
            pass
        await kept.close()

    asyncio.run(run())
    assert 'nidim_load_seconds_count{engine="torch"} 1.0' in watch.render().decode()


def test_collecting_goes_on_after_an_import_that_fails() -> None:
    try:
        with uncollected():
            enabled_within = gc.isenabled()
            raise ImportError
    except ImportError:
        assert not enabled_within
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
