"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.video.reformatter import Interpolation
from hypothesis import settings

from orchestrator.environment import worker_environment

# A busy machine is no failure: Hypothesis gives each example 200 ms unless told otherwise.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ACCURATE = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""swscale's default is two levels off."""


@dataclass(frozen=True)
class DecodedVideo:
    """What a player would find in a video file.

    frames: `[n, height, width, 3]` RGB; planes: of the first frame, as coded.
    times: when each frame is shown, in seconds. tags: primaries, transfer, matrix, range (ITU-T H.273 code points).
    """

    frames: npt.NDArray[np.uint8]
    times: tuple[Fraction, ...]
    rate: Fraction
    duration: Fraction
    codec: str
    codec_tag: str
    pixel_format: str
    tags: tuple[int, int, int, int]
    metadata: dict[str, str]
    planes: tuple[npt.NDArray[np.uint16], ...]


def _plane(plane: av.video.plane.VideoPlane, depth: int) -> npt.NDArray[np.uint16]:
    dtype = np.uint8 if depth == 8 else np.uint16
    rows = np.frombuffer(bytes(plane), dtype).reshape(plane.height, -1)
    return rows[:, : plane.width].astype(np.uint16)


def _read_video(path: Path) -> DecodedVideo:
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        pictures = list(container.decode(stream))
        first = pictures[0]
        components = first.format.components
        planes: tuple[npt.NDArray[np.uint16], ...] = ()
        if first.format.is_planar:
            planes = tuple(_plane(plane, components[0].bits) for plane in first.planes)
        assert stream.time_base is not None
        assert stream.average_rate is not None
        assert container.duration is not None
        return DecodedVideo(
            frames=np.stack([picture.to_ndarray(format="rgb24", interpolation=ACCURATE) for picture in pictures]),
            times=tuple((picture.pts or 0) * stream.time_base for picture in pictures),
            rate=stream.average_rate,
            duration=Fraction(container.duration, av.time_base),
            codec=context.name,
            codec_tag=context.codec_tag,
            pixel_format=first.format.name,
            tags=(context.color_primaries, context.color_trc, context.colorspace, context.color_range),
            metadata={key.lower(): value for key, value in container.metadata.items()},
            planes=planes,
        )


@pytest.fixture
def read_video() -> Callable[[Path], DecodedVideo]:
    """Decodes a whole (small) video file."""
    return _read_video


_SITECUSTOMIZE = """
import importlib.abc, importlib.util, sys


class FakeStage(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "workers.stages.text":
            return importlib.util.spec_from_file_location(name, {path!r})


sys.meta_path.insert(0, FakeStage())
"""


@pytest.fixture
def fake_stage(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Gives the environment in which a worker's `text` stage is this source, with `run(job, context)` in it.

    Python reads a `sitecustomize` at its start: the product needs no seam for it.
    """

    def make(source: str) -> dict[str, str]:
        folder = tmp_path / "fake"
        folder.mkdir(exist_ok=True)
        (folder / "stage.py").write_text(source)
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE.format(path=str(folder / "stage.py")))
        environment = dict(worker_environment({**os.environ, "LTX_RELAY_BLAS": "none"}).variables)
        return {**environment, "PYTHONPATH": f"{folder}{os.pathsep}{environment['PYTHONPATH']}"}

    return make


@pytest.fixture
def memory_group() -> Iterator[Callable[[int], Callable[[], None]]]:
    """Makes a control group with so many bytes of memory, and what puts the process that calls it there."""
    version_1 = Path("/sys/fs/cgroup/memory")
    root = version_1 if version_1.is_dir() else Path("/sys/fs/cgroup")
    group = root / f"ltx-relay-test-{os.getpid()}"

    def make(size: int) -> Callable[[], None]:
        try:
            group.mkdir(exist_ok=True)
            (group / ("memory.limit_in_bytes" if root == version_1 else "memory.max")).write_text(str(size))
            if (group / "memory.swap.max").exists():
                (group / "memory.swap.max").write_text("0")
        except OSError as error:
            pytest.skip(f"no control group with a limit of its memory can be made here: {error}")
        return lambda: (group / "cgroup.procs").write_text(str(os.getpid())) and None

    yield make
    for _ in range(100):  # its last process may still be on its way out
        try:
            group.rmdir()
        except FileNotFoundError:
            break
        except OSError:
            time.sleep(0.05)


@pytest.fixture(scope="module")
def on_the_cpu() -> Iterator[None]:
    """MLX computes on the CPU, where numbers are the same on every machine."""
    import mlx.core as mx

    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


@pytest.fixture(scope="session", autouse=True)
def own_machine_lock(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests do not wait for a video that this machine is making meanwhile, nor that for them."""
    os.environ["LTX_RELAY_MACHINE_LOCK"] = str(tmp_path_factory.mktemp("lock") / "machine.lock")
