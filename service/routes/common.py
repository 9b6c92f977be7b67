"""What the routes share: parameters, look-ups, and the inference's errors as answers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Coroutine
from typing import Annotated, Any, TypeVar

import anyio.to_thread
from fastapi import APIRouter, Depends, Path, Query
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request

from service import refusals
from service.accept import JSON, choose
from service.auth import Principal, authorize
from service.errors import NotFound
from service.inference import engine
from service.inference.admission import QueueFull
from service.inference.batcher import BatcherClosed
from service.inference.decoder_slot import DecodersDown
from service.inference.engine import Damaged
from service.inference.room import TooManyBytes
from service.inference.serving import Bad, BadImagesFound
from service.problems import REQUEST_ID
from service.refusals import Blame
from service.state import Services, services
from service.store import encoders
from service.store.audit import By
from service.store.encoders import Encoder
from service.store.names import Kind

T = TypeVar("T")
MAX_BLAMES = 100
UNHEARD_S = 0.05
"""Of work, before anybody listens for its client to hang up."""


async def the_services(request: Request) -> Services:
    """A dependency; a coroutine because plain functions are sent to a thread."""
    return services(request)


App = Annotated[Services, Depends(the_services)]
Caller = Annotated[Principal, Depends(authorize)]


async def author(request: Request, caller: Caller) -> By:
    """A dependency of routes that change something: who is named in the audit log."""
    return By(caller.id, request.scope[REQUEST_ID])


Author = Annotated[By, Depends(author)]
Limit = Annotated[int, Query(ge=1, le=1000, description="items a page")]
Cursor = Annotated[str | None, Query(max_length=512, description="next_cursor of the page before")]
Ref = Annotated[str, Path(max_length=127, description="enc_…, name, name@3 or name:alias")]
OwnerRef = Annotated[str, Path(max_length=127, description="an id, name, name@3 or name:alias")]
NamePath = Annotated[str, Path(max_length=63, description="a name")]
IdPath = Annotated[str, Path(max_length=64, description="an id")]


async def wants_json(request: Request) -> None:
    """A dependency of routes that answer JSON and nothing else; a DELETE answers nothing. Raises NotAcceptable."""
    if request.method != "DELETE":
        choose(request, [JSON])


JSON_ONLY = [Depends(wants_json)]
"""Of a route that answers JSON and nothing else, on a router where others do not."""


def guarded(
    prefix: str, tag: str, *, json_only: bool = False, route_class: type[APIRoute] = APIRoute
) -> APIRouter:
    """A router of which every route asks for the caller's key; ``json_only``: and for whether JSON will do."""
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        route_class=route_class,
        dependencies=[Depends(authorize), *(JSON_ONLY if json_only else [])],
        generate_unique_id_function=lambda route: route.name,
    )


def found(thing: T | None, what: str) -> T:
    """``thing``, or NotFound."""
    if thing is None:
        raise NotFound(f"There is no such {what}; look at the list for what exists.")
    return thing


def look_up(app: Services, ref: str, kind: Kind = "encoder") -> Encoder:
    """The encoder or generator that a reference in the path names. Raises NotFound."""
    with app.store.session() as tx:
        return found(encoders.get_by_ref(tx, ref, kind), kind)


def law_of(app: Services, encoder: Encoder) -> engine.Prior:
    """The law of the encoder's clean embeddings; may read a file. Raises EncoderDamaged."""
    try:
        return app.serving.laws.of(encoder)
    except Damaged as error:
        raise refusals.EncoderDamaged from error


async def encoder_at(ref: Ref, app: App, _: Caller) -> Encoder:
    """A dependency: the encoder of the path, with its aliases as they are."""
    return await anyio.to_thread.run_sync(look_up, app, ref)


async def served_encoder(ref: Ref, app: App, _: Caller) -> Encoder:
    """A dependency: what :func:`served` finds."""
    return await served(app, ref)


async def served(app: Services, ref: str) -> Encoder:
    """The encoder of a reference, for embedding; looked up at most a few times a second. Raises NotFound."""
    return await app.encoders.get(ref, functools.partial(look_up, app, ref))


async def owner_at(request: Request, ref: OwnerRef, app: App, _: Caller) -> Encoder:
    """A dependency: the encoder of the path or, below ``/v1/generators``, the generator."""
    kind: Kind = "generator" if request.url.path.startswith("/v1/generators/") else "encoder"
    return await anyio.to_thread.run_sync(look_up, app, ref, kind)


EncoderAt = Annotated[Encoder, Depends(encoder_at)]
OwnerAt = Annotated[Encoder, Depends(owner_at)]
ServedEncoder = Annotated[Encoder, Depends(served_encoder)]


@contextlib.asynccontextmanager
async def answering(place: str = "/images/{}") -> AsyncIterator[None]:
    """Errors of the inference as refusals; ``place`` is where an image stands in the body, by its index."""
    try:
        yield
    except QueueFull as error:
        raise refusals.Overloaded(
            "The queue of this encoder is full; try again later.", retry_after_s=error.retry_after_s
        ) from None
    except TooManyBytes:
        raise refusals.Overloaded("Too many bytes of images are at work; try again later.") from None
    except BatcherClosed:
        raise refusals.ServingUnavailable("The server is stopping; try again.") from None
    except DecodersDown as error:
        raise refusals.ServingUnavailable("No image can be decoded now; try again.") from error
    except Damaged as error:
        raise refusals.EncoderDamaged from error
    except BadImagesFound as error:
        raise bad_images(error.bad, place) from None


def bad_images(bad: Bad, place: str) -> refusals.Refusal:
    """The refusal that names every image that cannot be used, by index."""
    blames = [Blame(place.format(i), message) for i, (_, message) in sorted(bad.items())[:MAX_BLAMES]]
    first = min(bad)
    detail = f"Image {first}: {bad[first][1]}."
    if all(code == "image_too_large" for code, _ in bad.values()):
        return refusals.ImageTooLarge(detail, errors=blames)
    return refusals.BadImages(detail, errors=blames)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is given up when the client hangs up. The body must have been read.

    Nobody looks in the first moments, in which most work is done. Raises ClientDisconnect.
    """
    task = asyncio.current_task()
    assert task is not None
    listener = _Listener(request, task)
    look = asyncio.get_running_loop().call_later(UNHEARD_S, listener.begin)
    try:
        return await work
    except asyncio.CancelledError:
        if listener.heard and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        look.cancel()
        listener.end()


class _Listener:
    """Cancels ``task`` when the client of ``request`` hangs up."""

    def __init__(self, request: Request, task: asyncio.Task[Any]) -> None:
        self._request, self._task = request, task
        self._listening: asyncio.Task[None] | None = None
        self.heard = False

    def begin(self) -> None:
        self._listening = asyncio.create_task(self._listen())

    def end(self) -> None:
        if self._listening is not None:
            self._listening.cancel()

    async def _listen(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            continue
        self.heard = True
        self._task.cancel()
