"""Shapes and types of the mathematics are checked while tests run, and only then.

One thread for every numeric library, here and in the processes that tests start: the problems are tiny, and on a busy
machine threads that wait for each other at barriers are slower by orders of magnitude.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

CHECKED = [
    f"nidim.{m}" for m in ("objectives", "critics", "normalize", "augment", "methods", "encoders", "noise")
]
install_import_hook(CHECKED, "beartype.beartype")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that need it skip where it is absent."""
    root = Path(os.environ.get("NIDIM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / "README.md").is_file():
        pytest.skip(f"real data is not at {root}; set NIDIM_TEST_DATA")
    return root
