"""From a prompt to token ids, as LTX-2 reads them: stripped, one `<bos>` in front, at most 1,024, no padding.

`tokenizer.json` is read by `tokenizers`, the engine of transformers' own fast tokenizers, in a tenth of a second;
transformers itself, which takes seconds to import, only where a folder has nothing but a `tokenizer.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from weights.errors import RelayError, WeightsError
from weights.header_json import plain, read_json

MAX_TOKENS = 1024
MAX_BYTES = 200_000_000
"""Of a file; Gemma 3's tokenizer.json has 33 MB."""
DEFAULT_BOS = 2


def encode(
    folder: Path, prompts: Sequence[str], on_cut: Callable[[int, int], None] = lambda index, tokens: None
) -> list[list[int]]:
    """Token ids of each prompt. WeightsError when the folder has no tokenizer, or one that cannot be read.

    on_cut: called with a prompt's index and its tokens when they are more than the model reads.
    """
    bos = bos_id(folder)
    found = []
    with named(folder):
        ids_of = open_tokenizer(folder)
        encoded = [ids_of(prompt.strip()) for prompt in prompts]
    for index, ids in enumerate(encoded):
        while ids[:1] == [bos]:
            ids = ids[1:]
        if len(ids) >= MAX_TOKENS:
            on_cut(index, 1 + len(ids))
        found.append([bos, *ids][:MAX_TOKENS])
    return found


def open_tokenizer(folder: Path) -> Callable[[str], list[int]]:
    """A function from a text to its ids; it may or may not put `<bos>` in front."""
    fast, slow = folder / "tokenizer.json", folder / "tokenizer.model"
    for path in (fast, slow, folder / "config.json"):
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise WeightsError(f"{path} is larger than {MAX_BYTES:,} bytes; this is not the file that it should be.")
    if fast.is_file():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(fast))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return lambda text: list(tokenizer.encode(text).ids)
    if slow.is_file():
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        return lambda text: list(loaded(text).input_ids)
    raise WeightsError(
        f"{folder} has no tokenizer.json.",
        advice="Fetch the text encoder again with all its files, the tokenizer's included.",
    )


@contextmanager
def named(folder: Path) -> Iterator[None]:
    """Whatever the libraries raise for a damaged file becomes a WeightsError."""
    try:
        yield
    except (RelayError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # bare Exceptions, and panics, which are none
        what = plain(str(error), 400)
        raise WeightsError(f"The tokenizer in {folder} cannot be read: {what}.", advice="Fetch it again.") from error


def bos_id(folder: Path) -> int:
    """The id that the model's config names for `<bos>`; 2, as in every Gemma, where it names none."""
    try:
        value = read_json(folder / "config.json").get("bos_token_id", DEFAULT_BOS)
    except WeightsError:
        return DEFAULT_BOS
    return value if isinstance(value, int) else DEFAULT_BOS
