"""The prior over HTTP: pages of one stream, scores, ways from point to point."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

NPY, ARROW = "application/x-npy", "application/vnd.apache.arrow.stream"
GAUSS, UNIT, DECAY = (f"/v1/encoders/{name}/prior" for name in ("gauss", "unit", "decay"))
pytestmark = pytest.mark.usefixtures("encoder", "uniform_encoder", "exponential_encoder")


def sample(api: httpx.Client, where: str = GAUSS, **body: Any) -> np.ndarray[Any, Any]:
    answer = api.post(f"{where}/sample", json=body, headers={"accept": NPY})
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)
    return np.load(io.BytesIO(answer.content), allow_pickle=False)


def library_rows(kind: str, n: int, **draw: Any) -> np.ndarray[Any, Any]:
    from nidim.priors import prior_from_dict

    return prior_from_dict({"kind": kind, "dim": 2}).sample(n, **draw)


@pytest.mark.parametrize(("where", "kind"), [(GAUSS, "gaussian"), (UNIT, "uniform"), (DECAY, "exponential")])
def test_draws_are_those_of_the_library(api: httpx.Client, where: str, kind: str) -> None:
    rows = sample(api, where, n=50, seed=7)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, library_rows(kind, 50, seed=7))
    cooled = sample(api, where, n=50, seed=7, offset=10, temperature=0.5)
    np.testing.assert_array_equal(cooled, library_rows(kind, 50, seed=7, offset=10, temperature=0.5))


def test_pages_agree_with_one_big_draw_across_the_pages_of_the_stream(api: httpx.Client) -> None:
    whole = sample(api, n=300_000, seed=3)
    parts = [sample(api, n=100_000, seed=3, offset=k * 100_000) for k in range(3)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_json_and_arrow_hold_the_same(api: httpx.Client) -> None:
    rows = sample(api, n=1000, seed=1)
    answer = api.post(f"{GAUSS}/sample", json={"n": 1000, "seed": 1}).json()
    assert (answer["encoder"], answer["dim"]) == ("gauss@1", 2)
    np.testing.assert_array_equal(np.array(answer["samples"], np.float32), rows)
    arrow = api.post(f"{GAUSS}/sample", json={"n": 1000, "seed": 1}, headers={"accept": ARROW})
    table = pa.ipc.open_stream(arrow.content).read_all()
    np.testing.assert_array_equal(np.array(table.column(0).to_pylist(), np.float32), rows)
    assert api.post(f"{GAUSS}/sample", json={"n": 0}).json()["samples"] == []
    assert sample(api, n=0).shape == (0, 2)


def test_large_draws_are_bounded(api: httpx.Client, is_problem: Any) -> None:
    is_problem(api.post(f"{GAUSS}/sample", json={"n": 100_001}), 413, "too_large", "/n")
    assert api.post(f"{GAUSS}/sample", json={"n": 100_000}).status_code == 200
    both = {"n": 100_001, "offset": 2**63 - 3}
    is_problem(api.post(f"{GAUSS}/sample", json=both), 413, "too_large", "/n")
    too_many = api.post(f"{GAUSS}/sample", json={"n": 5_000_001}, headers={"accept": NPY})
    is_problem(too_many, 413, "too_large", "/n")
    assert sample(api, n=5_000_000).shape == (5_000_000, 2)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/n"),
        ({"n": -1}, "/n"),
        ({"n": "5"}, "/n"),
        ({"n": 1.5}, "/n"),
        ({"n": True}, "/n"),
        ({"n": 5, "seed": -1}, "/seed"),
        ({"n": 5, "seed": 2**63}, "/seed"),
        ({"n": 5, "seed": 10**30}, "/seed"),
        ({"n": 5, "offset": 2**63 - 3}, "/offset"),
        ({"n": 5, "temperature": -0.1}, "/temperature"),
        ({"n": 5, "temperature": 1e9}, "/temperature"),
        ({"n": 5, "colour": 1}, "/colour"),
        ([], ""),
    ],
)
def test_bad_draws_are_refused(api: httpx.Client, body: Any, pointer: str, is_problem: Any) -> None:
    is_problem(api.post(f"{GAUSS}/sample", json=body), 422, "invalid_value", pointer)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_poisoned_numbers_are_refused(api: httpx.Client, number: str, is_problem: Any) -> None:
    body = f'{{"n": 5, "temperature": {number}}}'
    answer = api.post(f"{GAUSS}/sample", content=body, headers={"content-type": "application/json"})
    is_problem(answer, 422, "invalid_value", "/temperature")


def test_scores_of_rows_are_those_of_the_library(api: httpx.Client, npy: Any) -> None:
    from nidim.priors import GaussianPrior

    rows = sample(api, n=20, seed=2) * 3
    prior = GaussianPrior(2)
    for answer in (
        api.post(f"{GAUSS}/score", json={"embeddings": rows.tolist()}),
        api.post(f"{GAUSS}/score", content=npy(rows), headers={"content-type": NPY}),
    ):
        body = answer.json()
        np.testing.assert_allclose(body["log_prob"], prior.log_prob(rows), rtol=1e-6)
        np.testing.assert_allclose(body["p_value"], prior.p_value(rows), rtol=1e-6)


def test_outside_the_support_the_log_density_is_null(api: httpx.Client) -> None:
    body = api.post(f"{UNIT}/score", json={"embeddings": [[0.5, 0.5], [0.5, 1.5]]}).json()
    assert body["log_prob"] == [0.0, None]
    assert body["p_value"][1] == 0.0
    assert body["p_value"][0] == 1.0
    body = api.post(f"{DECAY}/score", json={"embeddings": [[0.5, 1.5], [-0.5, 1]]}).json()
    assert body["log_prob"] == [-2.0, None]
    assert body["p_value"][1] == 0.0


def test_images_are_scored_by_their_embedding(
    api: httpx.Client, pictures: Any, npy: Any, image_file: Any
) -> None:
    embedded = api.post(
        "/v1/encoders/gauss/embed", content=npy(pictures[:3]), headers={"content-type": NPY}
    ).json()["embeddings"]
    wanted = api.post(f"{GAUSS}/score", json={"embeddings": embedded}).json()["log_prob"]
    files = [image_file(picture) for picture in pictures[:3]]
    for answer in (
        api.post(f"{GAUSS}/score", content=npy(pictures[:3]), headers={"content-type": NPY}),
        api.post(f"{GAUSS}/score", files=[("images", file) for file in files]),
        api.post(f"{GAUSS}/score", json={"images": [base64.b64encode(f).decode() for f in files]}),
    ):
        np.testing.assert_allclose(answer.json()["log_prob"], wanted, atol=1e-4)


def test_bad_rows_are_refused(api: httpx.Client, npy: Any, is_problem: Any) -> None:
    url, kind = f"{GAUSS}/score", {"content-type": NPY}
    is_problem(api.post(url, json={"embeddings": [[1, 2], [1]]}), 422, "invalid_value", "/embeddings/1")
    for neither in ({}, {"embedding": [[1, 2]]}):
        refused = api.post(url, json=neither)
        is_problem(refused, 422, "invalid_value", "/images")
        assert '"embeddings"' in refused.json()["errors"][0]["detail"]
    is_problem(api.post(url, json={"embeddings": [[1, "x"]]}), 422, "invalid_value", "/embeddings/0/1")
    is_problem(api.post(url, json={"embeddings": [[1, 1e300]]}), 422, "invalid_value", "/embeddings")
    for rows in (
        np.zeros((3, 3), "f4"),
        np.zeros(2, "f4"),
        np.zeros((3, 2), "f8"),
        np.full((1, 2), np.nan, "f4"),
    ):
        is_problem(api.post(url, content=npy(rows), headers=kind), 422, "malformed_body")
    is_problem(
        api.post(url, content=b"x", headers={"content-type": "text/csv"}), 415, "unsupported_media_type"
    )


def test_a_way_has_both_its_ends(api: httpx.Client) -> None:
    body = api.post(f"{GAUSS}/interpolate", json={"a": [1, 2], "b": [-3, 0.5], "steps": 5}).json()
    points = np.array(body["points"])
    assert points.shape == (5, 2)
    np.testing.assert_allclose(points[[0, -1]], [[1, 2], [-3, 0.5]], rtol=1e-6)
    t = 0.25
    np.testing.assert_allclose(
        points[1], ((1 - t) * np.array([1, 2]) + t * np.array([-3, 0.5])) / np.hypot(1 - t, t), rtol=1e-6
    )


def test_bad_ways_are_refused(api: httpx.Client, is_problem: Any) -> None:
    def ask(where: str = GAUSS, **body: Any) -> httpx.Response:
        return api.post(f"{where}/interpolate", json={"a": [0.5, 0.5], "b": [0.1, 0.2], **body})

    is_problem(ask(a=[1]), 422, "invalid_value", "/a")
    is_problem(ask(b=[1, 2, 3]), 422, "invalid_value", "/b")
    is_problem(ask(b=[]), 422, "invalid_value", "/b")
    is_problem(ask(b=[1e300, 0]), 422, "invalid_value", "/b")
    is_problem(ask(UNIT, b=[2, 0]), 422, "invalid_value", "/b")
    is_problem(ask(steps=1), 422, "invalid_value", "/steps")
    is_problem(ask(steps=10_001), 422, "invalid_value", "/steps")
