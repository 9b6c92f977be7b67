"""Embedded images are watched for drift: noted in memory by whoever embeds them, taken in together every second.

A request only leaves its rows here. A thread takes them in: features, then one short transaction an encoder, in which
the bets follow from what all processes have seen so far, and not from these rows. So what a process loses when it is
killed is what it embedded since the last flush, and of several processes each moves on what the others left.

At most ``MOST_ROWS`` images of an encoder are watched per flush, the first ones: what watching costs has a bound, and
which images they are does not depend on what they show.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import StoreBusy
from service.inference.calibrations import Calibrations
from service.inference.engine import Damaged
from service.inference.laws import Laws
from service.store import Store, drift
from service.store.encoders import Encoder

if TYPE_CHECKING:
    from nidim.drift import State, Tolerance

MOST_ROWS = 1024
"""Images of one encoder that are watched per flush."""
DAY_S = 86_400.0

logger = logging.getLogger(__name__)


class DriftSettings(Protocol):
    """The settings that watching needs."""

    @property
    def drift_enabled(self) -> bool: ...
    @property
    def drift_false_alarms_per_day(self) -> float: ...
    @property
    def drift_unit(self) -> Literal["image", "request"]: ...
    @property
    def drift_flush_s(self) -> float: ...


@dataclass
class _Pending:
    """Rows of one encoder that were not taken in yet."""

    encoder: Encoder
    parts: list[NDArray[np.float32]] = field(default_factory=list)
    rows: int = 0

    def add(self, rows: NDArray[np.float32]) -> None:
        taken = rows[: MOST_ROWS - self.rows]
        if len(taken):
            self.parts.append(taken)
            self.rows += len(taken)


class Drifts:
    """One per process."""

    def __init__(self, store: Store, laws: Laws, calibrations: Calibrations, settings: DriftSettings) -> None:
        self._store, self._laws, self._calibrations, self._settings = store, laws, calibrations, settings
        self._pending: dict[str, _Pending] = {}
        self._lock = threading.Lock()
        self._flushing = threading.Lock()

    def feed(self, encoder: Encoder, rows: NDArray[np.float32]) -> None:
        """Note clean embeddings (n, d) that were served; rows of NaN are no images. A few microseconds."""
        if self._settings.drift_enabled and len(rows):
            with self._lock:
                self._pending.setdefault(encoder.id, _Pending(encoder)).add(rows)

    def flush(self, encoder_id: str | None = None) -> None:
        """Take in what is pending, of one encoder or all. What cannot be taken in is logged and left out."""
        with self._flushing:
            for pending in self._taken(encoder_id):
                try:
                    self._take_in(pending)
                except (Damaged, StoreBusy):
                    logger.warning(
                        "%d images of encoder %s were not watched", pending.rows, pending.encoder.id
                    )
                except Exception:
                    logger.exception("watching encoder %s goes on after an error", pending.encoder.id)

    def run_forever(self, stop: threading.Event) -> None:
        """Flush every ``drift_flush_s`` until told to stop, then once more."""
        while not stop.wait(self._settings.drift_flush_s):
            self.flush()
        self.flush()

    def _taken(self, encoder_id: str | None) -> list[_Pending]:
        with self._lock:
            if encoder_id is not None:
                one = self._pending.pop(encoder_id, None)
                return [one] if one else []
            taken, self._pending = list(self._pending.values()), {}
            return taken

    def _take_in(self, pending: _Pending) -> None:
        from nidim.drift import advance

        encoder, values = pending.encoder, self._observations(pending)
        tolerance = self._calibrations.of(encoder).tolerance
        with self._store.begin() as tx:
            held = drift.hold(tx, encoder.id)
            if held is None or len(values) == 0:
                return
            before, elapsed_s = held
            flush_s = self._settings.drift_flush_s
            weight = min(elapsed_s, flush_s) if before.state is not None else flush_s
            state = advance(
                _state(before.state, encoder.dim),
                values,
                tolerance or _exact(encoder.dim),
                weight=weight / DAY_S,
            )
            log_days = state.log_detection
            begins = drift.move_on(
                tx,
                encoder.id,
                state=state.to_json(),
                n=state.n,
                detector_log_days=None if log_days == -math.inf else log_days,
                alarm=tolerance is not None and log_days >= self.log_threshold,
            )
        if begins:
            logger.warning("the images of encoder %s have drifted from its prior", encoder.id)

    def _observations(self, pending: _Pending) -> NDArray[np.float64]:
        """The features of the images, or their means over each request."""
        from nidim.drift import watched

        rows = np.concatenate(pending.parts)
        of = np.repeat(np.arange(len(pending.parts)), [len(part) for part in pending.parts])
        there = ~np.isnan(rows).any(axis=1)
        values = watched(self._laws.of(pending.encoder), rows[there])
        if self._settings.drift_unit == "image" or len(values) == 0:
            return values
        _, starts, counts = np.unique(of[there], return_index=True, return_counts=True)
        return np.add.reduceat(values, starts) / counts[:, None]

    @property
    def log_threshold(self) -> float:
        """Logarithm of the days at which the detector alarms."""
        return -math.log(self._settings.drift_false_alarms_per_day)

    def report(self, encoder: Encoder, seen: drift.Watched | None) -> dict[str, Any]:
        """What is known of the encoder's images, as JSON values: figures, no moments."""
        from nidim.drift import LEAST_IMAGES, summary

        tolerance = self._calibrations.of(encoder).tolerance
        state = _state(seen.state if seen else None, encoder.dim)
        found = summary(state, tolerance or _exact(encoder.dim))
        log_days = seen.detector_log_days if seen else None
        return {
            "n": state.n,
            "unit": self._settings.drift_unit,
            "recent_n": found.recent_images,
            "statistic": {name: shift.model_dump() for name, shift in found.groups.items()},
            "worst": found.worst.model_dump() if found.worst else None,
            "evidence": {"log_e": state.log_wealth, "p_value": math.exp(-state.log_peak)},
            "detector": {
                "log_ratio": None if log_days is None else log_days - self.log_threshold,
                "false_alarms_per_day": self._settings.drift_false_alarms_per_day,
            },
            "alarm": None if tolerance is None else bool(seen and seen.alarm_at),
            "tolerance": None if tolerance is None else _told(tolerance),
            "enabled": self._settings.drift_enabled,
            "note": NOTE.format(least=LEAST_IMAGES) if tolerance is None else None,
        }


NOTE = (
    "How far this encoder is from its prior was not measured on held-out images, so the evidence is against the prior "
    "itself, which no encoder meets exactly, and there is no alarm. Train it again, with {least} held-out images or "
    "more, to have one."
)


def _told(tolerance: Tolerance) -> dict[str, Any]:
    radius = {name: group.radius for name, group in tolerance.groups.items()}
    return {"n": tolerance.n, "confidence": tolerance.confidence, "radius": radius}


def _state(stored: dict[str, Any] | None, dim: int) -> State:
    """Of another version: nothing, as after a reset."""
    from nidim.drift import State

    if stored is None:
        return State.empty(dim)
    try:
        return State.from_json(stored)
    except ValueError as error:
        logger.warning("a stored state of the drift monitor is not used: %s", error)
        return State.empty(dim)


@functools.lru_cache(maxsize=16)
def _exact(dim: int) -> Tolerance:
    from nidim.drift import Tolerance

    return Tolerance.exact(dim)
