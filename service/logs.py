"""Logs: one formatter for everything that a process says, ours and the libraries', as text or as JSON lines.

    with logs.bound(request_id="abc", job_id="job_1"): ...      every line from in here carries these fields

The fields travel with the context: into coroutines, into anyio's threads, not into threads of other pools unless they
are given a copy. A request's id goes into the first event of the job that it submits (``service.origin``), so lines of
API, worker and training child about one job are found by one id. Standard library only.

Nothing secret is written, whatever a library puts into its message: values of secret settings, keys, Authorization and
passwords in URLs are masked in the finished line. Libraries are held at ``info``: at ``debug`` some of them write
every statement and header.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Protocol, TextIO
from urllib.parse import unquote

OURS = ("nidim", "service", "worker")
CHATTY = ("alembic", "asyncio", "botocore", "aiobotocore", "s3fs", "fsspec", "kombu", "sqlalchemy", "urllib3")
"""Held at ``warning``."""
MASK = "********"
SHORTEST_SECRET = 6
SECRETS = (
    (re.compile(r"\bnk_[A-Za-z0-9_-]{8,}"), f"nk_{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic|aws4-hmac-sha256)\s+[^\s'\",]+"), rf"\1 {MASK}"),
    (re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]+(?=@)"), MASK),
    (
        re.compile(
            r"(?i)((?:password|passwd|pepper|secret|token|authorization)['\"]?\s*[:=]\s*['\"]?)[^\s'\",}]+"
        ),
        rf"\1{MASK}",
    ),
)
PASSWORDS = (
    re.compile(r"://[^/\s@:]*:([^\s@]+)@"),
    re.compile(r"://[^/\s@:]*:([^\s/]+)@"),
    re.compile(r"password=([^&\s]+)"),
)
"""In the URL of a setting: SQLAlchemy's may hold a slash, Redis' an @."""
CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}

_fields: ContextVar[Mapping[str, Any]] = ContextVar("nidim_log_fields")


class LogSettings(Protocol):
    """The settings that logging needs; those of type SecretStr and passwords in URLs are masked."""

    @property
    def log_level(self) -> str: ...
    @property
    def log_format(self) -> Literal["text", "json"]: ...


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Every line from in here carries ``fields``, besides those that are bound already; None is left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    token = _fields.set({**present(), **given})
    try:
        yield
    finally:
        _fields.reset(token)


def present() -> Mapping[str, Any]:
    """The fields that are bound here."""
    return _fields.get({})


def set_up(settings: LogSettings, *, part: str, stream: TextIO | None = None, **always: Any) -> None:
    """From now on this process logs to ``stream`` (standard error) and nowhere else, its warnings too.

    ``part`` names the process (api, worker, up); every line carries it and ``always``.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    kind = JsonLines if settings.log_format == "json" else TextLines
    handler.setFormatter(kind({"part": part, **always}, secrets=secrets_of(settings)))
    root = logging.getLogger()
    root.handlers = [handler]
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    root.setLevel(max(level, logging.INFO))
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)
    sys.excepthook = _last_words


def _last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends the process is a line like any other."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("service").critical("the process ends: %s", error, exc_info=(kind, error, trace))


def secrets_of(settings: object) -> tuple[str, ...]:
    """The values that must never be written: secret settings, and the passwords in URLs."""
    found = set()
    for value in vars(settings).values():
        if hasattr(value, "get_secret_value"):
            found.add(value.get_secret_value())
        elif isinstance(value, str):
            found.update(password for pattern in PASSWORDS for password in pattern.findall(value))
    found.update([unquote(text) for text in found])
    return tuple(sorted((text for text in found if len(text) >= SHORTEST_SECRET), key=len, reverse=True))


class Lines(logging.Formatter):
    """What both formats share."""

    def __init__(self, always: Mapping[str, Any], *, secrets: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._always, self._secrets = dict(always), secrets

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """What stands beside the message: the process, what is bound, what the caller gave as ``extra["fields"]``."""
        return {**self._always, **present(), **getattr(record, "fields", {})}

    def masked(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        for pattern, mask in SECRETS:
            text = pattern.sub(mask, text)
        return text

    def trace(self, record: logging.LogRecord) -> str:
        """The traceback, if there is one."""
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        return "\n".join(parts)


class JsonLines(Lines):
    """One JSON object a line: at, level, logger, message, pid, the fields, and exception."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.masked(record.getMessage()),
            "pid": record.process,
            **{name: self._value(value) for name, value in self.fields(record).items()},
        }
        if trace := self.trace(record):
            line["exception"] = self.masked(trace)
        return json.dumps(line, default=str)

    def _value(self, value: Any) -> Any:
        return self.masked(value) if isinstance(value, str) else value


class TextLines(Lines):
    """For a person: when, which part, who, what, the fields; further lines are indented and cannot pose as others."""

    def format(self, record: logging.LogRecord) -> str:
        fields = self.fields(record)
        part = fields.pop("part", "")
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()} "
        text = f"{_moment(record)} {part} {record.name}: {level}{record.getMessage()}"
        if fields:
            text += f" [{' '.join(f'{name}={value}' for name, value in fields.items())}]"
        if trace := self.trace(record):
            text += f"\n{trace}"
        return self.masked(text.translate(CONTROL).replace("\n", "\n    "))


def _moment(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
