"""What the model does not read of a long prompt is said."""

from __future__ import annotations

from weights.tiny_model import tiny_folder
from workers.tokenizer import MAX_TOKENS, encode

FOLDER = tiny_folder() / "gemma-tiny"


def test_a_prompt_that_is_too_long_is_cut_and_that_is_told() -> None:
    told: list[tuple[int, int]] = []
    short, long = encode(FOLDER, ["a ball", "ball " * 3000], lambda index, tokens: told.append((index, tokens)))
    assert (len(short) < 20, len(long)) == (True, MAX_TOKENS)
    ((index, tokens),) = told
    assert index == 1
    assert tokens > MAX_TOKENS


def test_the_longest_that_is_read_whole() -> None:
    told: list[tuple[int, int]] = []
    each = len(encode(FOLDER, ["a a"])[0]) - len(encode(FOLDER, ["a"])[0])
    first = len(encode(FOLDER, ["a"])[0])
    words = 1 + (MAX_TOKENS - first) // each
    (ids,) = encode(FOLDER, [" ".join(["a"] * words)], lambda *cut: told.append(cut))
    assert MAX_TOKENS - each < len(ids) <= MAX_TOKENS
    assert not told
    (ids,) = encode(FOLDER, [" ".join(["a"] * (words + 1))], lambda *cut: told.append(cut))
    assert len(ids) == MAX_TOKENS
    assert len(told) == (first + words * each > MAX_TOKENS)
