"""Makes certain images do to a decoding process what a fault in a codec would; in other processes it does nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

HANGS, DIES, BABBLES = b"this image hangs", b"this image kills", b"this image babbles"


def _install() -> None:
    from nidim.data import pixels

    decode = pixels.to_array

    def faulty(data: bytes, **options: Any) -> Any:
        if HANGS in data:
            while True:
                time.sleep(1)
        if DIES in data:
            os.kill(os.getpid(), signal.SIGSEGV)
        if BABBLES in data:
            os.write(3, b"\xff" * 4096)
        return decode(data, **options)

    pixels.to_array = faulty


if "service.inference.decoder" in sys.orig_argv:
    _install()
