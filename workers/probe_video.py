"""Which video codecs PyAV can write here: `python -P -m workers.probe_video` prints one line of JSON and ends.

A process of its own, because a broken FFmpeg may end the process that loads it.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from workers.video.codecs import CODECS


def probe() -> dict[str, Any]:
    """av: its version; codecs: name of `--codec` -> the encoder that serves it, or None."""
    import av
    import av.codec

    codecs: dict[str, str | None] = {}
    for name, codec in CODECS.items():
        codecs[name] = None
        for encoder in reversed(codec.encoders):
            with contextlib.suppress(av.codec.codec.UnknownCodecError):
                av.codec.Codec(encoder.name, "w")
                codecs[name] = encoder.name
    return {"av": av.__version__, "codecs": codecs}


if __name__ == "__main__":
    print(json.dumps(probe()), flush=True)
