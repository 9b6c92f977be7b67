"""What the inference tells whoever counts. No Prometheus in here: the engine works without a server."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Told of each load, batch and request as it happens, on the event loop."""

    def loaded(self, *, engine: str, load_s: float) -> None:
        """One encoder, from its stored files into memory; ``engine``: the library that computes it."""

    def batch(self, *, images: int, forward_s: float) -> None:
        """One forward pass."""

    def request(self, *, decode_s: float, queue_s: float) -> None:
        """One request that was answered: how long its images were decoded, how long they waited for the engine."""

    def undecodable(self, code: str) -> None:
        """One image that cannot be used."""

    def decoder_lost(self) -> None:
        """One decoding process, which is replaced."""


class Unwatched:
    """Nobody counts."""

    def loaded(self, *, engine: str, load_s: float) -> None: ...

    def batch(self, *, images: int, forward_s: float) -> None: ...

    def request(self, *, decode_s: float, queue_s: float) -> None: ...

    def undecodable(self, code: str) -> None: ...

    def decoder_lost(self) -> None: ...
