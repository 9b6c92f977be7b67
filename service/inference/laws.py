"""The laws of the encoders: most follow from their description, a flow needs a file of the encoder, read once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from service.errors import BlobDamaged, BlobMissing
from service.inference.engine import Damaged
from service.inference.registry import Notes
from service.store import Blobs
from service.store.damage import CHANGED, GONE
from service.store.encoders import Encoder

if TYPE_CHECKING:
    from nidim.priors import Prior

FILE = "prior.safetensors"
KEPT = 8
"""Flows in memory, some hundred kilobytes each; one is a file of at most some megabytes."""


class Laws:
    """``laws.of(encoder)``: the law that its clean embeddings follow. For any thread."""

    def __init__(self, blobs: Blobs, notes: Notes | None = None) -> None:
        self._blobs, self._notes = blobs, notes
        self._flows: OrderedDict[str, Prior] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, encoder: Encoder) -> Prior:
        """Raises Damaged where a flow's file is gone or is not what was stored."""
        from nidim.priors import prior_from_dict  # and with it SciPy

        if encoder.prior["kind"] != "flow":
            return prior_from_dict(encoder.prior)
        digest = encoder.prior["file"]
        with self._lock:
            if digest not in self._flows:
                self._flows[digest] = self._read(encoder, digest)
                if len(self._flows) > KEPT:
                    self._flows.popitem(last=False)
            self._flows.move_to_end(digest)
            return self._flows[digest]

    def _read(self, encoder: Encoder, digest: str) -> Prior:
        """The file is a blob under the very digest by which the description names it."""
        from nidim.priors import prior_from_dict

        try:
            return prior_from_dict(encoder.prior, file=self._blobs.read(digest))
        except BlobMissing as error:
            raise self._noted(encoder, Damaged(f"{FILE} {GONE}", FILE)) from error
        except (BlobDamaged, ValueError) as error:
            raise self._noted(encoder, Damaged(f"{FILE} {CHANGED}", FILE)) from error

    def _noted(self, encoder: Encoder, error: Damaged) -> Damaged:
        if self._notes is not None:
            self._notes.refused(encoder, error)
        return error
