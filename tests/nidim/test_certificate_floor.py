"""What true draws come to in a certificate stands beside what an embedding comes to."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nidim.evaluate.certificate import gaussian_certificate, gaussian_floor


@pytest.mark.parametrize(("n", "d", "sigma"), [(400, 2, 0.2), (400, 16, 0.5), (3000, 8, 0.4)])
def test_true_draws_come_to_the_floor(n: int, d: int, sigma: float) -> None:
    rng = np.random.default_rng(0)
    found = [
        gaussian_certificate(rng.standard_normal((n, d)), sigma=sigma, law="N", seed=seed)
        for seed in range(12)
    ]
    values = [one.kl_bound_nats for one in found]
    floor = gaussian_floor(n, d, sigma=sigma)
    assert {one.kl_floor_nats for one in found} == {floor}
    error = np.std(values, ddof=1) * math.sqrt(1 / len(values) + 1)
    assert abs(np.mean(values) - floor) < 3 * error
    assert floor > found[0].best_reachable_nats - 3 * error


def test_few_draws_of_a_good_channel_have_a_high_floor() -> None:
    assert gaussian_floor(359, 16, sigma=0.5) > 6.9 > 0.3 > gaussian_floor(2000, 2, sigma=0.2)
