"""The sessions of README, tutorial, client and generators, and the client's notebook, with shorter trainings.

OpenAI's client is here, too, because it asks the same stack.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from nidim.data import load_builtin
from tests.blocks import ROOT, session, shell

URL = "http://127.0.0.1:8000"


def shorter(script: str) -> str:
    """The script with trainings of two epochs and their quick evaluation, whatever it asks for."""
    two, changed = re.subn(
        r'"epochs": \d+(, "evaluation": "quick")?', '"epochs": 2, "evaluation": "quick"', script
    )
    assert changed, "it trains nothing"
    return two


def smaller(script: str) -> str:
    """The script with generators of a small network, trained for an epoch."""
    model = '{"kind": "flow_matching", "width": 8, "steps": 2}'
    small, changed = re.subn(
        r'("kind": "generator", "source": "[^"]+")(, "epochs": \d+)?(, "evaluation": "quick")?',
        rf'\1, "epochs": 1, "evaluation": "quick", "model": {model}',
        script,
    )
    assert changed, "it trains no generator"
    return small


def with_pictures(folder: Path) -> Path:
    """``folder``, with the images that the sessions name."""
    images = load_builtin("digits", root=None).test.images
    for name, image in zip(("one.png", "two.png"), images, strict=False):
        Image.fromarray(image[..., 0]).save(folder / name)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the images that the sessions name."""
    return with_pictures(tmp_path)


@pytest.fixture(scope="module")
def digits_2d(plain_stack: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The session that trains ``digits-2d``: its folder and what it said."""
    folder = with_pictures(tmp_path_factory.mktemp("curl"))
    script = shorter(session("README.md", "curl-session")).replace(URL, plain_stack)
    assert plain_stack in script
    done = shell(script, folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_curl_session(digits_2d: tuple[Path, str]) -> None:
    folder, said = digits_2d
    assert json.loads((folder / "job.json").read_text())["id"].startswith("job_")
    assert '"succeeded"' in said
    answers = [json.loads(text) for text in re.findall(r'\{"encoder":.*?\]\]\}', said)]
    assert [len(a.get("embeddings", a.get("samples"))) for a in answers] == [2, 3]


def test_the_session_of_the_generators(plain_stack: str, digits_2d: tuple[Path, str], folder: Path) -> None:
    """On the encoder of the README, with a training of seconds in place of minutes."""
    script = smaller(session("docs/generators.md", "generator-session").replace(URL, plain_stack))
    done = shell(script, folder)
    assert done.returncode == 0, done.stderr
    assert '"succeeded"' in done.stdout
    draws = np.load(folder / "draws.npy", allow_pickle=False)
    assert draws.shape == (64, 8, 8, 1)
    sheet, like = (np.asarray(Image.open(folder / f"{name}.png")) for name in ("draws", "like-one"))
    np.testing.assert_array_equal(sheet[-8:, -8:], draws[63, ..., 0])
    assert (like.shape, len(np.unique(like)) > 4) == ((8, 8), True)


def test_the_session_of_trouble(plain_stack: str, digits_2d: tuple[Path, str]) -> None:
    """On a job that did not fail: what there is to see is the same."""
    folder, _ = digits_2d
    job = json.loads((folder / "job.json").read_text())["id"]
    done = shell(session("docs/trouble.md", "trouble-session"), folder, NIDIM_URL=plain_stack, JOB=job)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^failure +–$", done.stdout, re.MULTILINE)
    assert '"state": "succeeded"' in done.stdout.splitlines()[-1]


def test_the_python_session(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", shorter(session("README.md", "python-session"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "digits" / "report.html").is_file()
    assert len(re.findall(r"-?\d\.\d+", done.stdout)) >= 20


def test_the_same_without_code(folder: Path) -> None:
    """The same as the session of Python."""
    script = session("README.md", "train-session")
    asked = re.search(r"model_validate\((.*)\)", session("README.md", "python-session"))
    written = re.search(r"echo '(.*)' > spec.json", script)
    assert asked is not None
    assert written is not None
    assert json.loads(written[1]) == json.loads(asked[1])
    done = shell(shorter(script), folder)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "spec.json").read_text())["epochs"] == 2
    assert not (folder / "runs" / "digits").exists(), "that is where the session of Python writes"
    assert np.load(folder / "embeddings.npy", allow_pickle=False).shape == (2, 2)
    assert np.load(folder / "draws.npy", allow_pickle=False).shape == (5, 2)


def test_the_client_session(plain_stack: str, folder: Path) -> None:
    script = shorter(session("docs/client.md", "client-session")).replace(URL, plain_stack)
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "<Encoder shapes@1, d = 2>" in done.stdout
    assert "invalid_value [('/spec/noise/sigma'" in done.stdout
    assert "(5000, 2) (1000, 2) ['job_" in done.stdout
    assert (folder / "shapes-files" / "model.safetensors").is_file()


def test_the_shell_session(plain_stack: str, folder: Path) -> None:
    done = shell(session("docs/client.md", "shell-session").replace(URL, plain_stack), folder)
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
    script = smaller(shorter(session("docs/tutorial.md", "tutorial"))).replace(URL, plain_stack)
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


# OpenAI's client, with its defaults

ENCODER = "digits-2d"


@pytest.fixture
def official(plain_stack: str) -> Iterator[Any]:
    """OpenAI's client, imported where it is used, not in every process that collects tests."""
    import openai

    with openai.OpenAI(
        base_url=f"{plain_stack}/v1", api_key="unused", http_client=httpx.Client(trust_env=False)
    ) as client:
        yield client


def data_uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0]).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def test_the_session_of_the_official_client(plain_stack: str, digits_2d: object, folder: Path) -> None:
    script = session("docs/client.md", "openai-session").replace(URL, plain_stack)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 2


@pytest.mark.parametrize(
    "options", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}], ids=str
)
def test_the_official_client(official: Any, plain_stack: str, digits_2d: object, options: dict) -> None:
    images = load_builtin("digits", root=None).test.images[:4]
    answer = official.embeddings.create(model=ENCODER, input=[data_uri(i) for i in images], **options)
    rows = [e.embedding for e in answer.data]
    if options.get("encoding_format") == "base64":
        rows = [np.frombuffer(base64.b64decode(row), np.float32) for row in rows]
    buffer = io.BytesIO()
    np.save(buffer, images, allow_pickle=False)
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    ours = httpx.post(
        f"{plain_stack}/v1/encoders/{ENCODER}/embed",
        content=buffer.getvalue(),
        headers=headers,
        trust_env=False,
    )
    np.testing.assert_allclose(rows, np.load(io.BytesIO(ours.content), allow_pickle=False), atol=1e-5)
    assert [e.index for e in answer.data] == [0, 1, 2, 3]
    assert answer.usage.total_tokens >= 0


def test_one_image_and_an_unknown_model(official: Any, digits_2d: object) -> None:
    from openai import APIStatusError

    image = data_uri(load_builtin("digits", root=None).test.images[0])
    assert len(official.embeddings.create(model=ENCODER, input=image).data[0].embedding) == 2
    with pytest.raises(APIStatusError, match="/model: unknown encoder"):
        official.embeddings.create(model="nobody", input=image)
