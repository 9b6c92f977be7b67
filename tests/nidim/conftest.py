"""What tests of the library share."""

from __future__ import annotations

import pytest

from nidim import flow

FEW_STEPS = 60


@pytest.fixture
def few_flow_steps(monkeypatch: pytest.MonkeyPatch) -> int:
    """Flows are fitted in a second: for tests to which it does not matter how well."""
    monkeypatch.setattr(flow, "MOST_STEPS", FEW_STEPS)
    return FEW_STEPS
