"""Run jobs with progress on the terminal, and words for what came out."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from napari_embed.engine.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from napari_embed.engine.client import Event

__all__ = ["Engine", "duration", "say", "showable"]

# Without a terminal (a log file, a cluster job) a line each so often.
LINE_EVERY_S = 15.0
WAIT_STEP_S = 0.2
BOTTLENECKS = {"decode": "reading images", "model": "the encoder", "disk": "the disk"}


def showable(text: str, stream: TextIO) -> str:
    """Return text that a stream can take and a terminal does not obey.

    Names come from data: control characters (colours, a cleared screen) and what the
    stream's encoding lacks become question marks; line breaks stay.
    """
    plain = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    encoding = stream.encoding or "utf-8"
    return plain.encode(encoding, "replace").decode(encoding)


def say(text: str) -> None:
    """Print one line for the user; text from data is not interpreted."""
    sys.stdout.write(showable(text, sys.stdout) + "\n")
    sys.stdout.flush()


def duration(seconds: float) -> str:
    """Return a time for people, such as "1 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60):02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _numbers(progress: Progress) -> str:
    """Return "1,024 of 4,000 images, 890/s, 3.3 s left"."""
    words = f"{progress.done:,}"
    if progress.total > 0:
        words += f" of {progress.total:,}"
    words += f" {progress.unit}"
    if progress.rate > 0:
        words += f", {progress.rate:,.{0 if progress.rate >= 10 else 1}f}/s"
    if progress.eta_s > 0 and progress.done < progress.total:
        words += f", {duration(progress.eta_s)} left"
    if progress.bottleneck:
        words += f", slowest: {BOTTLENECKS.get(progress.bottleneck, '')}"
    return words


class _BarDisplay:
    """A bar per stage on a terminal."""

    def __init__(self, console: Console, stack: ExitStack) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Bars

        bars: Bars = Bars(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<11}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=console,
        )
        self._bars = stack.enter_context(bars)
        self._stage = ""
        self._task: TaskID | None = None

    def show(self, progress: Progress) -> None:
        """Show the newest report."""
        total = progress.total or None
        numbers = _numbers(progress)
        if progress.message:
            numbers = progress.message
        if self._task is None or progress.stage != self._stage:
            self._stage = progress.stage
            self._task = self._bars.add_task(progress.stage, total=total, numbers="")
        self._bars.update(
            self._task, completed=progress.done, total=total, numbers=numbers
        )

    def log(self, text: str) -> None:
        """Show a sentence above the bars."""
        self._bars.console.print(text, markup=False, highlight=False)


class _LineDisplay:
    """A line now and then, and one at the end of each stage."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._ended = ""

    def show(self, progress: Progress) -> None:
        """Print the report if it is time."""
        ended = 0 < progress.total <= progress.done
        now = time.monotonic()
        if (ended and progress.stage != self._ended) or now - self._last > LINE_EVERY_S:
            say(f"{progress.stage}: {progress.message or _numbers(progress)}")
            self._last = now
            self._ended = progress.stage if ended else ""

    def log(self, text: str) -> None:
        """Print a sentence."""
        say(text)


class Engine:
    """The engine process with a display; a context manager.

    Parameters
    ----------
    quiet
        Show no progress.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def __enter__(self) -> Engine:
        from napari_embed.engine.client import EngineClient

        self._client = EngineClient()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def run(self, job: str, **arguments: Any) -> dict[str, Any]:
        """Run one job to its end and return its result.

        Ctrl-C cancels it; finished work is kept.

        Raises
        ------
        EmbedError
            What the job failed with.
        JobCancelled
            After Ctrl-C.
        """
        with ExitStack() as stack:
            display = self._display(stack)

            def follow(event: Event) -> None:
                progress = event.progress
                if display is None:
                    return
                if progress is not None:
                    display.show(progress)
                elif event.kind == "log":
                    display.log(str(event.data.get("message", "")))

            handle = self._client.submit(job, follow, **arguments)
            while True:
                try:
                    # In steps, because a long wait hides Ctrl-C on Windows.
                    return handle.wait(WAIT_STEP_S)
                except TimeoutError:
                    continue
                except KeyboardInterrupt:
                    handle.cancel()

    def _display(self, stack: ExitStack) -> _BarDisplay | _LineDisplay | None:
        if self._quiet:
            return None
        from rich.console import Console

        console = Console()
        if console.is_terminal:
            return _BarDisplay(console, stack)
        return _LineDisplay()
