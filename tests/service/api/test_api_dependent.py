"""Laws of dependent coordinates over HTTP: the sphere, and a flow whose file the server reads."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from nidim.priors import FlowPrior, Prior, SpherePrior, prior_from_dict
from service.store.encoders import Encoder
from tests.nidim.samples import arc

NPY = "application/x-npy"
BALL, ARC = (f"/v1/encoders/{name}/prior" for name in ("ball", "arc"))
pytestmark = pytest.mark.usefixtures("sphere_encoder", "flow_encoder")
both = pytest.mark.parametrize("where", [BALL, ARC], ids=["sphere", "flow"])


@pytest.fixture
def laws(api: httpx.Client, flow_encoder: Encoder) -> dict[str, Prior]:
    """By the route, what the server's answers say they are: the flow from its downloaded file."""
    file = api.get("/v1/encoders/arc/files/prior.safetensors")
    assert file.status_code == 200
    described = api.get("/v1/encoders/arc").json()["prior"]
    assert described == flow_encoder.prior
    return {BALL: SpherePrior(2), ARC: prior_from_dict(described, file=file.content)}


def sample(api: httpx.Client, where: str, **body: Any) -> np.ndarray[Any, Any]:
    answer = api.post(f"{where}/sample", json=body, headers={"accept": NPY})
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content), allow_pickle=False)


@both
def test_draws_are_those_of_the_library_and_pages_of_one_stream(
    where: str, api: httpx.Client, laws: dict[str, Prior]
) -> None:
    rows = sample(api, where, n=3000, seed=7)
    np.testing.assert_array_equal(rows, laws[where].sample(3000, seed=7))
    parts = [sample(api, where, n=1000, seed=7, offset=k * 1000) for k in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), rows)


@both
def test_scores_are_those_of_the_library(where: str, api: httpx.Client, laws: dict[str, Prior]) -> None:
    rows = np.concatenate([sample(api, where, n=20, seed=2), [[3, 0.5]]]).astype(np.float32)
    body = api.post(f"{where}/score", json={"embeddings": rows.tolist()}).json()
    expected = laws[where].log_prob(rows)
    found = np.array([-np.inf if value is None else value for value in body["log_prob"]])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(body["p_value"], laws[where].p_value(rows), rtol=1e-6, atol=1e-12)
    assert body["p_value"][-1] < 1e-3
    assert np.isinf(expected[-1]) == (where == BALL)


@both
def test_ways(where: str, api: httpx.Client, laws: dict[str, Prior]) -> None:
    a, b = sample(api, where, n=2, seed=3).tolist()
    points = api.post(f"{where}/interpolate", json={"a": a, "b": b, "steps": 5}).json()["points"]
    np.testing.assert_allclose(points, laws[where].interpolate(a, b, 5), atol=1e-6)
    np.testing.assert_allclose([points[0], points[-1]], [a, b], atol=1e-6)


def test_what_a_sphere_has_not(api: httpx.Client, is_problem: Any) -> None:
    cold = {"n": 5, "temperature": 0.5}
    is_problem(api.post(f"{BALL}/sample", json=cold), 422, "invalid_value", "/temperature")
    assert api.post(f"{ARC}/sample", json=cold).status_code == 200
    off = {"a": [0.6, 0.8], "b": [0.6, 0.9]}
    is_problem(api.post(f"{BALL}/interpolate", json=off), 422, "invalid_value", "/b")


@both
def test_images_get_embeddings_of_the_law_with_and_without_noise(
    where: str, api: httpx.Client, laws: dict[str, Prior], pictures: Any, npy: Any
) -> None:
    url = where.removesuffix("/prior") + "/embed"
    kind = {"content-type": NPY}
    clean, noisy, again = (
        np.array(
            api.post(url, content=npy(pictures), headers=kind, params=params).json()["embeddings"], np.float32
        )
        for params in ({}, {"noisy": True, "seed": 5}, {"noisy": True, "seed": 5})
    )
    assert np.isfinite(laws[where].log_prob(clean)).all()
    assert np.isfinite(laws[where].log_prob(noisy)).all()
    assert not np.allclose(noisy, clean, atol=0.01)
    np.testing.assert_array_equal(noisy, again)


def test_a_flow_whose_file_is_gone_says_so_and_the_rest_goes_on(
    start_server: Callable[..., Any], add_encoder: Callable[..., Encoder], tmp_path: Path, is_problem: Any
) -> None:
    with start_server(tmp_path) as server:
        encoder = add_encoder(server, "arc", prior={"kind": "flow", "points": arc(100).tolist()})
        server.store.blobs.delete(encoder.files["prior.safetensors"].digest)
        for path, body in (
            ("sample", {"n": 1}),
            ("score", {"embeddings": [[1, 2]]}),
            ("interpolate", {"a": [1, 0], "b": [0, 1]}),
        ):
            answer = server.client.post(f"/v1/encoders/arc/prior/{path}", json=body)
            is_problem(answer, 503, "encoder_damaged")
        shown = server.client.get("/v1/encoders/arc").json()
        assert (shown["state"], shown["degraded"]["file"]) == ("degraded", "prior.safetensors")


def spec(points: Any) -> dict[str, Any]:
    return {"spec": {"dataset": "digits", "prior": {"kind": "flow", "points": points}}, "encoder": "small"}


def test_a_job_with_many_points_shows_them_only_when_asked_for_alone(api: httpx.Client) -> None:
    points = arc(5000).round(4).tolist()
    answer = api.post("/v1/jobs", json=spec(points))
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert job["spec"]["prior"] == {"kind": "flow"}
    assert job["spec"]["encoder"]["dim"] == 2
    assert api.get(f"/v1/jobs/{job['id']}").json()["spec"]["prior"]["points"] == points
    listed = next(item for item in api.get("/v1/jobs").json()["items"] if item["id"] == job["id"])
    assert listed["spec"] == job["spec"]


@pytest.mark.parametrize(
    ("points", "pointer"),
    [
        (arc(50).tolist(), "/spec/prior/points"),
        ([*arc(100).tolist(), [1, "x"]], "/spec/prior/points/100/1"),
        ([*arc(100).tolist(), [1]], "/spec/prior/points/100"),
        ([*arc(100).tolist(), [1, 2, 3]], "/spec/prior"),
        ({"digest": "sha256:" + "0" * 64, "n": 100, "dim": 2}, "/spec/prior/points"),
        ("x", "/spec/prior/points"),
        (None, "/spec/prior/points"),
    ],
    ids=["few", "no number", "short", "long", "elsewhere", "text", "null"],
)
def test_bad_points_are_refused_at_once(
    api: httpx.Client, points: Any, pointer: str, is_problem: Any
) -> None:
    is_problem(api.post("/v1/jobs", json=spec(points)), 422, "invalid_value", pointer)


def test_the_size_of_a_sample_is_bounded(api: httpx.Client, is_problem: Any) -> None:
    is_problem(api.post("/v1/jobs", json=spec([[0, 1]] * 50_001)), 422, "invalid_value", "/spec/prior/points")
    is_problem(api.post("/v1/jobs", json=spec([[0, 1]] * 102_000)), 422, "malformed_body")
    is_problem(api.post("/v1/jobs", json=spec([[0.123456789, 1.123456789]] * 50_000)), 413, "too_large")


def test_the_law_of_an_encoder_is_read_once(flow_encoder: Encoder, server: Any) -> None:
    from service.inference.laws import Laws

    class Counted:
        reads = 0

        def read(self, digest: str) -> bytes:
            self.reads += 1
            return server.store.blobs.read(digest)

    blobs = Counted()
    laws = Laws(blobs)  # type: ignore[arg-type]
    first = laws.of(flow_encoder)
    assert isinstance(first, FlowPrior)
    assert laws.of(flow_encoder) is first
    assert blobs.reads == 1
