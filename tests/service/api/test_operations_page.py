"""The commands of docs/operations.md, run as they stand against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
KEY = "nk_" + "k" * 40


def session(name: str) -> str:
    """The block of the page under this name."""
    page = (ROOT / "docs" / "operations.md").read_text()
    block = page.partition(f"<!-- {name} -->\n```bash\n")[2].partition("```")[0]
    assert block, name
    return block


def test_looking_at_a_running_server(start_server: Any, tmp_path: Path) -> None:
    with start_server(tmp_path / "data", bootstrap_key=KEY) as server:
        env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "NIDIM": server.url,
            "KEY": KEY,
            "NO_PROXY": "127.0.0.1",
            "NIDIM_BOOTSTRAP_KEY": KEY,
        }
        command = ["bash", "-eo", "pipefail", "-c", session("look-session")]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert '"degraded":["broker"]' in done.stdout
    assert 'nidim_jobs{state="queued"} 0.0' in done.stdout
    assert done.stdout.count('"items":[]') == 2
    assert "NIDIM_LEASE_S=30.0" in done.stdout
    assert KEY not in done.stdout
