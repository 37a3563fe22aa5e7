"""One computation per key, and one per GPU: locks that the kernel takes back when their holder dies, even of kill -9.

A lock is an flock on a file that stays; the file's content says who holds it and is for messages only. Waiting polls,
so that Ctrl-C and `stop` work. Programs that the holder starts do not inherit it. Two holders in one process exclude
each other like those of two processes, so whoever takes a lock that it holds already waits for ever.
`hold_all` takes several in one order, so two runs that need the same keys cannot block each other for ever. Take all
locks that are needed together with one call.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cache.durable import make_folder, reason, write_error
from weights.errors import DoesNotFit, Interrupted, UsageError

_POLL_SECONDS = (0.01, 0.02, 0.05, 0.1)
_HOLDER_BYTES = 4096


@contextmanager
def hold(
    path: Path, *, on_wait: Callable[[str], None] = lambda sentence: None, stop: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Holds the lock inside the `with` block, and waits for it as long as it takes.

    `on_wait` gets one sentence that says who holds it, again when that changes. When `stop` says True while waiting,
    Interrupted is raised. UsageError when the lock file cannot be opened or its file system has no locks, DoesNotFit
    when the disk has no room for it.
    """
    descriptor = _acquire(path, on_wait, stop)
    try:
        yield
    finally:
        _write_holder(descriptor, b"")
        os.close(descriptor)  # releases


@contextmanager
def hold_all(
    paths: Iterable[Path],
    *,
    on_wait: Callable[[str], None] = lambda sentence: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Holds all of them (a path named twice counts once); see `hold`."""
    unique = sorted({os.path.join(os.path.realpath(path.parent), path.name) for path in paths})
    with ExitStack() as stack:
        for path in unique:
            stack.enter_context(hold(Path(path), on_wait=on_wait, stop=stop))
        yield


@contextmanager
def try_hold(path: Path) -> Iterator[bool]:
    """Holds the lock inside the `with` block if nobody else does; says whether. UsageError as `hold`."""
    descriptor = _open(path)
    try:
        yield _try(descriptor, path) and _is_at(descriptor, path)
    finally:
        os.close(descriptor)


def _acquire(path: Path, on_wait: Callable[[str], None], stop: Callable[[], bool]) -> int:
    """A descriptor that holds the lock of the file that is at `path` now."""
    descriptor = _open(path)
    try:
        told, attempt = "", 0
        while True:
            if not _try(descriptor, path):
                sentence = f"Waiting for {_holder(descriptor)} to release {path.stem}."
                if sentence != told:
                    told = sentence
                    on_wait(sentence)
                if stop():
                    raise Interrupted(f"Stopped while waiting for {path.stem}.")
                time.sleep(_POLL_SECONDS[min(attempt, len(_POLL_SECONDS) - 1)])
                attempt += 1
            elif _is_at(descriptor, path):
                _write_holder(descriptor, _myself())
                return descriptor
            else:  # somebody removed the file while we waited: a lock on it would exclude nobody
                os.close(descriptor)
                descriptor = -1
                descriptor = _open(path)
    except BaseException:
        if descriptor >= 0:
            os.close(descriptor)
        raise


def _open(path: Path) -> int:
    try:
        make_folder(path.parent, 0o700)
        # Its content is written: a link that somebody else put there must not lead to another file.
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        failure = write_error(error, path, _HOLDER_BYTES)
        if isinstance(failure, DoesNotFit):
            raise failure from error
        raise UsageError(f"The lock {path} cannot be opened: {reason(error)}.") from error


def _try(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UsageError(
            f"The file system of {path} has no locks ({reason(error)}).", advice="Put LTX_RELAY_HOME on a local disk."
        ) from error
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _myself() -> bytes:
    command = shlex.join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]])
    return json.dumps({"pid": os.getpid(), "command": command[:300]}).encode()


def _write_holder(descriptor: int, text: bytes) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)
    except OSError:
        pass  # a full disk: the lock holds all the same, only the message is poorer


def _holder(descriptor: int) -> str:
    """Who holds it, for a person; the content may be half-written or a dead holder's."""
    try:
        found = json.loads(os.pread(descriptor, _HOLDER_BYTES, 0))
        pid, command = int(found["pid"]), str(found["command"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "another process"
    return f"process {pid} ({command if command.isprintable() else ascii(command)})"
