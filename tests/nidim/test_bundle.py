"""A stored encoder gives back what was trained, and nothing that was altered."""

from __future__ import annotations

import functools
import json
import shutil

import numpy as np
import pytest
import torch

from nidim import bundle
from nidim.build import build_encoder
from nidim.capacity import resolve
from nidim.embedding import embed
from nidim.errors import BundleError
from nidim.onnx_export import parity
from nidim.priors import make_prior, prior_from_dict
from nidim.spec import DatasetFacts, FullSpec, TrainSpec
from tests.nidim.samples import arc

VARIANTS = {
    "gaussian": ((28, 1), {"encoder": {"kind": "conv", "dim": 2}}),
    "uniform through the cdf": ((8, 1), {"prior": {"kind": "uniform"}}),
    "any law through its quantiles": ((8, 1), {"prior": {"kind": "student_t", "df": 3, "loc": 1}}),
    "sphere": ((8, 1), {"prior": {"kind": "sphere"}, "encoder": {"kind": "conv", "dim": 3}}),
    "flow": ((8, 1), {"prior": {"kind": "flow", "points": arc(100).tolist()}}),
    "uniform by the sigmoid": ((9, 3), {"noise": {"kind": "uniform"}, "encoder": {"kind": "conv", "dim": 3}}),
}


def stored(directory, size: int, channels: int, *, onnx: bool = True, **values):
    facts = DatasetFacts(name="x", n_train=600, n_test=100, height=size, width=size, channels=channels)
    spec: FullSpec = TrainSpec.model_validate({"dataset": "x", **values}).filled(facts)
    resolved = resolve(spec, facts)[0]
    torch.manual_seed(0)
    prior = make_prior(spec)
    model = build_encoder(spec, resolved, prior)
    with torch.no_grad():
        for _ in range(3):  # running statistics that are not the initial ones
            model(torch.rand(16, channels, size, size))
    manifest = bundle.save(
        directory,
        model=model.eval(),
        prior=prior,
        spec=spec,
        resolved=resolved,
        report={"mi_nats": 1.0, "history": []},
        page="<!doctype html>",
        card="# card",
        provenance={"seed": 0},
        onnx=onnx,
    )
    return model, spec, manifest


def images(n: int, size: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


@pytest.fixture(scope="module")
def stored_as(tmp_path_factory):
    """``stored_as(variant)``: its directory and what :func:`stored` gives, made once."""

    @functools.cache
    def of(variant: str):
        (size, channels), values = VARIANTS[variant]
        directory = tmp_path_factory.mktemp("bundle")
        return directory, *stored(directory, size, channels, **values)

    return of


def test_nothing_of_a_bundle_that_lay_there_is_sealed_with_the_next(tmp_path) -> None:
    for name in (bundle.ONNX, bundle.PRIOR, "notes.txt"):
        (tmp_path / name).write_bytes(b"of another one")
    *_, manifest = stored(str(tmp_path), 8, 1, onnx=False)
    assert not {bundle.ONNX, bundle.PRIOR} & set(manifest.files)
    assert (tmp_path / "notes.txt").is_file()
    assert not (tmp_path / bundle.ONNX).exists()
    assert bundle.load(str(tmp_path)).digest == manifest.digest


@pytest.mark.usefixtures("few_flow_steps", "short_flows")
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_loaded_embeds_as_what_was_saved(variant: str, stored_as) -> None:
    size, channels = VARIANTS[variant][0]
    directory, model, spec, manifest = stored_as(variant)
    loaded = bundle.load(directory, expect=manifest)
    x = images(9, size, channels)
    np.testing.assert_array_equal(loaded.embed(x), embed(model, x))
    assert parity(model, directory / bundle.ONNX, torch.from_numpy(x)) < 1e-4
    assert loaded.spec == spec.stored()
    assert loaded.spec.digest == spec.digest
    assert loaded.digest == manifest.digest == bundle.manifest_of(directory).digest
    assert loaded.prior.dim == loaded.resolved.dim == loaded.embed(x[:0]).shape[1]
    file = directory / bundle.PRIOR
    assert file.is_file() == (variant == "flow")
    data = file.read_bytes() if file.is_file() else None
    assert prior_from_dict(loaded.config.prior, file=data) == loaded.prior
    latent = loaded.prior.normal_scores(loaded.embed(x))
    again = loaded.prior.from_normal_scores(latent)
    np.testing.assert_allclose(again, loaded.embed(x), atol=1e-6)
    assert bundle.read_prior(directory, bundle.read_config(directory)) == loaded.prior
    assert loaded.embed_noisy(x, seed=1).shape == (9, loaded.resolved.dim)
    assert set(manifest.files) - {"prior.safetensors"} == {
        "model.safetensors",
        "config.json",
        "report.json",
        "report.html",
        "README.md",
        "model.onnx",
    }


@pytest.fixture(scope="module")
def small(stored_as):
    return stored_as("uniform through the cdf")


def test_noisy_rows_depend_on_seed_and_row_alone(small) -> None:
    loaded = bundle.load(small[0])
    x = images(6, 8, 1)
    whole = loaded.embed_noisy(x, seed=3)
    np.testing.assert_allclose(whole[2:4], loaded.embed_noisy(x[2:4], seed=3, offset=2), atol=1e-6)
    assert not np.array_equal(whole, loaded.embed_noisy(x, seed=4))
    assert not np.array_equal(whole, loaded.embed(x))


@pytest.fixture
def copy(small, tmp_path):
    """The bundle in a directory of the test's own."""
    return shutil.copytree(small[0], tmp_path / "copy")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "report.json", "model.onnx"])
def test_one_flipped_byte_is_noticed(name: str, copy) -> None:
    path = copy / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=name):
        bundle.load(copy)


def test_what_is_missing_or_of_another_format_is_refused(copy, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"config\.json"):
        bundle.load(tmp_path / "empty")
    (copy / bundle.MANIFEST).unlink()
    config = json.loads((copy / "config.json").read_text())
    for change, message in (({"format_version": 99}, "format 99"), ({"surprise": 1}, "not understood")):
        (copy / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(BundleError, match=message):
            bundle.load(copy)
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "model.safetensors").write_bytes(b"\x80\x04.")
    with pytest.raises(BundleError, match="does not fit"):
        bundle.load(copy)


def test_what_else_lies_in_the_directory_is_no_part_of_the_bundle(tmp_path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"left by a training")
    _, _, manifest = stored(tmp_path, 8, 1, onnx=False, encoder={"kind": "conv", "dim": 2, "width": 4})
    assert "checkpoint.safetensors" not in manifest.files
    (tmp_path / "checkpoint.safetensors").unlink()
    assert bundle.load(tmp_path).digest == manifest.digest


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 9, 8, 1), (2, 8, 8, 3)])
def test_wrong_shapes_are_named(small, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(n, 8, 8, 1\)"):
        bundle.load(small[0]).embed(np.zeros(shape, np.uint8))


def test_bytes_in_a_tensor_are_the_bytes_of_an_array(small) -> None:
    loaded, x = bundle.load(small[0]), images(3, 8, 1)
    wide = torch.from_numpy(x.repeat(2, axis=2))
    np.testing.assert_array_equal(loaded.embed(wide[:, :, ::2]), loaded.embed(x))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((2, 8, 8, 1), np.float32), r"got float32 \(2, 8, 8, 1\)"),
        (torch.zeros(2, 1, 8, 8, requires_grad=True), r"got torch.float32 \(2, 1, 8, 8\)"),
        (torch.zeros(2, 8, 8, 1, dtype=torch.bfloat16), r"got torch.bfloat16 \(2, 8, 8, 1\)"),
        ([], r"got float64 \(0,\)"),
        ("one.png", r"got <U7 \(\)"),
    ],
    ids=["floats", "a tensor with a gradient", "half precision", "nothing", "a path"],
)
def test_what_is_no_prepared_image_is_told_how_to_become_one(small, given: object, said: str) -> None:
    with pytest.raises(
        ValueError, match=rf"images must be uint8 \(n, 8, 8, 1\), {said}; .* to_array .* prepare "
    ):
        bundle.load(small[0]).embed(given)
