"""A law made by a flow: a density, both directions, one file, and a fit that says how good it is."""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nidim.evaluate.distances import Settings
from nidim.evaluate.target import target_fit
from nidim.flow import Flow, masks
from nidim.priors import FlowPrior, fit_prior, prior_from_dict
from nidim.priors.flow import BLOCK, parts_of
from tests.blocks import session
from tests.nidim.samples import arc, arc_log_density, fitted_arc

QUICK = Settings(slices=32, floor_sets=6)


def shaken(dim: int) -> Flow:
    """A flow with weights far from those of a fit, float64."""
    torch.manual_seed(1)
    flow = Flow(dim).double()
    for value in flow.layers.parameters():
        value.add_(0.1 * torch.randn_like(value))
    flow.mean.add_(torch.randn(dim))
    flow.factor.copy_(torch.eye(dim) + 0.3 * torch.tril(torch.rand(dim, dim)))
    return flow


@pytest.mark.parametrize("dim", [2, 3, 7])
def test_both_directions_and_the_jacobian(dim: int) -> None:
    flow, z = shaken(dim), 2 * torch.randn(50, dim, dtype=torch.float64)
    x = flow(z)
    back, volume = flow.inverse(x)
    torch.testing.assert_close(back, z, atol=1e-10, rtol=0)
    of_sum = torch.autograd.functional.jacobian(lambda v: flow(v).sum(0), z)
    jacobian = of_sum.transpose(0, 1)  # a row of x depends on the same row of z alone
    torch.testing.assert_close(volume, -torch.linalg.slogdet(jacobian)[1], atol=1e-8, rtol=0)
    assert not torch.allclose(jacobian[0], jacobian[1]), "a flow that is not linear"


@pytest.mark.parametrize("dim", [2, 5, 16, 64])
def test_any_two_coordinates_are_parted_by_some_layer_in_both_directions(dim: int) -> None:
    kept = torch.stack(masks(dim)).numpy()
    for i in range(dim):
        for j in range(dim):
            assert i == j or (kept[:, i] & ~kept[:, j]).any()


def test_the_density_integrates_to_one() -> None:
    """By the midpoint rule; what lies beyond has a share of less than 1e-4."""
    axis = np.linspace(-4, 4, 241)
    middles = (axis[1:] + axis[:-1]) / 2
    grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
    total = np.exp(fitted_arc().log_prob(grid)).sum() * (axis[1] - axis[0]) ** 2
    assert total == pytest.approx(1, abs=2e-3)


def test_the_density_is_near_that_of_the_sample() -> None:
    """600 points: within .15 nats of the law they were drawn from, where a Gaussian is .6 away."""
    fresh = arc(4000, seed=9)
    loss = float((arc_log_density(fresh) - fitted_arc().log_prob(fresh)).mean())
    assert 0 < loss < 0.15
    covariance = np.cov(arc(600), rowvar=False)
    gaussian = -0.5 * np.linalg.slogdet(2 * math.pi * math.e * covariance)[1]
    assert arc_log_density(fresh).mean() - gaussian > 0.5


def test_round_trips_and_tails() -> None:
    prior = fitted_arc()
    scores = np.random.default_rng(0).uniform(-8, 8, (5000, 2))
    np.testing.assert_allclose(prior.normal_scores(prior.from_normal_scores(scores)), scores, atol=1e-9)
    far = np.array([[1e3, 0.0], [1e30, -1e30], [0.0, 0.0]])
    assert np.isfinite(prior.log_prob(far)).all()
    ray = np.linspace(3, 100, 200)[:, None] * [[0.6, -0.8]]
    assert (np.diff(prior.log_prob(ray)) < 0).all(), "the density falls outward from the sample"


@pytest.mark.parametrize("offset", [0, 1, 777, BLOCK - 1, BLOCK, 5 * BLOCK + 3])
def test_a_draw_depends_on_its_place_alone(offset: int) -> None:
    prior = fitted_arc()
    whole = prior.sample(7 * BLOCK, seed=3)
    for n in (0, 1, 20, BLOCK + 5):
        np.testing.assert_array_equal(prior.sample(n, seed=3, offset=offset), whole[offset : offset + n])


def test_the_same_sample_gives_the_same_bytes_on_any_number_of_threads(few_flow_steps: int) -> None:
    code = (
        "import hashlib, sys, torch\n"
        "torch.set_num_threads(int(sys.argv[1]))\n"
        "from nidim import flow\n"
        "from nidim.priors import fit_prior\n"
        "flow.MOST_STEPS = int(sys.argv[2])\n"
        "from tests.nidim.samples import arc\n"
        "print(hashlib.sha256(fit_prior(arc(100)).data).hexdigest())"
    )
    more = str(torch.get_num_threads() + 1)
    elsewhere = subprocess.run(
        [sys.executable, "-c", code, more, str(few_flow_steps)], capture_output=True, text=True, check=True
    ).stdout
    here = fit_prior(arc(100)).data
    assert elsewhere == hashlib.sha256(here).hexdigest() + "\n"
    assert fit_prior(arc(100, seed=1)).data != here


@pytest.mark.usefixtures("few_flow_steps")
def test_the_same_sample_gives_the_same_bytes_whatever_a_caller_has_set_for_torch() -> None:
    here = fit_prior(arc(100)).data
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            assert fit_prior(arc(100)).data == here
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "points",
    [
        np.zeros(200),
        np.zeros((200, 1)),
        np.zeros((3, 2)),
        np.full((200, 2), np.nan),
        np.full((200, 2), np.inf),
    ],
)
def test_what_is_no_sample_is_refused(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a flow needs points"):
        fit_prior(points)


@pytest.mark.usefixtures("few_flow_steps")
def test_a_fit_leaves_torchs_random_numbers_and_threads_as_they_were() -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    prior = fit_prior(arc(100))
    FlowPrior.read(prior.data)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_a_description_names_its_file_and_no_other() -> None:
    prior = fitted_arc()
    described = prior.describe()
    assert described == {"kind": "flow", "dim": 2, "file": prior.digest}
    read = prior_from_dict(described, file=prior.data)
    assert read == prior
    np.testing.assert_array_equal(read.sample(10, seed=1), prior.sample(10, seed=1))
    assert isinstance(read, FlowPrior)
    np.testing.assert_array_equal(read.points, arc(600))
    with pytest.raises(ValueError, match="needs the file"):
        prior_from_dict(described)
    with pytest.raises(ValueError, match="is not that of the flow"):
        prior_from_dict({**described, "file": "sha256:" + "0" * 64}, file=prior.data)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 64, fitted_arc, b"\x02" + bytes(7) + b"{}"],
    ids=["empty", "a length beyond the end", "no bytes", "no header"],
)
def test_what_is_no_flow_is_refused(data: object) -> None:
    given = data if isinstance(data, bytes) else fitted_arc().data[:-100]
    with pytest.raises(ValueError, match="does not hold a flow"):
        FlowPrior.read(given)


def test_the_report_of_the_fit_tells_a_good_flow_from_one_of_another_sample() -> None:
    prior = fitted_arc()
    good = target_fit(prior, QUICK)
    heldout = prior.points[parts_of(600).heldout]
    assert (good.n, good.n_heldout) == (600, len(heldout)) == (600, 90)
    assert good.heldout_nats == pytest.approx(prior.log_prob(heldout).mean())
    assert good.heldout_nats > good.gaussian_nats + 0.3
    assert 0.3 < good.sw2.ratio < 2
    moved = target_fit(with_points(prior, prior.points + 0.5), QUICK)
    assert moved.sw2.ratio > 2
    assert moved.heldout_nats < moved.gaussian_nats


def with_points(prior: FlowPrior, points: np.ndarray) -> FlowPrior:
    from safetensors.torch import load, save

    header = {"nidim": '{"dim": 2, "steps": 1}'}
    return FlowPrior.read(save({**load(prior.data), "points": torch.from_numpy(points)}, metadata=header))


def test_the_parts_of_a_sample_are_disjoint_and_all_of_it() -> None:
    parts = parts_of(1000)
    rows = np.concatenate([parts.fitted, parts.chosen_on, parts.heldout])
    assert sorted(rows) == list(range(1000))
    assert [len(part) for part in (parts.fitted, parts.chosen_on, parts.heldout)] == [700, 150, 150]


@pytest.mark.usefixtures("few_flow_steps")
def test_a_network_of_ones_own_gets_a_law(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page about it, with its own training and a flow that is hardly fitted."""
    monkeypatch.chdir(tmp_path)
    program: dict[str, Any] = {}
    with torch.random.fork_rng():
        exec(session("docs/your-network.md", "network-session"), program)
    said = re.search(r"within (\d\.\d+) nats of N\(0, I\); true draws: (\d\.\d+)", capsys.readouterr().out)
    assert said is not None
    assert 0 < float(said[2]) < float(said[1]) < 0.6
    assert program["information"].item() > 1.5
    assert program["draws"].shape == (1000, 2)
    assert FlowPrior.read(Path("law.safetensors").read_bytes()).dim == 2
