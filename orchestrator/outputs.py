"""What is where a video is to go: this very video, another one, or nothing; and names for those that nobody named."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from itertools import count
from pathlib import Path

from cache.home import Home
from cache.videos import VideoObject, find_video, same
from orchestrator.video_records import recorded_video
from weights.errors import UsageError

Files = Callable[[Path], Mapping[str, Path]]
"""From where a video would go to all that would be written for it, by key."""


def in_the_way(outputs: Mapping[str, Path], home: Home) -> list[tuple[Path, VideoObject | None]]:
    """The paths at which something else is than this very video, and that video as the cache has it."""
    there = [(path, find_video(home, key)) for key, path in outputs.items() if os.path.lexists(path)]
    return [(path, video) for path, video in there if video is None or not same(path, video)]


def check_outputs(outputs: Mapping[str, Path], home: Home) -> None:
    """UsageError when a file is in the way that is not this very video."""
    for path, video in in_the_way(outputs, home):
        # Without the result there is nothing to compare it with: it may be this video, pruned from the cache.
        what = "exists already" if video is None else "exists and is not this video"
        raise UsageError(
            f"{path} {what}; nothing was changed.",
            advice="Add --overwrite to replace it, or give another --output.",
        )


def unless_taken(path: Path, files: Files, home: Home) -> Path:
    """`fox-0.mp4`, or where that is another video `fox-0-2.mp4`, `fox-0-3.mp4`: the one that this video is at already,
    else the first that is free.

    A video that the cache has no more is known by the record beside it.
    """
    if not any(map(os.path.lexists, files(path).values())):
        return path
    find = cache(lambda key: find_video(home, key))
    for place in (path, *numbered(path)):
        there = {key: file for key, file in files(place).items() if os.path.lexists(file)}
        if there and all(is_that(file, key, find(key)) for key, file in there.items()):
            return place
    free = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(place for place in free if not any(map(os.path.lexists, files(place).values())))


def numbered(path: Path) -> list[Path]:
    """`name-2.mp4` and so on, as far as there are any, in their order."""
    pattern = re.compile(rf"{re.escape(path.stem)}-([1-9][0-9]{{0,8}}){re.escape(path.suffix)}")
    try:
        found = [int(match[1]) for name in os.listdir(path.parent) if (match := pattern.fullmatch(name))]
    except OSError:  # it may be written to, but not listed
        return []
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in sorted(found) if number > 1]


def is_that(path: Path, key: str, video: VideoObject | None) -> bool:
    """Whether the file is the video of this key. video: as it is in the cache."""
    if video is None:
        recorded = recorded_video(path)
        return recorded is not None and recorded.key == key and same(path, recorded)
    return same(path, video)


def renamed(wanted: Path, place: Path) -> tuple[str, ...]:
    """What a person has to know of a name that was taken."""
    if wanted == place:
        return ()
    return (
        f"{wanted.name} is there already and is something else, so this video is {place.name}; "
        "--overwrite would replace it.",
    )
