"""Notes of damaged encoders, written where they are found: while loading one, while sending a file of one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.inference.engine import Damaged
from service.refusals import EncoderDamaged
from service.store import Store, damage
from service.store.encoders import Encoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ledger:
    """Writes to the store what loading an encoder showed; a database that does not answer does not stop the loading."""

    store: Store

    def loaded(self, encoder: Encoder) -> None:
        """All files of the encoder are what was stored. ``encoder`` may have been read before the damage was noted."""
        try:
            with self.store.session() as tx:
                was_noted = encoder.id in damage.of(tx, [encoder.id])
            if was_noted:
                with self.store.begin() as tx:
                    damage.clear(tx, encoder.id)
        except Exception:
            logger.exception("that encoder %s is whole again was not noted", encoder.id)

    def refused(self, encoder: Encoder, error: Damaged) -> None:
        """The encoder cannot be loaded."""
        self._note(encoder, error.file, error.detail)

    @contextmanager
    def sending(self, encoder: Encoder, file: str) -> Iterator[None]:
        """Note the damage of a file that cannot be sent."""
        try:
            yield
        except EncoderDamaged:
            self._note(encoder, file, f"{file} {damage.CHANGED}, or gone")
            raise

    def _note(self, encoder: Encoder, file: str | None, detail: str) -> None:
        try:
            with self.store.begin() as tx:
                damage.note(tx, encoder.id, file=file, detail=detail)
        except Exception:
            logger.exception("the damage of encoder %s was not noted", encoder.id)
