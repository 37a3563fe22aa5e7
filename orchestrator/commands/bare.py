"""A command line without a command: `ltx-relay "A fox in the snow" --pipeline two-stage` is `generate`.

The guide's script and other tools take the prompt first. A single word is never taken for a prompt: it is far more
often a mistyped command, and a run takes hours.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

DEFAULT = "generate"
OF_THE_PROGRAM = ("--help", "--version", "--install-completion", "--show-completion")


def with_command(words: Sequence[str], commands: Collection[str]) -> list[str]:
    """The words with `generate` before them, where they are a prompt of several words and flags."""
    if not words or words[0] in commands or words[0].partition("=")[0] in OF_THE_PROGRAM:
        return list(words)
    for word in words:
        if word in commands:
            break
        if word.partition("=")[0] == "--prompt":
            return [DEFAULT, *words]
        if len(word.split()) > 1 and not word.startswith("-"):
            return [DEFAULT, *words]
        if not words[0].startswith("-"):
            break  # a first word that is neither a flag nor a prompt: a mistyped command
    return list(words)
