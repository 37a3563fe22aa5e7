"""Runs: a folder each, with what was asked for, how far it came, and what happened.

    runs/<id>/recipe.json     alone rebuilds the run
              state.json      status, outputs, and per stage what was computed, where and at what cost
              events.jsonl    one JSON object per line
              logs/<stage>.log   jobs/<stage>.json   previews/   report.html

An id sorts by time (UTC) and can be read: 20261122-193000-a-red-ball-4f2a. A run's folder appears with its recipe and
state inside, or not at all. A run that says `running` while its process is dead counts as interrupted.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import secrets
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cache.durable import publish_text, reason, remove, sync_folder, temporary_path, write_error
from cache.home import Home
from cache.processes import alive, own_mark
from cache.records import read_json, sealed, unsealed
from cache.state import RunState, StageState
from weights.errors import ArtifactError, RelayError, UsageError

_ID = re.compile(r"[0-9]{8}-[0-9]{6}(-[a-z0-9]+)*-[0-9a-f]{4}")
_SLUG_LENGTH = 40
_FOREIGN_SILENCE = 24 * 3600.0
"""Seconds without an event after which a run of another machine, or container, counts as over."""
_LINE_LIMIT = 1 << 20
"""Bytes of an event's line; a longer one is damage."""


@dataclass(frozen=True)
class RunSummary:
    """A line of `runs list`. `status` is a run's, or "damaged" or "newer"; then `problem` is a sentence."""

    id: str
    status: str
    created: float
    updated: float
    outputs: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Run:
    """A run's folder. Methods that read raise ArtifactError for damage, those that write DoesNotFit or RelayError."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def previews(self) -> Path:
        return self.folder / "previews"

    @property
    def report_path(self) -> Path:
        return self.folder / "report.html"

    def log_path(self, stage: str) -> Path:
        return self.folder / "logs" / f"{stage}.log"

    def job_path(self, stage: str) -> Path:
        return self.folder / "jobs" / f"{stage}.json"

    def recipe(self) -> dict[str, Any]:
        path = self.folder / "recipe.json"
        return unsealed(read_json(path, what="recipe"), path, what="recipe")

    def state(self) -> RunState:
        """As it was last written. UsageError when a newer program wrote it."""
        path = self.folder / "state.json"
        raw = read_json(path, what="state")
        state = RunState.from_json(raw, path)  # says first when it is a newer program's
        unsealed(raw, path, what="state")
        return state

    def status(self) -> str:
        """The status of the state, but `interrupted` when nobody is left who runs it; see `under_way`."""
        return _status(self, self.state())

    def claim(self) -> None:
        """This process goes on with the run. UsageError while another one is at it."""
        with self._exclusive():
            state = self.state()
            if state.status == "running" and state.owner != own_mark() and alive(state.owner):
                raise UsageError(f"The run {self.id} is still under way, in another process.")
            self._write(replace(state, status="running", owner=own_mark()))

    def write_recipe(self, recipe_json: Mapping[str, Any]) -> None:
        """Replaces the recipe, where the run itself had to change it; `resume` goes on with this one."""
        publish_text(self.folder / "recipe.json", _json(recipe_json))

    def update_state(
        self,
        *,
        status: str | None = None,
        outputs: Sequence[str] | None = None,
        stages: Mapping[str, StageState] | None = None,
        stop_after: str | None = None,
    ) -> RunState:
        """Changes what is given, atomically, and returns the whole; stages that are not named stay.

        With status "running" this process becomes the run's owner. Threads and processes do not lose each other's
        changes.
        """
        with self._exclusive():
            state = self.state()
            if status is not None:
                state = replace(state, status=status, owner=own_mark() if status == "running" else "")
            if outputs is not None:
                state = replace(state, outputs=tuple(map(str, outputs)))
            if stop_after is not None:
                state = replace(state, stop_after=stop_after)
            return self._write(replace(state, stages={**state.stages, **(stages or {})}))

    def update_stage(self, stage: str, **changes: Any) -> RunState:
        """Changes some fields of one StageState, atomically: `run.update_stage("text", status="computed", pid=7)`."""
        with self._exclusive():
            return self._write(self.state().with_stage(stage, **changes))

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Adds one line in one write, so that lines of several writers never mix. Not synced: events are a diary."""
        line = json.dumps(_printable(event), default=str).encode() + b"\n"
        path = self.folder / "events.jsonl"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    line = b"\n" + line  # a writer died in the middle of its line: leave that one alone
                while line:
                    line = line[os.write(descriptor, line) :]
            finally:
                os.close(descriptor)
        except OSError as error:
            raise write_error(error, path, len(line)) from error

    def read_events(self) -> Iterator[dict[str, Any]]:
        """The events in order, read as they are asked for; torn and damaged lines are left out."""
        path = self.folder / "events.jsonl"
        try:
            with open(path, "rb") as file:
                for line in _lines(file.readline):
                    try:
                        event = json.loads(line)
                    except (ValueError, RecursionError):
                        continue
                    if isinstance(event, dict):
                        yield event
        except FileNotFoundError:
            return
        except OSError as error:
            raise RelayError(f"{path} cannot be read: {reason(error)}.") from error

    def _write(self, state: RunState) -> RunState:
        state = replace(state, updated=time.time())
        publish_text(self.folder / "state.json", _json(_printable(state.to_json())))
        return state

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One writer of the state at a time; each holds the lock for milliseconds."""
        try:
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise RelayError(f"The run {self.folder} cannot be opened: {reason(error)}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def create_run(home: Home, recipe_json: Mapping[str, Any], slug: str) -> Run:
    """A new run with that recipe, status "running", owned by this process. `slug`: words for its id, say the prompt."""
    now = time.time()
    state = RunState(status="running", created=now, updated=now, owner=own_mark())
    building = temporary_path(home.tmp, "")
    try:
        for name in ("logs", "jobs", "previews"):
            os.makedirs(building / name, 0o700)
        publish_text(building / "recipe.json", _json(recipe_json))
        publish_text(building / "state.json", _json(state.to_json()))
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S")
        while True:
            words = [stamp, *slugify(slug).split("-"), secrets.token_hex(2)]
            folder = home.run_folder("-".join(word for word in words if word))
            if not folder.exists():
                break
        os.rename(building, folder)
        sync_folder(home.runs)
    except OSError as error:
        raise write_error(error, home.runs, 1 << 16) from error
    finally:
        remove(building)
    return Run(folder)


def open_run(home: Home, reference: str) -> Run:
    """The run with that id, or the only one whose id begins so, or the newest for "last". UsageError otherwise."""
    ids = _ids(home)
    if reference == "last":
        if not ids:
            raise UsageError("There is no run yet.", advice="`ltx-relay generate` makes one.")
        second = max(run[:15] for run in ids)
        newest = (_summary(Run(home.run_folder(run))) for run in ids if run.startswith(second))
        matches = [max(newest, key=_age_order).id]
    elif reference in ids:
        matches = [reference]
    else:
        matches = [run for run in ids if reference and run.startswith(reference)]
    if not matches:
        raise UsageError(f"There is no run {reference!r:.200}.", advice="`ltx-relay runs list` names them.")
    if len(matches) > 1:
        named = ", ".join(sorted(matches)[:5]) + (", ..." if len(matches) > 5 else "")
        raise UsageError(f"{reference!r} is the beginning of {len(matches)} runs: {named}.", advice="Give more of it.")
    run = Run(home.run_folder(matches[0]))
    summary = _summary(run)
    if summary.status == "newer":
        raise UsageError(summary.problem, advice="Update ltx-relay.")
    return run


def list_runs(home: Home) -> list[RunSummary]:
    """All runs, the newest first. Damaged ones are in the list and say so; nothing is raised for them."""
    summaries = [_summary(Run(home.run_folder(run))) for run in _ids(home)]
    return sorted(summaries, key=_age_order, reverse=True)


def under_way(run: Run) -> bool:
    """Whether a run that says `running` still is: one of another machine is, as long as it writes events."""
    state = run.state()
    return state.status == "running" and _lives(run, state)


def delete_run(home: Home, run: Run) -> None:
    """Removes the run's folder; what it made stays in the cache. UsageError while it is under way."""
    try:
        if under_way(run):
            raise UsageError(f"The run {run.id} is still under way.", advice="Stop it first, with Ctrl-C.")
    except ArtifactError:
        pass  # damaged: all the more reason
    gone = temporary_path(home.tmp, "")
    try:
        os.rename(run.folder, gone)  # at once, so that nobody sees half a run
        sync_folder(home.runs)
    except OSError as error:
        raise RelayError(f"The run {run.folder} cannot be deleted: {reason(error)}.") from error
    remove(gone)


def slugify(text: str) -> str:
    """Words of `text` for an id: small ASCII letters and digits with hyphens, 40 characters at most; may be empty."""
    ascii_text = unicodedata.normalize("NFKD", text[:1000]).encode("ascii", "ignore").decode().lower()
    slug = "-".join(re.findall(r"[a-z0-9]+", ascii_text))
    if len(slug) > _SLUG_LENGTH:
        whole_words = slug[: _SLUG_LENGTH + 1].rpartition("-")[0]
        slug = whole_words or slug[:_SLUG_LENGTH]
    return slug


def _ids(home: Home) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(home.runs) if _ID.fullmatch(entry.name) and entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RelayError(f"{home.runs} cannot be read: {reason(error)}.") from error


def _age_order(summary: RunSummary) -> tuple[str, float, str]:
    """The id's second, then the exact time: several runs may begin within one second."""
    return (summary.id[:15], summary.created, summary.id)


def _status(run: Run, state: RunState) -> str:
    return "interrupted" if state.status == "running" and not _lives(run, state) else state.status


def _lives(run: Run, state: RunState) -> bool:
    lives = alive(state.owner)
    if lives is not None:
        return lives
    try:
        return time.time() - os.stat(run.folder / "events.jsonl").st_mtime < _FOREIGN_SILENCE
    except OSError:
        return False


def _summary(run: Run) -> RunSummary:
    try:
        state = run.state()
        return RunSummary(run.id, _status(run, state), state.created, state.updated, state.outputs)
    except RelayError as error:
        status = "newer" if isinstance(error, UsageError) else "damaged"
        return RunSummary(run.id, status, 0.0, 0.0, problem=error.message)


def _lines(readline: Any) -> Iterator[bytes]:
    """Lines of bounded length; longer ones are skipped."""
    skipping = False
    while piece := readline(_LINE_LIMIT):
        ends = piece.endswith(b"\n")
        if ends and not skipping:
            yield piece
        elif not ends and len(piece) < _LINE_LIMIT and not skipping:
            yield piece  # the last line, which may be torn; JSON will tell
        skipping = not ends


def _json(value: Mapping[str, Any]) -> str:
    """Sealed, for people and programs; UsageError for a number that JSON does not have."""
    try:
        return json.dumps(sealed(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise UsageError(f"A recipe must be JSON: {error}.") from error


def _printable(value: Any) -> Any:
    """The value with NaN and infinities as text: a line must be JSON for every program that follows it."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(name): _printable(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(entry) for entry in value]
    return value
