"""Generators: networks, losses, exact resume, draws by place, files; and the figures that they are judged by."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import linalg
from sklearn.datasets import load_digits

from nidim import bundle as encoders
from nidim.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nidim.data import Dataset, load_builtin
from nidim.errors import BundleError, CheckpointError, SpecError
from nidim.generate import bundle, draw, gap, pictures, pipeline
from nidim.generate.features import IMAGES_SEEN, Features
from nidim.generate.models import AdversarialTraining, build_generator, build_training
from nidim.generate.report import GeneratorReport, Quality, above_floor, sentence
from nidim.generate.train import FittedGenerator, fit_generator
from nidim.priors import prior_from_dict
from nidim.spec import DatasetFacts
from nidim.spec.generator import (
    FullGeneratorSpec,
    GeneratorSpec,
    ResolvedGenerator,
    SourceFacts,
    resolve_generator,
)

FACTS = DatasetFacts(name="digits", n_train=1400, n_test=397, height=8, width=8, channels=1, classes=10)
SOURCE = SourceFacts(dataset="digits", dim=2, image_size=8, channels=1)
SMALL: dict[str, dict[str, Any]] = {
    "flow_matching": {"kind": "flow_matching", "width": 8, "steps": 2},
    "gan": {"kind": "gan", "width": 8, "noise": 3},
}


def spec(kind: str = "flow_matching", **values: Any) -> FullGeneratorSpec:
    given = {"kind": "generator", "source": "e@1", "model": SMALL[kind], "precision": "float32", "epochs": 2}
    return GeneratorSpec.model_validate({**given, **values}).filled(SOURCE, FACTS)


def sizes(size: int, channels: int = 1, dim: int = 2) -> ResolvedGenerator:
    return ResolvedGenerator(
        image_size=size,
        channels=channels,
        dim=dim,
        n_train=64,
        n_heldout=8,
        batch_size=16,
        steps_per_epoch=4,
    )


def shaded(n: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Squares whose brightness follows the first coordinate and whose bright side follows the second."""
    scores = np.random.default_rng(0).standard_normal((n, 2)).astype(np.float32)
    light = 128 + 50 * np.tanh(scores[:, 0])
    images = np.repeat(light[:, None, None, None], 8, 1).repeat(8, 2)
    images[:, :, :4] += (60 * np.sign(scores[:, 1]))[:, None, None, None]
    return images.clip(0, 255).astype(np.uint8), scores


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (9, 3), (28, 1), (32, 3), (1, 1)])
def test_images_of_any_size_come_out_as_they_go_in(kind: str, size: int, channels: int) -> None:
    resolved = sizes(size, channels)
    torch.manual_seed(0)
    training = build_training(spec(kind), resolved)
    made = training.generator.images(torch.zeros(3, 2), torch.randn(3, training.generator.noise_values))
    assert made.shape == (3, channels, size, size)
    images = torch.rand(4, channels, size, size) * 2 - 1
    loss = training.loss(images, torch.randn(4, 2), generator=torch.Generator().manual_seed(0))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in training.parameters())


def test_each_network_of_a_gan_gets_the_gradient_of_its_own_loss() -> None:
    torch.manual_seed(0)
    training = build_training(spec("gan"), sizes(8)).eval()
    assert isinstance(training, AdversarialTraining)
    images, s = torch.rand(8, 1, 8, 8) * 2 - 1, torch.randn(8, 2)
    training.loss(images, s, generator=torch.Generator().manual_seed(1)).backward()
    found = {name: p.grad.clone() for name, p in training.named_parameters() if p.grad is not None}
    training.zero_grad()
    again = torch.Generator().manual_seed(1)
    s = training.generator.blurred(s, torch.randn(8, 2, generator=again))
    made = training.generator.drawn(s, torch.randn(8, 3, generator=again))
    real, fake = training.discriminator(images, s), training.discriminator(made.detach(), s)
    ((1 - real).relu().mean() + (1 + fake).relu().mean()).backward()
    for name, p in training.discriminator.named_parameters():
        torch.testing.assert_close(found[f"discriminator.{name}"], p.grad)
    training.zero_grad()
    (-training.discriminator(made, s).mean()).backward()
    for name, p in training.generator.named_parameters():
        torch.testing.assert_close(found[f"generator.{name}"], p.grad)


def test_flow_matching_learns_what_its_condition_says() -> None:
    images, scores = shaded()
    model = {"kind": "flow_matching", "width": 16, "steps": 4}
    fast = {"kind": "adamw", "lr": 0.01}
    wanted = spec(model=model, optimizer=fast, epochs=18, batch_size=64, condition_noise=0)
    facts = FACTS.model_copy(update={"n_train": len(images)})
    fitted = fit_generator(wanted, resolve_generator(wanted, SOURCE, facts), images, scores)
    assert fitted.history[-1]["loss"] < 0.5 * fitted.history[0]["loss"]
    ask = np.random.default_rng(1).standard_normal((200, 2)).astype(np.float32)
    noise = draw.noise(fitted.model.noise_values, 200, seed=0)
    made = draw.images_of(fitted.model, ask, noise).astype(float)[..., 0]
    left, right = made[:, :, :4].mean((1, 2)), made[:, :, 4:].mean((1, 2))
    assert np.corrcoef(np.tanh(ask[:, 0]), right)[0, 1] > 0.9
    clear = np.abs(ask[:, 1]) > 0.3
    assert (np.sign(left - right)[clear] == np.sign(ask[:, 1])[clear]).mean() > 0.9


@pytest.mark.parametrize("kind", SMALL)
def test_resume_is_bit_identical(kind: str, tmp_path: Path) -> None:
    images, scores = shaded(128)
    wanted = spec(kind, batch_size=32)
    resolved = resolve_generator(wanted, SOURCE, FACTS.model_copy(update={"n_train": 128}))
    whole = fit_generator(wanted, resolved, images, scores)
    kept: list[Checkpoint] = []
    looks = iter(range(100))
    stopped = fit_generator(
        wanted, resolved, images, scores, on_checkpoint=kept.append, should_stop=lambda: next(looks) == 3
    )
    assert not stopped.finished
    save_checkpoint(kept[-1], tmp_path / "checkpoint")
    resume = load_checkpoint(tmp_path / "checkpoint")
    again = fit_generator(wanted, resolved, images, scores, resume=resume)
    assert again.finished
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key]), key
    with pytest.raises(CheckpointError, match="another spec"):
        fit_generator(spec(kind, seed=1), resolved, images, scores, resume=resume)


@pytest.mark.parametrize("few", [{"n_train": 1}, {"n_test": 7}])
def test_too_few_images_are_refused_before_a_job_is_queued(few: dict[str, int]) -> None:
    wanted = spec("gan")
    resolve_generator(wanted, SOURCE, FACTS.model_copy(update={"n_test": 8}))
    with pytest.raises(SpecError, match=r"too few training images, 1;|7 held-out") as refused:
        resolve_generator(wanted, SOURCE, FACTS.model_copy(update=few))
    assert refused.value.pointer == "/dataset"


def test_an_image_depends_on_its_row_alone_and_edges_of_a_law_are_finite() -> None:
    torch.manual_seed(0)
    model = build_generator(spec("gan"), sizes(8)).eval()
    prior = prior_from_dict({"kind": "uniform", "dim": 2})
    whole = np.concatenate(list(draw.from_prior(model, prior, 300, seed=2)))
    part = np.concatenate(list(draw.from_prior(model, prior, 7, seed=2, offset=140)))
    np.testing.assert_array_equal(part, whole[140:147])
    corners = np.array([[0.0, 1.0], [0.5, 0.5]])
    assert np.isfinite(draw.condition(prior, corners)).all()
    np.testing.assert_array_equal(draw.condition(prior, corners)[1], [0, 0])


def test_pictures_hold_their_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 3), dtype=np.uint8)
    sheet = np.asarray(Image.open(io.BytesIO(pictures.png(pictures.grid(images, 2)))))
    assert sheet.shape == (14, 7, 3)
    np.testing.assert_array_equal(sheet[10:14, :3], images[4])
    assert (sheet[10:14, 4:] == 255).all()
    with zipfile.ZipFile(io.BytesIO(pictures.archive(images))) as members:
        np.testing.assert_array_equal(np.asarray(Image.open(members.open("000003.png"))), images[3])
    assert pictures.archive(images) == pictures.archive(images)


def test_what_does_not_go_together_is_refused() -> None:
    colour = FACTS.model_copy(update={"channels": 3})
    with pytest.raises(SpecError, match="1 channels, digits has 3"):
        GeneratorSpec(kind="generator", source="e").filled(SOURCE, colour)
    large = SOURCE.model_copy(update={"image_size": 96})
    with pytest.raises(SpecError, match="at most 64"):
        GeneratorSpec(kind="generator", source="e").filled(large, FACTS)


# ---- the figures -------------------------------------------------------------------------------------


def test_few_images_pull_the_gap_towards_one_and_what_is_above_the_floor_stays() -> None:
    rng = np.random.default_rng(0)
    shift = np.eye(64)[0] * np.sqrt(6.0)  # so the distances of many images are 6 and 12, and the gap is 2
    plain, above = [], []
    for _ in range(20):
        real, training, heldout, prior = rng.standard_normal((4, 200, 64))
        floor = gap.frechet_distance(real, training)
        near = gap.frechet_distance(real, heldout + shift)
        far = gap.frechet_distance(real, prior + shift * np.sqrt(2))
        plain.append(far / near)
        above.append(above_floor(far, near, floor))
    assert np.mean(plain) < 1.7
    assert np.mean(above) == pytest.approx(2, abs=0.15)
    assert above_floor(9.0, 7.0, 6.9) is None


def test_the_gap_is_said_with_and_without_the_floor() -> None:
    def quality(distance: float, agreement: float | None = None) -> Quality:
        return Quality(
            frechet_distance=distance,
            precision=0.9,
            recall=0.9,
            class_distance=None,
            class_agreement=agreement,
        )

    def said(prior: float, heldout: float, agreement: float = 0.9) -> str:
        return sentence(
            GeneratorReport(
                images=179,
                draws=1,
                features="classifier",
                classifier_accuracy=0.99,
                floor=6.0,
                prior=quality(prior),
                heldout=quality(heldout, agreement),
                prior_gap=prior / heldout,
                prior_gap_sd=None,
                prior_gap_above_floor=above_floor(prior, heldout, 6.0),
            )
        )

    assert said(9.0, 8.0).endswith(
        "among each other 6). Above what so many real images show of each other: 1.50 times as far."
    )
    assert "12 % farther" in said(9.0, 8.0)
    assert said(7.0, 7.0).endswith("among each other 6).")
    assert "no farther" in said(7.0, 7.0)
    assert said(70.0, 65.0).endswith("Both are far from real images, so this says little of the law.")
    assert "Only 30 % have the class" in said(9.0, 8.0, 0.3)


def test_the_frechet_distance_is_that_of_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((400, 6)) @ rng.standard_normal((6, 6)), rng.standard_normal((300, 6)) + 0.4
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(a @ b).real
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * root)
    assert gap.frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert gap.frechet_distance(x, x) == pytest.approx(0, abs=1e-8)
    assert gap.frechet_distance(x[:, :1], x[:, :1] + 2) == pytest.approx(4)


def test_precision_and_recall_tell_too_few_from_too_many_kinds() -> None:
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(c, 0.1, (200, 2)) for c in (0, 5)])
    one, three = rng.normal(0, 0.1, (400, 2)), np.concatenate([real, rng.normal(-9, 0.1, (400, 2))])
    assert gap.precision_and_recall(real, real) == (1, 1)
    precision, recall = gap.precision_and_recall(real, one)
    assert precision > 0.9
    assert recall == pytest.approx(0.5, abs=0.05)
    precision, recall = gap.precision_and_recall(real, three)
    assert (round(precision, 1), recall) == (0.5, 1)


def test_held_out_halves_are_disjoint() -> None:
    real, fed = gap.halves(101, level="quick", seed=0)
    assert len(real) == len(fed) == 50
    assert not set(real) & set(fed)
    assert len(gap.halves(20_000, level="full", seed=0)[0]) == gap.MOST_IMAGES["full"]


def test_the_gap_is_of_mean_distances_over_both_halves() -> None:
    rng = np.random.default_rng(0)
    one, other, training = rng.integers(0, 256, (3, 60, 2, 2, 1), dtype=np.uint8)
    features = Features.of_encoder(lambda images: images.reshape(len(images), -1).astype(np.float32))

    def side(real: np.ndarray, fed: np.ndarray) -> gap.Side:
        return gap.Side(gap.make_judge(features, real, training), lambda seed: fed // (seed + 1), None)

    sides = [side(one, other), side(other, one)]
    report = gap.measure(sides, of_prior=lambda seed: training // (seed + 3))
    (a, b, c), (x, y, z) = (
        [gap.frechet_distance(*(features.of(images)[0] for images in pair)) for pair in pairs]
        for pairs in (
            ((one, training // 3), (one, other), (one, training)),
            ((other, training // 4), (other, one // 2), (other, training)),
        )
    )
    assert report.prior_gap == pytest.approx((a + x) / (b + y))
    assert report.prior_gap_sd == pytest.approx(np.std([a / b, x / y], ddof=1))
    assert report.floor == pytest.approx((c + z) / 2)
    assert (report.draws, report.images) == (2, 60)


def test_features_are_of_a_classifier_that_knows_the_classes() -> None:
    digits = load_digits()
    images = (digits.images / 16 * 255).round().astype(np.uint8)[..., None]
    features = Features.of_classifier(
        images[:1400],
        digits.target[:1400],
        heldout=images[1400:],
        heldout_labels=digits.target[1400:],
        level="quick",
    )
    assert features.accuracy is not None
    assert features.accuracy > 0.93
    found, classes = features.of(images[1400:])
    assert found.shape == (397, 128)
    assert (classes == digits.target[1400:]).mean() == pytest.approx(features.accuracy)
    noise = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
    judge = gap.make_judge(features, images[1400:1700], images[:300])
    assert judge.quality(noise).frechet_distance > 10 * judge.floor
    real = judge.quality(images[300:600], digits.target[300:600])
    assert real.frechet_distance < 3 * judge.floor
    assert real.class_agreement is not None
    assert real.class_agreement > 0.95


# ---- the whole ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_builtin("digits", root=None, allow_downloads=False, image_size=8)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from benchmarks.tiny_encoder import write_bundle

    directory = tmp_path_factory.mktemp("encoder") / "files"
    write_bundle(directory)
    return directory


def hurry(patch: pytest.MonkeyPatch) -> None:
    """The classifier of an evaluation sees a tenth of the images: where it does not matter how good it is."""
    patch.setitem(IMAGES_SEEN, "quick", IMAGES_SEEN["quick"] // 10)


@pytest.fixture(scope="module")
def stored(
    digits: Dataset, encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, FittedGenerator]:
    directory = tmp_path_factory.mktemp("generator") / "files"
    wanted = GeneratorSpec.model_validate(
        {"kind": "generator", "source": "e@1", "model": SMALL["gan"], "epochs": 1, "evaluation": "quick"}
    )
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch)
        outcome = pipeline.run(wanted, encoders.load(encoder), digits, out_dir=directory)
    assert outcome.report is not None
    assert (outcome.report.features, outcome.report.draws) == ("classifier", 1)
    return directory, outcome.fitted


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_what_is_loaded_makes_what_was_trained(stored: tuple[Path, FittedGenerator]) -> None:
    directory, fitted = stored
    loaded = bundle.load(directory)
    expected = np.concatenate(list(draw.from_prior(fitted.model, loaded.prior, 20, seed=4)))
    np.testing.assert_array_equal(loaded.generate(20, seed=4), expected)
    np.testing.assert_array_equal(loaded.from_embeddings(loaded.prior.sample(20, seed=4), seed=4), expected)
    walk = np.tile(loaded.prior.sample(1, seed=1), (130, 1))
    still = loaded.from_embeddings(walk, seed=4, same_noise=True)
    np.testing.assert_array_equal(still, np.repeat(loaded.from_embeddings(walk[:1], seed=4), 130, axis=0))
    assert loaded.report["prior_gap"] > 0
    fed = [loaded.report[name]["frechet_distance"] for name in ("prior", "heldout")]
    assert loaded.report["prior_gap_above_floor"] == above_floor(*fed, loaded.report["floor"])
    card = (directory / "README.md").read_text()
    assert "N(0, 1.00 I)" in card or "N(0, I)" in card
    assert "e@1" in card
    assert size_of(directory / "samples.png") == (89, 89)


def test_what_a_caller_has_set_for_torch_is_nothing_to_a_generator(
    stored: tuple[Path, FittedGenerator],
) -> None:
    directory, _ = stored
    expected = bundle.load(directory).generate(3, seed=1)
    before = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        found = bundle.load(directory).generate(3, seed=1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(found, expected)


def test_every_held_out_image_is_once_real_and_once_fed(
    stored: tuple[Path, FittedGenerator], encoder: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(IMAGES_SEEN, "full", 1280)
    sides: list[gap.Side] = []

    def seen(given: list[gap.Side], **others: Any) -> GeneratorReport:
        sides.extend(given)
        return measure(given, **others)

    measure = gap.measure
    monkeypatch.setattr(gap, "measure", seen)
    directory, fitted = stored
    full = bundle.load(directory).config.spec.model_copy(update={"evaluation": "full"})
    report = pipeline.evaluate(full, fitted, encoders.load(encoder), digits)
    assert (report.draws, report.images) == (2, 179)
    test = digits.test
    features, _ = sides[0].judge.features.of(np.asarray(test.images))
    place = {row.tobytes(): number for number, row in enumerate(features.astype(np.float32))}
    real = [[place[row.tobytes()] for row in side.judge.real.astype(np.float32)] for side in sides]
    assert len({*real[0], *real[1]}) == 358
    assert test.labels is not None
    for side, fed in zip(sides, real[::-1], strict=True):
        np.testing.assert_array_equal(side.labels, test.labels[fed])
        assert side.of_embeddings(3).shape == (179, 8, 8, 1)


def test_an_altered_generator_and_the_wrong_kind_are_refused(
    stored: tuple[Path, FittedGenerator], encoder: Path, tmp_path: Path
) -> None:
    directory, _ = stored
    with pytest.raises(BundleError, match="holds an encoder"):
        bundle.load(encoder)
    with pytest.raises(BundleError, match="holds a generator"):
        encoders.load(directory)
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(BundleError, match=r"model\.safetensors is missing or altered"):
        bundle.load(tmp_path)


def test_the_commands(
    stored: tuple[Path, FittedGenerator], encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from nidim.generator_commands import generate, generator

    def run(command: Any, *arguments: object) -> Any:
        return CliRunner().invoke(command, [str(a) for a in arguments])

    hurry(monkeypatch)
    directory, _ = stored
    for suffix in ("png", "npy", "zip"):
        done = run(generate, directory, "-n", 4, "--seed", 7, "-o", tmp_path / f"x.{suffix}")
        assert done.exit_code == 0, done.output
    images = np.load(tmp_path / "x.npy", allow_pickle=False)
    np.testing.assert_array_equal(images, bundle.load(directory).generate(4, seed=7))
    assert size_of(tmp_path / "x.png") == (17, 17)
    np.save(tmp_path / "z.npy", np.zeros((3, 2), np.float32))
    done = run(generate, directory, "--embeddings", tmp_path / "z.npy", "-o", tmp_path / "y.npy")
    assert done.exit_code == 0, done.output
    assert np.load(tmp_path / "y.npy", allow_pickle=False).shape == (3, 8, 8, 1)
    assert "must end in one of" in run(generate, directory, "-o", tmp_path / "x.gif").output
    told = json.loads(run(generate, directory, "-n", 4, "-o", tmp_path / "x.zip", "--json").stdout)
    place = {"generator": str(directory), "output": str(tmp_path / "x.zip")}
    assert told == {**place, "shape": [4, 8, 8, 1]}

    (tmp_path / "spec.toml").write_text('kind = "generator"\nsource = "tiny"\n')
    small = [part for key, value in SMALL["gan"].items() for part in ("--set", f"model.{key}={value}")]
    given = ("--set", "epochs=1", "--set", "evaluation=quick", *small)
    done = run(generator, tmp_path / "spec.toml", "--encoder", encoder, *given, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "Images made from draws of the prior are" in done.output
    assert bundle.load(tmp_path / "out").generate(2).shape == (2, 8, 8, 1)
    again = ("--encoder", encoder, *given, "--out", tmp_path / "out", "--json")
    told = json.loads(run(generator, tmp_path / "spec.toml", *again).stdout)
    loaded = bundle.load(tmp_path / "out")
    stored_as = (str(tmp_path / "out"), loaded.digest, loaded.config.spec.digest, "tiny")
    assert tuple(told[key] for key in ("out", "digest", "spec_digest", "source")) == stored_as
    assert told["report"]["prior_gap"] == loaded.report["prior_gap"]
    (tmp_path / "wrong.toml").write_text('dataset = "digits"\n')
    assert (
        "use nidim train"
        in run(generator, tmp_path / "wrong.toml", "--encoder", encoder, "--out", "x").output
    )
