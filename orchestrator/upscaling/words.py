"""What a person has to know of a video before it is upscaled: what is refused, what is changed, what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orchestrator.display.words import count
from orchestrator.upscaling.facts import Facts, SoundTrack
from weights.errors import UsageError

TRANSFERS = {16: "PQ", 18: "HLG"}
"""HDR, by the code point of ITU-T H.273."""
TONE_MAP = (
    "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable,zscale=t=bt709:m=bt709:r=tv,format=yuv420p"
)


def refuse(facts: Facts, path: Path) -> None:
    """UsageError for what would come out wrong without a word."""
    if facts.transfer in TRANSFERS:
        raise UsageError(
            f"{path} is HDR ({TRANSFERS[facts.transfer]}): the model knows standard colours only, and its own would "
            "come out pale.",
            advice=f"Make a standard version first: ffmpeg -i {path.name} -vf {TONE_MAP} sdr.mp4",
        )


def notes(facts: Facts, size: tuple[int, int], codec: str, sound: bool) -> Iterator[str]:
    """size: of the new video, where nothing is enlarged; else the same as the old one's."""
    lost = []
    if facts.missing:
        lost.append(f"{count(facts.missing, 'frame')} that it promises are not there")
    elif facts.broken_off:
        lost.append("it breaks off")
    if facts.damaged:
        lost.append(f"{count(facts.damaged, 'packet')} could not be decoded")
    if facts.other_sizes:
        lost.append(f"{count(facts.other_sizes, 'frame')} of another size than the first are left out")
    if lost:
        what = "; ".join(lost)
        yield f"The video is damaged or cut off: {what}. It is made from the {facts.frames} that could be read."
    if facts.frames == 1:
        yield "The video has a single frame: there is nothing to put between."
    if facts.rotation:
        yield f"The video is stored turned by {facts.rotation} degrees; the new one is stored upright."
    if size != (facts.width, facts.height):
        yield (
            f"{facts.width}x{facts.height} becomes {size[0]}x{size[1]}: {codec} stores even sides only. "
            "--codec ffv1 keeps odd ones."
        )
    if facts.alpha:
        yield "The video has transparency, which the model does not know: it is left out."
    if facts.depth > 8:
        yield f"The video has {facts.depth} bits a colour; the model's pictures have 8."
    if facts.interlaced:
        yield "The video is interlaced, and both fields are taken as one picture; deinterlace it first for better ones."
    if facts.primaries == 9:
        yield "The video has BT.2020's primaries; the new one is marked as BT.709, so colours are a little paler."
    if facts.rate is None and facts.frames > 1:
        yield "The frame rate varies: every frame keeps its own time."
    if facts.tracks and not sound:
        yield "Sound and subtitles are left out, as asked."
    elif sound:
        for track in facts.tracks:
            if track.kind == "subtitle" and not track.fits:
                yield f"The {track.words} is left out: this container cannot hold it; -o NAME.mkv can."
    if facts.others:
        yield f"{count(facts.others, 'stream')} of other kinds (data, attachments, more videos) are left out."


def copied(facts: Facts, sound: bool, output: Path) -> tuple[SoundTrack, ...]:
    """The tracks that come along. UsageError for sound that the container cannot hold."""
    if not sound:
        return ()
    for track in facts.tracks:
        if track.kind == "audio" and not track.fits:
            raise UsageError(
                f"The {track.words} cannot be copied into a {output.suffix} file.",
                advice="Give --output a name that ends in .mkv, or leave the sound out with --no-sound.",
            )
    return tuple(track for track in facts.tracks if track.fits)
