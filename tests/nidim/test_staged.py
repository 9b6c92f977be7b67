"""Two stages: neighbours are found, checkpoints know their stage, resuming is exact, progress counts both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from nidim import footprint
from nidim.capacity import Resolved, resolve
from nidim.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nidim.embedding import embed
from nidim.errors import CheckpointError
from nidim.feed import Feed
from nidim.neighbors import nearest
from nidim.spec import DatasetFacts, FullSpec, TrainSpec
from nidim.spec.stages import first_stage
from nidim.staged import MACHINE, PARTNERS, fit_in_stages
from nidim.train import Fitted, Progress, fit

FACTS = DatasetFacts(name="digits", n_train=1400, n_test=397, height=8, width=8, channels=1, classes=10)
FEW = FACTS.model_copy(update={"n_train": 640, "n_test": 128})
"""For tests to which it does not matter what is learned."""
STEPS = 10  # of an epoch


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    found = load_digits()
    return (found.images / 16 * 255).round().astype(np.uint8)[..., None], found.target


def spec(facts: DatasetFacts = FEW, **values: object) -> FullSpec:
    method = {"kind": "infomax", "neighbors": 5, "first_dim": 8, "first_epochs": 2}
    given = {
        "dataset": "digits",
        "encoder": {"kind": "conv", "dim": 2, "width": 8},
        "method": {**method, **values.pop("method", {})},
        "noise": {"kind": "gaussian", "sigma": 0.3},
        "epochs": 3,
        "batch_size": facts.n_train // STEPS,
        "precision": "float32",
    }
    return TrainSpec.model_validate({**given, **values}).filled(facts)


def train(s: FullSpec, images: np.ndarray, facts: DatasetFacts = FEW, **hooks):
    training, heldout = images[: facts.n_train], images[facts.n_train :][: facts.n_test]
    return fit_in_stages(s, resolve(s, facts)[0], training, heldout=heldout, **hooks)


def same(a, b) -> bool:
    first, second = a.model.state_dict(), b.model.state_dict()
    return all(torch.equal(first[key], second[key]) for key in first)


def test_neighbours_are_those_of_scikit_learn() -> None:
    x = np.random.default_rng(0).normal(size=(500, 7)).astype(np.float32)
    expected = NearestNeighbors(n_neighbors=6, metric="cosine").fit(x).kneighbors(x)[1][:, 1:]
    found = nearest(x, 5)
    assert found.dtype == np.int32
    assert (np.sort(found) == np.sort(expected)).mean() > 0.999
    for k in (0, 500):
        with pytest.raises(ValueError, match="k must be"):
            nearest(x, k)


@pytest.fixture(scope="module")
def whole(digits: tuple[np.ndarray, np.ndarray]) -> Fitted:
    """What a training that nothing stops ends with."""
    return train(spec(), digits[0])


@pytest.mark.parametrize("after", [7, 2 * STEPS, 2 * STEPS + 1, 2 * STEPS + 13])
def test_resume_is_bit_identical_in_either_stage(
    after: int, digits: tuple[np.ndarray, np.ndarray], whole: Fitted, tmp_path
) -> None:
    images, _ = digits
    kept: list[Checkpoint] = []
    looks = iter(range(10_000))
    stopped = train(spec(), images, on_checkpoint=kept.append, should_stop=lambda: next(looks) == after)
    assert not stopped.finished
    first = after < 2 * STEPS
    assert kept[-1].meta["stage"] == (1 if first else 2)
    assert (PARTNERS in kept[-1].tensors) != first
    save_checkpoint(kept[-1], tmp_path / "checkpoint.safetensors")
    again = train(spec(), images, resume=load_checkpoint(tmp_path / "checkpoint.safetensors"))
    assert again.finished
    assert same(whole, again)
    assert again.mi_nats == whole.mi_nats


def test_the_second_stage_begins_with_the_weights_of_the_first(digits: tuple[np.ndarray, np.ndarray]) -> None:
    kept: list[Checkpoint] = []
    looks = iter(range(10_000))
    train(spec(), digits[0], on_checkpoint=kept.append, should_stop=lambda: next(looks) == 2 * STEPS)
    first, second = kept
    assert [(c.meta["stage"], c.meta["step"]) for c in kept] == [(1, 2 * STEPS), (2, 0)]
    names = [n for n in second.tensors if n.startswith("model.network") and n.endswith(("weight", "bias"))]
    other = {name for name in names if not torch.equal(first.tensors[name], second.tensors[name])}
    assert other == {"model.network.output.3.weight", "model.network.output.3.bias"}
    assert len(names) == 16


def test_a_checkpoint_of_another_spec_is_refused(digits: tuple[np.ndarray, np.ndarray]) -> None:
    kept: list[Checkpoint] = []
    train(spec(), digits[0], on_checkpoint=kept.append)
    assert [checkpoint.meta["stage"] for checkpoint in kept] == [1, 2]
    for checkpoint in kept:
        assert checkpoint.meta["spec_digest"] == spec().digest
        with pytest.raises(CheckpointError, match="another spec"):
            train(spec(seed=1), digits[0], resume=checkpoint)


def test_progress_counts_both_stages(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nidim.loop.REPORT_EVERY_S", 0.0)
    seen: list[Progress] = []
    fitted = train(spec(), digits[0], on_step=seen.append)
    assert [at.step for at in seen] == list(range(1, 5 * STEPS + 1))
    assert {(at.steps, at.epochs) for at in seen} == {(5 * STEPS, 5)}
    assert seen[-1].epoch == 5
    assert seen[0].eta_s > seen[-1].eta_s == 0
    assert seen[-1].capacity_nats == fitted.resolved.capacity_nats != seen[0].capacity_nats


def test_one_stage_alone_is_refused_without_partners(digits: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="fit_in_stages"):
        fit(spec(), resolve(spec(), FEW)[0], digits[0][:640], heldout=digits[0][640:768])


def test_the_machine_is_chosen_once_and_told_at_the_start(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """An attempt that dies in the first stage has to leave behind what the next one needs to repeat its sums."""
    told: list[Resolved] = []
    looks = iter(range(100))
    train(spec(), digits[0], on_resolved=told.append, should_stop=lambda: next(looks) == 5)
    assert len(told) == 1
    assert told[0].dim == 2
    assert told[0].sigma == 0.3
    chosen = {name: getattr(told[0], name) for name in MACHINE}
    assert None not in chosen.values()
    other = resolve(spec(), FEW)[0].model_copy(update={**chosen, "dtype": "bfloat16", "channels_last": True})
    fitted = fit_in_stages(spec(), other, digits[0][:640], heldout=digits[0][640:768])
    assert fitted.resolved.dtype == "bfloat16", "what was chosen before is kept in both stages"


def test_memory_is_that_of_the_larger_stage() -> None:
    wide = spec(method={"first_dim": 4000}, head={"kind": "none"})
    resolved = resolve(wide, FEW)[0]
    stage = first_stage(wide, FEW)
    assert stage is not None
    first = footprint.training(stage, resolve(stage, FEW)[0])
    assert (
        first.encoder
        > 5 * footprint.training(spec(method={"neighbors": 0, "first_epochs": None}), resolved).encoder
    )
    assert footprint.training(wide, resolved).encoder == first.encoder


def test_without_neighbours_there_is_one_stage() -> None:
    one = spec(method={"neighbors": 0, "first_epochs": None})
    assert first_stage(one, FEW) is None
    two = spec()
    stage = first_stage(two, FEW)
    assert stage is not None
    assert (stage.encoder.dim, stage.epochs, stage.method.neighbors) == (8, 2, 0)
    assert stage.augmentation == two.augmentation


def test_partners_come_from_the_table_and_from_seed_and_step() -> None:
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    table = np.stack([(np.arange(20) + 1) % 20, (np.arange(20) + 2) % 20], 1).astype(np.int32)

    def feed(seed: int) -> Feed:
        return Feed(images, batch_size=8, seed=seed, device=torch.device("cpu"), partners=table)

    batches = list(feed(0).batches(0, 6))
    for batch in batches:
        ahead = (255 * (batch.partners - batch.images)).round().flatten().long() % 20
        assert set(ahead.tolist()) <= {1, 2}
    again = list(feed(0).batches(3, 6))
    assert all(torch.equal(a.partners, b.partners) for a, b in zip(batches[3:], again, strict=True))
    assert any(
        not torch.equal(a.partners, b.partners) for a, b in zip(batches, feed(1).batches(0, 6), strict=True)
    )


def test_neighbours_fill_two_dimensions_with_what_an_image_is_of(
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    """The same budget of epochs in all; kNN on held-out images that no training saw."""
    images, labels = digits

    def accuracy(s: FullSpec) -> float:
        fitted = train(s, images, FACTS)
        z = embed(fitted.model, images)
        return KNeighborsClassifier(15).fit(z[:1400], labels[:1400]).score(z[1400:], labels[1400:])

    one = spec(FACTS, method={"neighbors": 0, "first_epochs": None}, epochs=20, batch_size=128)
    many = {"neighbors": 10, "first_dim": 32, "first_epochs": 10}
    two = spec(FACTS, method=many, epochs=10, batch_size=128)
    assert accuracy(two) > accuracy(one) + 0.05
