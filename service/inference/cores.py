"""The cores of this machine, shared out: between the API processes, and in each between decoding and computing."""

from __future__ import annotations

import os

from service.settings import Settings

MOST_DECODERS = 8


def threads(settings: Settings) -> int:
    """Of one forward pass: a quarter of the cores that are this process's."""
    return settings.serve_threads or max(1, _share(settings) // 4)


def decoders(settings: Settings) -> int:
    """Decoding processes of this process: half its cores. One that is alone has two at least, so that a slow image
    does not hold up the others."""
    least = 1 if settings.api_processes > 1 else 2
    return settings.decode_processes or max(least, min(MOST_DECODERS, _share(settings) // 2))


def _share(settings: Settings) -> int:
    return (os.cpu_count() or 1) // settings.api_processes
