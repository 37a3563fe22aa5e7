"""Progress on a terminal: a line per stage, the running one with its bar, calm and in place.

Stages that are finished move up into the scrollback and are never touched again; only what still changes is redrawn,
when an event says so and twice a second for the clocks.
"""

from __future__ import annotations

import os
import textwrap
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rich.text import Text

from orchestrator.display.images import ROWS, Protocol, read_png
from orchestrator.display.keys import silence
from orchestrator.display.screen import Screen, Size
from orchestrator.display.stages import ASCII, UNICODE, Glyphs, stage_line, summary, title_lines
from orchestrator.display.streams import Stream, is_utf8
from orchestrator.display.view import FINISHED, RunView, StageView, fold, remark
from orchestrator.display.words import printable

TICK = 0.5


class LiveDisplay:
    """Draws on `terminal` (standard error), prints the finished paths to `stdout`. Events may come from any thread."""

    def __init__(
        self,
        terminal: TextIO,
        stdout: TextIO | None,
        *,
        glyphs: Glyphs | None = None,
        size: Callable[[], Size] | None = None,
        clock: Callable[[], float] = time.time,
        tick: float | None = TICK,
        images: Protocol | None = None,
    ) -> None:
        self.view = RunView()
        self._screen = Screen(terminal, size)
        self._restore_keys = silence(terminal)
        self._stdout = Stream(stdout)
        self._glyphs = glyphs or (UNICODE if is_utf8(terminal) else ASCII)
        self._clock = clock
        self._images = images
        self._previews: dict[tuple[str, str], int] = {}
        """Which quarter of a stage's steps was shown last, by stage and place."""
        self._settled = 0
        """How many of the first stages are printed for good."""
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._ticker = threading.Thread(target=self._run_ticker, args=(tick,), daemon=True) if tick else None
        if self._ticker:
            self._ticker.start()

    def note(self, message: str) -> None:
        with self._lock:
            self._draw(self._remark(message, "dim"))

    def event(self, event: Mapping[str, Any]) -> None:
        with self._lock:
            self.view = fold(self.view, event)
            above: list[Text] = []
            if event.get("event") == "run_started":
                above = title_lines(self.view, self._glyphs, self._screen.columns)
            elif sentence := remark(event):
                kind = str(event["event"])
                above = self._remark(sentence, {"video_done": "", "loaded": "dim"}.get(kind, "yellow"))
                if kind == "stopped" and len(above) > 1:  # the command is to be copied: it has a line of its own, whole
                    words, _, command = sentence.rpartition(": ")
                    above = [*self._remark(f"{words}:", "yellow"), Text(f"  {printable(command)}", style="yellow")]
            elif event.get("event") == "preview":
                above = self._preview(event)
            self._draw(above, self._picture(event))

    def close(self) -> None:
        """The last drawing; then the paths of the finished videos on standard output."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._ticker and self._ticker is not threading.current_thread():
            self._ticker.join(timeout=2)
        with self._lock:
            unfinished = [stage for stage in self.view.stages[self._settled :] if stage.status != "pending"]
            last = [self._stage(stage) for stage in unfinished]
            if self.view.seconds is not None:
                last += [Text(""), Text("  " + summary(self.view), style="dim")]
            self._screen.draw([], above=last)
            self._restore_keys()
            for path in self.view.paths:
                self._stdout.write_path(path)

    def _preview(self, event: Mapping[str, Any]) -> list[Text]:
        """In which folder they are, once: each takes the place of the one before. Nothing where pictures are shown."""
        folder = os.path.dirname(str(event.get("path")))
        if self._images or "index" not in event or ("", folder) in self._previews:
            return []
        self._previews[("", folder)] = 0
        home = os.path.expanduser("~")
        short = f"~{folder[len(home) :]}" if folder.startswith(f"{home}/") else folder
        return self._remark(f"previews in {short}", "dim")

    def _picture(self, event: Mapping[str, Any]) -> str:
        """What shows the event's picture here: a contact sheet, and previews four times in a stage."""
        if self._images is None or event.get("event") not in ("preview", "contact_sheet"):
            return ""
        place = (str(event.get("stage")), str(event.get("path")))
        if event["event"] == "preview":
            index, total = event.get("index"), event.get("total")
            if not isinstance(index, int) or not isinstance(total, int) or total < 1:
                return ""
            quarter = 4 * index // total
            if quarter <= self._previews.get(place, 0):
                return ""
            self._previews[place] = quarter
        picture = read_png(place[1])
        return "" if picture is None else self._images(picture, ROWS)

    def _draw(self, above: list[Text], picture: str = "") -> None:
        stages = self.view.stages
        lines = list(above)
        while self._settled < len(stages) and stages[self._settled].status in FINISHED:
            lines.append(self._stage(stages[self._settled]))
            self._settled += 1
        self._screen.draw([self._stage(stage) for stage in stages[self._settled :]], above=lines, picture=picture)

    def _stage(self, stage: StageView) -> Text:
        return stage_line(stage, self._clock(), self._screen.columns, self._glyphs)

    def _remark(self, message: str, style: str) -> list[Text]:
        """Wrapped and indented; a path is never broken."""
        indent = "  "
        lines = textwrap.wrap(
            printable(message),
            self._screen.columns,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        return [Text(line, style=style) for line in lines]

    def _run_ticker(self, tick: float) -> None:
        while not self._closed.wait(tick):
            with self._lock:
                if not self._closed.is_set():
                    self._draw([])
