"""A deploy under embedding load: API processes are told to stop one after the other, and no request fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import deploy
from tests.forking import fork_server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("successor", deploy.SUCCESSORS)
def test_a_deploy_under_load_fails_no_request(tmp_path: Path, successor: str) -> None:
    with deploy.fleet(tmp_path, fork_server) as fleet:
        found = deploy.measure(fleet, successor, sigterms=2)
    assert found["failed"] == 0, found
    assert found["answered"] > 100
    assert max(found["in_flight"]) >= 1, "no request was under way when a process was told to stop"
