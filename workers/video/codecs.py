"""The four video codecs that `--codec` names: containers, encoders, pixel formats, settings.

A table and look-ups in it, nothing else: this module imports neither av nor mlx. The settings aim at the best picture
that the codec's users expect, since a video costs hours of denoising and its file is the only thing they keep:

    h264    x264, 8-bit 4:2:0 (what every player takes), CRF 16: by eye no difference from the source
    hevc    x265, 10-bit 4:2:0 (Main 10, in every HEVC hardware decoder since 2017), CRF 14: fewer bands in a sky
    prores  422 HQ, 10-bit 4:2:2, for an editor's timeline
    ffv1    lossless, RGB: every frame comes back bit by bit

What depends on the machine by default (threads, notes about the CPU in the stream) is pinned, because the same frames
have to give the same file. For the same reason x264's macroblock tree is off: in the build that PyAV ships it reads
memory that it never wrote, so that two runs differ (seen with glibc's MALLOC_PERTURB_; test_writer_determinism). That
costs about a quarter more bytes, and no quality. x265 does such a thing too, where the width rounded up to 8 is an odd
multiple of 8, and up to 64; no option was found against that (docs/faults.md, "Not done").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from weights.errors import UsageError

THREADS = 4
"""Encoder threads, on every machine: x264's and x265's frame threads change the bytes with their number."""


@dataclass(frozen=True)
class Encoder:
    """One encoder of FFmpeg's, and the options that it gets.

    crf: its default quality, None where it has no such setting. frame_threads: threads on frames, not on slices.
    reorder: by how many frames its packets run ahead of their showing, for an encoder whose own account of that cannot
    be trusted (x265 leaves the decoding times of a clip of one or two frames uninitialised); None takes its account.
    """

    name: str
    pixel_format: str
    options: Mapping[str, str] = field(default_factory=dict)
    crf: int | None = None
    frame_threads: bool = False
    reorder: int | None = None


@dataclass(frozen=True)
class Codec:
    """A value of `--codec`.

    containers: file suffix -> FFmpeg's name of the format, the usual one first.

    encoders: in the order of preference; the first that this build of FFmpeg has is used.
    even: width, height have to be even, as the chroma planes are half as wide, or high. smallest: width and height.
    """

    name: str
    containers: Mapping[str, str]
    encoders: tuple[Encoder, ...]
    even: tuple[bool, bool]
    smallest: int = 2

    def container(self, suffix: str) -> str:
        """FFmpeg's name of the format for a file suffix (".mp4"); UsageError where the codec cannot be in it."""
        try:
            return self.containers[suffix.lower()]
        except KeyError:
            fitting = " or ".join(self.containers)
            raise UsageError(
                f"--codec {self.name} cannot be stored in a {suffix or 'suffixless'} file.",
                advice=f"Give --output a name that ends in {fitting}.",
            ) from None


_MP4: Mapping[str, str] = MappingProxyType({".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".m4v": "mp4"})
_X265 = f"log-level=none:info=0:frame-threads=2:pools={THREADS}"  # info: a note in the stream that names the CPU

CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        codec.name: codec
        for codec in (
            Codec(
                "h264",
                _MP4,
                (
                    Encoder(
                        "libx264",
                        "yuv420p",
                        {"preset": "medium", "profile": "high", "x264-params": "mbtree=0"},
                        crf=16,
                        frame_threads=True,
                    ),
                    # Constant quality (0-100 x 118), not a bit rate; bytes are Apple's affair here.
                    Encoder("h264_videotoolbox", "yuv420p", {"flags": "+qscale", "global_quality": "9440"}),
                ),
                even=(True, True),
            ),
            Codec(
                "hevc",
                _MP4,
                (
                    Encoder("libx265", "yuv420p10le", {"preset": "medium", "x265-params": _X265}, crf=14, reorder=2),
                    Encoder("hevc_videotoolbox", "p010le", {"flags": "+qscale", "global_quality": "9440"}),
                ),
                even=(True, True),
                smallest=32,
            ),
            Codec(
                "prores",
                MappingProxyType({".mov": "mov"}),
                (Encoder("prores_ks", "yuv422p10le", {"profile": "hq", "vendor": "apl0"}),),
                even=(True, False),
            ),
            Codec(
                "ffv1",
                MappingProxyType({".mkv": "matroska"}),
                # Version 3 with slices and their checksums: damage is noticed, and stays within its slice.
                (Encoder("ffv1", "bgr0", {"level": "3", "slices": "4", "slicecrc": "1", "g": "1"}),),
                even=(False, False),
            ),
        )
    }
)


def codec(name: str) -> Codec:
    """The codec of that name; UsageError for any other."""
    try:
        return CODECS[name]
    except KeyError:
        known = ", ".join(CODECS)
        raise UsageError(f"--codec {name} is not known.", advice=f"Choose one of: {known}.") from None
