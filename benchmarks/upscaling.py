"""`upscale-temporal` on real files of many kinds, made with ffmpeg: what came out, against what went in.

    uv run python -m benchmarks.upscaling [--only NAME ...] [--keep FOLDER] [--out FILE.json]
    uv run python -m benchmarks.upscaling --seams

Needs `ffmpeg` on the path (tests make their own files with PyAV). The pictures are scenes that the tiny model was
trained on, rendered at the video's rate and at twice that, so that there is a truth for the frames that are put
between. Prints Markdown: count, rate and duration in and out, whether the sound's packets are the same bytes at the
same times, PSNR of the old frames, and how smooth the result is.

smoothness: the root mean square of f(t+1) - 2 f(t) + f(t-1) over all pictures of the new video, divided by that of its
old frames shown twice; 1 is no smoother than frame doubling, less is smoother.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from orchestrator.upscaling.chunks import OVERLAP
from training.world.scenes import BOUNCING, render, sample_scenes
from workers.inspect import inspect
from workers.video.source import VideoSource
from workers.video.writer import VideoWriter

Frames = NDArray[np.uint8]
SIZE = (128, 192)
QUIET = ("-hide_banner", "-loglevel", "error", "-y")
SINE = ("-f", "lavfi", "-i", "sine=f=440:d={seconds}")


@dataclass(frozen=True)
class Case:
    """How a file is made. options: ffmpeg's, for the pictures; sound: its options for sound, none without.

    refused: an error is right. turned: the file says that it is to be shown turned. truth: whether the frames between
    are known. change: what is done to the finished file.
    """

    name: str
    suffix: str
    frames: int
    rate: str
    options: tuple[str, ...]
    sound: tuple[str, ...] = ()
    size: tuple[int, int] = SIZE
    result: str = ".mp4"
    refused: bool = False
    truth: bool = True
    change: Callable[[Path], None] = field(default=lambda path: None)


@dataclass
class Row:
    """frames, rates and seconds: (in, out). psnr in dB: old frames, the same through the VAE alone is about its bound;
    between: new frames against the truth; smoothness: see the module."""

    name: str
    ended: str
    frames: tuple[int, int] = (0, 0)
    rates: tuple[str, str] = ("", "")
    seconds: tuple[float, float] = (0.0, 0.0)
    size: str = ""
    sound: str = ""
    psnr: float | None = None
    between: float | None = None
    smoothness: float | None = None
    words: list[str] = field(default_factory=list)

    @property
    def cells(self) -> list[str]:
        def number(value: float | None, digits: int = 1) -> str:
            return "" if value is None else f"{value:.{digits}f}"

        if not self.frames[1]:
            return [self.name, self.ended, "", "", "", "", "", "", ""]
        return [
            self.name,
            self.ended,
            f"{self.frames[0]} -> {self.frames[1]}",
            f"{self.rates[0]} -> {self.rates[1]}",
            f"{self.seconds[0]:.3f} -> {self.seconds[1]:.3f}",
            self.sound,
            number(self.psnr),
            number(self.between),
            number(self.smoothness, 2),
        ]


def cut_at(share: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        raw = path.read_bytes()
        path.write_bytes(raw[: int(len(raw) * share)])

    return change


H264 = ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p")
AAC = ("-c:a", "aac", "-b:a", "96k")
CASES = (
    Case("H.264 + AAC, 25, .mp4", ".mp4", 49, "25", H264, AAC),
    Case("HEVC 10 bit, 23.976, .mp4", ".mp4", 33, "24000/1001", ("-c:v", "libx265", "-pix_fmt", "yuv420p10le",
         "-x265-params", "log-level=none")),
    Case("VP9 + Opus, 29.97, .webm", ".webm", 33, "30000/1001", ("-c:v", "libvpx-vp9", "-crf", "12", "-b:v", "0"),
         ("-c:a", "libopus"), result=".mkv"),
    Case("AV1, 60, .mkv", ".mkv", 33, "60", ("-c:v", "libaom-av1", "-cpu-used", "8", "-crf", "16")),
    Case("ProRes + PCM, 25, .mov", ".mov", 25, "25", ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"),
         ("-c:a", "pcm_s16le"), result=".mov"),
    Case("MJPEG + MP3, 25, .avi", ".avi", 25, "25", ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"),
         ("-c:a", "libmp3lame")),
    Case("MPEG-2 interlaced + MP2, 25, .ts", ".ts", 25, "25", ("-c:v", "mpeg2video", "-q:v", "2", "-top", "1",
         "-flags", "+ilme+ildct"), ("-c:a", "mp2")),
    Case("H.264 variable rate + AAC, .mp4", ".mp4", 33, "30",
         (*H264, "-vf", "select=lt(n\\,10)+not(mod(n\\,3))", "-vsync", "vfr"), AAC, truth=False),
    Case("VP9 odd size, 25, .webm", ".webm", 17, "25", ("-c:v", "libvpx-vp9", "-crf", "12", "-b:v", "0"),
         size=(127, 191), result=".mkv"),
    Case("H.264 portrait by rotation, 30, .mov", ".mov", 17, "30", H264, AAC, result=".mov"),
    Case("H.264 pixels 4:3, 25, .mp4", ".mp4", 17, "25", (*H264, "-vf", "setsar=4/3")),
    Case("ProRes 4444 with alpha, 24, .mov", ".mov", 9, "24", ("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le"),
         result=".mov"),
    Case("1 frame", ".mp4", 1, "25", H264),
    Case("2 frames", ".mp4", 2, "25", H264),
    Case("8 frames", ".mp4", 8, "25", H264),
    Case("9 frames", ".mp4", 9, "25", H264),
    Case("10 frames", ".mp4", 10, "25", H264),
    Case("500 frames + AAC, 25", ".mp4", 500, "25", H264, AAC, size=(64, 96)),
    Case("H.264 + WMA, .mkv to .mp4", ".mkv", 9, "25", H264, ("-c:a", "wmav2"), refused=True),
    Case("HEVC HDR (PQ)", ".mp4", 9, "25", ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-color_primaries", "bt2020",
         "-color_trc", "smpte2084", "-colorspace", "bt2020nc", "-x265-params",
         "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"), refused=True),
    Case("cut off after 60%, .mkv", ".mkv", 49, "25", (*H264, "-g", "10"), AAC, change=cut_at(0.6), truth=False),
    Case("cut off before its index, .mp4", ".mp4", 25, "25", H264, refused=True, change=cut_at(0.6)),
    Case("a text named .mp4", ".mp4", 1, "25", H264, refused=True,
         change=lambda path: path.write_text("This is no video.\n") and None),
)  # fmt: skip


def scene(frames: int, rate: Fraction, size: tuple[int, int]) -> Frames:
    """A ball that bounces, `[frames, height, width, 3]`."""
    random = np.random.default_rng(1)
    combination = np.array([[0, 0, BOUNCING, 0, 2]])
    drawn = sample_scenes(combination, size, lambda n, k: random.random((n, k)).astype(np.float32))
    video = render(drawn, *size, frames, float(rate))[0]
    return np.rint((video.transpose(1, 2, 3, 0) + 1) * 127.5).astype(np.uint8)


def make(case: Case, folder: Path) -> Path:
    """The file of a case."""
    rate, seconds = Fraction(case.rate), float(case.frames / Fraction(case.rate))
    plain, path = folder / "plain.mkv", folder / f"video{case.suffix}"
    with VideoWriter(plain, width=case.size[1], height=case.size[0], fps=rate, codec="ffv1") as video:
        video.write(scene(case.frames, rate, case.size))
    tags = ("-colorspace", "bt709", "-color_trc", "bt709", "-color_primaries", "bt709", "-color_range", "tv")
    convert = () if "mjpeg" in case.options or case.refused else tags
    sound = tuple(word.format(seconds=seconds) for word in SINE) if case.sound else ()
    rated = () if "-vsync" in case.options else ("-r", case.rate)
    filters = () if "-vf" in case.options else ("-vf", "scale=out_color_matrix=bt709")
    words = ["ffmpeg", *QUIET, "-r", case.rate, "-i", str(plain), *sound, *case.options, *filters, *convert]
    subprocess.run([*words, *rated, *case.sound, str(path)], check=True)
    if "rotation" in case.name:
        turned = folder / f"turned{case.suffix}"
        copy = ["ffmpeg", *QUIET, "-i", str(path), "-c", "copy", "-metadata:s:v", "rotate=90", str(turned)]
        subprocess.run(copy, check=True)
        path = turned
    case.change(path)
    return path


def pictures(path: Path) -> Frames:
    with VideoSource(path) as video:
        return np.stack([video.picture(shown.frame) for shown in video])


def packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """Times from the beginning of the pictures, and bytes, of the sound."""
    with av.open(f"file:{path}") as opened:
        if not opened.streams.audio:
            return []
        found = [(p.pts * p.time_base, bytes(p)) for p in opened.demux(opened.streams.audio[0]) if p.size]
    facts = inspect(path)
    begins = facts["ticks"][0] * Fraction(facts["time_base"])
    return [(time - begins, data) for time, data in found]


def psnr(one: Frames, other: Frames) -> float:
    count = min(len(one), len(other))
    error = ((one[:count].astype(np.float32) - other[:count].astype(np.float32)) ** 2).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-6))))


def bend(frames: Frames) -> float:
    """Root mean square of the second difference in time."""
    total = 0.0
    for before, now, after in zip(frames, frames[1:], frames[2:], strict=False):
        total += float(((after.astype(np.float32) - 2 * now.astype(np.float32) + before) ** 2).mean())
    return (total / max(1, len(frames) - 2)) ** 0.5


def compare(case: Case, path: Path, made: Path, row: Row) -> None:
    """Fills the row from the two files."""
    before, after = inspect(path), inspect(made)
    row.frames = (before["frames"], after["frames"])
    row.rates = tuple(rate_words(facts) for facts in (before, after))  # type: ignore[assignment]
    row.seconds = tuple(seconds(facts) for facts in (before, after))  # type: ignore[assignment]
    row.size = f"{before['width']}x{before['height']} -> {after['width']}x{after['height']}"
    if case.sound:
        old, new = packets(path), packets(made)
        same = [data for _, data in old] == [data for _, data in new]
        shift = max((abs(float(a[0] - b[0])) for a, b in zip(old, new, strict=False)), default=0.0)
        row.sound = f"same, {1000 * shift:.1f} ms off" if same else "DIFFERENT"
    old, new = pictures(path), pictures(made)
    height, width = min(old.shape[1], new.shape[1]), min(old.shape[2], new.shape[2])
    old, new = old[:, :height, :width], new[:, :height, :width]
    row.psnr = psnr(old, new[::2])
    if len(new) > 2:
        row.smoothness = bend(new) / max(1e-6, bend(np.repeat(new[::2], 2, axis=0)[: len(new)]))
    if case.truth and len(new) > 2 and old.shape[1:3] == case.size:
        truth = scene(2 * case.frames - 1, 2 * Fraction(case.rate), case.size)[:, :height, :width]
        row.between = psnr(truth[1::2], new[1::2])


def rate_words(facts: dict[str, Any]) -> str:
    if facts["rate"] is None:
        return "varies" if facts["frames"] > 1 else "one frame"
    return f"{float(Fraction(facts['rate'])):.3f}".rstrip("0").rstrip(".")


def seconds(facts: dict[str, Any]) -> float:
    return float((facts["ticks"][-1] - facts["ticks"][0]) * Fraction(facts["time_base"]) + Fraction(facts["last"]))


def run(case: Case, folder: Path) -> Row:
    path, made = make(case, folder), folder / f"made{case.result}"
    codec = ("--codec", "prores") if case.result == ".mov" else ("--codec", "ffv1") if case.result == ".mkv" else ()
    words = [sys.executable, "-m", "orchestrator", "upscale-temporal", str(path), "-o", str(made), "--model", "tiny"]
    answer = subprocess.run(
        [*words, *codec, "--json", "--home", str(folder / "home")], capture_output=True, text=True, check=False
    )
    events = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]
    row = Row(case.name, f"exit {answer.returncode}")
    row.words = [event["message"] for event in events if event["event"] in ("warning", "error")]
    if answer.returncode and not row.words:
        row.words = [answer.stderr.strip()]
    if made.exists():
        compare(case, path, made, row)
    return row


def seams(frames: int = 113, chunk: int = 57) -> Iterator[str]:
    """One video in chunks and as a whole: how far the step from frame to frame is from the whole's, in grey levels."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "video.mkv"
        with VideoWriter(path, width=SIZE[1], height=SIZE[0], fps=Fraction(24), codec="ffv1") as video:
            video.write(scene(frames, Fraction(24), SIZE))
        made = {}
        for length in (frames, chunk):
            words = [sys.executable, "-m", "orchestrator", "upscale-temporal", str(path), "--model", "tiny", "--quiet"]
            output = folder / f"{length}.mkv"
            more = ["--codec", "ffv1", "--chunk", str(length), "-o", str(output), "--home", str(folder / "home")]
            subprocess.run([*words, *more], check=True)
            made[length] = pictures(output)
    whole, cut = (steps(made[length]) for length in (frames, chunk))
    shared = np.zeros(len(cut), bool)
    for start in range(chunk - OVERLAP, frames - OVERLAP, chunk - OVERLAP):
        shared[2 * start - 1 : 2 * (start + OVERLAP)] = True
    yield "| steps from frame to frame | whole, mean | in chunks, mean | largest excess |"
    yield "| --- | --- | --- | --- |"
    for name, where in (("where chunks meet", shared), ("elsewhere", ~shared)):
        excess = (cut - whole)[where].max()
        yield f"| {name} | {whole[where].mean():.2f} | {cut[where].mean():.2f} | {excess:.2f} |"
    yield f"\nThe largest step of the whole is {whole.max():.2f}. Chunks meet in {shared.sum()} of {len(shared)} steps."


def steps(frames: Frames) -> NDArray[np.float64]:
    """Root mean square of the difference between neighbours."""
    found = [float(((b.astype(np.float32) - a) ** 2).mean() ** 0.5) for a, b in pairwise(frames)]
    return np.array(found)


def table(rows: list[Row]) -> Iterator[str]:
    head = ["file", "end", "frames", "rate", "seconds", "sound", "PSNR, dB", "between, dB", "smoothness"]
    yield "| " + " | ".join(head) + " |"
    yield "| --- " * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(row.cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="parts of names")
    parser.add_argument("--keep", type=Path, help="a folder for the files")
    parser.add_argument("--out", type=Path, help="figures as JSON")
    parser.add_argument("--seams", action="store_true", help="a video in chunks against the same as a whole")
    asked = parser.parse_args()
    if asked.seams:
        print("\n".join(seams()))
        return
    if shutil.which("ffmpeg") is None:
        parser.error("ffmpeg is not on the path")
    rows = []
    for number, case in enumerate(CASES):
        if asked.only and not any(part.lower() in case.name.lower() for part in asked.only):
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) if asked.keep is None else asked.keep / f"{number:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            row = run(case, folder)
        rows.append(row)
        right = row.ended == ("exit 2" if case.refused else "exit 0")
        print(f"{'ok ' if right else 'BAD'} {row.cells} {row.size}", *row.words, sep="\n      ", file=sys.stderr)
    print("\n".join(table(rows)))
    if asked.out is not None:
        asked.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
