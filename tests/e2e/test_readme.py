"""The sessions of the README, of the client's page, of its notebook and of the tutorial, run word for word."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nidim.data import load_builtin

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
CLIENT = (ROOT / "docs" / "client.md").read_text()
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
URL = "http://127.0.0.1:8000"


def session(name: str) -> str:
    """The code block after the marker of this name."""
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found is not None, name
    return found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the images that the sessions name."""
    images = load_builtin("digits", root=None).test.images
    for name, image in zip(("one.png", "two.png"), images, strict=False):
        Image.fromarray(image[..., 0]).save(tmp_path / name)
    return tmp_path


def test_the_curl_session(plain_stack: str, folder: Path) -> None:
    script = session("curl-session").replace(URL, plain_stack)
    assert plain_stack in script
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "job.json").read_text())["id"].startswith("job_")
    assert '"succeeded"' in done.stdout
    answers = [json.loads(text) for text in re.findall(r'\{"encoder":.*?\]\]\}', done.stdout)]
    assert [len(a.get("embeddings", a.get("samples"))) for a in answers] == [2, 3]


def test_the_python_session(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", session("python-session")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "digits" / "report.html").is_file()
    assert len(re.findall(r"-?\d\.\d+", done.stdout)) >= 20


def blocks(name: str, page: str = CLIENT) -> str:
    """All code blocks of a page after this marker, as one session."""
    found = re.findall(rf"<!-- {name} -->\n```\w+\n(.*?)```", page, re.DOTALL)
    assert found, name
    return "\n".join(found)


def test_the_client_session(plain_stack: str, folder: Path) -> None:
    script = blocks("client-session").replace(URL, plain_stack)
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "<Encoder shapes@1, d = 2>" in done.stdout
    assert "invalid_value [('/spec/noise/sigma'" in done.stdout
    assert "(5000, 2) (1000, 2) ['job_" in done.stdout
    assert (folder / "shapes-files" / "model.safetensors").is_file()


def test_the_shell_session(plain_stack: str, folder: Path) -> None:
    script = (
        blocks("shell-session").replace(URL, plain_stack).replace("nidim ", f"{sys.executable} -m nidim ")
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "quick@1" in done.stdout
    for name, shape in (("embeddings", (2, 2)), ("draws", (1000, 2))):
        assert np.load(folder / f"{name}.npy", allow_pickle=False).shape == shape
    assert (folder / "quick-files" / "model.safetensors").is_file()


def figure(pattern: str, said: str) -> float:
    """The number in the group of ``pattern``."""
    found = re.search(pattern, said)
    assert found is not None, said
    return float(found[1])


def test_the_tutorial(plain_stack: str, tmp_path: Path) -> None:
    script = blocks("tutorial", TUTORIAL).replace(URL, plain_stack)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1797 {'train': 1618, 'test': 179}" in done.stdout
    assert "of at most 3.26 nats" in done.stdout
    assert 0.2 < figure(r"prior gap (\d+\.\d+)", done.stdout) < 20
    with Image.open(tmp_path / "new-pictures.png") as picture:
        assert len(np.unique(np.asarray(picture))) > 20


def test_the_notebook_of_the_client(plain_stack: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "notebooks" / "client.ipynb").read_text()
    assert URL in text
    (tmp_path / "client.ipynb").write_text(text.replace(URL, plain_stack))
    done = subprocess.run(
        [sys.executable, "-m", "tests.notebooks", "client.ipynb"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "<Encoder notebook@1, d = 2> Î" in done.stdout
    assert "(1797, 2) float32" in done.stdout
    assert 1 < figure(r"by rank: p ≤ \.05 for (\d+\.\d) %", done.stdout) < 10
