"""Who wrote a file, and whether that process still lives: a mark that fits into a file name.

A mark is `<machine>-<pid>-<start>`. The start time tells a process from a later one with the same number; the machine
(host name and, on Linux, the process namespace) tells containers and computers that share a folder apart.
Guaranteed: `alive` never calls a running process of this machine dead. For a mark of another machine it says None.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import struct
import sys
from functools import lru_cache
from importlib import import_module
from typing import Any

_GONE, _UNKNOWN = 0, 1
"""Instead of a start time; no process of ours starts in the first tick of a machine."""
_RUSAGE_BYTES = 16 + 10 * 8
"""struct rusage_info_v0: a uuid of 16 bytes, then ten integers of 64 bits, of which this is the ninth."""
_START_OFFSET = 16 + 8 * 8
MARK = r"[0-9a-f]{8}-[0-9]{1,10}-[0-9]{1,20}"


def own_mark() -> str:
    """The mark of this process; right in a forked child too."""
    return _mark_of(os.getpid())


def alive(mark: str) -> bool | None:
    """True: it runs; False: it is dead (a zombie is); None: another machine's, or no mark at all."""
    if not re.fullmatch(MARK, mark):
        return None
    machine, pid, start = mark.split("-")
    if machine != _machine():
        return None
    now = _start(int(pid))
    return now != _GONE and (now == int(start) or _UNKNOWN in (now, int(start)))


@lru_cache(maxsize=1)
def _mark_of(pid: int) -> str:
    return f"{_machine()}-{pid}-{_start(pid)}"


@lru_cache(maxsize=1)
def _machine() -> str:
    identity = os.uname().nodename
    if sys.platform == "linux":
        try:
            identity += os.readlink("/proc/self/ns/pid")
        except OSError:
            identity += "no namespaces"
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _start(pid: int) -> int:
    """When the process started, in a unit that no change of the clock moves; or _GONE or _UNKNOWN."""
    if sys.platform == "linux":
        # psutil adds the boot time, which moves with the clock; the ticks since boot do not.
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            return _GONE if fields[0] in (b"Z", b"X") else int(fields[19])
        except OSError:
            return _UNKNOWN if _exists(pid) else _GONE
    psutil: Any = import_module("psutil")  # late: it takes longer to import than all of `cache`
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return _GONE
        return _mach_start(pid) or round(process.create_time() * 1000)
    except psutil.NoSuchProcess:
        return _GONE
    except psutil.Error:
        return _UNKNOWN


def _mach_start(pid: int) -> int:
    """When a process of this user started on a Mac, in ticks since boot; 0 where the system does not say.

    psutil's time of creation is corrected for changes of the clock since psutil was imported, so two processes may
    disagree about it. This is `ri_proc_start_abstime` of struct rusage_info_v0 in <sys/resource.h>.
    """
    buffer = ctypes.create_string_buffer(_RUSAGE_BYTES)
    try:
        library = ctypes.CDLL("/usr/lib/libSystem.B.dylib")
        failed = library.proc_pid_rusage(ctypes.c_int(pid), ctypes.c_int(0), buffer)
    except (OSError, AttributeError):
        return 0
    return 0 if failed else int(struct.unpack_from("=Q", buffer.raw, _START_OFFSET)[0])


def _exists(pid: int) -> bool:
    """/proc may hide another user's processes; signal 0 finds them all the same."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
