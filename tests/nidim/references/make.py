"""``python -m tests.nidim.references.make``: writes values.json from pingouin, POT and dcor.

They are needed for this alone, in an environment of their own: ``pip install pingouin POT dcor``.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

VALUES = Path(__file__).with_name("values.json")
SETS = (("normal", 50, 2), ("normal", 64, 5), ("gamma", 64, 3), ("gamma", 200, 8), ("student", 300, 4))


def drawn(law: str, n: int, d: int) -> np.ndarray:
    """The set (n, d) that a value belongs to; correlated, and not centred."""
    rng = np.random.default_rng([n, d])
    draws = {
        "normal": rng.standard_normal,
        "gamma": lambda size: rng.gamma(3, size=size),
        "student": lambda size: rng.standard_t(4, size),
    }
    return draws[law]((n, d)) @ rng.standard_normal((d, d)) + 1


def pair(law: str, n: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two sets (n, d) and ten unit vectors, columns of (d, 10)."""
    a = np.random.default_rng(d).standard_normal((d, 10))
    return drawn(law, n, d), drawn("normal", n, d) * 1.2, a / np.linalg.norm(a, axis=0)


def main() -> None:
    import dcor
    import ot
    import pingouin

    found: list[dict[str, Any]] = []
    for law, n, d in SETS:
        x, y, a = pair(law, n, d)
        normality = pingouin.multivariate_normality(x)
        found.append(
            {
                "set": [law, n, d],
                "first": float(x[0, 0]),
                "henze_zirkler": float(normality.hz),
                "henze_zirkler_p": float(normality.pval),
                "sliced_wasserstein_2": float(ot.sliced_wasserstein_distance(x, y, projections=a, p=2)),
                "energy": float(dcor.energy_distance(x, y)),
            }
        )
    versions = {name: metadata.version(name) for name in ("pingouin", "POT", "dcor", "numpy", "scipy")}
    VALUES.write_text(json.dumps({"versions": versions, "values": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
