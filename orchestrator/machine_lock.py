"""The lock that lets one worker at a time compute on a machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from weights.errors import UsageError


def machine_lock() -> Path:
    """One for all homes of a user: two runs at once would push each other out of memory.

    LTX_RELAY_MACHINE_LOCK names another file, for runs that need not wait for each other (tests, two GPUs). UsageError
    when the folder that it should be in is somebody else's.
    """
    stated = os.environ.get("LTX_RELAY_MACHINE_LOCK")
    if stated:
        return Path(stated)
    folder = Path(tempfile.gettempdir()) / f"ltx-relay-{os.getuid()}"
    if os.path.lexists(folder) and os.lstat(folder).st_uid != os.getuid():
        raise UsageError(f"{folder} belongs to another user.", advice="Set LTX_RELAY_MACHINE_LOCK to a file of yours.")
    return folder / "machine.lock"
