"""Images of a dataset over HTTP, and a spec that is looked at before it is submitted."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from nidim.data.builtin_files import load_builtin
from service import answers, previews
from service.refusals import Overloaded

URL = "/v1/datasets/{}/images"
NPY, PNG = {"accept": "application/x-npy"}, {"accept": "image/png"}


@pytest.fixture(scope="module")
def shown(server: Any, pictures: Any, image_file: Callable[..., bytes]) -> str:
    """A set of forty images in two classes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for i, picture in enumerate(pictures):
            target.writestr(f"{'even' if i % 2 == 0 else 'odd'}/{i:02}.png", image_file(picture))
    answer = server.client.post(
        "/v1/datasets", data={"name": "shown"}, files={"file": ("x.zip", stream.getvalue())}
    )
    assert answer.status_code == 201, answer.text
    return "shown"


def test_images_come_as_an_array_a_picture_and_labels(api: httpx.Client, shown: str, pictures: Any) -> None:
    params = {"split": "train", "limit": 5}
    array = np.load(
        io.BytesIO(api.get(URL.format(shown), params=params, headers=NPY).content), allow_pickle=False
    )
    assert array.shape == (5, 8, 8, 1)
    places = [int(np.flatnonzero((pictures == image[..., 0]).all(axis=(1, 2)))[0]) for image in array]
    sheet = api.get(URL.format(shown), params=params, headers=PNG)
    assert sheet.headers["content-type"] == "image/png"
    grid = np.asarray(Image.open(io.BytesIO(sheet.content)))
    np.testing.assert_array_equal(grid[:8, 8:16], array[1, ..., 0])
    told = api.get(URL.format(shown), params=params, headers={"accept": "application/json"}).json()
    assert answers.LabelsOut.model_validate(told).labels == [place % 2 for place in places]
    assert (told["dataset"], told["split"], told["offset"], told["total"]) == ("shown", "train", 0, 36)


def test_the_array_can_be_embedded_as_it_is(api: httpx.Client, encoder: Any) -> None:
    array = api.get(URL.format("digits"), params={"limit": 3, "size": 8}, headers=NPY).content
    np.testing.assert_array_equal(
        np.load(io.BytesIO(array), allow_pickle=False), load_builtin("digits", root=None).test.images[:3]
    )
    headers = {"content-type": "application/x-npy"}
    answer = api.post(f"/v1/encoders/{encoder.id}/embed", content=array, headers=headers)
    assert len(answer.json()["embeddings"]) == 3


def test_what_a_browser_has_is_not_sent_again(api: httpx.Client, shown: str) -> None:
    first = api.get(URL.format(shown), params={"limit": 2}, headers=NPY)
    known = {**NPY, "if-none-match": first.headers["etag"]}
    again = api.get(URL.format(shown), params={"limit": 2}, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert api.get(URL.format(shown), params={"limit": 3}, headers=known).status_code == 200


def test_what_cannot_be_shown_is_refused(api: httpx.Client, shown: str, is_problem: Any) -> None:
    is_problem(api.get(URL.format("nothing")), 404, "not_found")
    absent = api.get(URL.format("mnist"))
    is_problem(absent, 409, "dataset_unavailable")
    assert "below the datasets directory" in absent.json()["detail"]
    is_problem(api.get(URL.format(shown), headers={"accept": "text/html"}), 406, "not_acceptable")
    for params in ({"limit": 0}, {"limit": 1001}, {"size": 513}, {"offset": -1}, {"split": "all"}):
        is_problem(api.get(URL.format(shown), params=params), 422, "invalid_value")
    large = api.get(URL.format(shown), params={"limit": 1000, "size": 512})
    is_problem(large, 422, "invalid_value")
    assert large.json()["errors"][0]["parameter"] == "limit"
    behind = api.get(URL.format(shown), params={"split": "train", "offset": 36})
    is_problem(behind, 422, "invalid_value")
    assert behind.json()["errors"][0]["parameter"] == "offset"
    rows = api.get(
        URL.format(shown), params={"split": "train", "offset": 36}, headers={"accept": "application/json"}
    )
    assert rows.json()["labels"] == []


def test_a_file_that_was_damaged_is_told(
    server: Any, api: httpx.Client, image_file: Any, is_problem: Any
) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for i in range(3):
            target.writestr(f"{i}.png", image_file(np.full((8, 8), i, np.uint8)))
    dataset = api.post(
        "/v1/datasets", data={"name": "hurt"}, files={"file": ("x.zip", stream.getvalue())}
    ).json()
    path = server.store.blobs.local(dataset["digest"])
    path.write_bytes(b"\0" * path.stat().st_size)
    is_problem(api.get(URL.format("hurt"), headers=NPY), 409, "dataset_unavailable")


def test_previews_wait_for_each_other_and_not_without_end() -> None:
    async def crowd() -> list[Any]:
        turns, free = previews.Turns(), asyncio.Event()
        at_work = 0

        async def one() -> int:
            nonlocal at_work
            async with turns:
                at_work += 1
                most = at_work
                await free.wait()
                at_work -= 1
                return most

        tasks = [asyncio.create_task(one()) for _ in range(previews.AT_A_TIME + previews.MAX_WAITING + 1)]
        await asyncio.sleep(0)
        free.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    *served, last = asyncio.run(crowd())
    assert isinstance(last, Overloaded)
    assert max(served) <= previews.AT_A_TIME


def test_a_spec_is_filled_and_judged_and_nothing_is_kept(api: httpx.Client, is_problem: Any) -> None:
    before = api.get("/v1/jobs").json()
    spec = {"dataset": "digits", "encoder": {"kind": "conv", "dim": 64}}
    found = api.post("/v1/jobs/check", json={"spec": spec}).json()
    answers.CheckOut.model_validate(found)
    assert api.get("/v1/jobs").json() == before
    job = api.post("/v1/jobs", json={"spec": spec, "encoder": "checked"}).json()
    assert {name: found[name] for name in ("spec", "resolved", "warnings")} == {
        name: job[name] for name in ("spec", "resolved", "warnings")
    }
    assert [warning["code"] for warning in found["warnings"]] == ["certificate_out_of_reach"]
    assert found["memory_bytes"] > 0


def test_a_spec_of_a_generator_is_checked_too(api: httpx.Client, encoder: Any, is_problem: Any) -> None:
    found = api.post("/v1/jobs/check", json={"spec": {"kind": "generator", "source": "gauss"}}).json()
    assert answers.CheckOut.model_validate(found).memory_bytes is None
    assert (found["spec"]["source"], found["spec"]["dataset"]) == ("gauss@1", "digits")
    nobody = api.post("/v1/jobs/check", json={"spec": {"kind": "generator", "source": "nobody"}})
    is_problem(nobody, 422, "invalid_value", "/spec/source")


def test_a_spec_that_no_job_could_have_is_refused(api: httpx.Client, is_problem: Any) -> None:
    url = "/v1/jobs/check"
    is_problem(api.post(url, json={"spec": {"dataset": "none"}}), 422, "invalid_value", "/spec/dataset")
    bad = {"dataset": "digits", "noise": {"kind": "gaussian", "sigma": -1}}
    is_problem(api.post(url, json={"spec": bad}), 422, "invalid_value", "/spec/noise/sigma")
    is_problem(api.post(url, json={"spec": {"dataset": "mnist"}}), 409, "dataset_unavailable")
    is_problem(api.post(url, json={"spec": {"dataset": "digits"}, "encoder": "x"}), 422, "invalid_value")
