"""Laws of the bounds, and what they find with the exact critic of a known channel."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch.nn import functional

from nidim.capacity import gaussian_capacity, sigma_for
from nidim.critics import gaussian_channel_scores
from nidim.objectives import NWJ, DonskerVaradhan, InfoNCE, donsker_varadhan, infonce, nwj
from nidim.objectives.base import check_square

BOUNDS = {"infonce": infonce, "donsker_varadhan": donsker_varadhan, "nwj": nwj}


def scores(n: int = 50, seed: int = 0) -> torch.Tensor:
    return torch.randn((n, n), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_infonce_is_log_n_minus_cross_entropy() -> None:
    t = scores()
    expected = math.log(len(t)) - functional.cross_entropy(t, torch.arange(len(t)))
    torch.testing.assert_close(infonce(t), expected)


def test_infonce_is_at_most_log_n_and_blind_to_row_shifts() -> None:
    t = scores()
    assert infonce(1000 * torch.eye(50, dtype=torch.float64)) <= math.log(50) + 1e-9
    torch.testing.assert_close(infonce(t + torch.randn(50, 1, dtype=torch.float64)), infonce(t))


def test_donsker_varadhan_ignores_constants_but_not_row_shifts() -> None:
    t = scores()
    torch.testing.assert_close(donsker_varadhan(t + 3.0), donsker_varadhan(t))
    shift = torch.linspace(-2, 2, 50, dtype=torch.float64)[:, None]
    assert abs(donsker_varadhan(t + shift) - donsker_varadhan(t)) > 0.1


def test_dv_and_nwj_leave_the_diagonal_out() -> None:
    t = scores(4)
    off = [t[i, j].item() for i in range(4) for j in range(4) if i != j]
    joint = t.diagonal().mean().item()
    assert donsker_varadhan(t).item() == pytest.approx(joint - math.log(sum(map(math.exp, off)) / 12))
    assert nwj(t).item() == pytest.approx(joint - sum(math.exp(x - 1) for x in off) / 12)


def test_nwj_is_below_donsker_varadhan() -> None:
    for seed in range(20):
        assert nwj(scores(seed=seed)) <= donsker_varadhan(scores(seed=seed)) + 1e-12


@pytest.mark.parametrize("capacity", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("dim", [1, 2, 8])
def test_the_exact_critic_recovers_the_capacity(dim: int, capacity: float) -> None:
    """Y ~ N(0, I), V = Y + σZ: up to 2 nats every bound finds d/2·log(1 + 1/σ²)."""
    sigma, generator = sigma_for(dim, capacity), torch.Generator().manual_seed(dim)
    found: dict[str, list[float]] = {name: [] for name in BOUNDS}
    for _ in range(6):
        ratio = exact_scores(2000, dim, sigma, generator)
        for name, bound in BOUNDS.items():
            found[name].append(float(bound(ratio + 1 if name == "nwj" else ratio)))
    assert gaussian_capacity(dim, sigma) == pytest.approx(capacity)
    for name, values in found.items():
        assert sum(values) / len(values) == pytest.approx(capacity, abs=0.06), name


def test_at_high_capacity_donsker_varadhan_certifies_nonsense_and_infonce_stays_below_log_n() -> None:
    """METHOD.md section 2: the exact critic at d = 64, σ = .5 and 4000 pairs, C = 51.5 nats; DV says some 91."""
    exact = exact_scores(4000, 64, 0.5, torch.Generator().manual_seed(0))
    capacity = gaussian_capacity(64, 0.5)
    assert capacity == pytest.approx(51.5, abs=0.05)
    assert donsker_varadhan(exact) > capacity + 20
    assert infonce(exact) <= math.log(4000) + 1e-9


def exact_scores(n: int, d: int, sigma: float, generator: torch.Generator) -> torch.Tensor:
    """log p(v_i | y_j) / p(v_i) for n pairs of the Gaussian channel, (n, n)."""
    y = torch.randn((n, d), generator=generator, dtype=torch.float64)
    v = y + sigma * torch.randn((n, d), generator=generator, dtype=torch.float64)
    return gaussian_channel_scores(v, y, sigma) + gaussian_marginal(v, sigma)


def gaussian_marginal(v: torch.Tensor, sigma: float) -> torch.Tensor:
    """−log p(v) + log of the normaliser of the channel, so that scores become log density ratios."""
    d, total = v.shape[1], 1 + sigma**2
    return (v.square().sum(1) / (2 * total) + d / 2 * math.log(total / sigma**2))[:, None]


def test_dv_keeps_the_log_of_its_average_in_a_buffer() -> None:
    objective = DonskerVaradhan(decay=0.9)
    assert set(objective.state_dict()) == {"log_partition"}
    objective.train()
    first = objective(scores(seed=1) + 500.0)
    assert torch.isfinite(first.surrogate)
    before = objective.log_partition.clone()
    assert before > 499
    objective.eval()
    objective(scores(seed=2))
    assert objective.log_partition == before
    objective.train()
    objective(scores(seed=2) + 500.0)
    assert objective.log_partition != before


def test_dv_gradient_is_divided_by_the_average() -> None:
    objective = DonskerVaradhan(decay=0.5).train()
    objective.log_partition.fill_(2.0)
    t = scores(6).float().requires_grad_()
    objective(t).surrogate.backward()
    batch = torch.logsumexp(t.detach()[~torch.eye(6, dtype=torch.bool)], 0) - math.log(30)
    average = torch.logaddexp(torch.tensor(2.0), batch) + math.log(0.5)
    expected = -torch.exp(t.detach() - average) / 30
    off = ~torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(t.grad[off], expected[off])


@pytest.mark.parametrize("objective", [InfoNCE(), DonskerVaradhan(decay=0.0), NWJ()])
def test_without_memory_the_surrogate_is_the_bound(objective: torch.nn.Module) -> None:
    bound = objective(scores().float())
    assert bound.nats == bound.surrogate


OTHER_SHAPES = [(3, 4), (1, 1), (0, 0), (5,), (2, 3, 3)]


@pytest.mark.parametrize("shape", OTHER_SHAPES)
@pytest.mark.parametrize("bound", BOUNDS.values())
def test_other_shapes_are_refused(bound, shape: tuple[int, ...]) -> None:
    """By the bound itself: users run without the checks that the tests switch on around it."""
    with pytest.raises(ValueError, match=r"scores must be \(n, n\)") as refused:
        inspect.unwrap(bound)(torch.zeros(shape))
    assert str(shape) in str(refused.value)


@pytest.mark.parametrize("shape", OTHER_SHAPES)
def test_donsker_varadhan_with_memory_refuses_other_shapes_too(shape: tuple[int, ...]) -> None:
    forward = inspect.unwrap(DonskerVaradhan.forward)
    with pytest.raises(ValueError, match=r"scores must be \(n, n\)"):
        forward(DonskerVaradhan(decay=0.9), torch.zeros(shape))


def test_a_square_of_two_is_enough() -> None:
    check_square(torch.zeros(2, 2))
    for bound in BOUNDS.values():
        assert torch.isfinite(bound(torch.zeros(2, 2)))
