"""Kinds of settings that have a form: what cannot work is refused at the start, with words on how to write it.

Else a process would start and fail, or wait for ever, at its first use.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, SecretStr

from service import broker

EXAMPLE = "change-me"
"""Of docker/example.env: everybody knows that one."""
SHORTEST_PEPPER = 16
DATABASE = re.compile(r"sqlite(\+pysqlite)?://.*|(postgres|postgresql(\+psycopg)?)://[^@?]*(@[^@?]*)?(\?.*)?")
COLLECTOR = re.compile(r"https?://.+")
HOST_NAME = re.compile(r"[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\]")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+|\*")
FIRST_KEY = re.compile(r"nk_[\x21-\x7e]{32,500}")
RANDOM = "such as `openssl rand -hex 32` gives"


def _looks_like(form: re.Pattern[str], advice: str) -> AfterValidator:
    """Text of this form, or none."""

    def check(text: str) -> str:
        if text and not form.fullmatch(text):
            raise ValueError(advice)
        return text

    return AfterValidator(check)


def _each_looks_like(form: re.Pattern[str], advice: str) -> AfterValidator:
    def check(texts: tuple[str, ...]) -> tuple[str, ...]:
        if not all(form.fullmatch(text) for text in texts):
            raise ValueError(advice)
        return texts

    return AfterValidator(check)


def _secret(good: Callable[[str], bool], advice: str) -> AfterValidator:
    """Empty is none, as container files write it."""

    def check(secret: SecretStr | None) -> SecretStr | None:
        if secret is None or not secret.get_secret_value():
            return None
        if not good(secret.get_secret_value()):
            raise ValueError(advice)
        return secret

    return AfterValidator(check)


def _is_strong(key: str) -> bool:
    return FIRST_KEY.fullmatch(key) is not None and EXAMPLE not in key


def _is_long_enough(pepper: str) -> bool:
    """One that can be guessed protects nothing."""
    return len(pepper.encode()) >= SHORTEST_PEPPER


DatabaseUrl: TypeAlias = Annotated[
    str,
    _looks_like(
        DATABASE,
        "write postgresql://user:password@host:5432/name, an @ in the password as %40, or nothing: SQLite in data_dir",
    ),
]
BrokerUrl: TypeAlias = Annotated[str, _looks_like(broker.FORM, broker.ADVICE)]
CollectorUrl: TypeAlias = Annotated[str, _looks_like(COLLECTOR, "write http://host:4318")]
HostNames: TypeAlias = Annotated[
    tuple[str, ...], _each_looks_like(HOST_NAME, "write names in small letters, without a port")
]
"""As they are compared with what a request says."""
Origins: TypeAlias = Annotated[
    tuple[str, ...],
    _each_looks_like(
        ORIGIN, "write origins as browsers do: https://host or https://host:port, no slash behind"
    ),
]
"""As browsers say them; with a slash at its end one would never be met."""
FirstKey: TypeAlias = Annotated[
    SecretStr | None, _secret(_is_strong, f"write nk_ and at least 32 random characters, {RANDOM}")
]
Pepper: TypeAlias = Annotated[
    SecretStr | None,
    _secret(_is_long_enough, f"write at least {SHORTEST_PEPPER} random bytes, {RANDOM}"),
]
