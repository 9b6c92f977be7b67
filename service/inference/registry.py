"""The encoders in memory: each with its batcher, the least recently used ones leave, bounded by bytes.

Loading happens in threads of its own, once however many ask, and never stalls an encoder that is loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from service.inference.admission import Bound
from service.inference.batcher import Batcher
from service.inference.engine import Damaged, Loaded
from service.inference.watch import Unwatched, Watch
from service.store.encoders import Encoder

Load = Callable[[Encoder], Loaded]


class Notes(Protocol):
    """Who wants to know whether the stored files of an encoder are whole; called in the threads that load."""

    def loaded(self, encoder: Encoder) -> None: ...
    def refused(self, encoder: Encoder, error: Damaged) -> None: ...


logger = logging.getLogger(__name__)


@dataclass
class Handle:
    """A loaded encoder at work."""

    encoder: Encoder
    loaded: Loaded
    batcher: Batcher
    users: int = 0

    @property
    def label(self) -> str:
        """``name@version``."""
        return label(self.encoder)


def label(encoder: Encoder) -> str:
    """``name@version``, the reference that never moves."""
    return f"{encoder.name}@{encoder.version}"


class Registry:
    """``async with registry.use(encoder) as handle``: nobody takes the encoder away meanwhile."""

    def __init__(
        self,
        load: Load,
        *,
        max_bytes: int,
        max_batch: int,
        bound: Bound,
        watch: Watch | None = None,
        notes: Notes | None = None,
    ) -> None:
        self._load, self._notes = load, notes
        self._watch: Watch = watch or Unwatched()
        self._max_bytes = max_bytes
        self._max_batch, self._bound = max_batch, bound
        self._loaders = ThreadPoolExecutor(2, thread_name_prefix="load")
        self._handles: OrderedDict[str, Handle] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Handle]] = {}
        self._awaited: Counter[str] = Counter()
        self._leaving: set[asyncio.Task[None]] = set()
        self.damaged: dict[str, str] = {}

    @property
    def handles(self) -> list[Handle]:
        """What is loaded, the most recently used one last."""
        return list(self._handles.values())

    @contextlib.asynccontextmanager
    async def use(self, encoder: Encoder) -> AsyncIterator[Handle]:
        """The loaded encoder. Raises Damaged, and whatever loading raises."""
        handle = self._handles.get(encoder.id) or await self._loaded(encoder)
        handle.users += 1
        if encoder.id in self._handles:
            self._handles.move_to_end(encoder.id)
        try:
            yield handle
        finally:
            handle.users -= 1
            self._shrink()

    def forget(self, encoder_id: str) -> None:
        """The encoder was deleted: it leaves when its users are done."""
        self.damaged.pop(encoder_id, None)
        if handle := self._handles.pop(encoder_id, None):
            self._let_go(handle)

    async def close(self) -> None:
        """Answer everything that was accepted, then let all go."""
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        for encoder_id in list(self._handles):
            self.forget(encoder_id)
        await asyncio.gather(*self._leaving)
        self._loaders.shutdown(wait=False, cancel_futures=True)

    async def _loaded(self, encoder: Encoder) -> Handle:
        """Loaded, by whoever came first, and kept until all who wait for it go on; what was deleted meanwhile anew."""
        self._awaited[encoder.id] += 1
        try:
            handle = await self._load_once(encoder)
            return handle if self._handles.get(encoder.id) is handle else await self._load_once(encoder)
        finally:
            self._awaited[encoder.id] -= 1
            if not self._awaited[encoder.id]:
                del self._awaited[encoder.id]

    async def _load_once(self, encoder: Encoder) -> Handle:
        task = self._loading.get(encoder.id)
        if task is None:
            task = asyncio.create_task(self._bring(encoder))
            self._loading[encoder.id] = task
            task.add_done_callback(lambda _: self._loading.pop(encoder.id, None))
        return await asyncio.shield(task)

    async def _bring(self, encoder: Encoder) -> Handle:
        loop, began = asyncio.get_running_loop(), time.perf_counter()
        try:
            loaded = await loop.run_in_executor(self._loaders, self._load_and_note, encoder)
        except Damaged:
            logger.error("encoder %s is damaged", label(encoder))
            self.damaged[encoder.id] = label(encoder)
            raise
        load_s = time.perf_counter() - began
        logger.info("%s is loaded (%s, %.2f s)", label(encoder), loaded.engine, load_s)
        self._watch.loaded(engine=loaded.engine, load_s=load_s)
        self.damaged.pop(encoder.id, None)
        batcher = Batcher(
            loaded.forward,
            dim=loaded.dim,
            max_batch=self._max_batch,
            bound=self._bound,
            executor=loaded.executor,
            watch=self._watch,
        )
        handle = Handle(encoder, loaded, batcher)
        self._handles[encoder.id] = handle
        return handle

    def _load_and_note(self, encoder: Encoder) -> Loaded:
        try:
            loaded = self._load(encoder)
        except Damaged as error:
            if self._notes is not None:
                self._notes.refused(encoder, error)
            raise
        if self._notes is not None:
            self._notes.loaded(encoder)
        return loaded

    def _shrink(self) -> None:
        """Let the least recently used idle encoders go until the rest fits; the last one always stays."""
        total = sum(handle.loaded.size_bytes for handle in self._handles.values())
        for encoder_id, handle in list(self._handles.items())[:-1]:
            if total <= self._max_bytes:
                return
            if handle.users == 0 and encoder_id not in self._awaited:
                total -= handle.loaded.size_bytes
                self._let_go(self._handles.pop(encoder_id))

    def _let_go(self, handle: Handle) -> None:
        task = asyncio.create_task(self._leave(handle))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _leave(self, handle: Handle) -> None:
        await handle.batcher.close()
        handle.loaded.executor.shutdown(wait=False)
