"""The official client against /v1/embeddings, with its defaults."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from nidim.data import load_builtin


@pytest.fixture(scope="module")
def encoder(plain_stack: str) -> str:
    """An encoder trained for this test."""
    with httpx.Client(base_url=plain_stack, timeout=60, trust_env=False) as client:
        spec = {
            "dataset": "digits",
            "encoder": {"kind": "conv", "dim": 3, "width": 8},
            "epochs": 2,
            "evaluation": "quick",
        }
        job = client.post("/v1/jobs", json={"spec": spec, "encoder": "openai-test"})
        assert job.status_code == 202, job.text
        with client.stream("GET", f"{job.headers['location']}/events", timeout=120) as events:
            assert '"succeeded"' in "".join(events.iter_lines())
    return "openai-test"


@pytest.fixture
def official(plain_stack: str) -> Iterator[Any]:
    """The client, whose many modules are imported where it is used, not in every process that collects tests."""
    import openai

    with openai.OpenAI(
        base_url=f"{plain_stack}/v1", api_key="unused", http_client=httpx.Client(trust_env=False)
    ) as client:
        yield client


def data_uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0]).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    "options", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}], ids=str
)
def test_the_official_client(official: Any, plain_stack: str, encoder: str, options: dict) -> None:
    images = load_builtin("digits", root=None).test.images[:4]
    answer = official.embeddings.create(model=encoder, input=[data_uri(i) for i in images], **options)
    rows = [e.embedding for e in answer.data]
    if options.get("encoding_format") == "base64":
        rows = [np.frombuffer(base64.b64decode(row), np.float32) for row in rows]
    buffer = io.BytesIO()
    np.save(buffer, images, allow_pickle=False)
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    ours = httpx.post(
        f"{plain_stack}/v1/encoders/{encoder}/embed",
        content=buffer.getvalue(),
        headers=headers,
        trust_env=False,
    )
    np.testing.assert_allclose(rows, np.load(io.BytesIO(ours.content), allow_pickle=False), atol=1e-5)
    assert [e.index for e in answer.data] == [0, 1, 2, 3]
    assert answer.usage.total_tokens >= 0


def test_one_image_and_an_unknown_model(official: Any, encoder: str) -> None:
    from openai import APIStatusError

    image = data_uri(load_builtin("digits", root=None).test.images[0])
    assert len(official.embeddings.create(model=encoder, input=image).data[0].embedding) == 3
    with pytest.raises(APIStatusError, match="/model: unknown encoder"):
        official.embeddings.create(model="nobody", input=image)
