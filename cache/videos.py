"""The finished video as an object: published under its key, found again, and delivered to the path the user named.

    objects/<aa>/<key>.mp4            the video; its ending is the container's
    objects/<aa>/<key>.video.json     size and SHA-256; written last, so a video without it does not count

`find_video` verifies the content every time. `deliver` never leaves half a file at the user's path, and without
`overwrite` never replaces what is there, not even when somebody else writes it at the same moment; on file systems
without hard links a kill at the worst moment may leave an empty file there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cache.durable import (
    commit,
    make_folder,
    publish_text,
    reason,
    remove,
    set_aside,
    sweep,
    sync_file,
    sync_folder,
    temporary_path,
    write_error,
    write_synced,
)
from cache.failpoints import failpoint
from cache.home import Home
from cache.records import read_json
from weights.errors import ArtifactError, DoesNotFit, RelayError, UsageError

_RECORD = ".video.json"
_CHUNK = 1 << 20
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}


@dataclass(frozen=True)
class VideoObject:
    """`bytes`: its size; `sha256`: of the whole file."""

    key: str
    path: Path
    sha256: str
    bytes: int


def publish_video(home: Home, key: str, temporary: Path, suffix: str) -> VideoObject:
    """Makes the finished file `temporary` (best one in `home.tmp`, by `temporary_path`) the video of `key`.

    It is gone from its old place afterwards, whether that went well or not. Raises DoesNotFit, RelayError.
    """
    path = home.object_path(key, suffix)
    size = 0
    try:
        sha256, size = _seal(temporary)
        make_folder(path.parent)
        try:
            commit(temporary, path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # The temporary is on another disk: bring it over first.
            local = temporary_path(path.parent)
            try:
                write_synced(local, _chunks(temporary))
                commit(local, path)
            finally:
                remove(local)
    except OSError as error:
        raise write_error(error, path, size) from error
    finally:
        remove(temporary)
    record = {"file": path.name, "sha256": sha256, "bytes": size}
    publish_text(_record_path(home, key), json.dumps(record, indent=1, sort_keys=True) + "\n")
    return VideoObject(key, path, sha256, size)


def find_video(home: Home, key: str, on_damage: Callable[[str], None] = lambda sentence: None) -> VideoObject | None:
    """The video of `key`, verified, or None. A damaged one is set aside, and `on_damage` told what is wrong with it."""
    record = _record_path(home, key)
    if not record.exists():
        return None
    video: VideoObject | None = None
    try:
        video = _recorded(home, key, record)
        found = _hash_of(video.path)
        if found != (video.sha256, video.bytes):
            raise ArtifactError(f"The video {video.path} is damaged: its size or hash is another.")
    except (ArtifactError, OSError) as error:
        if isinstance(error, OSError):
            on_damage(f"The video of {record} cannot be read: {reason(error)}.")
        else:
            on_damage(error.message)
        set_aside(record)
        if video is not None:
            set_aside(video.path)
        return None
    return video


def same(path: Path, video: VideoObject) -> bool:
    """Whether the file at `path` is that video, byte for byte."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size != video.bytes:
            return False
        return _hash_of(path) == (video.sha256, video.bytes)
    except OSError:
        return False


def check_output(output: Path, overwrite: bool = False) -> bool:
    """Whether something is at `output`. UsageError when a video can never go there: to be asked before any work.

    Its folder must exist; what is there may be a file or a link to one, nothing else. That the folder can be written to
    is tried out, unless something is there and shall stay.
    """
    folder = output.parent
    try:
        if not folder.is_dir():
            problem = "is not a folder" if os.path.lexists(folder) else "does not exist"
            raise UsageError(f"The output's folder {folder} {problem}.", advice="Make it first, or change --output.")
        if not output.name or output.is_dir():
            raise UsageError(f"The output {output} is a folder.", advice="Name a file in it with --output.")
        there = _lexists(output)
        if there and output.exists() and not output.is_file():
            raise UsageError(f"The output {output} is not a regular file.", advice="Change --output.")
        if overwrite or not there:
            probe = temporary_path(_target(output, overwrite).parent)
            try:
                write_synced(probe, [b""])
            finally:
                remove(probe)
    except (OSError, ValueError) as error:
        raise _output_error(error, output, 0) from error
    return there


def deliver(video: VideoObject, output: Path, overwrite: bool) -> None:
    """Copies the video to `output`, whole and durable; a path that already holds this video is left as it is.

    UsageError when something else is there and `overwrite` is False, or the path is of no use; DoesNotFit when its
    disk is full; ArtifactError when our copy turns out to be damaged. `output` is as it was then.
    """
    there = check_output(output)
    sweep(output.parent)
    if there and same(output, video):
        return
    if there and not overwrite:
        raise _occupied(output)
    target = _target(output, overwrite)
    temporary = temporary_path(target.parent)
    try:
        write_synced(temporary, _verified_chunks(video))
        if overwrite:
            commit(temporary, target)
        else:
            _commit_new(temporary, target)
    except FileExistsError as error:
        if not same(output, video):
            raise _occupied(output) from error
    except OSError as error:
        remove(temporary)
        raise _output_error(error, output, video.bytes) from error
    finally:
        remove(temporary)


def _lexists(path: Path) -> bool:
    """As os.path.lexists, which calls a name that is too long a file that is not there; here it is an OSError."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _target(output: Path, overwrite: bool) -> Path:
    """A link that is overwritten is followed, not replaced."""
    return Path(os.path.realpath(output)) if overwrite else output


def _commit_new(temporary: Path, path: Path) -> None:
    """Gives a synced temporary a name that must be free; FileExistsError when it is not."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # No hard links here (exFAT, some network folders): reserve the name, then rename over our own reservation.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        try:
            os.replace(temporary, path)
        except BaseException:
            remove(path)
            raise
    else:
        failpoint("video.linked")
        os.unlink(temporary)
    sync_folder(path.parent)


def _seal(path: Path) -> tuple[str, int]:
    """Syncs the file and returns its hash and size. Raises OSError; ArtifactError when it is empty."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        sync_file(descriptor)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    if size == 0:
        raise ArtifactError(f"The video {path} is empty.")
    return sha256, size


def _hash_of(path: Path) -> tuple[str, int]:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def _recorded(home: Home, key: str, record: Path) -> VideoObject:
    found = read_json(record, what="record of a video")
    name, sha256, size = (found.get(field) for field in ("file", "sha256", "bytes"))
    suffix = name.removeprefix(key) if isinstance(name, str) and name.startswith(key) else ""
    if not re.fullmatch(r"\.[A-Za-z0-9]{1,16}", suffix) or not isinstance(sha256, str) or type(size) is not int:
        raise ArtifactError(f"The record of a video {record} is damaged.")
    return VideoObject(key, home.object_path(key, suffix), sha256, size)


def _record_path(home: Home, key: str) -> Path:
    return home.object_path(key).with_name(key + _RECORD)


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _verified_chunks(video: VideoObject) -> Iterator[bytes]:
    """The video's bytes; ArtifactError at their end when they were not the published ones."""
    state = hashlib.sha256()
    try:
        for chunk in _chunks(video.path):
            state.update(chunk)
            yield chunk
    except OSError as error:
        raise ArtifactError(f"The video {video.path} cannot be read: {reason(error)}.") from error
    if state.hexdigest() != video.sha256:
        raise ArtifactError(f"The video {video.path} is damaged: its hash is another.")


def _occupied(output: Path) -> UsageError:
    return UsageError(
        f"{output} exists already and is something else.", advice="Add --overwrite to replace it, or change --output."
    )


def _output_error(error: OSError | ValueError, output: Path, size: int) -> RelayError:
    if isinstance(error, ValueError):
        return UsageError(f"The output {output!r} is no path: {error}.")
    failure = write_error(error, output, size)
    if isinstance(failure, DoesNotFit):
        return failure
    return UsageError(f"The output {output} cannot be written: {reason(error)}.", advice="Change --output.")
