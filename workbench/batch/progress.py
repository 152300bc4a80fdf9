"""One line for each notebook that is running: live in a terminal and in JupyterLab, and now and then in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FIRST, LAST = 30.0, 600.0  # seconds between the lines of one notebook in a log: at first, and at most


@dataclass
class Line:
    """What is known of a running notebook."""

    name: str
    since: float
    cell: int = 0
    cells: int = 0
    memory: float = 0.0
    note: str = ""
    due: float = 0.0
    every: float = FIRST

    def text(self, width: int, now: float) -> str:
        """The line; `memory` is what the kernel and its children hold now."""
        where = f"cell {self.cell}/{self.cells}" if self.cells else "starting"
        return f"  running    {self.name:<{width}}  {where:<11} {clock(now - self.since):>7}  {self.memory:>6.0f} MB{self.note}"


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds.

    Example:
        >>> clock(9.4), clock(75), clock(3661)
        ('0:09', '1:15', '1:01:01')
    """
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


@dataclass
class Board:
    """Takes events from several threads and shows them where the user reads.

    Attributes:
        say: takes finished lines; None prints, live where that can be done.
        now: the clock, for tests.
    """

    say: Callable[[str], None] | None = None
    now: Callable[[], float] = time.monotonic
    lines: dict[str, Line] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._width = 0
        self._live: Any = None
        self._handle: Any = None

    def __enter__(self) -> Board:
        if self.say is None and _in_jupyter():
            from IPython.display import display

            self._handle = display({"text/plain": ""}, raw=True, display_id=True)
        elif self.say is None and sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(highlight=False)
            self._live = Live(get_renderable=self._running, console=console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.lines.clear()
            self._redraw()
        if self._live:
            self._live.stop()

    def print(self, line: str) -> None:
        """A line that stays."""
        with self._lock:
            if self.say is not None:
                self.say(line)
            elif self._live:
                self._live.console.print(line, markup=False, soft_wrap=True)
            else:
                print(line, flush=True)

    def update(self, name: str, event: Mapping[str, Any]) -> None:
        """What a running notebook reports: attempt, cell, cells, memory or retry."""
        with self._lock:
            now = self.now()
            if name not in self.lines or "attempt" in event:
                self.lines[name] = Line(name, now, due=now + FIRST)
                self._width = max(self._width, len(name))
            line = self.lines[name]
            if event.get("attempt", 1) > 1:
                line.note = f"  (attempt {event['attempt']})"
            line.cell, line.cells = event.get("cell", line.cell), event.get("cells", line.cells)
            line.memory = event.get("memory", line.memory)
            if "retry" in event:
                self.print(f"  RETRY      {name}  {event['retry']}")
            if self._live is None and self._handle is None and now >= line.due:
                self.print(line.text(self._width, now))
                line.every = min(2 * line.every, LAST)
                line.due = now + line.every
            self._redraw()

    def end(self, name: str) -> None:
        """The notebook no longer runs."""
        with self._lock:
            self.lines.pop(name, None)
            self._redraw()

    def _texts(self) -> list[str]:
        return [line.text(self._width, self.now()) for line in list(self.lines.values())]

    def _running(self) -> Any:
        from rich.text import Text

        with self._lock:
            return Text("\n".join(self._texts()), no_wrap=True, overflow="ellipsis")

    def _redraw(self) -> None:
        if self._handle is not None:
            self._handle.update({"text/plain": "\n".join(self._texts())}, raw=True)


def _in_jupyter() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")
