"""Where the broker is: one Redis, or Sentinels that know which of several Redis is the master now.

redis://:password@host:6379/0                                      one, rediss:// with TLS
redis+socket:///path/redis.sock                                    one, by its socket
sentinel://:password@one:26379;sentinel://two:26379?master=NAME    whichever Sentinels call master of NAME

The password before the first Sentinel's name is that of the Redis; what Sentinels themselves want goes behind the name
of the master, ``&sentinel_password=…``. In passwords all but letters and digits is written as %40 and the like.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    import redis

ONE = r"rediss?://([^/?#]*@)?(\[[\da-fA-F:.]+\]|[^/?#@:]*)(:\d+)?(/[^@?]*)?(\?.*)?|redis\+socket://.+"
WATCHED = r"sentinel://([^/?#@;]*@)?[^/?#@:;]+(:\d+)?"
MASTER = r"\?master=[\w.-]+(&sentinel_password=[^&/?#@;]+)?"
FORM = re.compile(rf"{ONE}|{WATCHED}(;{WATCHED})*{MASTER}")
"""What a URL of a broker looks like."""
ADVICE = (
    "write redis://:password@host:6379/0, in the password / ? # as %2F %3F %23, or rediss://, or redis+socket:// and "
    "the socket's path, or sentinel://:password@host:26379;sentinel://other:26379?master=NAME"
)
SENTINEL_PORT = 26379


@dataclass(frozen=True)
class Address:
    """``url`` and ``options`` of the transport as Celery wants them."""

    url: str
    options: dict[str, Any] = field(default_factory=dict)


def address(url: str) -> Address:
    """Of a URL that looks like ``FORM``."""
    if not url.startswith("sentinel://"):
        return Address(url)
    sentinels, _, query = url.partition("?")
    asked = dict(parse_qsl(query))
    options: dict[str, Any] = {"master_name": asked["master"]}
    if password := asked.get("sentinel_password"):
        options["sentinel_kwargs"] = {"password": password}
    return Address(sentinels, options)


def client(url: str, *, timeout_s: float) -> redis.Redis:
    """A client of the Redis, with Sentinels of the present master. It raises redis.RedisError where none is known."""
    import redis
    from redis.sentinel import Sentinel

    times = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    found = address(url)
    if not found.options:
        return redis.Redis.from_url(url.replace("redis+socket://", "unix://", 1), **times)
    parts = [urlsplit(one) for one in found.url.split(";")]
    places = [(part.hostname or "", part.port or SENTINEL_PORT) for part in parts]
    sentinel_kwargs = {**times, **found.options.get("sentinel_kwargs", {})}
    redis_kwargs = {**times, "password": unquote(parts[0].password or "") or None}
    sentinels = Sentinel(places, sentinel_kwargs=sentinel_kwargs, **redis_kwargs)
    return sentinels.master_for(found.options["master_name"], redis_class=redis.Redis)
