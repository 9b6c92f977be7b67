"""How much structure a JSON body has, counted over its bytes as they arrive, before anything is parsed.

A parser needs no more memory for 64 MiB of base64 than these have bytes, and ninety times as much for 64 MiB of empty
lists. What makes the difference is the number of lists, objects and values, and every one of them costs its writer a
mark: ``[``, ``{`` or ``,``. Base64 and numbers have none. So who counts the marks bounds what parsing costs, at the
price of reading the bytes once more; a body that has more than any request that could be answered is never parsed.
Marks within strings count as well: there is room for some thousands.
"""

from __future__ import annotations

from collections.abc import Callable

from service.refusals import InvalidBody, MalformedBody, TooLarge
from service.schemas import MAX_ROWS
from service.settings import Settings

LISTS = 1_000
"""Lists and objects of a body that is no table of rows."""
SPARE = 4_096
"""Values beside those that a body is about."""

Count = Callable[[bytes], None]
"""Takes one piece of a body after the other. Raises InvalidBody or TooLarge once there are too many marks."""


def of_fields(values: int, lists: int = 0) -> Count:
    """Of a body of some fields and at most ``values`` numbers in ``lists`` lists."""
    over = InvalidBody("The body has more values than any request of this kind.")
    return _counter(lists=LISTS + lists, values=values + SPARE, over=over)


def of_images(settings: Settings) -> Count:
    """Of a body of images; a data URI has a comma of its own."""
    most = settings.max_embed_images
    over = TooLarge(f"The body has more values than {most} images, the most that a request may have.")
    return _counter(lists=LISTS, values=2 * most + SPARE, over=over)


def of_rows(settings: Settings) -> Count:
    """Of a body of embeddings, or of images."""
    most = max(settings.max_npy_values, settings.max_embed_images)
    over = TooLarge(f"The body has more than {most} values; send an .npy file.")
    return _counter(lists=MAX_ROWS + LISTS, values=most + SPARE, over=over)


def _counter(*, lists: int, values: int, over: InvalidBody | TooLarge) -> Count:
    found = [0, 0]

    def count(piece: bytes) -> None:
        found[0] += piece.count(b"[") + piece.count(b"{")
        found[1] += piece.count(b",")
        if found[0] > lists:
            raise MalformedBody("The body has more lists and objects than any request of this kind.")
        if found[1] > values:
            raise over

    return count
