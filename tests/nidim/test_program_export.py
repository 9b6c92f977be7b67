"""A program of torch.export is the encoder, for any number of real images, and its file runs nobody's code."""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from nidim import bundle, program_export
from nidim.cli import main
from nidim.data import load_builtin
from nidim.errors import BundleError
from nidim.flow import Flow
from nidim.program_export import export_program
from nidim.warp import FlowMap
from tests.blocks import ROOT, session
from tests.nidim.test_bundle import stored

PICKLE = re.compile(rb"\x80[\x02-\x05]")
SMALL = {"encoder": {"kind": "conv", "dim": 2, "width": 8}}


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Real images, uint8 (100, 8, 8, 1)."""
    return load_builtin("digits", root=None).test.images[:100].copy()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("program") / "encoder"
    stored(directory, 8, 1, onnx=False, **SMALL)
    return directory


def run(path: Path, images: np.ndarray) -> dict[str, Any]:
    """The names that the snippet of the documentation makes."""
    names: dict[str, Any] = {"images": images}
    exec(session("docs/elsewhere.md", "program").replace("digits.pt2", str(path)), names)
    return names


@pytest.mark.usefixtures("short_flows")
def test_the_program_is_the_encoder(digits: np.ndarray, tmp_path: Path) -> None:
    """With a flow as its last map, the hardest thing to export."""
    model, _, _ = stored(tmp_path / "encoder", 8, 1, onnx=False, **SMALL)
    model.warp = FlowMap(Flow(2))
    images = torch.from_numpy(digits)
    with torch.no_grad():
        expected = model.embed_uint8(images).numpy()
    assert export_program(model, tmp_path / "m.pt2", sample=images[:2]) <= 1e-5
    names = run(tmp_path / "m.pt2", digits)
    np.testing.assert_allclose(names["embeddings"], expected, rtol=1e-5, atol=1e-5)
    assert len(np.unique(expected, axis=0)) == len(digits)
    for n in (1, 3):
        found = names["program"](images[:n]).detach()
        np.testing.assert_allclose(found, expected[:n], rtol=1e-5, atol=1e-5)


def test_the_file_holds_no_pickle_and_no_path(
    encoder: Path, digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", None)  # what unpickles while it is checked
    export_program(bundle.load(encoder).model, tmp_path / "m.pt2", sample=torch.from_numpy(digits))
    with zipfile.ZipFile(tmp_path / "m.pt2") as archive:
        files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert files["data/sample_inputs/model.pt"] == b""
    told = {name: json.loads(data) for name, data in files.items() if name.endswith("_config.json")}
    payloads = [payload for config in told.values() for payload in config["config"].values()]
    assert len(payloads) > 20
    assert not any(payload["use_pickle"] for payload in payloads)
    raw = {f"data/weights/{payload['path_name']}" for payload in payloads}
    assert not [name for name in files.keys() - raw if PICKLE.match(files[name])]
    assert b"site-packages" not in files["models/model.json"]
    assert str(ROOT).encode() not in b"".join(files.values())


def test_the_command_of_the_documentation_writes_both_kinds(
    encoder: Path, digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, image in zip(("one.png", "two.png"), digits, strict=False):
        Image.fromarray(image[..., 0]).save(name)
    Path("runs").mkdir()
    Path("runs/digits").symlink_to(encoder)
    program, *words = shlex.split(session("docs/elsewhere.md", "export-session"), comments=True)
    assert (program, words[-1]) == ("nidim", "digits.pt2")
    for name in ("digits.pt2", "digits.onnx"):
        shown = CliRunner().invoke(main, [*words[:-1], name])
        assert shown.exit_code == 0, shown.output
        assert "over 5 images" in shown.output
    words = ["export", str(encoder), "-o", str(tmp_path / "again.pt2"), "--json"]
    told = json.loads(CliRunner().invoke(main, words).stdout)
    assert 0 <= told.pop("max_difference") <= 1e-5
    output = str(tmp_path / "again.pt2")
    assert told == {"encoder": str(encoder), "output": output, "format": "pt2", "images": 3}
    np.testing.assert_allclose(
        run(Path("digits.pt2"), digits)["embeddings"], bundle.load(encoder).embed(digits), atol=1e-5
    )
    assert "must end in" in CliRunner().invoke(main, ["export", str(encoder), "-o", "m.pth"]).output


def test_a_program_that_differs_is_not_written(
    encoder: Path, digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_export, "difference", lambda *_: 2e-5)
    with pytest.raises(BundleError, match="differs from the model by 2e-05"):
        export_program(bundle.load(encoder).model, tmp_path / "m.pt2", sample=torch.from_numpy(digits))
    assert not (tmp_path / "m.pt2").exists()
