"""How long work tells where it is: phases, each with a count of steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

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
