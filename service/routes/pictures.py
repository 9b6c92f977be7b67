"""The images of a dataset, to look at or to embed."""

from __future__ import annotations

from typing import Annotated, Literal

import anyio.to_thread
import orjson
from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response

from nidim import __version__
from nidim.spec import DatasetFacts
from service import catalog, files, previews, views
from service.accept import JSON, NPY, choose
from service.answers import LabelsOut
from service.auth import needs
from service.errors import DatasetUnavailable
from service.inference import builtins
from service.refusals import Blame, InvalidBody
from service.routes.common import App, NamePath, guarded
from service.schemas import MAX_COUNT
from service.state import Services
from service.store import datasets
from service.store.datasets import Dataset

PNG = "image/png"
KINDS = {PNG: "png", NPY: "npy", JSON: "json"}
CONTENT = {
    kind: {"schema": {"type": "string", "format": "binary", "maxLength": MAX_COUNT}} for kind in (PNG, NPY)
}
DEFAULT_SIZE = 64

router = guarded("/v1/datasets", "datasets")


@router.get("/{name}/images", response_model=LabelsOut, responses={200: {"content": CONTENT}, 304: {}})
@needs("read")
async def dataset_images(
    request: Request,
    app: App,
    name: NamePath,
    split: Annotated[Literal["train", "test"], Query(description="test: the held-out images")] = "test",
    offset: Annotated[int, Query(ge=0, le=MAX_COUNT, description="images before the first one")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="images at most")] = 50,
    size: Annotated[
        int | None, Query(ge=1, le=512, description="pixels a side; default: their own, at most 64")
    ] = None,
    if_none_match: Annotated[str | None, Header(max_length=1024)] = None,
) -> Response:
    """Some images, prepared as an encoder of this size takes them, in the order that training and evaluation see.

    image/png: one picture of all, row by row, ⌈√n⌉ in a row; application/x-npy: uint8 (n, size, size, channels);
    application/json: their labels.
    """
    media = choose(request, tuple(KINDS))
    row, facts = await anyio.to_thread.run_sync(_look_up, app, name)
    side = size or min(facts.height, facts.width, DEFAULT_SIZE)
    _bound(limit * side * side * facts.channels)
    total = facts.n_train if split == "train" else facts.n_test
    if media == PNG and offset >= total:
        few = f"{name} has {total} {split} images, and a picture needs one"
        raise InvalidBody(errors=[Blame("", few, parameter="offset")])
    wanted = previews.Preview(split, offset, limit, side, KINDS[media])
    tag = wanted.etag((row.digest if row else None) or f"{name} {__version__}")
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
    if files.not_modified(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    body = await previews.make(app, name, row, wanted)
    if media != JSON:
        return Response(body, media_type=media, headers=headers)
    labels = [None if label < 0 else label for label in orjson.loads(body)]
    answer = {"dataset": name, "split": split, "offset": offset, "total": total, "labels": labels}
    return views.answer(answer, headers=headers)


def _look_up(app: Services, name: str) -> tuple[Dataset | None, DatasetFacts]:
    """The row, None for a built-in, and what is known of the images. Raises NotFound, DatasetUnavailable."""
    with app.store.session() as tx:
        catalog.view(app.settings, tx, name)
        row = datasets.get(tx, name)
    if row is not None:
        return row, row.facts
    if not builtins.present(name, app.settings.datasets_root):
        raise DatasetUnavailable(
            f"The files of {name} are not here: put them below the datasets directory, or let a training download them."
        )
    return None, builtins.facts(name)


def _bound(size_bytes: int) -> None:
    if size_bytes > previews.MAX_BYTES:
        most = previews.MAX_BYTES >> 20
        detail = f"so many images of this size are {size_bytes >> 20} MiB, and one answer has {most} at most"
        raise InvalidBody(errors=[Blame("", f"{detail}: ask for fewer", parameter="limit")])
