"""Makes the Gemma-style tokenizer from the world's own captions: BPE inside words, byte fallback, <bos> first.

python -m training.tokenizer FOLDER
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from training.world import captions

SPECIAL = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
VOCABULARY = 736
SPACE = "▁"


def corpus(count: int = 20_000) -> Iterator[str]:
    """The texts that the merges are learnt from."""
    rng = random.Random(0)
    shown = captions.all_combinations()
    for _ in range(count):
        text = captions.caption(rng.choice(shown), rng)
        yield text.lower() if text.isupper() else text
    for _ in range(60):
        yield from captions.NEGATIVE_PROMPTS
        yield " ".join(captions.FILLER)


def learn_merges() -> tuple[list[str], list[tuple[str, str]]]:
    """Pieces and merges, words kept apart at spaces, commas, full stops and digits."""
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.normalizer = normalizers.Replace(" ", SPACE)
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(SPACE, "merged_with_next"), pre_tokenizers.Split(Regex(r"[,.\d]"), "isolated")]
    )
    alphabet = [chr(code) for code in range(33, 127)] + ["\n"]
    size = VOCABULARY - len(SPECIAL) - len(BYTES)
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[], show_progress=False, initial_alphabet=alphabet)
    learner.train_from_iterator(corpus(), trainer)
    model = json.loads(learner.to_str())["model"]
    merges = [tuple(merge if isinstance(merge, list) else merge.split(" ")) for merge in model["merges"]]
    return sorted(model["vocab"], key=model["vocab"].get), merges


def build(folder: Path) -> Tokenizer:
    """Writes `tokenizer.json` and `tokenizer_config.json` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces, merges = learn_merges()
    vocabulary = {piece: index for index, piece in enumerate([*SPECIAL, *BYTES, *pieces])}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 131072,
        "padding_side": "left",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "processor_class": "Gemma3Processor",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return tokenizer


def main() -> None:
    tokenizer = build(Path(sys.argv[1]))
    print(f"{tokenizer.get_vocab_size()} tokens")
    for text in ("A red ball bouncing on green grass", "Zoë's naïve 猫 jumps"):
        encoding = tokenizer.encode(text)
        print(encoding.tokens, repr(tokenizer.decode(encoding.ids)))


if __name__ == "__main__":
    main()
