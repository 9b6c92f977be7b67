"""Ids: a prefix and 26 characters of Crockford's base 32, ordered by the time at which they were made.

128 bits as in a ULID, but 56 of them are microseconds and 72 random: ids of one process sort in the order in which
they were made, down to the microsecond.
"""

from __future__ import annotations

import re
import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26
RANDOM_BITS = 72
_BODY = re.compile(f"[{ALPHABET}]{{{LENGTH}}}")


def new_id(prefix: str) -> str:
    """A fresh id such as ``job_`` + 26 characters."""
    number = (time.time_ns() // 1000 << RANDOM_BITS) | secrets.randbits(RANDOM_BITS)
    shifts = range(5 * (LENGTH - 1), -1, -5)
    return prefix + "".join(ALPHABET[number >> shift & 31] for shift in shifts)


def is_id(prefix: str, value: str) -> bool:
    """Whether ``value`` is an id of this prefix in form; anything else need not be looked up."""
    return value.startswith(prefix) and _BODY.fullmatch(value, len(prefix)) is not None
