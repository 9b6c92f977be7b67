"""What the reports of encoders say of held-out images: conformal p-values and the tolerance of drift."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from service.store.encoders import Encoder

if TYPE_CHECKING:
    from nidim.conformal import Conformal
    from nidim.drift import Tolerance

P = TypeVar("P", bound=BaseModel)
SECTION = "calibration"
KEPT = 64
"""Calibrations in memory, some tens of kilobytes each."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """None where the encoder is older than the figure, or had too few held-out images for it."""

    conformal: Conformal | None = None
    tolerance: Tolerance | None = None


class Calibrations:
    """``calibrations.of(encoder)``. For any thread."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, Calibration] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, encoder: Encoder) -> Calibration:
        """Read from its report, once."""
        with self._lock:
            if encoder.id not in self._found:
                self._found[encoder.id] = _read(encoder)
                if len(self._found) > KEPT:
                    self._found.popitem(last=False)
            self._found.move_to_end(encoder.id)
            return self._found[encoder.id]


def _read(encoder: Encoder) -> Calibration:
    from nidim.conformal import Conformal
    from nidim.drift import Tolerance

    section = encoder.report.get(SECTION)
    if not isinstance(section, dict):
        return Calibration()
    return Calibration(
        conformal=_part(encoder, section, Conformal, "conformal"),
        tolerance=_part(encoder, section, Tolerance, "tolerance"),
    )


def _part(encoder: Encoder, section: dict[str, object], kind: type[P], name: str) -> P | None:
    """None for what this version does not understand: an encoder serves without it."""
    if section.get(name) is None:
        return None
    try:
        found = kind.model_validate(section[name])
    except ValidationError as error:
        logger.warning("the %s of encoder %s is not used: %s", name, encoder.id, error.errors()[0]["msg"])
        return None
    if getattr(found, "dim", encoder.dim) != encoder.dim:
        logger.warning("the %s of encoder %s is of another dimension", name, encoder.id)
        return None
    return found
