"""Contact sheets: clips as rows of frames, to look at."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor


def save_sheet(
    videos: Sequence[Tensor],
    path: Path,
    *,
    frames: Sequence[int] = (0, 8, 16, 24),
    labels: Sequence[str] = (),
    columns: int = 2,
    scale: float = 1.0,
) -> None:
    """Writes a picture of videos `[3, frames, height, width]` in [-1, 1], each with its label below."""
    named = itertools.zip_longest(videos, labels[: len(videos)], fillvalue="")
    tiles = [_tile(video, frames, scale, label) for video, label in named]
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    sheet = Image.new("RGB", (width * columns, height * -(-len(tiles) // columns)))
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % columns * width, index // columns * height))
    sheet.save(path)


def _tile(video: Tensor, frames: Sequence[int], scale: float, label: str) -> Image.Image:
    row = torch.cat([video[:, min(frame, video.shape[1] - 1)] for frame in frames], dim=-1)
    pixels = ((row.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(pixels)
    image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BILINEAR)
    tile = Image.new("RGB", (image.width + 4, image.height + (14 if label else 4)), (30, 30, 30))
    tile.paste(image, (2, 2))
    ImageDraw.Draw(tile).text((3, image.height + 2), label[: image.width // 6], fill=(255, 255, 255))
    return tile
