"""Images in, embeddings out."""

from __future__ import annotations

import secrets
import time
from typing import Annotated, Literal, NamedTuple

import anyio.to_thread
from fastapi import Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from service import images, rows
from service.accept import choose
from service.answers import EmbeddingsOut
from service.auth import needs
from service.inference import engine
from service.inference.serving import Embedded
from service.refusals import ForwardFailed
from service.routes.common import Ref, answering, guarded, law_of, served, unless_gone
from service.routes.direct import DirectRoute
from service.schemas import MAX_SEED
from service.state import Services, services
from service.store.encoders import Encoder
from service.tracing import Tracer

INLINE_VALUES = 1 << 14
"""Answers of so few values are written on the event loop: a thread's hand-over would cost more."""

router = guarded("/v1/encoders", "embedding", route_class=DirectRoute)


class EmbedQuery(BaseModel):
    """The parameters of an embedding."""

    noisy: bool = Field(default=False, description="f(x) + Z instead of f(x)")
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description="of Z; drawn if not given")
    offset: int = Field(
        default=0, ge=0, le=MAX_SEED, description="row of the stream of Z that the first image gets"
    )
    on_error: Literal["fail", "null"] = Field(
        default="fail", description="null: a bad image only loses its row"
    )
    watched: bool = Field(
        default=True, description="false: no live images, not to be counted in the watch for drift"
    )


class Z(NamedTuple):
    """Which rows of which stream of noise: those from ``offset`` on."""

    seed: int
    offset: int


@router.post("/{ref}/embed", response_model=EmbeddingsOut, openapi_extra={"x-images-body": True})
@needs("embed")
async def embed(request: Request, ref: Ref, query: Annotated[EmbedQuery, Query()]) -> Response:
    """Embed images; rows in input order, the same whatever the batching, to 1e-5 where torch computes them."""
    app = services(request)
    encoder = await served(app, ref)
    media = choose(request, rows.OFFERS)
    async with answering():
        done = await embedded(request, app, encoder, keep_going=query.on_error == "null")
    if query.watched:
        app.drifts.feed(encoder, done.rows)
    headers, noise = timing(done), None
    if query.noisy:
        noise = Z(secrets.randbelow(MAX_SEED) if query.seed is None else query.seed, query.offset)
        headers |= {"X-Seed": str(noise.seed), "X-Offset": str(noise.offset)}
    body = await _written(app, encoder, done, media, noise)
    return Response(body, media_type=media, headers=headers)


async def embedded(request: Request, app: Services, encoder: Encoder, *, keep_going: bool) -> Embedded:
    """Read the body and embed it; given up when the client hangs up."""
    with app.serving.budget.admitted(declared(request, app)) as room:
        found = await images.images(request, room)
        done = await unless_gone(request, app.serving.embed(encoder, found, keep_going=keep_going, room=room))
    checked(app, done, keep_going=keep_going)
    return done


def checked(app: Services, done: Embedded, *, keep_going: bool) -> None:
    """Count and trace ``done``. Raises ForwardFailed if the encoder failed on an image that cannot be left out."""
    app.metrics.embedded(images=len(done.rows), failed=len(done.missing))
    trace(app.tracer, done)
    if done.failed and not keep_going:
        index, error = min(done.failed.items())
        raise ForwardFailed(f"The encoder failed on image {index}.") from error


def trace(tracer: Tracer, done: Embedded) -> None:
    """The spans of an embedding, one after the other up to now."""
    if tracer.on:
        end_s = time.time()
        for name, seconds in (
            ("forward", done.forward_s),
            ("queue", done.queue_s),
            ("decode", done.decode_s),
        ):
            tracer.past(
                name, start_s=end_s - seconds, end_s=end_s, images=len(done.rows), encoder=done.encoder
            )
            end_s -= seconds


def declared(request: Request, app: Services) -> int:
    """The bytes that the body is said to have, as far as they are taken; 0 where nothing is said."""
    length = request.headers.get("content-length", "")
    return min(int(length), app.settings.max_embed_bytes) if length.isdecimal() else 0


def timing(done: Embedded) -> dict[str, str]:
    """Where the time went, and the largest batch that the images rode in."""
    spans = {"decode": done.decode_s, "queue": done.queue_s, "forward": done.forward_s}
    return {
        "Server-Timing": ", ".join(f"{name};dur={seconds * 1e3:.3f}" for name, seconds in spans.items()),
        "X-Batch-Size": str(done.batch),
        "X-Encoder": done.encoder,
    }


async def _written(app: Services, encoder: Encoder, done: Embedded, media: str, noise: Z | None) -> bytes:
    if noise is None and done.rows.size <= INLINE_VALUES and media != rows.ARROW:
        return _write(app, encoder, done, media, noise)
    return await anyio.to_thread.run_sync(_write, app, encoder, done, media, noise)


def _write(app: Services, encoder: Encoder, done: Embedded, media: str, noise: Z | None) -> bytes:
    values = done.rows
    if noise is not None:
        law = law_of(app, encoder)
        values = engine.noisy(encoder, law, values, seed=noise.seed, offset=noise.offset)
    head = rows.Head("embeddings", done.encoder, encoder.dim)
    return rows.whole(head, values, media, missing=done.missing)
