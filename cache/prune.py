"""Keeping the home small: least recently used results go first, and never one that a run under way needs.

What is protected: every key that the state of a run with a living owner names (a run registers all its keys before it
looks for results, see `registration`), and every key whose lock somebody holds. A run that finds a result gone computes
it again, so pruning costs time at worst, never the result.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from cache.contents import Entry, entries
from cache.durable import size_text
from cache.home import Home, sweep_home
from cache.locks import hold, try_hold
from cache.runs import Run, list_runs, under_way
from weights.errors import RelayError, UsageError

LIMIT_VARIABLE = "LTX_RELAY_CACHE_SIZE"
DEFAULT_LIMIT = 50_000_000_000
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([kmgt]?)b?", re.IGNORECASE)
_AGE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*([smhdw])", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Pruned:
    """What went, what is left, and how much of that a run under way protects; bytes."""

    removed: int
    removed_bytes: int
    kept: int
    kept_bytes: int
    protected_bytes: int


def prune(home: Home, *, max_bytes: int | None = None, max_age: float | None = None, damaged: bool = True) -> Pruned:
    """Removes damaged files, what was not used for `max_age` seconds, and then the oldest down to `max_bytes`.

    Also what dead processes left half-written, and lock files that nobody needs. Waits for runs that are just
    registering, and they for it: that takes as long as looking at every file once. Where only a size was given and
    there is less, nothing can go: then the runs' records are not read, and `protected_bytes` is 0.
    """
    with registration(home):
        now, removed, removed_bytes = time.time(), 0, 0
        found = entries(home)
        total = sum(entry.bytes for entry in found)
        nothing = not damaged and max_age is None and (max_bytes is None or total <= max_bytes)
        protected = frozenset() if nothing else keys_in_use(home)
        kept: list[Entry] = []
        for entry in sorted(found, key=lambda entry: entry.kind != "damaged"):
            old = max_age is not None and now - entry.used > max_age
            large = max_bytes is not None and total > max_bytes
            if entry.kind == "damaged":
                wanted = damaged or old or large
            else:
                wanted = (old or large) and entry.key not in protected
            if wanted and remove(home, entry):
                removed, removed_bytes, total = removed + 1, removed_bytes + entry.bytes, total - entry.bytes
            else:
                kept.append(entry)
        sweep_home(home)
        sweep_locks(home)
    safe = sum(entry.bytes for entry in kept if entry.key in protected)
    return Pruned(removed, removed_bytes, len(kept), total, safe)


@contextmanager
def registration(home: Home, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Held while a run writes down the keys that it needs, and while results are removed: never both at once."""
    with hold(home.lock_path("prune"), stop=stop):
        yield


def keys_in_use(home: Home) -> frozenset[str]:
    """The keys of all runs under way."""
    keys: set[str] = set()
    for summary in list_runs(home):
        if summary.status == "running":
            run = Run(home.run_folder(summary.id))
            with suppress(RelayError):
                if under_way(run):
                    keys.update(key for stage in run.state().stages.values() for key in stage.keys)
    return frozenset(keys)


def remove(home: Home, entry: Entry) -> bool:
    """Removes an entry's files, unless somebody computes that key just now; whether they are gone."""
    lock = home.lock_path(entry.key)
    if not lock.exists():
        return _unlink(entry)
    with try_hold(lock) as held:
        return held and _unlink(entry)


def sweep_locks(home: Home) -> int:
    """Removes lock files of keys that nobody holds; who waits for one makes it anew."""
    swept = 0
    for path in home.locks.glob("*.lock"):
        if re.fullmatch(r"[0-9a-f]{64}", path.stem):
            with try_hold(path) as held:
                if held:
                    with suppress(OSError):
                        path.unlink()
                        swept += 1
    return swept


def _unlink(entry: Entry) -> bool:
    """A video's record goes first: without it the video does not count."""
    for path in sorted(entry.paths, key=lambda path: not path.name.endswith(".json")):
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return False
    return True


def limit_from(environment: Mapping[str, str]) -> int | None:
    """The automatic limit in bytes: LTX_RELAY_CACHE_SIZE ("80GB", "none"), or 50 GB. UsageError when it is no size."""
    text = environment.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return DEFAULT_LIMIT
    return None if text.lower() in ("none", "off", "unlimited") else parse_size(text, LIMIT_VARIABLE)


def parse_size(text: str, flag: str) -> int:
    """Bytes of `50GB`, `800 MB`, `1.5TB`: files are counted in decimal units."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{flag} {text!r:.60} is not a size of files; write for example 50GB.")
    return int(float(match[1]) * 1000 ** " kmgt".index(match[2].lower() or " "))


def parse_age(text: str, flag: str) -> float:
    """Seconds of `30d`, `12h`, `2w`."""
    match = _AGE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{flag} {text!r:.60} is not a time; write for example 30d, 12h or 2w.")
    return float(match[1]) * _SECONDS[match[2].lower()]


def pruned_words(result: Pruned) -> str:
    """A sentence for a person."""
    what = "1 result" if result.removed == 1 else f"{result.removed} results"
    return f"{what} removed, {size_text(result.removed_bytes)}; {result.kept} left, {size_text(result.kept_bytes)}."
