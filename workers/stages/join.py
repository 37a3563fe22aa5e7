"""Join: the pieces of a video, already encoded, to one file; with the sound of the video that it was made from.

Nothing is encoded here: packets go from one file to the other. Pictures get the times that the plan gives them; sound
and subtitles keep theirs, byte for byte. No network, no weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from cache.durable import remove, temporary_path
from cache.home import Home
from cache.videos import find_video, publish_video
from weights.errors import ArtifactError
from workers.context import Context
from workers.protocol import Item, Job
from workers.video.codecs import codec
from workers.video.joining import Track, join
from workers.video.source import unchanged


def run(job: Job, context: Context) -> None:
    """Publishes every item's video under its key.

    job.params: `codec`, `container`, `title` and `comment`. `times` in ticks of `time_base`, one for each frame, or how
    many frames there are at 0, 1, 2, ...; `last`, how many ticks the last one is shown; `fps`, of the pieces. `video`,
    the file that sound comes from; `seen`, its size, and when it changed in nanoseconds; `tracks`, the numbers of its
    streams that come along; `origin`, the second at which it begins. An item's inputs are the pieces, in the order of
    their names.
    """
    for index, item in enumerate(job.items, 1):
        context.item(item.key, index, len(job.items))
        make(job, context, item)
        context.check_stop()


def make(job: Job, context: Context, item: Item) -> None:
    home, params = Home(Path(job.home)), job.params
    temporary = temporary_path(home.tmp)
    began = time.monotonic()
    pieces = [Path(path) for _, path in sorted(item.inputs.items())]

    def progress(done: int) -> None:
        nonlocal began
        now = time.monotonic()
        context.step(item.key, done, len(pieces), now - began)
        began = now

    join(
        temporary,
        whole(home, pieces),
        Track(
            times=range(params["times"]) if isinstance(params["times"], int) else params["times"],
            base=Fraction(params["time_base"]),
            last=int(params["last"]),
            fps=Fraction(params["fps"]),
        ),
        container=codec(params["codec"]).containers[params["container"]],
        sound=Path(params["video"]) if params["tracks"] else None,
        tracks=params["tracks"],
        origin=Fraction(params["origin"]),
        title=params.get("title", ""),
        comment=params.get("comment", ""),
        progress=progress,
        beat=context.heartbeat,
    )
    if params["tracks"]:
        try:
            unchanged(Path(params["video"]), params["seen"])  # its key is that of the sound as it was
        except BaseException:
            remove(temporary)
            raise
    made = publish_video(home, item.key, temporary, params["container"])
    context.emit("artifact", key=item.key, path=str(made.path), bytes=made.bytes, seconds=time.monotonic() - began)


def whole(home: Home, pieces: list[Path]) -> Iterator[Path]:
    """Each piece, verified when it is asked for. ArtifactError for one that is damaged, which is set aside, or gone."""
    for path in pieces:
        said: list[str] = []
        if find_video(home, path.stem, on_damage=said.append) is None:
            raise ArtifactError(
                f"{said[0]} It was set aside." if said else f"The piece {path} is gone.",
                advice="Run the same command again: it is made again.",
            )
        yield path
