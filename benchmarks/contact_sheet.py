"""A picture of videos: one row each, frames evenly spaced over its length, as a PNG.

    uv run python benchmarks/contact_sheet.py OUT.png VIDEO... [--columns 8] [--width 192]

Made with PyAV alone; the pictures in the README and in docs/ are made by this.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

GAP = 4
"""Pixels between frames, white."""


def row(path: Path, columns: int, width: int) -> npt.NDArray[np.uint8]:
    """[height, ..., 3]: `columns` frames of the video, the first and the last among them."""
    with av.open(f"file:{path}") as file:
        frames = list(file.decode(video=0))
    chosen = [frames[round(i * (len(frames) - 1) / max(columns - 1, 1))] for i in range(columns)]
    height = round(frames[0].height * width / frames[0].width / 2) * 2
    pictures = [frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray() for frame in chosen]
    gap = np.full((height, GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=1)


def sheet(videos: list[Path], columns: int, width: int) -> npt.NDArray[np.uint8]:
    rows = [row(path, columns, width) for path in videos]
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for one in rows for part in (one, gap)][:-1], axis=0)


def write_png(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width, encoder.pix_fmt = *picture.shape[:2], "rgb24"
    packets = [*encoder.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")), *encoder.encode(None)]
    path.write_bytes(b"".join(bytes(packet) for packet in packets))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--width", type=int, default=192)
    asked = parser.parse_args()
    write_png(asked.out, sheet(asked.videos, asked.columns, asked.width))


if __name__ == "__main__":
    main()
