"""The shape of OpenAI's embeddings endpoint."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest

URL = "/v1/embeddings"
pytestmark = pytest.mark.usefixtures("encoder")


@pytest.fixture(scope="module")
def uris(pictures: Any, image_file: Any) -> list[str]:
    return [f"data:image/png;base64,{base64.b64encode(image_file(p)).decode()}" for p in pictures[:3]]


def test_floats_and_base64_hold_what_embed_gives(
    api: httpx.Client, uris: list[str], pictures: Any, npy: Any
) -> None:
    wanted = api.post(
        "/v1/encoders/gauss/embed", content=npy(pictures[:3]), headers={"content-type": "application/x-npy"}
    ).json()["embeddings"]
    floats = api.post(URL, json={"model": "gauss", "input": uris}).json()
    assert floats["object"] == "list"
    assert floats["model"] == "gauss@1"
    assert floats["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert [item["index"] for item in floats["data"]] == [0, 1, 2]
    np.testing.assert_allclose([item["embedding"] for item in floats["data"]], wanted, atol=1e-6)
    packed = api.post(URL, json={"model": "gauss@1", "input": uris, "encoding_format": "base64"}).json()
    rows = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in packed["data"]]
    np.testing.assert_allclose(rows, wanted, atol=1e-6)


def test_one_image_and_the_fields_that_clients_send(api: httpx.Client, uris: list[str]) -> None:
    body = {"model": "gauss", "input": uris[0], "user": "somebody", "dimensions": 2}
    answer = api.post(URL, json=body, headers={"authorization": "Bearer anything"})
    assert len(answer.json()["data"]) == 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"model": "nothing"}, "/model"),
        ({"model": 1}, "/model"),
        ({"input": []}, "/input"),
        ({"input": "http://127.0.0.1:1/x.png"}, "/input"),
        ({"input": ["data:text/plain;base64,aGk="]}, "/input/0"),
        ({"input": [1, 2]}, "/input/0"),
        ({"encoding_format": "hex"}, "/encoding_format"),
        ({"dimensions": 3}, "/dimensions"),
    ],
)
def test_bad_requests(
    api: httpx.Client, uris: list[str], changes: Any, pointer: str, is_problem: Any
) -> None:
    is_problem(
        api.post(URL, json={"model": "gauss", "input": uris, **changes}), 422, "invalid_value", pointer
    )


def test_a_bad_image_is_named(api: httpx.Client, uris: list[str], is_problem: Any) -> None:
    bad = "data:image/png;base64,aGVsbG8="
    is_problem(api.post(URL, json={"model": "gauss", "input": [uris[0], bad]}), 422, "bad_image", "/input/1")
    answer = api.post(URL, json={"model": "gauss", "input": ["data:image/png;base64,!!!"]})
    is_problem(answer, 422, "bad_image", "/input/0")
    assert "not base64" in answer.json()["detail"]


def test_errors_say_their_words_where_the_clients_look(api: httpx.Client, uris: list[str]) -> None:
    unknown = api.post(URL, json={"model": "nothing", "input": uris}).json()
    assert unknown["message"] == f"{unknown['detail']} /model: unknown encoder"
    assert "message" not in api.post("/v1/jobs", json={}).json()
