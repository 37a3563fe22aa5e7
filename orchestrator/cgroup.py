"""What the control group of this process allows, and whether the kernel killed in it for memory. Linux; else None.

Both layouts are read: version 2 (memory.max, memory.events, cpu.max) and version 1 (memory.limit_in_bytes,
memory.oom_control, cpu.cfs_quota_us). A worker inherits the orchestrator's group, so one group tells about both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_VMSTAT = Path("/proc/vmstat")
_UNLIMITED = 1 << 60  # version 1 says "no limit" with a number near 2**63


def memory_limit(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> int | None:
    """Bytes that this group and those above it leave to a process; None without a limit."""
    folders = _with_parents(_groups("memory", root, membership))
    return min((limit for folder in folders if (limit := _limit(folder)) is not None), default=None)


def memory_room(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> int | None:
    """Bytes until the first limit of this group or one above it, whose other members count too; None without one."""
    rooms = [
        max(0, limit - _used(folder))
        for folder in _with_parents(_groups("memory", root, membership))
        if (limit := _limit(folder)) is not None
    ]
    return min(rooms, default=None)


def cpu_limit(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> int | None:
    """Processors that the quota pays for, rounded up; None without a quota."""
    limits = []
    for folder in _with_parents(_groups("cpu", root, membership)):
        words = _text(folder / "cpu.max").split() or [
            _text(folder / "cpu.cfs_quota_us").strip(),
            _text(folder / "cpu.cfs_period_us").strip(),
        ]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]) > 0:
            limits.append(max(1, -(-int(words[0]) // int(words[1]))))
    return min(limits, default=None)


def oom_kills(root: Path = _ROOT, membership: Path = _MEMBERSHIP, vmstat: Path = _VMSTAT) -> int | None:
    """How many processes of this group the kernel has killed for memory so far.

    Where the group does not count (the root group of version 2), the whole machine's count. None where nothing does.
    """
    for group, _ in _groups("memory", root, membership):
        for name in ("memory.events", "memory.oom_control"):
            count = _field(group / name, "oom_kill")
            if count is not None:
                return count
    return _field(vmstat, "oom_kill")


def _groups(controller: str, root: Path, membership: Path) -> list[tuple[Path, Path]]:
    """(this process's folder, the top of its hierarchy) for each hierarchy that has the controller."""
    groups = []
    for line in _text(membership).splitlines():
        hierarchy, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if hierarchy == "0":
            top = root
        elif controller in controllers.split(","):
            top = root / controller
        else:
            continue
        group = top / path.lstrip("/")
        # Inside a container the path may be the host's; then what is mounted is the group itself.
        if ".." in group.parts or not group.is_dir():
            group = top
        groups.append((group, top))
    return groups


def _with_parents(groups: list[tuple[Path, Path]]) -> Iterator[Path]:
    for group, top in groups:
        yield group
        while group != top:
            group = group.parent
            yield group


def _limit(group: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        limit = _number(group / name)
        if limit is not None:
            return limit if limit < _UNLIMITED else None
    return None


def _used(group: Path) -> int:
    """Bytes that a group holds and cannot give back at once: without files that are only cached. 0: unknown."""
    for name, cached in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
        used = _number(group / name)
        if used is not None:
            return max(0, used - (_field(group / "memory.stat", cached) or 0))
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _field(path: Path, name: str) -> int | None:
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return None
