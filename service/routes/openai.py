"""The shape of OpenAI's embeddings endpoint, for clients that know it; images come as data URIs."""

from __future__ import annotations

import base64
from typing import Any

import anyio.to_thread
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from service import bodies, marks, views
from service.accept import JSON
from service.answers import OpenAIEmbeddingsOut
from service.auth import needs
from service.images import from_base64, is_data_uri
from service.inference.serving import Embedded
from service.refusals import Blame, InvalidBody, TooLarge
from service.routes.common import App, answering, guarded, unless_gone
from service.routes.embed import checked, declared, timing
from service.schemas import OpenAIEmbeddingsIn
from service.state import Services
from service.store import encoders
from service.store.encoders import Encoder

PATH = "/embeddings"
router = guarded("/v1", "embedding", json_only=True)


@router.post(
    PATH,
    response_model=OpenAIEmbeddingsOut,
    openapi_extra={"x-openai-body": True},
)
@needs("embed")
async def create_embeddings(request: Request, app: App) -> Response:
    """Embed images given as data URIs. Nothing is ever fetched from an address."""
    async with answering():
        with app.serving.budget.admitted(declared(request, app)) as room:
            raw = await bodies.read(
                request, app.settings.max_embed_bytes, room.arrived, marks.of_images(app.settings)
            )
            bodies.require(request, JSON, empty=not raw)
            with room.holding(2 * len(raw)):
                wish, images = await anyio.to_thread.run_sync(_parsed, raw, app.settings.max_embed_images)
            encoder = await anyio.to_thread.run_sync(_encoder, app, wish)
            async with answering("/input/{}" if isinstance(wish.input, list) else "/input"):
                done = await unless_gone(request, app.serving.embed(encoder, images, room=room))
    checked(app, done, keep_going=False)
    app.drifts.feed(encoder, done.rows)
    body = await anyio.to_thread.run_sync(_body, done, wish.encoding_format or "float")
    return views.answer(body, headers=timing(done))


def _parsed(raw: bytes, most: int) -> tuple[OpenAIEmbeddingsIn, list[bytes | None]]:
    wish = bodies.parse(OpenAIEmbeddingsIn, raw)
    many = isinstance(wish.input, list)
    texts = wish.input if isinstance(wish.input, list) else [wish.input]
    if not texts:
        raise InvalidBody(errors=[Blame("/input", "at least one image")])
    if len(texts) > most:
        raise TooLarge(f"{len(texts)} images are over the limit of {most} a request.")
    places = [f"/input/{i}" for i in range(len(texts))] if many else ["/input"]
    blames = [
        Blame(place, "not a data:image/…;base64 URI")
        for place, text in zip(places, texts, strict=True)
        if not is_data_uri(text)
    ]
    if blames:
        raise InvalidBody("Images come as data URIs; nothing is fetched.", errors=blames[:100])
    return wish, from_base64(texts)


def _encoder(app: Services, wish: OpenAIEmbeddingsIn) -> Encoder:
    with app.store.session() as tx:
        encoder = encoders.get_by_ref(tx, wish.model)
    if encoder is None:
        raise InvalidBody("There is no such encoder.", errors=[Blame("/model", "unknown encoder")])
    if wish.dimensions not in (None, encoder.dim):
        raise InvalidBody(errors=[Blame("/dimensions", f"this encoder has {encoder.dim}")])
    return encoder


def _body(done: Embedded, encoding: str) -> dict[str, Any]:
    n = len(done.rows)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": i, "embedding": _encoded(row, encoding)}
            for i, row in enumerate(done.rows)
        ],
        "model": done.encoder,
        "usage": {"prompt_tokens": n, "total_tokens": n},
    }


def _encoded(row: np.ndarray[Any, np.dtype[np.float32]], encoding: str) -> Any:
    return base64.b64encode(row.astype("<f4").tobytes()).decode() if encoding == "base64" else row
