"""Laws of the counter-based streams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nidim.streams import NOISE_DRAWS, philox_first_word, uniform53


def numpy_philox(row: int, column: int, *, domain: int, seed: int) -> int:
    """The first word by numpy's own Philox, which counts one up before it draws."""
    counter = row + (column << 64) + (domain << 128)
    return int(np.random.Philox(counter=(counter - 1) % (1 << 256), key=seed).random_raw())


@given(
    row=st.integers(0, 2**64 - 1),
    column=st.integers(0, 4096),
    domain=st.sampled_from([0, 1]),
    seed=st.integers(0, 2**64 - 1),
)
def test_equals_the_philox_of_numpy(row: int, column: int, domain: int, seed: int) -> None:
    words = philox_first_word(
        np.array([row], np.uint64), np.array([column], np.uint64), domain=domain, seed=seed
    )
    assert int(words[0]) == numpy_philox(row, column, domain=domain, seed=seed)


def test_golden_vectors() -> None:
    words = philox_first_word(np.arange(2, dtype=np.uint64), np.arange(2, dtype=np.uint64), domain=0, seed=7)
    assert [hex(w) for w in words.tolist()] == GOLDEN_WORDS
    assert uniform53(7, rows=(0, 2), d=2).tolist() == GOLDEN_UNIFORM


GOLDEN_WORDS = ["0xe6982ec3b25eef92", "0xdf9a705d89512db7"]
GOLDEN_UNIFORM = [[0.9007596233153624, 0.140990676422603], [0.8720734548204873, 0.8734503010139788]]


@given(start=st.integers(0, 5000), n=st.integers(0, 300), d=st.integers(1, 40))
def test_pages_agree_with_one_big_draw(start: int, n: int, d: int) -> None:
    whole = uniform53(3, rows=(0, start + n), d=d) if start + n < 2000 else None
    page = uniform53(3, rows=(start, start + n), d=d)
    assert page.shape == (n, d)
    if whole is not None:
        np.testing.assert_array_equal(page, whole[start:])


def test_open_interval_domains_and_seeds() -> None:
    draws = uniform53(0, rows=(0, 20_000), d=3)
    assert draws.min() > 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 4 * (1 / 12 / draws.size) ** 0.5
    for other in (uniform53(1, rows=(0, 100), d=3), uniform53(0, rows=(0, 100), d=3, domain=NOISE_DRAWS)):
        assert not np.isin(other, draws).any()


@pytest.mark.parametrize(
    ("seed", "rows", "d"), [(-1, (0, 1), 1), (2**64, (0, 1), 1), (0, (2, 1), 1), (0, (0, 1), 0)]
)
def test_refuses_what_is_outside(seed: int, rows: tuple[int, int], d: int) -> None:
    with pytest.raises(ValueError, match="must"):
        uniform53(seed, rows=rows, d=d)
