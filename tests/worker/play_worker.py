"""A real worker whose trainings are played: ``play_worker.py PLAY`` with NIDIM_* in the environment."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from worker import __main__, tasks

substitute = Path(__file__).with_name("substitute_child.py")
__main__.register = partial(tasks.register, command=(sys.executable, str(substitute), sys.argv[1]))
__main__.main(["--name", "played"])
