"""Sleep and battery: the machine does not fall asleep for idleness while a run computes; its display may.

    macOS    caffeinate -i -w PID             ends with this process, whatever ends it
    Linux    systemd-inhibit ... cat          cat ends when its pipe closes, which the system does for a dead process

Where there is neither, or it fails (no session bus, a container), the run goes on as if nothing had been asked: it
would be wrong to stop a video for that. Nothing here raises.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from orchestrator.display.words import duration

Which = Callable[[str], str | None]
LOW_PERCENT = 40
_END_SECONDS = 2.0


def awake_command(platform: str, which: Which, pid: int) -> list[str] | None:
    """The program that keeps this machine awake while it runs; None where there is none."""
    if platform == "darwin":
        caffeinate = which("caffeinate")
        return None if caffeinate is None else [caffeinate, "-i", "-w", str(pid)]
    if platform == "linux":
        inhibit, cat = which("systemd-inhibit"), which("cat")
        if inhibit is None or cat is None:
            return None
        words = ["--what=idle:sleep", "--who=ltx-relay", "--why=A video is being made", "--mode=block"]
        return [inhibit, *words, cat]
    return None


class Awake:
    """Keeps the machine awake from `begin` to the end of the `with` block, or to the end of this process."""

    def __init__(self, platform: str = sys.platform, which: Which = shutil.which) -> None:
        self._platform, self._which = platform, which
        self._begun = False
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Awake:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def begin(self) -> None:
        """Once; a second call changes nothing."""
        if self._begun:
            return
        self._begun = True
        command = awake_command(self._platform, self._which, os.getpid())
        if command is None:
            return
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not for it, and it has no terminal to ask for a password on
            )

    def holds(self, seconds: float) -> bool:
        """Whether its program still runs after so long: one that cannot do its work ends at once."""
        if self._process is None:
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            return False
        return True

    def end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
                return


def read_battery() -> Any:
    """psutil's battery (percent, secsleft, power_plugged); None where there is none or nobody can say."""
    try:
        import psutil

        return psutil.sensors_battery()
    except Exception:  # what a driver reports is not worth a run
        return None


def battery_warning(read: Callable[[], Any] = read_battery) -> str | None:
    """A sentence when the machine runs on a battery that may not last."""
    battery = read()
    if battery is None or battery.power_plugged is not False or not 0 <= battery.percent < LOW_PERCENT:
        return None
    left = battery.secsleft
    lasting = f", about {duration(left)}" if isinstance(left, int | float) and left > 0 else ""
    return (
        f"On battery, {battery.percent:.0f}% left{lasting}: plug the machine in. If it goes off, the same command "
        "goes on from the last finished step."
    )
