"""The known law of the embeddings: draw from it, score by it, move along it."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
import numpy as np
from fastapi import Depends
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service import images, rows, views
from service.accept import JSON, NPY, choose
from service.answers import PointsOut, SamplesOut, ScoresOut
from service.auth import needs
from service.bodies import json_body
from service.inference import engine
from service.inference.registry import label
from service.refusals import Blame, InvalidBody, TooLarge
from service.routes.common import App, ServedEncoder, answering, guarded, law_of, unless_gone
from service.routes.embed import checked, declared
from service.schemas import MAX_DIM, MAX_SEED, InterpolateIn, SampleIn
from service.settings import Settings
from service.state import Services
from service.store.encoders import Encoder

MAX_POINTS_VALUES = 10_000_000

router = guarded("/v1/encoders/{ref}/prior", "prior")


@router.post("/sample", response_model=SamplesOut)
@needs("embed")
def sample(
    request: Request,
    app: App,
    encoder: ServedEncoder,
    body: Annotated[SampleIn, Depends(json_body(SampleIn))],
) -> Response:
    """Rows [offset, offset + n) of one infinite stream per seed; pages agree with one big draw.

    A law without a centre (a sphere) takes no temperature but 1.
    """
    media = choose(request, rows.OFFERS)
    _bound(body, encoder.dim, media, app.settings)
    prior = law_of(app, encoder)
    if refused := prior.temperature_refused(body.temperature):
        raise InvalidBody(errors=[Blame("/temperature", refused)])
    pages = engine.pages(
        prior,
        n=body.n,
        seed=body.seed,
        offset=body.offset,
        temperature=body.temperature,
    )
    head = rows.Head("samples", label(encoder), encoder.dim)
    headers = {"X-Encoder": head.encoder, "X-Seed": str(body.seed)}
    if media == NPY:
        headers["Content-Length"] = str(rows.npy_length(body.n, encoder.dim))
    return StreamingResponse(rows.streamed(head, pages, body.n, media), media_type=media, headers=headers)


@router.post("/score", response_model=ScoresOut, openapi_extra={"x-images-body": True})
@needs("embed")
async def score(request: Request, app: App, encoder: ServedEncoder) -> Response:
    """log p in nats and P(χ²_d ≥ ‖s‖²) of images or embeddings; a small p is an outlier. On a sphere p is 1.

    ``p_conformal``: the share of held-out images that are at least as unusual; null for encoders from before it was
    measured.
    """
    choose(request, (JSON,))
    async with answering():
        with app.serving.budget.admitted(declared(request, app)) as room:
            pictures, embeddings = await images.images_or_embeddings(request, encoder.dim, room)
            if embeddings is None:
                assert pictures is not None
                done = await unless_gone(request, app.serving.embed(encoder, pictures, room=room))
                checked(app, done, keep_going=False)
                embeddings = done.rows
    body = await anyio.to_thread.run_sync(_scores, app, encoder, embeddings)
    return views.answer(body)


@router.post("/interpolate", response_model=PointsOut)
@needs("embed")
def interpolate(
    request: Request,
    app: App,
    encoder: ServedEncoder,
    body: Annotated[InterpolateIn, Depends(json_body(InterpolateIn, values=2 * MAX_DIM))],
) -> Response:
    """Points from a to b, both included, each as likely as a draw when a and b are draws."""
    media = choose(request, rows.OFFERS)
    if body.steps * encoder.dim > MAX_POINTS_VALUES:
        raise TooLarge(f"steps times d must be at most {MAX_POINTS_VALUES}.")
    prior = law_of(app, encoder)
    a, b = (_end(prior, name, getattr(body, name)) for name in ("a", "b"))
    with np.errstate(over="ignore"):
        points = prior.interpolate(a, b, body.steps).astype(np.float32)
    head = rows.Head("points", label(encoder), encoder.dim)
    return Response(rows.whole(head, points, media), media_type=media, headers={"X-Encoder": head.encoder})


def _bound(body: SampleIn, dim: int, media: str, settings: Settings) -> None:
    if media == JSON and body.n > settings.max_json_rows:
        raise TooLarge(
            f"JSON takes at most {settings.max_json_rows} rows; use Accept: {NPY}.",
            errors=[Blame("/n", f"at most {settings.max_json_rows}")],
        )
    if body.n * dim > settings.max_npy_values:
        raise TooLarge(
            f"n times d must be at most {settings.max_npy_values}; draw pages with offset.",
            errors=[Blame("/n", f"at most {settings.max_npy_values // dim}")],
        )
    if body.offset + body.n > MAX_SEED:
        raise InvalidBody(errors=[Blame("/offset", f"offset + n must be at most {MAX_SEED}")])


def _end(prior: Any, name: str, values: list[float]) -> NDArray[np.float64]:
    point = np.array(values, dtype=np.float64)
    if len(point) != prior.dim:
        raise InvalidBody(errors=[Blame(f"/{name}", f"must have {prior.dim} values, not {len(point)}")])
    if np.abs(point).max() > np.finfo(np.float32).max:
        raise InvalidBody(errors=[Blame(f"/{name}", "values must fit in float32")])
    inside = (
        np.isfinite(prior.normal_scores(point[None])).all() or np.isfinite(prior.log_prob(point[None]))[0]
    )
    if not inside:  # an edge of the support may have a density and no finite score
        raise InvalidBody(errors=[Blame(f"/{name}", "outside the support of the prior")])
    return point


def _scores(app: Services, encoder: Encoder, embeddings: NDArray[np.float32]) -> dict[str, Any]:
    conformal = app.serving.calibrations.of(encoder).conformal
    scores = engine.score(law_of(app, encoder), embeddings, conformal)
    return {"encoder": label(encoder), **scores}
