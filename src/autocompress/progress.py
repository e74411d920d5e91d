"""How long work tells where it is: phases, each with a count of steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Called with (steps done, steps in all, what is being done).
Update = Callable[[int, int, str], None]


class Display(Protocol):
    """Shows phases to a person."""

    def start(self, phase: str) -> Update:
        """A phase begins; its updates go to the result."""
        ...

    def end(self, phase: str, seconds: float) -> None:
        """A phase is over."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line of its own."""
        ...


class Silent:
    """Shows nothing."""

    def start(self, phase: str) -> Update:
        return lambda done, total, what: None

    def end(self, phase: str, seconds: float) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Terminal:
    """Phases on a terminal, with a bar while they run and a line once they are over."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None

    def start(self, phase: str) -> Update:
        progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[what]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        bar = progress.add_task(phase, total=None, what="")
        progress.start()
        self._progress = progress
        return lambda done, total, what: progress.update(bar, completed=done, total=total, what=_shortened(what))

    def end(self, phase: str, seconds: float) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._console.print(f"[green]✓[/] {phase} [dim]{seconds:.1f} s[/]")

    def note(self, text: str) -> None:
        self._console.print(f"  [dim]{text}[/]", soft_wrap=True)


class Phases:
    """Phases of a piece of work, shown and timed.

    Attributes:
        seconds: how long each phase took so far.
    """

    def __init__(self, display: Display) -> None:
        self.display = display
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[Update]:
        """A phase, timed from here to the end of the block."""
        begin = time.perf_counter()
        try:
            yield self.display.start(name)
        finally:
            elapsed = time.perf_counter() - begin
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed
            self.display.end(name, elapsed)


def _shortened(text: str, width: int = 36) -> str:
    return text if len(text) <= width else f"…{text[1 - width :]}"
