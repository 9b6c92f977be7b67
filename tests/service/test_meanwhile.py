"""What is done while something else is at work, and no longer."""

from __future__ import annotations

import threading

import pytest

from service.meanwhile import meanwhile
from tests.waiting import wait_for


def test_it_goes_on_after_a_failure_and_ends_with_the_block(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    def action() -> None:
        calls.append(threading.current_thread().name)
        if len(calls) == 1:
            raise OSError("away")

    with meanwhile(action, every_s=0.01, name="hold"):
        assert wait_for(lambda: len(calls) > 2)
    assert set(calls) == {"hold"}
    assert [record.getMessage() for record in caplog.records] == ["hold failed; it is tried again"]
    assert "hold" not in [thread.name for thread in threading.enumerate()]
