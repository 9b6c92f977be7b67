"""A process that seems to hang says where it is, and goes on."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, logging, threading, time
from service import whereabouts

logging.basicConfig()

def held_up():
    time.sleep(60)

async def lost(event):
    await event.wait()

async def main():
    threading.Thread(target=held_up, daemon=True).start()
    event = asyncio.Event()
    task = asyncio.create_task(lost(event))
    await asyncio.sleep(0)
    with whereabouts.told_on_request():
        print("ready", flush=True)
        await asyncio.to_thread(input)
        event.set()
        await task
        print("went on", flush=True)

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
def test_threads_and_tasks_are_told_and_the_process_goes_on() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        said = ""
        while "in lost" not in said:  # the tasks come last
            line = process.stderr.readline()
            assert line, said
            said += line
        out, rest = process.communicate("\n", timeout=60)
    assert out == "went on\n", said + rest
    assert process.returncode == 0
    assert "in held_up" in said, "the thread that hangs"
    assert " threads, 2 tasks\n" in said
