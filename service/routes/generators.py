"""Generators: read, delete, and make images from draws of the prior, from embeddings, or from images."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
import numpy as np
from fastapi import Depends, Path, Query
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from nidim.spec import NAME_PATTERN
from service import bodies, files, images, marks, tidying, vectors, views
from service.accept import JSON, NPY, choose, media_type
from service.answers import GeneratorOut, ListOut
from service.auth import needs
from service.degraded import Ledger
from service.errors import SourceGone
from service.inference import engine, pictures
from service.inference.room import Room
from service.refusals import Blame, EncoderDamaged, ForwardFailed, InvalidBody, TooLarge
from service.routes.common import (
    JSON_ONLY,
    App,
    Author,
    Caller,
    Cursor,
    Limit,
    OwnerAt,
    answering,
    guarded,
    law_of,
    look_up,
    unless_gone,
)
from service.routes.embed import checked, declared
from service.schemas import MAX_SEED, GenerateIn
from service.state import Services
from service.store import audit, encoders
from service.store.audit import By
from service.store.encoders import Encoder

PNG, ZIP = "image/png", "application/zip"
OFFERS = (PNG, NPY, ZIP)
DEFAULT_IMAGES = 16
ENDS = f"offset and the number of images must be at most {MAX_SEED} together"
VERSION_PATTERN = r"^(gen_[0-9a-z]{1,60}|[a-z0-9][a-z0-9._-]{0,62}@[1-9][0-9]{0,8})$"
GeneratorRef = Annotated[str, Path(max_length=127, description="gen_…, name or name@3")]
VersionRef = Annotated[
    str,
    Path(max_length=127, description="gen_… or name@3", json_schema_extra={"pattern": VERSION_PATTERN}),
]
SeedQuery = Annotated[
    int | None,
    Query(
        ge=0,
        le=MAX_SEED,
        description="as the seed of a JSON body, for bodies that cannot hold one; default: 0",
    ),
]
OffsetQuery = Annotated[
    int | None,
    Query(
        ge=0,
        le=MAX_SEED,
        description="as the offset of a JSON body, for bodies that cannot hold one; default: 0",
    ),
]
PICTURES = {
    media: {"schema": {"type": "string", "format": "binary", "maxLength": 1 << 30}} for media in OFFERS
}

router = guarded("/v1/generators", "generators")


async def served_generator(ref: GeneratorRef, app: App, _: Caller) -> Encoder:
    """A dependency: the generator of the path, for generating; looked up at most a few times a second."""
    return await app.generators.get(ref, functools.partial(look_up, app, ref, "generator"))


@router.get("", response_model=ListOut[GeneratorOut], dependencies=JSON_ONLY)
@needs("read")
def list_generators(
    app: App,
    limit: Limit = 50,
    cursor: Cursor = None,
    name: Annotated[
        str | None, Query(max_length=63, pattern=NAME_PATTERN, description="versions of this name only")
    ] = None,
) -> Response:
    """Generators, newest first."""
    with app.store.session() as tx:
        page = encoders.list_(tx, kind="generator", name=name, limit=limit, cursor=cursor)
    return views.page([views.generator(row) for row in page.items], page)


@router.get("/{ref}", response_model=GeneratorOut, dependencies=JSON_ONLY)
@needs("read")
def get_generator(generator: OwnerAt) -> Response:
    """One version of a generator."""
    return views.answer(views.generator(generator))


@router.delete("/{ref}", status_code=204)
@needs("admin")
async def delete_generator(app: App, by: Author, ref: VersionRef) -> Response:
    """Delete one version, named by its id or name@version; its files go with it."""
    generator = await anyio.to_thread.run_sync(_delete, app, by, ref)
    app.generators.clear()
    app.generating.registry.forget(generator.id)
    await tidying.discard(app, [file.digest for file in generator.files.values()])
    return Response(status_code=204)


@router.get("/{ref}/report", dependencies=JSON_ONLY)
@needs("read")
async def generator_report(app: App, generator: OwnerAt) -> Response:
    """The full report: samples from the prior and from held-out embeddings beside real images."""
    data = await app.blob_threads.run(_whole, app, generator, files.REPORT)
    return Response(data, media_type=JSON)


@router.post(
    "/{ref}/generate",
    response_class=Response,
    responses={200: {"content": PICTURES}},
    openapi_extra={"x-generate-body": True},
)
@needs("embed")
async def generate(
    request: Request,
    app: App,
    generator: Annotated[Encoder, Depends(served_generator)],
    seed: SeedQuery = None,
    offset: OffsetQuery = None,
    columns: Annotated[int | None, Query(ge=1, le=1024, description="of the grid; default: a square")] = None,
) -> Response:
    """Images from draws of the prior (``{"n": 16, "seed": 0}``), or from embeddings or images as for embed.

    The same request gives the same images. By Accept a PNG grid (default), .npy uint8 (n, h, w, c), or a zip of PNGs.
    """
    media = choose(request, OFFERS)
    async with answering():
        with app.serving.budget.admitted(declared(request, app)) as room:
            wish = await _wish(request, app, generator, room, Place(seed, offset))
            _bound(len(wish.embeddings), app)
            made = await unless_gone(request, _images(app, generator, wish))
    body = await anyio.to_thread.run_sync(pictures.written, made, media, columns)
    headers = {"X-Generator": f"{generator.name}@{generator.version}", "X-Seed": str(wish.seed)}
    return Response(body, media_type=media, headers=headers)


@dataclass(frozen=True)
class Place:
    """Where in which stream the noise of images begins, as far as the query says."""

    seed: int | None
    offset: int | None


@dataclass(frozen=True)
class Wish:
    """What to make: embeddings (n, d) and the rows of noise that go with them."""

    embeddings: NDArray[np.float32]
    seed: int
    offset: int = 0
    same_noise: bool = False


async def _wish(request: Request, app: Services, generator: Encoder, room: Room, place: Place) -> Wish:
    if media_type(request) != JSON:
        given, rows = await images.images_or_embeddings(request, generator.dim, room)
        if rows is None:
            assert given is not None
            rows = await _embedded(request, app, generator, given, room)
        _require_rows(place.offset or 0, len(rows), Blame("", ENDS, parameter="offset"))
        return Wish(rows, place.seed or 0, place.offset or 0)
    raw = await bodies.read(request, app.settings.max_embed_bytes, room.arrived, marks.of_rows(app.settings))
    with room.holding(2 * len(raw)):
        body = _placed(await bodies.off_loop(bodies.parse, GenerateIn, raw, size=len(raw)), place)
        if body.images is not None:
            found = await bodies.off_loop(images.from_base64, body.images, size=len(raw))
            rows = await _embedded(request, app, generator, found, room)
            return _wished(rows, body)
    if body.embeddings is not None:
        return _wished(vectors.as_rows(body.embeddings, generator.dim), body)
    return await anyio.to_thread.run_sync(_drawn, app, generator, body)


def _placed(body: GenerateIn, place: Place) -> GenerateIn:
    """``body`` with seed and offset of the query where it has none of its own. Raises InvalidBody if there are two."""
    given = {name: value for name, value in vars(place).items() if value is not None}
    twice = [n for n, value in given.items() if n in body.model_fields_set and getattr(body, n) != value]
    if twice:
        blames = [Blame(f"/{n}", f"is not the {n} of the query, {given[n]}; give one of them") for n in twice]
        raise InvalidBody(errors=blames)
    return body.model_copy(update=given)


def _wished(rows: NDArray[np.float32], body: GenerateIn) -> Wish:
    _require_rows(body.offset, len(rows), Blame("/offset", ENDS))
    return Wish(rows, body.seed, body.offset, body.same_noise)


def _require_rows(offset: int, n: int, blame: Blame) -> None:
    """Raises InvalidBody where the stream ends before row offset + n."""
    if offset + n > MAX_SEED:
        raise InvalidBody(errors=[blame])


async def _embedded(
    request: Request, app: Services, generator: Encoder, given: images.Images, room: Room
) -> NDArray[np.float32]:
    """The embeddings of images, by the encoder that the generator was trained with."""
    _bound(len(given), app)
    encoder = await anyio.to_thread.run_sync(_source, app, generator)
    done = await unless_gone(request, app.serving.embed(encoder, given, room=room))
    checked(app, done, keep_going=False)
    return done.rows


def _drawn(app: Services, generator: Encoder, body: GenerateIn) -> Wish:
    n = DEFAULT_IMAGES if body.n is None else body.n
    _bound(n, app, "/n")
    prior = law_of(app, generator)
    _require_rows(body.offset, n, Blame("/offset", ENDS))
    if refused := prior.temperature_refused(body.temperature):
        raise InvalidBody(errors=[Blame("/temperature", refused)])
    rows = prior.sample(n, seed=body.seed, offset=body.offset, temperature=body.temperature)
    return _wished(rows, body)


def _bound(n: int, app: Services, place: str = "") -> None:
    most = app.settings.max_generate_images
    if n > most:
        raise TooLarge(
            f"{n} images are over the limit of {most} a request; make pages with offset.",
            errors=[Blame(place, f"at most {most}")],
        )


def _source(app: Services, generator: Encoder) -> Encoder:
    """The encoder that the generator was trained with. Raises SourceGone."""
    with app.store.session() as tx:
        encoder = encoders.get_by_ref(tx, generator.spec["source"])
    if encoder is None:
        raise SourceGone(
            "The encoder that this generator was trained with was deleted; send embeddings instead."
        )
    return encoder


async def _images(app: Services, generator: Encoder, wish: Wish) -> NDArray[np.uint8]:
    prior: engine.Prior = await anyio.to_thread.run_sync(law_of, app, generator)
    try:
        return await app.generating.images(
            generator,
            prior,
            wish.embeddings,
            seed=wish.seed,
            offset=wish.offset,
            same_noise=wish.same_noise,
        )
    except (ValueError, RuntimeError) as error:
        raise ForwardFailed("The generator failed on this request.") from error


def _whole(app: Services, generator: Encoder, name: str) -> bytes:
    if name not in generator.files:
        raise EncoderDamaged
    with Ledger(app.store).sending(generator, name):
        return files.whole(app.store.blobs, generator, name)


def _delete(app: Services, by: By, ref: str) -> Encoder:
    with app.store.begin() as tx:
        generator = encoders.delete(tx, ref, "generator")
        version = f"{generator.name}@{generator.version}"
        audit.record(tx, by, "generator.delete", generator.id, version=version)
    return generator
