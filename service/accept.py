"""Content negotiation: which of our media types a client wants."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.requests import Request

from service.refusals import NotAcceptable

JSON = "application/json"
NPY = "application/x-npy"
ARROW = "application/vnd.apache.arrow.stream"
EVENTS = "text/event-stream"
HTML = "text/html"
_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


def choose(request: Request, offers: Sequence[str]) -> str:
    """The best of ``offers`` for the Accept header; the first one wins a tie. Raises NotAcceptable."""
    ranges = _ranges(request.headers.getlist("accept"))
    if not ranges:
        return offers[0]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    if _quality(best, ranges) <= 0:
        raise NotAcceptable(f"Accept must allow one of {', '.join(offers)}.")
    return best


def media_type(request: Request) -> str:
    """The request's Content-Type without parameters, in lower case."""
    return request.headers.get("content-type", "").split(";", 1)[0].strip().lower()


def _ranges(headers: Sequence[str]) -> list[tuple[str, float]]:
    found = []
    for entry in ",".join(headers).split(","):
        kind, *parameters = (piece.strip() for piece in entry.split(";"))
        if kind:
            found.append((kind.lower(), _q(parameters)))
    return found


def _q(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            return float(value) if _QUALITY.fullmatch(value.strip()) else 0.0
    return 1.0


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that covers ``offer``; 0 if none does."""
    for wanted in (offer, offer.split("/")[0] + "/*", "*/*"):
        for kind, q in ranges:
            if kind == wanted:
                return q
    return 0.0
