"""Laws of the bounds, and what they find with the exact critic of a known channel."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch.nn import functional

from nidim.critics import gaussian_channel_scores
from nidim.objectives import (
    NWJ,
    SMILE,
    DonskerVaradhan,
    InfoNCE,
    JensenShannon,
    Nishiyama,
    donsker_varadhan,
    infonce,
    infonce_in_blocks,
    jensen_shannon,
    nishiyama,
    nwj,
    smile,
)
from nidim.objectives.base import check_square, off_diagonal
from nidim.spec.channel import gaussian_capacity, sigma_for

BOUNDS = {"infonce": infonce, "donsker_varadhan": donsker_varadhan, "nwj": nwj}
"""Tight with the exact critic."""


def scores(n: int = 50, seed: int = 0) -> torch.Tensor:
    return torch.randn((n, n), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_infonce_is_log_n_minus_cross_entropy() -> None:
    t = scores()
    expected = math.log(len(t)) - functional.cross_entropy(t, torch.arange(len(t)))
    torch.testing.assert_close(infonce(t), expected)


@pytest.mark.parametrize("values", [1, 7 * 50, 50 * 50, 1 << 20])
def test_infonce_in_blocks_has_the_value_and_the_gradients_of_all_scores_at_once(values: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn((2, 50, 3), generator=generator, dtype=torch.float64)
    inputs = a.requires_grad_(), b.requires_grad_()
    whole = infonce(a @ b.T)
    found = infonce_in_blocks(a, b, values=values)
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(torch.autograd.grad(3 * found, inputs), torch.autograd.grad(3 * whole, inputs))
    with torch.no_grad():
        torch.testing.assert_close(infonce_in_blocks(a, b, values=values), whole)


def test_infonce_in_blocks_wants_as_many_candidates_as_anchors() -> None:
    with pytest.raises(ValueError, match=r"anchors and candidates must be \(n, k\)"):
        infonce_in_blocks(torch.zeros(4, 2), torch.zeros(3, 2))


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
        ratio = exact_scores(1000, dim, sigma, generator)
        for name, bound in BOUNDS.items():
            found[name].append(float(bound(ratio + 1 if name == "nwj" else ratio)))
    assert gaussian_capacity(dim, sigma) == pytest.approx(capacity)
    for name, values in found.items():
        assert sum(values) / len(values) == pytest.approx(capacity, abs=0.06), name


def test_off_the_diagonal_is_every_pair_but_the_true_ones() -> None:
    t = scores(5)
    expected = t[~torch.eye(5, dtype=torch.bool)]
    torch.testing.assert_close(off_diagonal(t).sort().values, expected.sort().values)


@pytest.mark.parametrize("capacity", [0.5, 1.0, 2.0])
def test_smile_is_donsker_varadhan_unless_it_clips(capacity: float) -> None:
    exact = exact_scores(2000, 2, sigma_for(2, capacity), torch.Generator().manual_seed(0))
    torch.testing.assert_close(smile(exact, clip=50.0), donsker_varadhan(exact))
    assert float(smile(exact, clip=5.0)) == pytest.approx(capacity, abs=0.1)
    lifted = smile(exact + 10, clip=5.0) - donsker_varadhan(exact)
    assert lifted > 1, "where the clip cuts, the value is no bound"


def test_the_jensen_shannon_gradient_vanishes_at_the_exact_critic_and_its_value_is_nwj() -> None:
    """Shifting or scaling the log density ratio lowers it; the value reported is that of NWJ, tight there."""
    sigma = sigma_for(2, 1.0)
    exact = exact_scores(3000, 2, sigma, torch.Generator().manual_seed(1))
    best = jensen_shannon(exact)
    for other in (exact + 0.3, exact - 0.3, 1.3 * exact, 0.7 * exact):
        assert jensen_shannon(other) < best
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    jensen_shannon(exact + shift).backward()
    assert abs(float(shift.grad)) < 0.02
    assert float(JensenShannon()(exact.float()).nats) == pytest.approx(1.0, abs=0.06)


def test_nishiyama_is_exact_for_two_values_and_below_the_information_of_a_channel() -> None:
    """Where T takes two values its moments say everything: KL of Bernoulli(r) from Bernoulli(s)."""
    n, r, s = 1000, 0.7, 0.2
    t = (torch.rand((n, n), generator=torch.Generator().manual_seed(0), dtype=torch.float64) < s).double()
    t.fill_diagonal_(0)
    t.diagonal()[: round(r * n)] = 1
    found = off_diagonal(t).mean()
    expected = r * torch.log(r / found) + (1 - r) * torch.log((1 - r) / (1 - found))
    torch.testing.assert_close(nishiyama(t), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(nishiyama(3 * t - 2), nishiyama(t))
    for capacity in (0.5, 2.0):
        exact = exact_scores(2000, 2, sigma_for(2, capacity), torch.Generator().manual_seed(0))
        assert 0.2 * capacity < float(nishiyama(exact)) < capacity + 0.06
    assert 0 <= float(nishiyama(torch.zeros(5, 5))) < 1e-5


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6])
def test_nishiyama_finds_nothing_in_noise_of_any_size(scale: float) -> None:
    t = torch.randn((512, 512), generator=torch.Generator().manual_seed(0))
    assert float(nishiyama(scale * t)) < 0.01
    together = t + 2 * torch.eye(512)
    torch.testing.assert_close(nishiyama(scale * together), nishiyama(together))
    assert float(nishiyama(together)) > 0.5


def test_nishiyama_has_a_gradient_where_scores_hardly_differ() -> None:
    t = (
        1e-9 * torch.randn((64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ).requires_grad_()
    nishiyama(t).backward()
    step = 1e-10 * t.grad / t.grad.abs().max()
    assert nishiyama(t.detach() + step) > nishiyama(t.detach())


@pytest.mark.parametrize("objective", [JensenShannon(), SMILE(clip=5.0), Nishiyama()])
def test_the_gradient_parts_true_pairs_from_others(objective: torch.nn.Module) -> None:
    t = (scores(40).float() + torch.eye(40)).requires_grad_()
    objective(t).surrogate.backward()
    assert t.grad.diagonal().mean() > 0
    assert off_diagonal(t.grad).mean() < 0


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
@pytest.mark.parametrize("bound", [infonce, donsker_varadhan, nwj, jensen_shannon, smile, nishiyama])
def test_other_shapes_are_refused(bound, shape: tuple[int, ...]) -> None:
    """By the bound itself: users run without the checks that the tests switch on around it."""
    with pytest.raises(ValueError, match=r"scores must be \(n, n\)") as refused:
        inspect.unwrap(bound)(torch.zeros(shape), **({"clip": 5.0} if bound is smile else {}))
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
