"""The two consoles and the progress on them: results go to stdout, all else to stderr.

Nothing that comes from a server, a feed or a file name is read as markup or reaches the terminal as an escape sequence.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

_PLAIN_WIDTH = 140  # of what is no terminal: a log, a pipe
_PLAIN_INTERVAL_S = 5.0


def make_console(*, stderr: bool = False) -> Console:
    """Return a console for stdout or stderr as they are now."""
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PLAIN_WIDTH
    return console


def plain(text: str) -> str:
    """Replace what a terminal might act on: control characters, and marks that turn the writing's direction."""
    return "".join(
        character if character.isprintable() or character in " \n" else "\N{REPLACEMENT CHARACTER}"
        for character in text.replace("\t", " ").replace("\r\n", "\n")
    )


class Bar:
    """A running piece of work whose share is known."""

    def __init__(self, show: _Show, task: TaskID | None, text: str) -> None:
        self._show = show
        self._task = task
        self._text = text

    def update(self, *, fraction: float | None = None, text: str = "") -> None:
        """Say how far it is; `text` is a detail behind it."""
        self._show.update(self._task, self._text, fraction, text)


class _Show:
    """Draws on a terminal, and writes a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._last_line_s = 0.0

    @contextlib.contextmanager
    def running(self, text: str, *, bar: bool) -> Iterator[TaskID | None]:
        if not self._console.is_terminal:
            self._console.print(f"{text} …")
            self._last_line_s = time.monotonic()
            yield None
            return
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        if bar:
            columns += [BarColumn(bar_width=32), TextColumn("{task.percentage:>3.0f} %", markup=False)]
        columns += [TextColumn("{task.fields[detail]}", markup=False, style="dim"), TimeElapsedColumn()]
        with Progress(*columns, console=self._console, transient=True) as progress:
            self._progress = progress
            try:
                yield progress.add_task(text, total=1.0 if bar else None, detail="")
            finally:
                self._progress = None

    def update(self, task: TaskID | None, text: str, fraction: float | None, detail: str) -> None:
        if self._progress is not None and task is not None:
            if fraction is None:
                self._progress.update(task, detail=plain(detail))
            else:
                self._progress.update(task, completed=fraction, detail=plain(detail))
            return
        now_s = time.monotonic()
        if now_s - self._last_line_s >= _PLAIN_INTERVAL_S:
            self._last_line_s = now_s
            share = "" if fraction is None else f" {fraction:.0%}"
            self._console.print(f"{text}{share} {plain(detail)}".rstrip())


class Reporter:
    """What a command tells while it works; on stderr."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or make_console(stderr=True)

    def note(self, text: str, *, style: str = "") -> None:
        """Say something that stays."""
        self.console.print(Text(plain(text), style=style), soft_wrap=True)

    def done(self, text: str, *, seconds: float | None = None) -> None:
        """Say that a step went well, and how long it took."""
        line = Text.assemble(("✓ ", "green"), plain(text))
        if seconds is not None:
            line.append(f"  {seconds:.1f} s", style="dim")
        self.console.print(line, soft_wrap=True)

    @contextlib.contextmanager
    def bar(self, text: str) -> Iterator[Bar]:
        """Show work whose share becomes known."""
        show = _Show(self.console)
        with show.running(text, bar=True) as task:
            yield Bar(show, task, text)

    @contextlib.contextmanager
    def spinner(self, text: str) -> Iterator[Bar]:
        """Show work whose share is not known."""
        show = _Show(self.console)
        with show.running(text, bar=False) as task:
            yield Bar(show, task, text)
