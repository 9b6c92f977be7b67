"""Random generators of the evaluation, one per purpose: no two statistics share numbers by accident.

A plain ``default_rng(seed)`` here would repeat the very draws that a caller made with the same seed.
"""

from __future__ import annotations

import numpy as np


def generator(seed: int, purpose: str) -> np.random.Generator:
    """The generator of ``purpose`` under ``seed``."""
    return np.random.default_rng([seed, *purpose.encode()])
