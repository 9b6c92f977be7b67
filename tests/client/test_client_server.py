"""The client against a real server: embedding, the prior, files, datasets, jobs, errors; blocking and not."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks.tiny_generator import register_generator, write_generator
from nidim import bundle
from nidim.client import (
    AsyncClient,
    BadImage,
    Batching,
    Client,
    Conflict,
    DownloadDamaged,
    Forbidden,
    IngestionFailed,
    Invalid,
    JobCancelled,
    JobFailed,
    NotFound,
    PreconditionFailed,
    RetryPolicy,
    ServerUnreachable,
    WaitTimeout,
)
from nidim.client.datasets import PriorDataset
from nidim.errors import BundleError
from nidim.spec import TrainSpec
from service.store import jobs

SPEC = {"dataset": "digits", "encoder": {"kind": "conv", "dim": 2}}
NPY = {"content-type": "application/x-npy", "accept": "application/x-npy"}
SMALL = Batching(images=7, at_once=3)

pytestmark = pytest.mark.usefixtures("encoder")


@pytest.fixture
def narrow(server: Any, quick: RetryPolicy) -> Any:
    """A client whose requests take seven images."""
    with Client(server.url, retry=quick, batching=SMALL) as opened:
        yield opened


def by_hand(server: Any, body: bytes, **params: Any) -> np.ndarray[Any, Any]:
    """One request, without the client."""
    answer = server.client.post("/v1/encoders/gauss/embed", content=body, headers=NPY, params=params)
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content), allow_pickle=False)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def test_embedding_is_that_of_one_request_whatever_the_images_are(
    server: Any, narrow: Client, pictures: Any, image_file: Callable[..., bytes], tmp_path: Path
) -> None:
    whole = by_hand(server, npy(pictures))
    encoder = narrow.encoder("gauss")
    path = tmp_path / "one.png"
    path.write_bytes(image_file(pictures[-1]))
    mixed = [
        pictures[:20],
        *[image_file(picture) for picture in pictures[20:30]],
        (Image.fromarray(picture) for picture in pictures[30:39]),
        path,
    ]
    for images in (pictures, mixed, list(pictures)):
        rows = encoder.embed(images)
        assert (rows.dtype, rows.shape) == (np.float32, (40, 2))
        np.testing.assert_allclose(rows, whole, atol=1e-5)
    assert [len(rows) for rows in encoder.embed_pages(pictures)] == [7, 7, 7, 7, 7, 5]
    np.testing.assert_allclose(encoder.embed(path), whole[-1:], atol=1e-5)
    assert encoder.embed([]).shape == (0, 2)
    assert encoder.embed(pictures[:0]).shape == (0, 2)


def test_noise_is_that_of_one_request(server: Any, narrow: Client, pictures: Any) -> None:
    encoder = narrow.encoder("gauss@1")
    noisy = encoder.embed(pictures, noisy=True, seed=5)
    np.testing.assert_allclose(noisy, by_hand(server, npy(pictures), noisy=True, seed=5), atol=1e-5)
    part = by_hand(server, npy(pictures[30:]), noisy=True, seed=5, offset=30)
    np.testing.assert_allclose(noisy[30:], part, atol=1e-5)
    drawn = encoder.embed(np.repeat(pictures[:1], 20, axis=0), noisy=True)
    assert len(np.unique(drawn, axis=0)) == 20
    with pytest.raises(ValueError, match="noisy"):
        encoder.embed(pictures, seed=1)


def test_a_generator_draws_more_than_a_request_takes_and_names_a_bad_image_among_all(
    client: Client, server: Any, encoder: Any, pictures: Any, image_file: Callable[..., bytes], tmp_path: Path
) -> None:
    register_generator(server.store, "many", tmp_path, write_generator(tmp_path, encoder))
    generator = client.generator("many")
    files = [image_file(picture) for picture in np.tile(pictures, (4, 1, 1))[:150]]
    like = generator.from_images(files, seed=3)
    assert like.shape == (150, 8, 8, 1)
    embeddings = client.encoder("gauss").embed(files)
    np.testing.assert_array_equal(like, generator.from_embeddings(embeddings, seed=3))
    still = generator.from_embeddings(np.repeat(embeddings[:1], 130, axis=0), seed=3, same_noise=True)
    np.testing.assert_array_equal(still, np.repeat(like[:1], 130, axis=0))
    files[129] = b"no image"
    with pytest.raises(BadImage, match="Image 129") as found:
        generator.from_images(files)
    assert found.value.index == 129
    assert len(generator.generate(0)) == 0
    with pytest.raises(ValueError, match="n must be at least 0, got -3"):
        generator.generate(-3)


def test_a_bad_image_is_named_among_all_or_loses_its_row(
    narrow: Client, pictures: Any, image_file: Callable[..., bytes]
) -> None:
    files = [image_file(picture) for picture in pictures]
    files[25] = b"no image"
    encoder = narrow.encoder("gauss")
    with pytest.raises(BadImage, match="Image 25") as found:
        encoder.embed(files)
    assert found.value.index == 25
    assert (found.value.status, found.value.code) == (422, "bad_image")
    rows = encoder.embed(files, on_error="null")
    assert np.isnan(rows[25]).all()
    assert np.isfinite(np.delete(rows, 25, axis=0)).all()


def test_a_request_that_is_too_large_is_halved(server: Any, client: Client, quick: RetryPolicy) -> None:
    many = np.random.default_rng(4).integers(0, 256, (4200, 1, 1, 1), dtype=np.uint8)
    with Client(server.url, retry=quick, batching=Batching(images=5000)) as bold:
        rows = bold.encoder("gauss").embed(many, noisy=True, seed=3)
    np.testing.assert_allclose(rows, client.encoder("gauss").embed(many, noisy=True, seed=3), atol=1e-5)


def test_the_prior_is_one_stream(
    client: Client, server: Any, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = client.encoder("gauss").prior
    whole = prior.sample(1000, seed=7)
    assert (whole.dtype, whole.shape) == (np.float32, (1000, 2))
    monkeypatch.setattr("nidim.client.prior.PAGE_VALUES", 100)
    np.testing.assert_array_equal(prior.sample(1000, seed=7), whole)
    np.testing.assert_array_equal(prior.sample(300, seed=7, offset=600), whole[600:900])
    np.testing.assert_array_equal(np.concatenate(list(prior.pages(120, seed=7))), whole[:120])
    assert prior.sample(0).shape == (0, 2)
    np.testing.assert_allclose(prior.sample(9, seed=7, temperature=0.5), whole[:9] / 2, rtol=1e-6)
    scores = prior.score(whole[:120])
    expected = -np.log(2 * np.pi) - np.square(whole[:120].astype(np.float64)).sum(axis=1) / 2
    np.testing.assert_allclose(scores.log_prob, expected, atol=1e-5)
    of_images = prior.score(pictures)
    np.testing.assert_allclose(
        of_images.p_value, prior.score(client.encoder("gauss").embed(pictures)).p_value, 1e-4
    )
    assert prior.score(whole[:0]).p_value.shape == (0,)
    listed = prior.score(whole[:3].tolist())
    np.testing.assert_allclose(listed.log_prob, scores.log_prob[:3], 1e-5)
    np.testing.assert_allclose(
        prior.score([[0, 0], (1, 2)]).log_prob, -np.log(2 * np.pi) - np.array([0, 2.5])
    )
    assert scores.p_conformal is None  # of an encoder that was never evaluated
    way = prior.interpolate(whole[0], whole[1], 5)
    assert way.shape == (5, 2)
    np.testing.assert_allclose(way[[0, -1]], whole[:2], rtol=1e-5)


def test_what_is_no_count_and_no_rows_is_told(client: Client) -> None:
    prior = client.encoder("gauss").prior
    with pytest.raises(ValueError, match="n must be at least 0, got -1"):
        prior.sample(-1)
    with pytest.raises(ValueError, match="n must be at least 0, got -1"):
        list(prior.pages(-1))
    with pytest.raises(ValueError, match=r"embeddings must be \(n, 2\), got \(2,\)"):
        prior.score(np.zeros(2, np.float32))


def test_impossible_values_score_minus_infinity(client: Client, uniform_encoder: Any) -> None:
    scores = client.encoder("unit").prior.score(np.array([[0.5, 0.5], [7.0, 0.5]], np.float32))
    assert np.isneginf(scores.log_prob[1])
    assert np.isfinite(scores.log_prob[0])


def test_a_dataset_of_the_prior_feeds_a_loader(client: Client) -> None:
    import torch

    whole = client.encoder("gauss").prior.sample(100, seed=3)
    prior = PriorDataset(client.encoder("gauss"), seed=3, rows=100, page_rows=16, pages=2)
    assert len(prior) == 100
    assert prior[99].dtype == torch.float32
    np.testing.assert_array_equal(prior[99].numpy(), whole[99])
    np.testing.assert_array_equal(prior[-1].numpy(), whole[99])
    np.testing.assert_array_equal(torch.stack(list(prior)).numpy(), whole)
    with pytest.raises(IndexError):
        prior[100]
    shuffled = torch.cat(list(torch.utils.data.DataLoader(prior, batch_size=32, shuffle=True)))
    np.testing.assert_array_equal(np.sort(shuffled.numpy(), axis=0), np.sort(whole, axis=0))
    endless = PriorDataset(client.encoder("gauss"), seed=3)
    with pytest.raises(TypeError, match="rows"):
        len(endless)
    loader = torch.utils.data.DataLoader(endless, batch_sampler=endless.batches(30, steps=3))
    np.testing.assert_array_equal(torch.cat(list(loader)).numpy(), whole[:90])
    elsewhere = copy.copy(prior)  # as a worker gets it: without connections or pages
    np.testing.assert_array_equal(elsewhere[50].numpy(), whole[50])
    assert elsewhere.client is not None
    elsewhere.client.close()
    go_on = iter(endless.batches(30, start=90))
    assert next(go_on) == list(range(90, 120))


def test_files_come_verified_and_once(client: Client, server: Any, tmp_path: Path) -> None:
    encoder = client.encoder("gauss")
    listed = {file.name: file for file in encoder.files()}
    outside = tmp_path / "outside"
    outside.write_text("mine")
    place = tmp_path / "got"
    place.mkdir()
    (place / "report.json").symlink_to(outside)
    (place / "config.json").write_text("old")
    paths = encoder.download(place)
    assert {path.name for path in paths} == set(listed)
    assert {path.name for path in place.iterdir()} == {*listed, "manifest.json"}
    for path in paths:
        assert f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" == listed[path.name].digest
    assert outside.read_text() == "mine"
    before = {path: path.stat().st_mtime_ns for path in paths}
    assert encoder.download(place, names=["config.json"]) == [place / "config.json"]
    assert before == {path: path.stat().st_mtime_ns for path in paths}
    with pytest.raises(ValueError, match="nothing"):
        encoder.download(place, names=["nothing"])
    assert encoder.report()["mi_nats"] == encoder.info.report["mi_nats"]


def test_an_altered_download_is_noticed_when_it_is_loaded(client: Client, tmp_path: Path) -> None:
    client.encoder("gauss").download(tmp_path)
    bundle.load(tmp_path)
    weights = tmp_path / "model.safetensors"
    altered = bytearray(weights.read_bytes())
    altered[-1] ^= 1
    weights.write_bytes(altered)
    with pytest.raises(BundleError, match="altered"):
        bundle.load(tmp_path)


def test_a_file_of_another_content_is_refused(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = client.encoder("gauss")
    files = asyncio.run(_files_with_wrong_digests(encoder))

    async def lying(_self: Any) -> Any:
        return files

    monkeypatch.setattr(type(encoder), "_files", lying)
    with pytest.raises(DownloadDamaged, match="not what the server lists"):
        encoder.download(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def _files_with_wrong_digests(encoder: Any) -> Any:
    return [file.model_copy(update={"digest": "sha256:" + "0" * 64}) for file in encoder.files()]


def test_a_directory_is_uploaded_as_a_zip_of_it(
    client: Client, tmp_path: Path, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scratch = tmp_path / "my pictures", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with pytest.raises(ValueError, match="holds no files"):
        client.datasets.upload("folder", scratch)
    for place in ("train/one/a.png", "train/two/b.png", "test/one/c.png", ".cache/d.png", "train/one/.e.png"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures[0][..., 0]).save(folder / place)
    os.utime(folder / "train/one/a.png", (0, 0))  # 1970, before a zip's time begins
    found = client.datasets.upload("folder", folder)
    assert (found.items, found.classes, found.splits) == (3, ("one", "two"), {"train": 2, "test": 1})
    assert list(scratch.iterdir()) == []


def test_drift_is_read_and_forgotten(client: Client, server: Any, add_encoder: Any, pictures: Any) -> None:
    add_encoder(server, "watched")
    encoder = client.encoder("watched")
    before = encoder.drift()
    assert (before.encoder, before.n, before.since) == ("watched@1", 0, None)
    encoder.embed(pictures[:5])
    seen = encoder.drift()
    assert (seen.n, seen.unit) == (5, "image")
    assert seen.since is not None
    assert encoder.reset_drift().n == 0
    assert encoder.drift().n == 0


def test_aliases_and_deletion(client: Client, server: Any, add_encoder: Any) -> None:
    for seed in (1, 2):
        add_encoder(server, "moving", seed=seed)
    old = client.encoder("moving@1")
    assert client.encoder("moving").ref == "moving@2"
    assert old.alias("live").version == 1
    assert client.encoder("moving:live").id == old.id
    assert old.refresh().aliases == ("live",)
    with pytest.raises(Conflict) as found:
        old.delete()
    assert found.value.code == "encoder_aliased"
    assert [encoder.ref for encoder in client.encoders(name="moving")] == ["moving@2", "moving@1"]
    new = client.encoder("moving")
    first = old.alias("live")
    second = new.alias("live", if_match=first.etag)
    assert (first.version, second.version) == (1, 2)
    for stale in (lambda: old.alias("live", if_match=first.etag), lambda: old.unalias("live", if_match="0")):
        with pytest.raises(PreconditionFailed):
            stale()
    old.unalias("live", if_match=second.etag)
    old.delete()
    with pytest.raises(NotFound):
        client.encoder("moving@1")


def test_numbers_of_numpy_are_numbers(client: Client) -> None:
    prior = client.encoder("gauss").prior
    drawn = prior.sample(np.int64(3), seed=np.uint32(7), offset=np.int64(1), temperature=np.float32(0.5))
    np.testing.assert_array_equal(drawn, prior.sample(3, seed=7, offset=1, temperature=0.5))
    assert prior.interpolate(drawn[0], drawn[1], np.int64(4)).shape == (4, 2)
    spec = {**SPEC, "epochs": np.int64(2)}
    assert client.train(spec, encoder="counted").info.spec["epochs"] == 2
    with pytest.raises(ValueError, match="JSON"):
        prior.sample(3, temperature=float("nan"))
    with pytest.raises(TypeError, match="object cannot be sent as JSON"):
        client.train({**SPEC, "epochs": object()}, encoder="counted")


def test_lists_go_over_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nidim.client.calls.PAGE", 2)
    made = [client.train(SPEC, encoder="listed").id for _ in range(5)]
    assert [job.id for _, job in zip(range(5), client.jobs(state="queued"), strict=False)] == made[::-1]
    assert "digits" in [dataset.name for dataset in client.datasets.list()]


def test_a_job_is_submitted_followed_and_fails_with_its_reason(
    client: Client, server: Any, lease: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    job = client.train(TrainSpec.model_validate({**SPEC, "epochs": 3}), encoder="small", priority="high")
    assert (job.state, job.info.priority, job.info.spec["epochs"]) == ("queued", "high", 3)
    assert job.info.spec["noise"]["kind"] == "gaussian"
    with pytest.raises(WaitTimeout):
        job.wait(timeout_s=0.3)
    taken = lease(server, job.id)
    step = {"step": 1, "steps": 10, "epoch": 1, "epochs": 3, "images_per_s": 12.5}
    figures = {"mi_nats": 1.25, "capacity_nats": 2.5}
    with server.store.begin() as tx:
        jobs.add_events(tx, taken, [("metric", figures), ("progress", step)])
        jobs.fail(tx, taken, "training_diverged", "The loss is not finite.")
    with pytest.raises(JobFailed, match="not finite") as found:
        job.wait(progress=True)
    assert (found.value.code, found.value.message) == ("training_diverged", "The loss is not finite.")
    assert found.value.job is job
    shown = capfd.readouterr().err
    assert "1.25 / C 2.50 nats" in shown
    events = list(job.events())
    assert [event.id for event in events] == sorted({event.id for event in events})
    assert events[-1].data["state"] == "failed"
    assert list(job.events(after=events[-2].id)) == events[-1:]
    assert list(job.events(after=events[-1].id)) == []
    again = job.retry()
    assert (again.info.retry_of, again.state) == (job.id, "queued")
    assert again.cancel().state == "cancelled"
    again.cancel()
    with pytest.raises(JobCancelled):
        again.wait()
    with pytest.raises(ValueError, match="no encoder"):
        again.get_encoder()
    with pytest.raises(Conflict):
        job.cancel()


def test_a_job_that_succeeded_has_an_encoder(client: Client, encoder: Any) -> None:
    job = client.job(encoder.job_id).wait()
    assert (job.state, job.get_encoder().ref) == ("succeeded", "gauss@1")


def test_a_dataset_is_uploaded_read_and_deleted(client: Client, npz: Path, tmp_path: Path) -> None:
    moved: list[tuple[int, int]] = []
    found = client.datasets.upload("mine", npz, license="CC0", moved=lambda *now: moved.append(now))
    assert (found.state, found.items, found.license) == ("ready", 40, "CC0")
    assert moved[-1] == (npz.stat().st_size, npz.stat().st_size)
    assert client.datasets.get("mine") == found
    with pytest.raises(Conflict) as taken:
        client.datasets.upload("mine", npz)
    assert taken.value.code == "name_taken"
    client.datasets.delete("mine")
    with pytest.raises(NotFound):
        client.datasets.get("mine")
    empty = tmp_path / "empty.npz"
    empty.write_bytes(b"nothing")
    with pytest.raises((IngestionFailed, Invalid)) as bad:
        client.datasets.upload("empty", empty)
    assert bad.value.code == "bad_archive"
    begun = client.datasets.upload("later", npz, wait=False)
    assert begun.state in ("ingesting", "ready")
    assert client.datasets.wait("later", timeout_s=60).state == "ready"


def test_errors_are_typed_and_name_the_place(client: Client) -> None:
    with pytest.raises(Invalid) as found:
        client.train({"dataset": "digits", "noise": {"kind": "gaussian", "sigma": -1}}, encoder="x")
    assert [place.pointer for place in found.value.errors] == ["/spec/noise/sigma"]
    assert found.value.request_id
    assert "/spec/noise/sigma" in str(found.value)
    with pytest.raises(Forbidden):
        client.datasets.delete("digits")
    with pytest.raises(NotFound):
        client.job("../encoders")
    with pytest.raises(ValueError, match="no name"):
        client.encoder("..")


def test_a_server_that_is_not_there_is_said_so() -> None:
    with (
        Client("http://127.0.0.1:9", retry=RetryPolicy(total_s=0)) as nobody,
        pytest.raises(ServerUnreachable, match="Is the server running"),
    ):
        nobody.encoder("gauss")


def test_async_gives_the_same(
    server: Any, client: Client, pictures: Any, npz: Path, tmp_path: Path, quick: RetryPolicy, lease: Any
) -> None:
    async def all_of_it() -> None:
        async with AsyncClient(server.url, retry=quick, batching=SMALL) as awaiting:
            encoder = await awaiting.encoder("gauss")
            blocking = client.encoder("gauss")
            assert encoder.info == blocking.info
            rows = await encoder.embed(pictures, noisy=True, seed=2)
            np.testing.assert_allclose(rows, blocking.embed(pictures, noisy=True, seed=2), atol=1e-5)
            drawn = await encoder.prior.sample(50, seed=1)
            np.testing.assert_array_equal(drawn, blocking.prior.sample(50, seed=1))
            assert len([page async for page in encoder.embed_pages(pictures)]) == 6
            with pytest.raises(BadImage, match="Image 30"):
                await encoder.embed([pictures[:30], b"no image"])
            assert len(await encoder.download(tmp_path)) == len(blocking.files())
            assert (await awaiting.datasets.upload("awaited", npz)).items == 40
            job = await awaiting.train(SPEC, encoder="awaited")
            taken = lease(server, job.id)
            following = asyncio.create_task(_ids(job))
            with server.store.begin() as tx:
                jobs.fail(tx, taken, "training_diverged", "no")
            assert await following == [event.id for event in client.job(job.id).events()]
            with pytest.raises(JobFailed):
                await job.wait()
            assert job.id in [other.id async for other in awaiting.jobs(state="failed")]

    asyncio.run(all_of_it())


async def _ids(job: Any) -> list[int]:
    return [event.id async for event in job.events()]


def test_answers_of_another_server_are_said_so(server: Any) -> None:
    with Client(f"{server.url}/docs") as lost, pytest.raises(Exception, match=r"404|JSON"):
        lost.encoder("gauss")
    assert httpx.get(f"{server.url}/healthz").status_code == 200
