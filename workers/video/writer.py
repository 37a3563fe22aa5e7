"""RGB frames in, a finished video file out.

Guaranteed: frames go to the encoder as they come, and no more of them are alive than it looks ahead; the rate is exact
(a fraction), and frame n is shown at n / fps (Matroska rounds that to milliseconds); colours are converted with the
BT.709 matrix to the range that the file's tags state; the same frames, settings and build of FFmpeg give the same
bytes; after an error no partial file is left. Not guaranteed: durability (the caller publishes the file), nor the same
bytes from VideoToolbox, nor from x265 at some widths (see `codecs`).

The frames are taken as what a screen shows (sRGB, as in the videos that a model was trained on). Tagging that with
BT.709's transfer function is what video tools do and what players expect.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from weights.errors import DoesNotFit, RelayError, UsageError
from workers.video.codecs import THREADS, Codec, Encoder, codec

TITLE, COMMENT = "title", "comment"
"""The metadata that every container here keeps; the recipe is the comment."""

_BT709 = 1  # primaries, transfer and matrix have the same code point (ITU-T H.273)
_RGB_MATRIX = 0
_LIMITED, _FULL = 1, 2
# swscale's fast paths differ between processors, and round less well.
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class VideoWriter:
    """Encodes frames into one video file: `with VideoWriter(...) as video: video.write(frames)`.

    path: the file to write, replaced if it is there; it may have any name (a temporary one).
    width, height: of every frame, in pixels. fps: frames per second, exact.
    codec: "h264", "hevc", "prores" or "ffv1". container: FFmpeg's name of the format (see `Codec.container`); the
    codec's usual one by default. crf: the quality of h264 and hevc, 1 (best) to 51.
    aspect: width of a pixel over its height.
    metadata: `TITLE` and `COMMENT` only, the keys that all the containers keep.

    UsageError: a codec, container, size or quality that cannot be; an encoder that this FFmpeg lacks; a path that
    cannot be written. DoesNotFit: the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        width: int,
        height: int,
        fps: Fraction,
        codec: str = "h264",
        metadata: Mapping[str, str] | None = None,
        crf: int | None = None,
        container: str | None = None,
        aspect: Fraction = Fraction(1),
    ) -> None:
        self.path = Path(path)
        self.width, self.height, self.fps = width, height, Fraction(fps)
        self.frames = self._packets = 0
        self._aspect = Fraction(aspect)
        self._codec = _checked(codec, width, height, self.fps, container)
        self._encoder = _available(self._codec)
        self._container = container or next(iter(self._codec.containers.values()))
        self._options = {**self._encoder.options, **_quality(self._codec, self._encoder, crf)}
        self._metadata = _checked_metadata(metadata or {}, self._container)
        self._created = False
        self._reformatter = VideoReformatter()
        self._output: av.container.OutputContainer | None = None
        self._stream: VideoStream | None = None

    def __enter__(self) -> Self:
        with self._no_partial_file():
            self.path.open("wb").close()  # from here on the file is ours to remove
            self._created = True
            self._output = av.open(
                # The prefix keeps FFmpeg from reading a colon in a name as a protocol.
                f"file:{self.path}",
                "w",
                format=self._container,
                # bitexact: no random identifiers, dates or version strings. faststart: the index first, so that
                # a player can begin before it has the whole file.
                container_options={"fflags": "+bitexact", **_muxer_options(self._container)},
            )
            self._output.metadata.update(self._metadata)
            self._stream = self._open_stream(self._output)
            self._output.start_encoding()
        return self

    def write(self, frames: npt.NDArray[np.uint8]) -> None:
        """Encodes frames `[n, height, width, 3]`, RGB, in the order of time."""
        shape = (self.height, self.width, 3)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != shape:
            raise ValueError(
                f"frames {frames.dtype} {frames.shape} where uint8 [n, {', '.join(map(str, shape))}] belongs"
            )
        with self._no_partial_file():
            for frame in frames:
                self._encode(self._convert(frame))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if kind is not None:
            self._discard()
        elif self.frames == 0:
            self._discard()
            raise RelayError(f"No frame reached the encoder, so there is no video {self.path}.")
        else:
            with self._no_partial_file():
                self._encode(None)
                assert self._output is not None
                self._output.close()
        return False

    def _open_stream(self, output: av.container.OutputContainer) -> VideoStream:
        encoder = self._encoder
        stream = output.add_stream(encoder.name, rate=self.fps, options=self._options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, encoder.pixel_format
        stream.codec_context.time_base = stream.time_base = 1 / self.fps
        if self._aspect != 1:
            stream.codec_context.sample_aspect_ratio = self._aspect
        stream.thread_count = THREADS
        stream.thread_type = "FRAME" if encoder.frame_threads else "SLICE"
        stream.color_primaries = stream.color_trc = _BT709
        stream.colorspace, stream.color_range = (_RGB_MATRIX, _FULL) if self._is_rgb else (_BT709, _LIMITED)
        if self._codec.name == "hevc" and self._container != "matroska":
            stream.codec_context.codec_tag = "hvc1"  # QuickTime does not play FFmpeg's default, hev1
        return stream

    @property
    def _is_rgb(self) -> bool:
        return self._encoder.pixel_format == "bgr0"

    def _convert(self, frame: npt.NDArray[np.uint8]) -> av.VideoFrame:
        source = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        if self._is_rgb:
            picture = self._reformatter.reformat(source, format=self._encoder.pixel_format, threads=1)
        else:
            picture = self._reformatter.reformat(
                source,
                format=self._encoder.pixel_format,
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                interpolation=_EXACT,
                threads=1,
            )
        # ProRes takes its tags from the frames, the others from the stream.
        picture.color_primaries = picture.color_trc = _BT709
        picture.color_range = _FULL if self._is_rgb else _LIMITED
        picture.pts, picture.time_base, picture.duration = self.frames, 1 / self.fps, 1
        self.frames += 1
        return picture

    def _encode(self, picture: av.VideoFrame | None) -> None:
        assert self._stream is not None
        assert self._output is not None
        for packet in self._stream.encode_lazy(picture):
            if self._encoder.reorder is not None:
                packet.dts = self._packets - self._encoder.reorder
            self._packets += 1
            self._output.mux(packet)

    @contextlib.contextmanager
    def _no_partial_file(self) -> Iterator[None]:
        """Removes the file when the block fails, and says in a sentence what FFmpeg or the system could not do."""
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            self._discard()
            raise _explained(error, self.path, self._codec) from error
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        output, self._output, self._stream = self._output, None, None
        if output is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
                output.close()
        if self._created and (self.path.is_symlink() or self.path.is_file()):  # never a device
            self.path.unlink(missing_ok=True)


def _checked(name: str, width: int, height: int, fps: Fraction, container: str | None) -> Codec:
    chosen = codec(name)
    if container is not None and container not in chosen.containers.values():
        raise UsageError(f"--codec {name} cannot be stored in the container {container}.")
    if min(width, height) < chosen.smallest:
        raise UsageError(
            f"--codec {name} cannot encode {width}x{height} pixels: {chosen.smallest} is the least width and height."
        )
    if (chosen.even[0] and width % 2) or (chosen.even[1] and height % 2):
        raise UsageError(
            f"--codec {name} cannot encode {width}x{height} pixels, as it stores colour at half the resolution.",
            advice="Use an even width and height, or --codec ffv1.",
        )
    if fps <= 0:
        raise UsageError(f"A frame rate of {fps} is not a frame rate.")
    return chosen


def _available(chosen: Codec) -> Encoder:
    for encoder in chosen.encoders:
        with contextlib.suppress(av.codec.codec.UnknownCodecError):
            av.codec.Codec(encoder.name, "w")
            return encoder
    wanted = " or ".join(encoder.name for encoder in chosen.encoders)
    raise UsageError(
        f"--codec {chosen.name} needs the encoder {wanted}, which this build of PyAV and FFmpeg does not have.",
        advice="Use another --codec, or install PyAV's own wheel: pip install --force-reinstall --only-binary :all: av",
    )


def _quality(chosen: Codec, encoder: Encoder, crf: int | None) -> dict[str, str]:
    if crf is None:
        return {} if encoder.crf is None else {"crf": str(encoder.crf)}
    if encoder.crf is None:
        raise UsageError(f"The encoder {encoder.name} of --codec {chosen.name} has no CRF quality to set.")
    if not 1 <= crf <= 51:  # 0 is lossless 4:2:0, a profile that few players know
        raise UsageError(f"A CRF quality is a number from 1 (best) to 51, not {crf}.")
    return {"crf": str(crf)}


def _muxer_options(container: str) -> dict[str, str]:
    return {} if container == "matroska" else {"movflags": "+faststart"}


def _checked_metadata(metadata: Mapping[str, str], container: str) -> dict[str, str]:
    unknown = set(metadata) - {TITLE, COMMENT}
    if unknown:
        raise ValueError(f"not every container keeps the metadata {sorted(unknown)}")
    return dict(metadata)


def _explained(error: BaseException, path: Path, chosen: Codec) -> RelayError:
    number: Any = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return DoesNotFit(
            f"The disk is full: the video {path} could not be finished.", advice="Free some space, then run again."
        )
    if number in (
        errno.EACCES,
        errno.EPERM,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EROFS,
        errno.ENAMETOOLONG,
    ):
        return UsageError(f"The video {path} cannot be written: {reason}.")
    return RelayError(f"Writing the video {path} with --codec {chosen.name} failed: {reason}.")
