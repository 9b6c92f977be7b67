"""Generators over HTTP: images of draws, of embeddings and of images, and how a job of one is submitted."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks.tiny_generator import register_generator, write_generator
from service.store.encoders import Encoder
from tests.service.api.conftest import Server, check_problem

NPY, PNG, ZIP = "application/x-npy", "image/png", "application/zip"
URL = "/v1/generators/painter"


@pytest.fixture(scope="module")
def generator(server: Server, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """Of the Gaussian encoder, 8×8 gray: ``painter@1``."""
    directory = tmp_path_factory.mktemp("generator") / "files"
    return register_generator(server.store, "painter", directory, write_generator(directory, encoder))


@pytest.fixture
def make(api: httpx.Client, generator: Encoder) -> Callable[..., np.ndarray[Any, Any]]:
    """``make(body)`` -> images (n, h, w, c)."""

    def send(body: dict[str, Any] | None = None, **request: Any) -> np.ndarray[Any, Any]:
        headers = {"Accept": NPY, **request.pop("headers", {})}
        given = {"json": body} if body is not None else {}
        answer = api.post(f"{URL}/generate", headers=headers, **given, **request)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == NPY
        return np.load(io.BytesIO(answer.content), allow_pickle=False)

    return send


def test_the_same_seed_gives_the_same_images_and_pages_agree(make: Any) -> None:
    whole = make({"n": 9, "seed": 3})
    assert (whole.shape, whole.dtype) == ((9, 8, 8, 1), np.uint8)
    assert len(np.unique(whole.reshape(9, -1), axis=0)) == 9
    np.testing.assert_array_equal(make({"n": 9, "seed": 3}), whole)
    np.testing.assert_array_equal(make({"n": 4, "seed": 3, "offset": 5}), whole[5:])
    assert (make({"n": 9, "seed": 4}) != whole).any()
    assert len(make({})) == 16
    assert make({"n": 0}).shape == (0, 8, 8, 1)


def test_a_seed_in_the_query_is_that_of_a_json_body_without_one(
    make: Any, api: httpx.Client, is_problem: Any
) -> None:
    body = {"embeddings": [[0.0, 0.0], [1.0, -1.0]]}
    want = make({**body, "seed": 7})
    np.testing.assert_array_equal(make(body, params={"seed": 7}), want)
    np.testing.assert_array_equal(make({**body, "seed": 7}, params={"seed": 7}), want)
    np.testing.assert_array_equal(make({"n": 3}, params={"seed": 7}), make({"n": 3, "seed": 7}))
    assert (make(body) != want).any()
    answer = api.post(f"{URL}/generate", json={**body, "seed": 7}, params={"seed": 8})
    is_problem(answer, 422, "invalid_value", "/seed")
    assert api.post(f"{URL}/generate", json=body, params={"seed": 7}).headers["x-seed"] == "7"


def test_pages_of_images_and_embeddings_agree_with_the_whole(
    make: Any, api: httpx.Client, pictures: Any, npy: Any, image_file: Any, is_problem: Any
) -> None:
    """By ``offset``, in the body or the query."""
    four = [base64.b64encode(image_file(picture)).decode() for picture in pictures[:4]]
    whole = make({"images": four, "seed": 1})
    np.testing.assert_array_equal(make({"images": four[2:], "seed": 1, "offset": 2}), whole[2:])
    place = {"seed": 1, "offset": 2}
    np.testing.assert_array_equal(make({"images": four[2:]}, params=place), whole[2:])
    as_npy = {"content": npy(pictures[2:4]), "headers": {"Content-Type": NPY}, "params": place}
    np.testing.assert_array_equal(make(**as_npy), whole[2:])
    rows = {"embeddings": [[0.0, 0.0], [1.0, -1.0]]}
    second = make({"embeddings": rows["embeddings"][1:], "offset": 1})
    np.testing.assert_array_equal(second, make(rows)[1:])
    answer = api.post(f"{URL}/generate", json={**rows, "offset": 3}, params={"offset": 4})
    is_problem(answer, 422, "invalid_value", "/offset")
    last = api.post(f"{URL}/generate", json={**rows, "offset": 2**63 - 1})
    is_problem(last, 422, "invalid_value", "/offset")


def test_on_a_walk_only_the_embedding_changes(make: Any, api: httpx.Client) -> None:
    twice = [[0.3, -1.0]] * 3
    found = make({"embeddings": twice, "seed": 2, "offset": 5, "same_noise": True})
    alone = make({"embeddings": twice[:1], "seed": 2, "offset": 5})
    np.testing.assert_array_equal(found, np.repeat(alone, 3, axis=0))
    assert (make({"embeddings": twice, "seed": 2, "offset": 5})[1:] != alone).any()
    draws = make({"n": 3, "seed": 2, "same_noise": True})
    np.testing.assert_array_equal(draws[0], make({"n": 3, "seed": 2})[0])


def test_names_are_refused_in_words(api: httpx.Client, encoder: Encoder, is_problem: Any) -> None:
    for body, pointer, words in (
        ({"spec": {"dataset": "digits"}, "encoder": "My Encoder"}, "/encoder", "small letters, digits"),
        (
            {"spec": {"kind": "generator", "source": "a/b"}, "generator": "x"},
            "/spec/source",
            "a directory is none",
        ),
    ):
        answer = api.post("/v1/jobs", json=body)
        is_problem(answer, 422, "invalid_value", pointer)
        assert words in answer.json()["errors"][0]["detail"]
        assert "pattern" not in answer.text


def test_draws_are_those_of_the_encoder_s_prior(make: Any, api: httpx.Client) -> None:
    drawn = api.post("/v1/encoders/gauss/prior/sample", json={"n": 5, "seed": 11}).json()["samples"]
    np.testing.assert_array_equal(make({"embeddings": drawn, "seed": 11}), make({"n": 5, "seed": 11}))


def test_embeddings_as_npy_and_images_in_every_form_give_the_same(
    make: Any, api: httpx.Client, pictures: Any, npy: Any, image_file: Any
) -> None:
    three = pictures[:3]
    vectors = api.post(
        "/v1/encoders/gauss/embed", content=npy(three), headers={"Content-Type": NPY, "Accept": NPY}
    ).content
    expected = make(content=vectors, headers={"Content-Type": NPY}, params={"seed": 5})
    files = [image_file(image) for image in three]
    texts = [base64.b64encode(file).decode() for file in files]
    for found in (
        make(content=npy(three), headers={"Content-Type": NPY}, params={"seed": 5}),
        make(files=[("images", file) for file in files], params={"seed": 5}),
        make({"images": texts, "seed": 5}),
    ):
        np.testing.assert_array_equal(found, expected)
    one = make(content=files[0], headers={"Content-Type": PNG}, params={"seed": 5})
    np.testing.assert_array_equal(one, expected[:1])


def test_a_grid_and_a_zip_hold_the_same_images(make: Any, api: httpx.Client) -> None:
    images = make({"n": 6, "seed": 1})
    answer = api.post(f"{URL}/generate", json={"n": 6, "seed": 1}, params={"columns": 3})
    assert (answer.status_code, answer.headers["content-type"]) == (200, PNG)
    assert answer.headers["x-generator"] == "painter@1"
    sheet = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert sheet.shape == (17, 26)
    np.testing.assert_array_equal(sheet[9:, 18:], images[5, ..., 0])
    packed = api.post(f"{URL}/generate", json={"n": 6, "seed": 1}, headers={"Accept": ZIP})
    with zipfile.ZipFile(io.BytesIO(packed.content)) as members:
        assert members.namelist() == [f"{row:06d}.png" for row in range(6)]
        np.testing.assert_array_equal(np.asarray(Image.open(members.open("000004.png"))), images[4, ..., 0])


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"n": 1025}, 413, "/n"),
        ({"n": 10**12}, 413, "/n"),
        ({"n": -1}, 422, "/n"),
        ({"n": "4"}, 422, "/n"),
        ({"n": 4, "embeddings": [[0, 0]]}, 422, "/embeddings"),
        ({"embeddings": [[0, 0, 0]]}, 422, "/embeddings/0"),
        ({"embeddings": [[0, 1e60]]}, 422, "/embeddings"),
        ({"embeddings": [[0, 0]], "temperature": 0.5}, 422, "/temperature"),
        ({"n": 4, "colour": "red"}, 422, "/colour"),
        ({"images": ["no image"]}, 422, "/images/0"),
        ({"n": 4, "offset": 2**63 - 1}, 422, "/offset"),
    ],
)
def test_a_wrong_wish_is_refused_with_its_place(
    api: httpx.Client, generator: Encoder, body: dict[str, Any], status: int, pointer: str
) -> None:
    code = {413: "too_large"}.get(status, "bad_image" if "images" in body else "invalid_value")
    check_problem(api.post(f"{URL}/generate", json=body), status, code, pointer)


def test_it_is_read_listed_and_its_files_are_fetched(api: httpx.Client, generator: Encoder) -> None:
    shown = api.get(URL).json()
    assert (shown["name"], shown["version"], shown["source"], shown["state"]) == (
        "painter",
        1,
        "gauss@1",
        "ready",
    )
    assert shown["id"].startswith("gen_")
    assert shown["report"]["prior_gap"] == 1.0
    assert [item["id"] for item in api.get("/v1/generators").json()["items"]] == [shown["id"]]
    assert api.get(f"/v1/generators/{shown['id']}").json() == api.get(f"{URL}@1").json() == shown
    assert "painter" not in [item["name"] for item in api.get("/v1/encoders").json()["items"]]
    assert api.get("/v1/encoders/painter").status_code == 404
    assert api.get(f"/v1/encoders/{shown['id']}").status_code == 404
    names = [item["name"] for item in api.get(f"{URL}/files").json()["items"]]
    assert names == ["README.md", "config.json", "model.safetensors", "report.json", "samples.png"]
    sheet = Image.open(io.BytesIO(api.get(f"{URL}/files/samples.png").content))
    assert sheet.size == (89, 89)
    assert api.get(f"{URL}/report").json()["prior"]["frechet_distance"] == 2.0


def test_a_generator_and_an_encoder_may_share_a_name(
    server: Server, api: httpx.Client, encoder: Encoder, tmp_path: Any, add_encoder: Any
) -> None:
    add_encoder(server, "twin")
    directory = tmp_path / "files"
    made = register_generator(server.store, "twin", directory, write_generator(directory, encoder))
    assert (made.name, made.version) == ("twin", 1)
    assert api.get("/v1/encoders/twin").json()["version"] == 1
    assert api.delete("/v1/generators/twin").status_code == 422
    assert api.delete("/v1/generators/twin@1").status_code == 204
    assert api.get("/v1/generators/twin").status_code == 404
    assert api.get("/v1/encoders/twin").status_code == 200


def test_without_its_encoder_it_takes_draws_and_embeddings_but_no_images(
    server: Server, api: httpx.Client, tmp_path: Any, add_encoder: Any, pictures: Any, npy: Any
) -> None:
    source = add_encoder(server, "fleeting")
    directory = tmp_path / "files"
    register_generator(server.store, "orphan", directory, write_generator(directory, source))
    assert api.delete("/v1/encoders/fleeting@1").status_code == 204
    url = "/v1/generators/orphan/generate"
    assert api.post(url, json={"n": 1}).status_code == 200
    assert api.post(url, json={"embeddings": [[0.1, 0.2]]}).status_code == 200
    refused = api.post(url, content=npy(pictures[:1]), headers={"Content-Type": NPY})
    check_problem(refused, 409, "source_gone")


def test_gan_at_the_edge_of_a_bounded_law(
    server: Server, api: httpx.Client, uniform_encoder: Encoder, tmp_path: Any
) -> None:
    """An embedding at the edge of the unit cube has infinite normal scores."""
    directory = tmp_path / "files"
    facts = write_generator(directory, uniform_encoder, model={"kind": "gan", "width": 8, "noise": 4})
    register_generator(server.store, "edge", directory, facts)
    found = api.post("/v1/generators/edge/generate", json={"embeddings": [[0, 1]]}, headers={"Accept": NPY})
    assert np.load(io.BytesIO(found.content), allow_pickle=False).shape == (1, 8, 8, 1)


def test_a_job_names_the_version_that_is_meant_and_holds_it(
    server: Server, api: httpx.Client, add_encoder: Any
) -> None:
    add_encoder(server, "held")
    wish = {"spec": {"kind": "generator", "source": "held", "epochs": 3}, "generator": "held-paint"}
    answer = api.post("/v1/jobs", json=wish)
    job = answer.json()
    assert answer.status_code == 202, job
    assert (job["kind"], job["encoder"], job["generator"]) == ("generator", None, "held-paint")
    assert (job["spec"]["source"], job["spec"]["dataset"], job["spec"]["model"]["kind"]) == (
        "held@1",
        "digits",
        "flow_matching",
    )
    assert job["progress"]["steps"] == 3 * job["resolved"]["steps_per_epoch"]
    check_problem(api.delete("/v1/encoders/held@1"), 409, "state_conflict")
    assert api.post(f"/v1/jobs/{job['id']}/cancel").status_code == 202
    again = api.post(f"/v1/jobs/{job['id']}/retry")
    assert (again.status_code, again.json()["generator"]) == (202, "held-paint")
    assert api.post(f"/v1/jobs/{again.json()['id']}/cancel").status_code == 202
    assert api.delete("/v1/encoders/held@1").status_code == 204
    check_problem(api.post(f"/v1/jobs/{job['id']}/retry"), 409, "state_conflict")


def test_a_training_beyond_the_server_s_memory_is_refused(
    api: httpx.Client, encoder: Encoder, npy: Any
) -> None:
    many = np.random.default_rng(0).integers(0, 256, (4000, 8, 8), dtype=np.uint8)
    assert (
        api.post("/v1/datasets", data={"name": "many"}, files={"file": ("x.npy", npy(many))}).status_code
        == 201
    )
    model = {"kind": "flow_matching", "width": 512, "depth": 8}
    spec = {"kind": "generator", "source": "gauss", "dataset": "many", "model": model, "batch_size": 65_536}
    refused = api.post("/v1/jobs", json={"spec": spec, "generator": "huge"})
    check_problem(refused, 422, "invalid_value", "/spec/batch_size")


@pytest.mark.parametrize(
    ("wish", "pointer"),
    [
        ({"spec": {"kind": "generator"}, "generator": "g"}, "/spec/source"),
        ({"spec": {"kind": "generator", "source": "nobody"}, "generator": "g"}, "/spec/source"),
        (
            {"spec": {"kind": "generator", "source": "gauss", "dataset": "nowhere"}, "generator": "g"},
            "/spec/dataset",
        ),
        ({"spec": {"kind": "generator", "source": "gauss"}, "encoder": "g"}, "/generator"),
        ({"spec": {"kind": "generator", "source": "gauss"}, "encoder": "e", "generator": "g"}, "/encoder"),
        ({"spec": {"dataset": "digits"}, "generator": "g"}, "/encoder"),
        ({"spec": {"dataset": "digits", "kind": "other"}, "encoder": "g"}, "/spec/kind"),
        (
            {
                "spec": {"kind": "generator", "source": "gauss", "model": {"kind": "gan", "steps": 3}},
                "generator": "g",
            },
            "/spec/model/steps",
        ),
    ],
)
def test_a_wrong_job_is_refused_with_its_place(
    api: httpx.Client, encoder: Encoder, wish: dict[str, Any], pointer: str
) -> None:
    check_problem(api.post("/v1/jobs", json=wish), 422, "invalid_value", pointer)
