"""Writes a `tokenizer.model`: a `tokenizer.json`'s vocabulary as a SentencePiece BPE file, for loaders that want one.

The file is a protocol buffer (sentencepiece_model.proto), of which only the fields below are set. It is written by
hand, as that is less than installing the library for it.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_BPE = 2


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: int | float | str | bytes) -> bytes:
    """One field, of the wire type that the value's Python type asks for."""
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return _varint(number << 3 | 0) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _piece(text: str, kind: int, score: float | None) -> bytes:
    scored = b"" if score is None else _field(2, score)
    return _field(1, _field(1, text) + scored + _field(3, kind))


def write(tokenizer_json: Path, path: Path) -> None:
    """The same pieces with the same ids; a merge's rank becomes its score."""
    tokenizer = json.loads(tokenizer_json.read_text())
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    merges = tokenizer["model"]["merges"]
    rank = {"".join(merge if isinstance(merge, list) else merge.split(" ")): i for i, merge in enumerate(merges)}
    special = {token["content"] for token in tokenizer["added_tokens"]}

    model = bytearray()
    for text, index in sorted(vocabulary.items(), key=lambda item: item[1]):
        if text == "<unk>":
            model += _piece(text, _UNKNOWN, None)
        elif text in ("<pad>", "<bos>", "<eos>"):
            model += _piece(text, _CONTROL, None)
        elif text in special:
            model += _piece(text, _USER_DEFINED, None)
        elif text.startswith("<0x") and len(text) == 6:
            model += _piece(text, _BYTE, None)
        else:
            model += _piece(text, _NORMAL, -float(rank.get(text, len(merges) + index)))

    trainer = {3: _BPE, 4: len(vocabulary), 35: True}  # model_type, vocab_size, byte_fallback
    ids = {40: vocabulary["<unk>"], 41: vocabulary["<bos>"], 42: vocabulary["<eos>"], 43: vocabulary["<pad>"]}
    names = {45: "<unk>", 46: "<bos>", 47: "<eos>", 48: "<pad>"}
    model += _field(2, b"".join(_field(number, value) for number, value in {**trainer, **ids, **names}.items()))
    # Normalisation: its name; no dummy prefix, no removal of spaces; spaces escaped.
    model += _field(3, _field(1, "identity") + _field(3, False) + _field(4, False) + _field(5, True))
    path.write_bytes(bytes(model))
