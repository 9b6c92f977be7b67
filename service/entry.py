"""How a process of ours begins: it reads its settings and opens its log.

A setting that cannot be used is its last line, in the format of all others, instead of a traceback beside the log.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any, Literal

from service import logs
from service.settings import BadSettings, Settings, read, unknown

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _LogAlone:
    """For a process without settings."""

    log_format: Literal["text", "json"]
    log_level: str = "info"


def begin(part: str, **always: Any) -> Settings:
    """The settings, with the log as they want it; its lines carry ``part`` and ``always``. Raises SystemExit."""
    try:
        settings = read()
    except BadSettings as error:
        wanted = os.environ.get("NIDIM_LOG_FORMAT", "")
        logs.set_up(_LogAlone("json" if wanted == "json" else "text"), part=part, **always)
        log.critical("the process does not start: %s", error)
        raise SystemExit(1) from None
    logs.set_up(settings, part=part, **always)
    for name in unknown(os.environ):
        log.warning("%s is no setting of this version; `nidim settings` lists those that are", name)
    return settings
