"""What processes that handle foreign bytes inherit."""

from __future__ import annotations

import pytest

from service.environment import without_secrets

NEEDED = (
    "PATH",
    "HOME",
    "LANG",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "TMPDIR",
)
PRIVATE = (
    *(
        "NIDIM_DATABASE_URL",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "PGPASSWORD",
        "PGHOST",
        "REDIS_PASSWORD",
    ),
    *("HF_TOKEN", "OPENAI_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "my_secret", "DB_PASSWD"),
)


@pytest.mark.parametrize("name", NEEDED)
def test_what_a_library_needs_stays(name: str) -> None:
    assert without_secrets({name: "x"}) == {name: "x"}


@pytest.mark.parametrize("name", PRIVATE)
def test_credentials_stay_behind(name: str) -> None:
    assert without_secrets({name: "x", "PATH": "/bin"}) == {"PATH": "/bin"}
