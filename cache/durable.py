"""Writes that survive: a file is there whole and on the disk, or not at all.

Order of every write: a temporary in the same folder, its bytes, fsync of the file, rename, fsync of the folder. After a
crash, a kill or a power cut at any point the path holds the former content or the new one, never a mixture; when the
function has returned, it is the new one. On an error the temporary is removed; what a killed process leaves is found by
its name (see `processes`) and removed by `sweep`. Two writers of one path do not disturb each other: the last one wins.

Not guaranteed: anything about disks that lie about fsync, and network file systems without atomic rename.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from cache.failpoints import failpoint
from cache.processes import MARK, alive, own_mark
from weights.errors import DoesNotFit, RelayError

Buffer = bytes | bytearray | memoryview

_TEMPORARY = re.compile(rf"\.relay-({MARK})-[0-9a-f]{{8}}(\.[A-Za-z0-9.]+)?")
_FOREIGN_AGE = 24 * 3600.0
"""Seconds after its last change when a temporary of another machine counts as left behind."""
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES}


def temporary_path(folder: Path, suffix: str = ".tmp") -> Path:
    """A new name in `folder`, marked as this process's, so that `sweep` can tell when its owner is dead."""
    return folder / f".relay-{own_mark()}-{secrets.token_hex(4)}{suffix}"


def publish_chunks(path: Path, chunks: Iterable[Buffer], size: int) -> int:
    """Writes the chunks, `size` bytes together, to `path`, replacing what is there; missing folders are made.

    Returns the bytes written. Raises DoesNotFit when the disk or the quota is full, RelayError when it cannot be
    written otherwise; in both cases nothing is left behind and `path` is as it was.
    """
    temporary = temporary_path(path.parent)
    try:
        make_folder(path.parent)
        written = write_synced(temporary, chunks)
        commit(temporary, path)
    except BaseException as error:
        remove(temporary)
        if isinstance(error, OSError):
            raise write_error(error, path, size) from error
        raise
    return written


def publish_bytes(path: Path, data: Buffer) -> int:
    """Atomic and durable; see `publish_chunks`."""
    return publish_chunks(path, [data], len(data))


def publish_text(path: Path, text: str) -> int:
    """UTF-8, atomic and durable; see `publish_chunks`. Text that is no Unicode (lone surrogates) is escaped."""
    return publish_bytes(path, text.encode("utf-8", "backslashreplace"))


def flat(buffer: Buffer) -> memoryview:
    """The buffer as plain bytes, without a copy."""
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else memoryview(b"")  # a shape with a zero cannot be cast


def write_synced(path: Path, chunks: Iterable[Buffer]) -> int:
    """Makes the file, which must not exist, and returns when its bytes are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        failpoint("write.opened")
        written = 0
        for chunk in chunks:
            rest = flat(chunk)
            while rest:
                count = os.write(descriptor, rest)
                written += count
                rest = rest[count:]
        sync_file(descriptor)
        failpoint("write.synced")
    finally:
        os.close(descriptor)
    return written


def commit(temporary: Path, path: Path) -> None:
    """Gives a synced temporary its name, replacing what is there, and makes the name durable. Raises OSError."""
    os.replace(temporary, path)
    failpoint("write.renamed")
    sync_folder(path.parent)


def sync_file(descriptor: int) -> None:
    """Returns when the file's bytes are on the disk; on macOS that takes more than fsync."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
            return
        except OSError:
            pass  # network and foreign file systems know only fsync
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where its file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Makes the folder and its missing parents, durably. Raises OSError."""
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        make_folder(folder.parent, mode)
    try:
        os.mkdir(folder, mode)
    except FileExistsError:
        if not folder.is_dir():
            raise
    sync_folder(folder.parent)


def remove(path: Path) -> None:
    """Removes a file, or a folder with what is in it, as far as that is possible; never raises OSError."""
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        pass


def sweep(folder: Path) -> int:
    """Removes from `folder` what dead processes of ours left half-written; returns how many.

    Touches nothing whose name is not exactly a temporary's, nothing of a living process, and nothing of another machine
    that changed within a day. It is housekeeping: what cannot be removed stays, without an error.
    """
    swept = 0
    try:
        names = os.listdir(folder)
    except OSError:
        return 0
    for name in names:
        match = _TEMPORARY.fullmatch(name)
        if match is None:
            continue
        path = folder / name
        lives = alive(match[1])
        if lives is None:
            lives = _age(path) < _FOREIGN_AGE
        if not lives:
            remove(path)
            swept += not os.path.lexists(path)
    return swept


def set_aside(path: Path) -> Path:
    """Renames a damaged file to a name of its own that ends in `.corrupt`, and returns it.

    A file that is gone already (another process was quicker) is no error. Raises RelayError when renaming fails.
    """
    while True:
        target = path.with_name(f"{path.name}.{secrets.token_hex(3)}.corrupt")
        if not os.path.lexists(target):
            break
    try:
        os.rename(path, target)
        sync_folder(path.parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise RelayError(f"The damaged file {path} could not be set aside: {reason(error)}.") from error
    return target


def write_error(error: OSError, path: Path, size: int) -> RelayError:
    """What a failed write of `size` bytes to `path` is for a person."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(error, path, size)
    if error.errno == errno.EFBIG:
        return DoesNotFit(
            f"{path} needs {size_text(size)}, which is more than its file system or a limit allows one file to have.",
            advice="Choose another disk, or raise the limit (ulimit -f).",
        )
    return RelayError(f"{path} could not be written: {reason(error)}.")


def _full(error: OSError, path: Path, size: int) -> DoesNotFit:
    advice = "Free some space, or put LTX_RELAY_HOME or the output on another disk; the same command then goes on."
    if error.errno == errno.EDQUOT:
        return DoesNotFit(f"Your disk quota does not allow {size_text(size)} more for {path}.", advice=advice)
    try:
        status = os.statvfs(path.parent)
    except OSError:
        return DoesNotFit(f"The disk is full: {path} needs {size_text(size)}.", advice=advice)
    free = status.f_bavail * status.f_frsize
    if free >= size:
        problem = f"the disk has {size_text(free)} free, but gives none (it may have no room for more files)"
    else:
        problem = f"the disk has {size_text(free)} free, {size_text(size - free)} too little"
    return DoesNotFit(f"{path} needs {size_text(size)}; {problem}.", advice=advice)


def size_text(count: int) -> str:
    """Bytes for a person, in decimal units: 999 bytes, 1.5 kB, 12.3 MB, 26.1 GB."""
    if count < 1000:
        return f"{count} bytes"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def reason(error: OSError) -> str:
    """The system's words for an error, without the path that the sentence names already."""
    return (error.strerror or str(error)).lower()


def _age(path: Path) -> float:
    try:
        return time.time() - os.lstat(path).st_mtime
    except OSError:
        return 0.0
