"""A decode that was killed goes on from its last saved piece, to the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import weights
from cache.artifacts import Tensor, publish
from cache.home import Home, open_home
from tests.workers.networks.test_vae import CONFIG, STATISTICS, arrays
from weights.architecture.vae import DecoderConfig, decoder_tensors
from weights.errors import DoesNotFit
from weights.fingerprint import fingerprint
from workers.channel import EventChannel
from workers.context import Context
from workers.protocol import Item, Job, WeightsUse
from workers.stages import decode
from workers.video import pieces
from workers.video.pieces import Pieces

pytestmark = pytest.mark.usefixtures("on_the_cpu")

KEY = "a" * 64
DEV = Path(weights.__path__[0]) / "tiny" / "ltx-2-tiny-dev.safetensors"
FRAMES = 7  # latent ones: 49 frames, in five pieces


class Recorder(EventChannel):
    """Keeps the events."""

    def __init__(self) -> None:
        super().__init__(None)
        self.events: list[dict[str, Any]] = []

    def emit(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(pieces, "WORTH_SECONDS", 0.0)
    home = open_home(tmp_path / "home")
    values = np.random.default_rng(0).standard_normal((1, 128, FRAMES, 2, 3)).astype(np.float32)
    tensors = {"video": Tensor("F32", values.shape, values.tobytes())}
    publish(tmp_path / "latent.safetensors", tensors, {"key": "0", "stage": "stage2"})
    return home


def work(home: Home, size: tuple[int, int] = (90, 60)) -> Recorder:
    use = fingerprint(DEV)
    item = Item(
        KEY,
        str(home.object_path(KEY, ".mkv")),
        {"latent": str(home.root.parent / "latent.safetensors")},
        {"seed": 1, "fps": "24", "role": "video"},
    )
    job = Job(
        "decode",
        (item,),
        (WeightsUse("statistics", str(DEV), use), WeightsUse("vae_decoder", str(DEV), use)),
        str(home.root),
        params={
            "codec": "ffv1",
            "container": ".mkv",
            "size": list(size),
            "tiles": {"spatial": None, "spatial_overlap": 0, "temporal": 16, "temporal_overlap": 8},
            "title": "a",
            "comments": {KEY: "b"},
        },
    )
    channel = Recorder()
    decode.run(job, Context(job, channel))
    return channel


def made(home: Home) -> bytes:
    return home.object_path(KEY, ".mkv").read_bytes()


@pytest.fixture
def whole(home: Home, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The video of an undisturbed decode, of which nothing is left in the home."""
    channel = work(home)
    assert len(channel.of("step")) == 6, "the rows of tiles"
    content = made(home)
    for path in home.objects.glob("*/*"):
        path.unlink()
    assert not list(home.partial.iterdir()), "a finished video leaves no pieces"
    return content


def kill_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    original = Pieces.save

    def save(self: Pieces, index: int, *rest: Any) -> bool:
        kept = original(self, index, *rest)
        if index + 1 == count:
            raise Killed
        return kept

    monkeypatch.setattr(Pieces, "save", save)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_killed_decode_goes_on(home: Home, whole: bytes, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    with monkeypatch.context() as patch:
        kill_after(patch, count)
        with pytest.raises(Killed):
            work(home)
    assert len(list(home.partial.iterdir())) == count
    assert not list(home.tmp.iterdir())
    channel = work(home)
    assert made(home) == whole
    assert channel.of("resumed") == [{"event": "resumed", "key": KEY, "index": count, "total": 5}]
    steps = [event["index"] for event in channel.of("step")]
    assert steps == list(range(7 - len(steps), 7)), "counted as what is left of all"
    assert len(steps) <= 6 - count + 1, "one row of tiles again, for the frames that both see"
    assert not list(home.partial.iterdir())


def test_a_damaged_piece_costs_what_comes_after_it(home: Home, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        kill_after(patch, 3)
        with pytest.raises(Killed):
            work(home)
    damaged = sorted(home.partial.iterdir())[1]
    raw = bytearray(damaged.read_bytes())
    raw[-1000] ^= 4
    damaged.write_bytes(raw)
    channel = work(home)
    assert made(home) == whole
    assert channel.of("resumed")[0]["index"] == 1
    assert channel.of("warning")


def test_quick_pieces_are_not_saved(home: Home, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "WORTH_SECONDS", 1000.0)
    kill_after(monkeypatch, 3)
    with pytest.raises(Killed):
        work(home)
    assert not list(home.partial.iterdir())


def test_a_disk_too_full_for_pieces_does_not_end_the_decode(
    home: Home, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, saved = pieces.save_partial, []

    def save_partial(*arguments: Any) -> int:
        if len(saved) == 2:
            raise DoesNotFit("The disk is full.")
        saved.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(pieces, "save_partial", save_partial)
    kill_after(monkeypatch, 5)
    work(home)
    assert made(home) == whole
    assert len(saved) == 2
    assert not list(home.partial.iterdir()), "the room is given back at once"


def test_a_decoder_that_draws_noise_goes_on_to_the_same_bytes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """No released file has such a decoder; one that has must not fail after all the denoising."""
    config = DecoderConfig.from_metadata({"vae": {**CONFIG["vae"], "timestep_conditioning": True}})
    networks = {"statistics": (None, arrays(STATISTICS)), "vae_decoder": (config, arrays(decoder_tensors(config)))}
    monkeypatch.setattr(decode, "load", lambda job, context, role, dtype: networks[role])
    values = np.random.default_rng(0).standard_normal((1, 8, FRAMES, 1, 1)).astype(np.float32)
    latent = {"video": Tensor("F32", values.shape, values.tobytes())}
    publish(home.root.parent / "latent.safetensors", latent, {"key": "0", "stage": "stage2"})
    work(home, (32, 32))
    content = made(home)
    for path in home.objects.glob("*/*"):
        path.unlink()
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(Killed):
            work(home, (32, 32))
    work(home, (32, 32))
    assert made(home) == content
