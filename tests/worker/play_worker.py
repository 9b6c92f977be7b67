"""A real worker whose trainings are played: ``play_worker.py PLAY`` with NIDIM_* in the environment."""

from __future__ import annotations

import sys
from pathlib import Path

from worker import __main__
from worker.starting import Afresh

substitute = Path(__file__).with_name("substitute_child.py")
__main__.way_to_start = lambda **_: Afresh((sys.executable, str(substitute), sys.argv[1]))
__main__.main(["--name", "played"])
