"""What tests of the library share."""

from __future__ import annotations

import functools
import os

import pytest

from nidim import flow, priors
from nidim.evaluate import certificate
from tests.nidim import samples

FEW_STEPS = flow.LOOK_EVERY


@pytest.fixture
def own_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows that this test fits are not kept for others, nor theirs for this one."""
    monkeypatch.setattr(priors, "_fitted", functools.lru_cache(maxsize=4)(priors._fitted.__wrapped__))


@pytest.fixture
def few_flow_steps(own_flows: None, monkeypatch: pytest.MonkeyPatch) -> int:
    """Flows are fitted in a second: for tests to which it does not matter how well."""
    monkeypatch.setattr(flow, "MOST_STEPS", FEW_STEPS)
    return FEW_STEPS


@pytest.fixture
def short_flows(own_flows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows of two layers: for tests that export one, which takes seconds a layer."""
    masks = flow.masks
    monkeypatch.setattr(flow, "masks", lambda dim: masks(dim)[:2])


@pytest.fixture(scope="session", autouse=True)
def shared_flow(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The flow of ``samples`` is fitted by one of the processes of a run; the others read its file."""
    base = tmp_path_factory.getbasetemp()
    samples.kept_in.append(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture
def no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates without the floor beside them, ten times their work: for tests that do not ask for it."""
    monkeypatch.setattr(certificate, "gaussian_floor", lambda *_, **__: None)
