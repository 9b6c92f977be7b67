"""References to encoders and generators, and names as they may come from a client."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from nidim.spec import NAME_PATTERN
from nidim.spec.train import RESERVED_PREFIXES
from service.store.ids import is_id

_NAME = re.compile(NAME_PATTERN.removeprefix("^").removesuffix("$"))
_VERSION = re.compile(r"[1-9][0-9]{0,8}")

Kind = Literal["encoder", "generator"]
ID_PREFIXES: dict[Kind, str] = {"encoder": "enc_", "generator": "gen_"}
_STORED_PREFIXES: dict[Kind, str] = {"encoder": "", "generator": "gen_"}
"""Before the name in the database. No name of a client starts so, hence the two kinds never meet."""


@dataclass(frozen=True)
class ById:
    """``enc_…``"""

    id: str


@dataclass(frozen=True)
class Newest:
    """``name``"""

    name: str


@dataclass(frozen=True)
class ByVersion:
    """``name@3``"""

    name: str
    version: int


@dataclass(frozen=True)
class ByAlias:
    """``name:alias``"""

    name: str
    alias: str


Ref = ById | Newest | ByVersion | ByAlias


def is_name(value: str) -> bool:
    """Whether it has the form of a name; anything else need not be looked up."""
    return _NAME.fullmatch(value) is not None and not value.startswith(RESERVED_PREFIXES)


def stored(kind: Kind, name: str) -> str:
    """A name as the database has it."""
    return _STORED_PREFIXES[kind] + name


def shown(stored_name: str) -> str:
    """The name that a client gave."""
    return stored_name.removeprefix(_STORED_PREFIXES["generator"])


def parse_ref(ref: str, kind: Kind = "encoder") -> Ref | None:
    """What a reference names, its name as it is stored; None for what cannot name anything."""
    if is_id(ID_PREFIXES[kind], ref):
        return ById(ref)
    name, mark, rest = _split(ref)
    if not is_name(name):
        return None
    name = stored(kind, name)
    if mark == "@":
        return ByVersion(name, int(rest)) if _VERSION.fullmatch(rest) else None
    if mark == ":":
        return ByAlias(name, rest) if is_name(rest) else None
    return Newest(name)


def _split(ref: str) -> tuple[str, str, str]:
    for mark in "@:":
        name, found, rest = ref.partition(mark)
        if found:
            return name, mark, rest
    return ref, "", ""
