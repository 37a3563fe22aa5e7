"""Where everything lies.

    $LTX_RELAY_HOME (default ~/.cache/ltx-relay)
      format                              the version of this layout; a newer one is refused
      objects/<aa>/<key>.safetensors      finished artifacts, shared by all runs; <key>.mp4 and <key>.video.json: videos
      partial/<key>.safetensors           the state after the last finished step of a stage that is under way
      runs/<id>/                          see `runs`
      locks/<name>.lock                   see `locks`
      colours/<fingerprint>.safetensors   how the latents of a VAE look, for previews
      tmp/                                files that other programs write before they become objects

Folders are made for their owner only (0700): prompts and pictures are private.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cache.durable import make_folder, publish_text, reason, remove, sweep, temporary_path, write_error, write_synced
from weights.errors import DoesNotFit, RelayError, UsageError

FORMAT = 1
_ELSEWHERE = "Set LTX_RELAY_HOME to a folder that you may write to."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}")


@dataclass(frozen=True)
class Home:
    """Paths only; nothing is made or checked on disk. A name that could lead elsewhere is a UsageError."""

    root: Path

    @property
    def objects(self) -> Path:
        return self.root / "objects"

    @property
    def partial(self) -> Path:
        return self.root / "partial"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def colours(self) -> Path:
        """Maps from latents to colours, for previews (`workers.video.colours`); made when there is one."""
        return self.root / "colours"

    @property
    def folders(self) -> tuple[Path, ...]:
        return (self.objects, self.partial, self.runs, self.locks, self.tmp)

    def object_path(self, key: str, suffix: str = ".safetensors") -> Path:
        if not _SUFFIX.fullmatch(suffix):
            raise UsageError(f"{suffix!r} cannot be the ending of a file of ours.")
        return self.objects / _safe(key)[:2] / f"{key}{suffix}"

    def partial_path(self, key: str) -> Path:
        return self.partial / f"{_safe(key)}.safetensors"

    def run_folder(self, run: str) -> Path:
        return self.runs / _safe(run)

    def lock_path(self, name: str) -> Path:
        """`name`: a key, or what is to be done by one process at a time."""
        return self.locks / f"{_safe(name)}.lock"


def home_folder(environ: Mapping[str, str]) -> Path:
    """$LTX_RELAY_HOME, or ~/.cache/ltx-relay; absolute."""
    stated = environ.get("LTX_RELAY_HOME", "")
    user = environ.get("HOME", "")
    if not user and (not stated or stated.startswith("~")):
        try:
            user = str(Path.home())
        except RuntimeError as error:
            raise UsageError("This user has no home folder.", advice="Set LTX_RELAY_HOME to a folder.") from error
    if not stated:
        return Path(user).absolute() / ".cache" / "ltx-relay"
    if stated == "~" or stated.startswith("~/"):
        return Path(user).absolute() / stated[2:]
    return Path(stated).absolute()


def open_home(root: Path) -> Home:
    """The home at `root`, made where it is missing. UsageError when it cannot be used, DoesNotFit on a full disk."""
    home = Home(root)
    try:
        if root.exists() and not root.is_dir():
            raise UsageError(f"The home {root} is not a folder.", advice=_ELSEWHERE)
        make_folder(root, 0o700)
        _check_format(root / "format")
        for folder in home.folders:
            make_folder(folder, 0o700)
        _check_writable(home.tmp)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and isinstance(failure := write_error(error, root / "format", 4096), DoesNotFit):
            raise failure from error
        words = reason(error) if isinstance(error, OSError) else str(error)
        raise UsageError(f"The home {root} cannot be used: {words}.", advice=_ELSEWHERE) from error
    return home


def sweep_home(home: Home) -> int:
    """Removes what dead processes left half-written anywhere in the home; returns how many files. See `sweep`."""
    parents = (home.objects, home.runs)
    below = [Path(entry) for parent in parents if parent.is_dir() for entry in os.scandir(parent) if entry.is_dir()]
    previews = [folder / "previews" for folder in below if folder.parent == home.runs]
    return sum(sweep(folder) for folder in (home.root, home.colours, *home.folders, *below, *previews))


def _check_format(marker: Path) -> None:
    try:
        with open(marker, errors="replace") as file:
            text = file.read(100)
    except FileNotFoundError:
        try:
            publish_text(marker, f"{FORMAT}\n")
        except DoesNotFit:
            raise
        except RelayError as error:
            raise UsageError(error.message, advice=_ELSEWHERE) from error
        return
    version = text.strip()
    if not re.fullmatch(r"[0-9]{1,9}", version):
        raise UsageError(
            f"The home {marker.parent} is damaged: its file `format` holds {version!r}, not a number.",
            advice=f"If this is a home of ltx-relay, write {FORMAT} into that file; else set LTX_RELAY_HOME.",
        )
    if int(version) > FORMAT:
        raise UsageError(
            f"The home {marker.parent} was made by a newer version of ltx-relay (its format is {int(version)}, this"
            f" program knows {FORMAT}).",
            advice="Update ltx-relay, or set LTX_RELAY_HOME to another folder.",
        )


def _check_writable(folder: Path) -> None:
    """Permission bits do not tell (a read-only mount, another user's folder, root): write a file."""
    probe = temporary_path(folder)
    try:
        write_synced(probe, [b""])
    finally:
        remove(probe)


def _safe(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name[:140]!r} cannot be the name of a file of ours.")
    return name
