"""Statistics over all pairs of points, in blocks: energy distance and maximum mean discrepancy to N(0, I).

One sample against the law itself, expectations over Z, Z' ~ N(0, I_d) in closed form:

    energy²(x) = 2/n Σ_i E‖x_i − Z‖ − E‖Z − Z'‖ − 1/n² Σ_ij ‖x_i − x_j‖
    MMD²(x)    = 1/n² Σ_ij k(x_i, x_j) − 2/n Σ_i E k(x_i, Z) + E k(Z, Z'),   k(x, y) = e^{−‖x−y‖²/2h²}, h² = d

    E‖x − Z‖  = √2 Γ((d+1)/2)/Γ(d/2) · ₁F₁(−½; d/2; −‖x‖²/2)        E‖Z − Z'‖ = 2 Γ((d+1)/2)/Γ(d/2)
    E k(x, Z) = (h²/(h²+1))^{d/2} e^{−‖x‖²/(2(h²+1))}               E k(Z, Z') = (h²/(h²+2))^{d/2}

As a test, the energy distance is taken between the embeddings and as many true draws: under the promise the
two sets are exchangeable, so the p-value over random relabellings is exact in every dimension.

References: Székely & Rizzo 2005, 2013; Gretton et al. 2012.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.spatial.distance import cdist

from nidim.evaluate.report import Outcome

Floats = NDArray[np.float64]

_ROWS = 512
_DIRECT = 12  # up to here differences are as fast as the matrix product, and exact


def distance_blocks(x: Floats, y: Floats, *, rows: int = _ROWS) -> Floats:
    """Not all at once: yields ‖x_i − y_j‖² for ``rows`` rows of ``x`` at a time, (rows, m)."""
    raise NotImplementedError
