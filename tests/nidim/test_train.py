"""fit(): it learns, it stops, it resumes to the bit, it says when it diverges."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from nidim.capacity import resolve
from nidim.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nidim.embedding import embed
from nidim.errors import CheckpointError, TrainingDiverged
from nidim.feed import Feed
from nidim.spec import DatasetFacts, TrainSpec
from nidim.statistics import pooled_moments
from nidim.train import Fitted, fit, learning_rate

FACTS = DatasetFacts(name="digits", n_train=1400, n_test=397, height=8, width=8, channels=1, classes=10)
FEW = FACTS.model_copy(update={"n_train": 320, "n_test": 64})
"""For tests to which it does not matter what is learned: five steps of 64 an epoch."""


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return (load_digits().images / 16 * 255).round().astype(np.uint8)[..., None]


def spec(facts: DatasetFacts = FACTS, **values: object) -> TrainSpec:
    base = {
        "dataset": "digits",
        "encoder": {"kind": "conv", "dim": 2, "width": 8},
        "noise": {"kind": "gaussian", "sigma": 0.5},
        "epochs": 2,
        "batch_size": 128,
        "precision": "float32",
    }
    return TrainSpec.model_validate({**base, **values}).filled(facts)


def train(s: TrainSpec, images: np.ndarray, **hooks):
    return fit(s, resolve(s, FACTS)[0], images[:1400], heldout=images[1400:], **hooks)


def train_on_few(s: TrainSpec, images: np.ndarray, **hooks):
    return fit(s, resolve(s, FEW)[0], images[:320], heldout=images[320:384], **hooks)


def weights(fitted) -> dict[str, torch.Tensor]:
    return fitted.model.state_dict()


def assert_same(a, b) -> None:
    for key, value in weights(a).items():
        assert torch.equal(value, weights(b)[key]), key


@pytest.fixture(scope="module")
def learned(images: np.ndarray) -> tuple[Fitted, Checkpoint]:
    """What twenty epochs end with, and their checkpoint."""
    kept: list[Checkpoint] = []
    return train(spec(epochs=20), images, on_checkpoint=kept.append), kept[-1]


def test_it_learns_and_stays_below_capacity(images: np.ndarray, learned: tuple[Fitted, Checkpoint]) -> None:
    fitted, _ = learned
    assert fitted.finished
    assert fitted.history[-1]["mi_nats"] > 3 * max(fitted.history[0]["mi_nats"], 0.05)
    assert fitted.mi_nats is not None
    assert 0.5 < fitted.mi_nats < fitted.resolved.capacity_nats + 0.1
    z = embed(fitted.model, images[:1400])
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(z.var(0), 1, atol=1e-3)


def test_information_is_the_same_of_held_out_images_in_any_order(
    images: np.ndarray, learned: tuple[Fitted, Checkpoint]
) -> None:
    """Of one training, resumed at its end: held-out images have no part in it."""
    s, (as_trained, end) = spec(epochs=20), learned
    rows = {
        "by class": np.argsort(load_digits().target[1400:], kind="stable"),
        "mixed": np.random.default_rng(0).permutation(397),
        "as stored": np.arange(397),
    }
    found = {
        name: fit(s, resolve(s, FACTS)[0], images[:1400], heldout=images[1400:][order], resume=end).mi_nats
        for name, order in rows.items()
    }
    assert found["as stored"] == as_trained.mi_nats
    assert found["by class"] == pytest.approx(found["mixed"], abs=0.15), found
    assert found["as stored"] == pytest.approx(found["mixed"], abs=0.15), found


def test_held_out_information_has_the_targets_normalised_as_in_training(images: np.ndarray) -> None:
    """Where the outputs of BYOL's target lie and how far they reach is nothing that a training sees."""
    s, kept = spec(method={"kind": "byol"}), []
    fitted = train(s, images, on_checkpoint=kept.append)
    (end,) = kept
    names = sorted(n for n in end.tensors if n.startswith("method.target.network."))
    weight, bias = (next(n for n in names[::-1] if n.endswith(kind)) for kind in (".weight", ".bias"))
    moved = {weight: 3 * end.tensors[weight], bias: 3 * end.tensors[bias] + 2}
    shapes = [tuple(tensor.shape) for tensor in moved.values()]
    assert [shape[0] for shape in shapes] == [2, 2], "its last layer"
    elsewhere = dataclasses.replace(end, tensors={**end.tensors, **moved})
    assert train(s, images, resume=elsewhere).mi_nats == pytest.approx(fitted.mi_nats, abs=1e-3)


MODES = [
    {},
    *(
        {"method": {"kind": kind}}
        for kind in ("simclr", "vicreg", "barlow_twins", "byol", "simsiam", "lejepa")
    ),
    {"objective": {"kind": "donsker_varadhan"}, "optimizer": {"kind": "sgd"}},
    {"regularizer": {"kind": "sliced_epps_pulley"}, "prior": {"kind": "uniform"}},
    {"regularizer": {"kind": "adversarial"}},
    {"noise": {"kind": "uniform", "epsilon": 0.2}},
    {"precision": "bfloat16"},
    {"noise": {"kind": "gaussian", "sigma": 0.5, "start": 2, "branches": "both"}},
    {"method": {"kind": "infomax", "local": 1}},
    {"method": {"kind": "infomax", "local": 1}, "objective": {"kind": "donsker_varadhan"}},
    {
        "method": {"kind": "infomax", "local": 1},
        "noise": {"kind": "gaussian", "sigma": 0.5, "layers": 0.2, "learned": True},
        "precision": "bfloat16",
    },
    {"noise": {"kind": "gaussian", "sigma": 0.5, "layers": 0.2}, "method": {"kind": "byol"}},
    {"noise": {"kind": "gaussian", "sigma": 0.5, "learned": True, "start": 2}},
]


@pytest.mark.parametrize(
    "values", MODES, ids=lambda v: v.get("method", {}).get("kind") or "-".join(v) or "default"
)
def test_resume_is_bit_identical(values: dict, images: np.ndarray, tmp_path) -> None:
    s = spec(FEW, batch_size=64, **values)
    whole = train_on_few(s, images)
    kept: list[Checkpoint] = []
    asked = iter([False] * 3 + [True])
    stopped = train_on_few(s, images, on_checkpoint=kept.append, should_stop=lambda: next(asked))
    assert not stopped.finished
    assert stopped.mi_nats is None
    assert kept[-1].meta["step"] == 3
    save_checkpoint(kept[-1], tmp_path / "checkpoint.safetensors")
    again = train_on_few(s, images, resume=load_checkpoint(tmp_path / "checkpoint.safetensors"))
    assert again.finished
    assert_same(whole, again)
    assert again.mi_nats == whole.mi_nats
    assert [h["step"] for h in again.history][-1] == [h["step"] for h in whole.history][-1] == 10


@pytest.mark.parametrize("critic", ["separable", "bilinear"])
def test_the_loss_of_a_large_batch_in_blocks_trains_the_same(
    critic: str, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = spec(critic={"kind": critic})
    whole = train(s, images)
    monkeypatch.setattr("nidim.spec.parts.WHOLE_BATCH", 100)
    blocks = train(s, images)
    first, last = ([run.history[k]["loss"] for run in (blocks, whole)] for k in (0, -1))
    assert first[0] == pytest.approx(first[1], abs=1e-5)
    assert last[0] == pytest.approx(last[1], abs=0.05), "rounding, after twenty steps"
    assert any(not torch.equal(w, weights(blocks)[k]) for k, w in weights(whole).items()), "another way"


def test_noise_between_blocks_leaves_no_trace_in_what_is_served(images: np.ndarray) -> None:
    fitted = train(spec(noise={"kind": "gaussian", "sigma": 0.5, "layers": 0.5}), images)
    z = embed(fitted.model, images[:1400])
    np.testing.assert_array_equal(z, embed(fitted.model, images[:1400]))
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(z.var(0), 1, atol=1e-3)
    assert any(not torch.equal(w, weights(train(spec(), images))[k]) for k, w in weights(fitted).items())


def test_learned_noise_stays_within_the_capacity_and_is_kept_on_record(images: np.ndarray) -> None:
    fitted = train(spec(epochs=10, noise={"kind": "gaussian", "sigma": 0.5, "learned": True}), images)
    sigmas = fitted.resolved.learned_sigmas
    assert sigmas is not None
    assert np.log1p(np.array(sigmas) ** -2.0).sum() / 2 == pytest.approx(
        fitted.resolved.capacity_nats, rel=1e-4
    )
    assert max(sigmas) > 1.001 * min(sigmas), "something was learned"
    assert 0.3 < fitted.mi_nats < fitted.resolved.capacity_nats + 0.1
    assert train(spec(epochs=1), images).resolved.learned_sigmas is None


def test_checkpoints_on_the_way_do_not_change_the_weights(images: np.ndarray) -> None:
    kept: list[Checkpoint] = []
    assert_same(train(spec(), images), train(spec(), images, on_checkpoint=kept.append, checkpoint_every_s=0))
    assert len(kept) > 5


def test_the_last_checkpoint_is_that_of_the_last_step(images: np.ndarray) -> None:
    kept: list[Checkpoint] = []
    whole = train(spec(), images, on_checkpoint=kept.append)
    assert [c.meta["step"] for c in kept] == [20]
    steps: list[object] = []
    again = train(spec(), images, resume=kept[0], on_step=steps.append)
    assert steps == []
    assert_same(whole, again)
    assert again.mi_nats == whole.mi_nats


def test_a_training_goes_on_though_its_gpu_has_left(images: np.ndarray) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the GPU")
    kept: list[Checkpoint] = []
    train(spec(epochs=1), images, on_checkpoint=kept.append)
    kept[0].meta["resolved"]["device"] = "cuda"
    assert train(spec(epochs=1), images, resume=kept[0]).resolved.device == "cpu"


def test_another_seed_gives_other_weights(images: np.ndarray) -> None:
    a, b = weights(train(spec(epochs=1), images)), weights(train(spec(epochs=1, seed=1), images))
    assert any(not torch.equal(a[k], b[k]) for k in a)


def test_the_default_generator_is_left_alone(images: np.ndarray) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(spec(epochs=1), images)
    assert torch.equal(torch.rand(3), expected)


def test_a_foreign_or_damaged_checkpoint_is_refused(images: np.ndarray, tmp_path) -> None:
    kept: list[Checkpoint] = []
    train(spec(epochs=1), images, on_checkpoint=kept.append, checkpoint_every_s=0)
    with pytest.raises(CheckpointError, match="another spec"):
        train(spec(epochs=1, seed=3), images, resume=kept[0])
    torn = dataclasses.replace(kept[0], tensors=dict(list(kept[0].tensors.items())[3:]))
    with pytest.raises(CheckpointError, match="does not fit"):
        train(spec(epochs=1), images, resume=torn)
    path = tmp_path / "c.safetensors"
    save_checkpoint(kept[0], path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_divergence_is_an_error_with_advice(images: np.ndarray) -> None:
    diverging = spec(
        optimizer={"kind": "sgd", "lr": 100.0, "schedule": "constant"}, objective={"kind": "nwj"}
    )
    with pytest.raises(TrainingDiverged, match=r"optimizer\.lr"):
        train(diverging, images)


def test_progress_is_told(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nidim.loop.REPORT_EVERY_S", 0.0)
    told = []
    train(spec(), images, on_step=told.append)
    assert [p.step for p in told] == list(range(1, 21))
    assert told[-1].epoch == told[-1].epochs == 2
    assert told[-1].eta_s == 0
    assert all(p.images_per_s > 0 for p in told)


def test_auto_precision_is_measured_once_and_kept(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nidim.hardware.WORTH_MEASURING_S", 0.0)
    fitted = train(spec(epochs=1, precision="auto"), images)
    assert fitted.resolved.dtype in ("float32", "bfloat16")
    assert fitted.model.precision == "float32"


@pytest.mark.parametrize(
    ("device", "dtype", "so"),
    [
        ("cpu", "float32", True),
        ("cpu", "bfloat16", True),
        ("cuda", "float32", False),
        ("cuda", "bfloat16", True),
    ],
)
def test_images_lie_as_the_hardware_gains_from(device: str, dtype: str, so: bool) -> None:
    from nidim.hardware import lays_channels_last

    assert lays_channels_last(device, dtype) is so


def test_a_checkpoint_of_another_layout_goes_on_in_its_own(images: np.ndarray) -> None:
    kept: list[Checkpoint] = []
    train(spec(epochs=1), images, on_checkpoint=kept.append, checkpoint_every_s=0)
    assert kept[0].meta["resolved"]["channels_last"] is True
    kept[0].meta["resolved"]["channels_last"] = False
    assert train(spec(epochs=1), images, resume=kept[0]).resolved.channels_last is False


def test_bfloat16_trains(images: np.ndarray) -> None:
    fitted = train(spec(precision="bfloat16", epochs=1), images)
    assert fitted.resolved.channels_last
    assert np.isfinite(embed(fitted.model, images[1400:])).all()


def test_a_memory_mapped_set_trains_the_same(images: np.ndarray, tmp_path) -> None:
    np.save(tmp_path / "x.npy", images)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r", allow_pickle=False)
    assert_same(train(spec(epochs=1), images), train(spec(epochs=1), mapped))


def test_the_feed_shows_every_image_once_an_epoch(images: np.ndarray) -> None:
    feed = Feed(images[:100], batch_size=10, seed=0, device=torch.device("cpu"))
    first = np.concatenate([feed.indices(step) for step in range(10)])
    second = np.concatenate([feed.indices(step) for step in range(10, 20)])
    assert sorted(first) == sorted(second) == list(range(100))
    assert list(first) != list(second)
    batches = list(feed.batches(3, 6))
    assert len(batches) == 3
    assert batches[0].images.shape == (10, 1, 8, 8)
    assert batches[0].partners is None


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_learning_rates(schedule: str) -> None:
    from nidim.spec.parts import AdamWOptimizer

    optimizer = AdamWOptimizer(lr=1.0, schedule=schedule)
    rates = [learning_rate(optimizer, t / 100) for t in range(100)]
    assert max(rates) == pytest.approx(1.0)
    assert min(rates) > 0
    if schedule != "constant":
        assert rates[-1] < 0.01


def test_bfloat16_is_measured_in_bfloat16() -> None:
    from nidim.hardware import _measure

    seen: set[torch.dtype] = set()
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3))
    network[0].register_forward_hook(lambda _module, _images, out: seen.add(out.dtype))
    for dtype in ("float32", "bfloat16"):
        assert _measure(network, torch.rand(4, 1, 8, 8), dtype) > 0
    assert seen == {torch.float32, torch.bfloat16}


@pytest.mark.parametrize(
    ("half_of_few", "half", "chosen", "asked"),
    [(10.0, 10.0, "float32", False), (1.5, 0.5, "bfloat16", True), (1.5, 0.95, "float32", True)],
)
def test_the_whole_batch_is_measured_in_bfloat16_only_if_a_few_images_are_not_slow(
    half_of_few: float, half: float, chosen: str, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nidim import hardware

    measured: set[tuple[int, str]] = set()

    def measure(network: torch.nn.Module, sample: torch.Tensor, dtype: str) -> float:
        measured.add((len(sample), dtype))
        plain, emulated = (0.01, 0.01 * half_of_few) if len(sample) < 64 else (1.0, half)
        return emulated if dtype == "bfloat16" else plain

    monkeypatch.setattr(hardware, "_measure", measure)
    network = torch.nn.Linear(2, 2)
    assert hardware.fastest(network, torch.rand(64, 1, 8, 8), steps=100) == chosen
    assert ((64, "bfloat16") in measured) is asked
    assert (4, "bfloat16") in measured
    measured.clear()
    assert hardware.fastest(network, torch.rand(64, 1, 8, 8), steps=10) == "float32"
    assert measured == {(64, "float32")}
    measured.clear()
    assert hardware.fastest(network, torch.rand(64, 1, 8, 8, device="meta"), steps=100) == (
        "bfloat16" if half < 0.9 else "float32"
    )
    assert measured == {(64, "float32"), (64, "bfloat16")}, "a few images are asked about on a CPU only"


def test_a_training_resumed_at_its_end_writes_no_checkpoint_again(images: np.ndarray) -> None:
    """It would look like progress to whoever counts attempts."""
    kept: list[Checkpoint] = []
    whole = train(spec(), images, on_checkpoint=kept.append)
    again: list[Checkpoint] = []
    assert_same(whole, train(spec(), images, on_checkpoint=again.append, resume=kept[-1]))
    assert len(kept) == 1
    assert again == []


@pytest.mark.parametrize("pieces", [1, 3, 700])
def test_moments_by_pieces_are_those_of_all(pieces: int) -> None:
    x = torch.randn((1400, 3), generator=torch.Generator().manual_seed(0)).double() * 2 + 100
    mean, var = pooled_moments(x.chunk(pieces))
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(var, x.var(0, correction=0))
