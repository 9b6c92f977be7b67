"""Other people's software in a process of its own, asked for one piece of work at a time.

A section has a module ``peer_<section>.py`` that runs in ``.venv-peers`` and knows nothing of ours: each function in
its ``WORK`` does one piece of work and returns what is to be known of it. ``peer_main.py`` reads which one from stdin,
times it and answers on stdout, both one JSON object a line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
VENV = ROOT / ".venv-peers"


def python() -> Path:
    """The interpreter of the peers' environment, made when it is first asked for (minutes)."""
    found, mark = VENV / "bin" / "python", VENV / "installed"
    wanted = HERE / "peers.txt"
    if not mark.exists() or mark.read_text() != wanted.read_text():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        install = [
            str(found),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--constraint",
            str(ROOT / "constraints.txt"),
        ]
        subprocess.run([*install, "torch"], check=True)
        subprocess.run([str(found), "-m", "pip", "install", "--quiet", "-r", str(wanted)], check=True)
        mark.write_text(wanted.read_text())
    return found


class Peer:
    """A process with the work of ``peer_<section>.py``; ``interpreter``: of another environment than the peers'."""

    def __init__(self, section: str, *, threads: int, interpreter: Path | None = None) -> None:
        env = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads)),
        }
        self._process = subprocess.Popen(
            [str(interpreter or python()), str(HERE / "peer_main.py"), str(HERE / f"peer_{section}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def ask(self, work: str, **given: Any) -> dict[str, Any]:
        """``{"seconds", "peak_mb", "result"}`` of one piece of work. Raises RuntimeError with what went wrong."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"work": work, "given": given}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the peer's process ended"}
        if "error" in answer:
            raise RuntimeError(f"{work}: {answer['error']}")
        return dict(answer)
