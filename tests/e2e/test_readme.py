"""The sessions of the README, run word for word."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from nidim.data import load_builtin

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def session(name: str) -> str:
    """The code block after the marker of this name."""
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found is not None, name
    return found[1]


def test_the_curl_session(plain_stack: str, tmp_path: Path) -> None:
    images = load_builtin("digits", root=None).test.images
    for name, image in zip(("one.png", "two.png"), images, strict=False):
        Image.fromarray(image[..., 0]).save(tmp_path / name)
    script = session("curl-session").replace("http://127.0.0.1:8000", plain_stack)
    assert plain_stack in script
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "job.json").read_text())["id"].startswith("job_")
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
