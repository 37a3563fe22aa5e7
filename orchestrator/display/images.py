"""Pictures between the lines of a terminal that can show them: kitty's protocol, and iTerm2's.

Which one is known from the environment, since asking the terminal would take an answer from the keyboard's stream.
Inside tmux and screen there are none: they do not pass them on. LTX_RELAY_IMAGES names a protocol where the environment
does not tell (`kitty`, `iterm`), or `none`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path

VARIABLE = "LTX_RELAY_IMAGES"
ROWS = 7
"""Lines of text that a picture takes."""
LIMIT = 4 << 20
"""Bytes of a picture."""
_CHUNK = 4096
_PNG = b"\x89PNG\r\n\x1a\n"

Protocol = Callable[[bytes, int], str]
"""(PNG file, rows) -> what shows it, with the cursor below it."""


def protocol(environment: Mapping[str, str]) -> Protocol | None:
    """How the terminal of this environment shows pictures; None: it does not, as far as is known."""
    stated = environment.get(VARIABLE, "").lower()
    if stated:
        return {"kitty": kitty, "iterm": iterm}.get(stated)
    if environment.get("TMUX") or environment.get("STY"):
        return None
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if term.startswith(("screen", "tmux")):
        return None
    if program in ("iTerm.app", "WezTerm") or environment.get("LC_TERMINAL") == "iTerm2":
        return iterm
    if term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty" or environment.get("KITTY_WINDOW_ID"):
        return kitty
    return None


def kitty(picture: bytes, rows: int) -> str:
    """In pieces of 4,096 characters; `q=2`: no answers."""
    data = base64.b64encode(picture).decode()
    pieces = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    parts = []
    for index, piece in enumerate(pieces):
        more = int(index + 1 < len(pieces))
        control = f"a=T,f=100,q=2,r={rows},m={more}" if index == 0 else f"m={more}"
        parts.append(f"\x1b_G{control};{piece}\x1b\\")
    return "".join(parts) + "\r\n"


def iterm(picture: bytes, rows: int) -> str:
    data = base64.b64encode(picture).decode()
    size = f"size={len(picture)};height={rows};preserveAspectRatio=1;inline=1"
    return f"\x1b]1337;File={size}:{data}\x07\r\n"


def read_png(path: str) -> bytes | None:
    """The file, if it is a PNG of bounded size."""
    try:
        with open(Path(path), "rb") as file:
            data = file.read(LIMIT + 1)
    except (OSError, ValueError):
        return None
    return data if data.startswith(_PNG) and len(data) <= LIMIT else None
