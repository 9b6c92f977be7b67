"""A real worker whose trainings are played; in a process of its own, with NIDIM_* in the environment."""

from __future__ import annotations

import sys
from pathlib import Path

from worker import __main__
from worker.starting import Afresh

SUBSTITUTE = Path(__file__).with_name("substitute_child.py")


def main(play: str) -> None:
    """``python -m worker`` whose trainings are ``play``."""
    __main__.way_to_start = lambda **_: Afresh((sys.executable, str(SUBSTITUTE), play))
    __main__.main(["--name", "played"])
