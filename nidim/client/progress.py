"""What a person sees while something runs at the server: a bar where rich is installed, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from nidim.client.values import Event, JobInfo

EVERY_S = 5.0
Watch = Callable[[Event], None]
Moved = Callable[[int, int], None]


@contextlib.contextmanager
def watching(job: JobInfo, *, show: bool) -> Iterator[Watch]:
    """A function that takes the events of a job and shows them on standard error, or does not."""
    if not show:
        yield lambda _event: None
        return
    try:
        from nidim.progress import TrainingDisplay
    except ImportError:
        yield _Follows(_Lines(), job).take
        return
    with TrainingDisplay() as display:
        yield _Follows(display, job).take


class _Follows:
    """Joins the latest figures and the latest step, which come as events of their own."""

    def __init__(self, display: Any, job: JobInfo) -> None:
        self._display, self._title = display, job.encoder or job.id
        self._figures: dict[str, Any] = dict(job.metrics)

    def take(self, event: Event) -> None:
        """Show one event."""
        data = event.data
        if event.type == "metric":
            self._figures |= data
        elif event.type == "log":
            self._display.phase(str(data.get("message", ""))[:40], None)
        elif event.type == "warning":
            self._display.phase(f"{data.get('code')}: {data.get('detail')}"[:100], None)
        elif event.type == "progress" and data.get("steps"):
            self._display.show(
                epoch=data.get("epoch") or 0,
                epochs=data.get("epochs") or 0,
                step=data.get("step") or 0,
                steps=data["steps"],
                images_per_s=data.get("images_per_s") or 0.0,
                mi_nats=self._figures.get("mi_nats"),
                capacity_nats=self._figures.get("capacity_nats"),
                title=self._title,
            )


class _Lines:
    """A line now and then."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def show(
        self,
        *,
        epoch: int,
        epochs: int,
        step: int,
        steps: int,
        images_per_s: float,
        mi_nats: float | None,
        capacity_nats: float | None,
        title: str,
    ) -> None:
        """The same figures as the bar."""
        if time.monotonic() < self._next_s and step < steps:
            return
        self._next_s = time.monotonic() + EVERY_S
        ceiling = f" of C = {capacity_nats:.2f} nats" if capacity_nats is not None else ""
        information = f"Î = {mi_nats:.2f}{ceiling}, " if mi_nats is not None else ""
        self.phase(
            f"{title}: epoch {epoch}/{epochs}, step {step}/{steps}, {information}{images_per_s:,.0f} images/s",
            None,
        )

    def phase(self, name: str, _fraction: float | None) -> None:
        """Anything else that is worth a line."""
        sys.stderr.write(f"{name}\n")


@contextlib.contextmanager
def transferring(title: str, *, show: bool, moved: Moved | None) -> Iterator[Moved]:
    """A function that takes bytes done and bytes in all: a bar if ``show``, and ``moved`` if there is one."""
    tell: Moved = moved or (lambda _done, _total: None)
    if not show:
        yield tell
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, Task, TextColumn, TransferSpeedColumn
        from rich.text import Text
    except ImportError:
        yield _plain(title, tell)
        return

    class Speed(TransferSpeedColumn):
        """Nothing where there is none yet, instead of a question mark."""

        def render(self, task: Task) -> Text:
            return super().render(task) if task.finished_speed or task.speed else Text()

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)

        def show_too(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            tell(done, total)

        yield show_too


def _plain(title: str, tell: Moved) -> Moved:
    shown = [-1]

    def show_too(done: int, total: int) -> None:
        tenth = 10 * done // max(1, total)
        if tenth > shown[0]:
            shown[0] = tenth
            sys.stderr.write(f"{title}: {10 * tenth} % of {total:,} bytes\n")
        tell(done, total)

    return show_too
