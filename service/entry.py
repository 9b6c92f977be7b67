"""How a process of ours begins: it reads its settings and opens its log.

A setting that cannot be used is its last line, in the format of all others, instead of a traceback beside the log.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from service import logs
from service.settings import PREFIX, Settings

OF_CLIENTS = frozenset({"NIDIM_URL", "NIDIM_KEY"})
"""Variables that commands read which ask a server."""

log = logging.getLogger(__name__)


class BadSettings(ValueError):
    """A setting cannot be used; the message says which and why, and not what it was: it may be a password."""


def read(**given: Any) -> Settings:
    """The settings of the environment with ``given`` over them. Raises BadSettings."""
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = "; ".join(map(_told, error.errors()))
    except SettingsError as error:
        name = re.search(r'field "(\w+)"', str(error))
        wrong = f'{name[1] if name else "a list"}: write a JSON list, such as ["one", "two"]'
    raise BadSettings(f"{wrong} (set as {PREFIX} and the name in capitals).")


def _told(item: ErrorDetails) -> str:
    return f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"


def unknown(names: Iterable[str]) -> list[str]:
    """Those of the environment variables that look like a setting and are none: misspelt, or of another version."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | OF_CLIENTS
    return sorted(name for name in names if name.upper().startswith(PREFIX) and name.upper() not in known)


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
