"""Partial states: the last finished step is there, or the one before; damage costs time, never the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cache.artifacts import Tensor, publish
from cache.durable import sweep
from cache.home import Home, open_home
from cache.partial import Partial, drop_partial, load_partial, save_partial
from weights.errors import DoesNotFit, RelayError

KEY, OTHER = "ab" * 32, "cd" * 32


def latent(step: int) -> dict[str, Tensor]:
    return {"latent": Tensor("BF16", (1, 4, 2), bytes([step]) * 16), "sigma": Tensor("F64", (), bytes([step]) * 8)}


def test_a_state_comes_back_until_it_is_dropped(home: Home) -> None:
    assert load_partial(home, KEY) is None
    save_partial(home, KEY, 1, 15, latent(1))
    size = save_partial(home, KEY, 2, 15, latent(2))
    assert home.partial_path(KEY).stat().st_size == size
    assert load_partial(home, KEY) == Partial(2, 15, latent(2))
    assert load_partial(home, OTHER) is None
    drop_partial(home, KEY)
    assert load_partial(home, KEY) is None
    drop_partial(home, KEY)  # nothing to drop is fine
    assert list(home.partial.iterdir()) == []


@pytest.mark.parametrize(("step", "total"), [(-1, 3), (4, 3)])
def test_impossible_steps_are_a_mistake_of_ours(home: Home, step: int, total: int) -> None:
    with pytest.raises(ValueError, match="is none"):
        save_partial(home, KEY, step, total, latent(1))


def test_a_damaged_state_is_set_aside_and_told(home: Home) -> None:
    told: list[str] = []
    save_partial(home, KEY, 3, 15, latent(3))
    path = home.partial_path(KEY)
    raw = path.read_bytes()
    for cut in range(1, 11):
        path.write_bytes(raw[: len(raw) * cut // 11])
        assert load_partial(home, KEY, told.append) is None
        assert not path.exists()
    for position in range(0, len(raw), max(1, len(raw) // 100)):
        copy = bytearray(raw)
        copy[position] ^= 4
        path.write_bytes(copy)
        assert load_partial(home, KEY, told.append) is None, position
    assert len(told) == len(list(home.partial.glob("*.corrupt"))) >= 110
    assert all("\n" not in sentence and sentence for sentence in told)


def test_a_state_of_another_key_or_kind_is_refused(home: Home) -> None:
    save_partial(home, OTHER, 3, 15, latent(3))
    home.partial_path(OTHER).rename(home.partial_path(KEY))
    assert load_partial(home, KEY) is None
    publish(home.partial_path(KEY), latent(1), {"key": KEY, "stage": "stage1", "step": "1", "total": "2"})
    assert load_partial(home, KEY) is None
    told: list[str] = []
    for step, total in (("4", "3"), ("x", "3"), ("-1", "3"), ("", ""), ("1" * 5000, "3")):
        publish(home.partial_path(KEY), latent(1), {"key": KEY, "stage": "partial", "step": step, "total": total})
        assert load_partial(home, KEY, told.append) is None, (step, total)
        assert not home.partial_path(KEY).exists()
    assert len(told) == 5


def test_a_kill_anywhere_leaves_this_step_or_the_one_before(home: Home, everywhere: Callable[..., int]) -> None:
    found = set()

    def check(where: str) -> None:
        state = load_partial(home, KEY)
        assert state in (Partial(4, 15, latent(4)), Partial(5, 15, latent(5))), where
        found.add(state.step)
        sweep(home.partial)
        assert [path.name for path in home.partial.iterdir()] == [f"{KEY}.safetensors"], where

    def save(step: int) -> None:
        save_partial(home, KEY, step, 15, latent(step))

    assert everywhere(lambda: save(5), check, lambda: save(4)) >= 25
    assert found == {4, 5}


def test_a_full_disk_keeps_the_former_state(small_disk: Path) -> None:
    home = open_home(small_disk / "home")
    save_partial(home, KEY, 1, 15, latent(1))
    with pytest.raises(DoesNotFit):
        save_partial(home, KEY, 2, 15, {"latent": Tensor("U8", (2_000_000,), bytes(2_000_000))})
    assert load_partial(home, KEY) == Partial(1, 15, latent(1))


def test_a_state_that_cannot_be_dropped_says_so(home: Home) -> None:
    home.partial_path(KEY).mkdir()
    with pytest.raises(RelayError, match="could not be removed"):
        drop_partial(home, KEY)
