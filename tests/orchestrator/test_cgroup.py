"""Both layouts of control groups, from made-up folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import cgroup

GB = 1 << 30


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    return tmp_path / "membership"


def test_version_2_takes_the_smallest_of_the_groups_above(tmp_path: Path, membership: Path) -> None:
    membership.write_text("0::/user/app\n")
    write(
        tmp_path / "fs",
        {
            "user/memory.max": f"{4 * GB}\n",
            "user/app/memory.max": "max\n",
            "user/app/memory.events": "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n",
            "user/app/cpu.max": "150000 100000\n",
            "user/cpu.max": "max 100000\n",
        },
    )
    root = tmp_path / "fs"
    assert cgroup.memory_limit(root, membership) == 4 * GB
    assert cgroup.oom_kills(root, membership) == 2
    assert cgroup.cpu_limit(root, membership) == 2


def test_version_1(tmp_path: Path, membership: Path) -> None:
    membership.write_text("9:name=systemd:/\n4:memory:/jobs/one\n2:cpu,cpuacct:/jobs\n0::/\n")
    write(
        tmp_path / "fs",
        {
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/jobs/memory.limit_in_bytes": f"{3 * GB}\n",
            "memory/jobs/one/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/jobs/one/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
            "cpu/jobs/cpu.cfs_quota_us": "-1\n",
            "cpu/jobs/cpu.cfs_period_us": "100000\n",
        },
    )
    root = tmp_path / "fs"
    assert cgroup.memory_limit(root, membership) == 3 * GB
    assert cgroup.oom_kills(root, membership) == 5
    assert cgroup.cpu_limit(root, membership) is None


def test_room_is_what_the_fullest_group_leaves(tmp_path: Path, membership: Path) -> None:
    """Another program in the group above takes of the same limit; files that are only cached do not count."""
    membership.write_text("0::/user/app\n")
    files = {
        "user/memory.max": f"{8 * GB}\n",
        "user/memory.current": f"{7 * GB}\n",
        "user/memory.stat": f"anon 1\ninactive_file {1 * GB}\n",
        "user/app/memory.max": f"{6 * GB}\n",
        "user/app/memory.current": f"{2 * GB}\n",
    }
    write(tmp_path / "fs", files)
    assert cgroup.memory_room(tmp_path / "fs", membership) == 2 * GB
    write(tmp_path / "fs", {"user/app/memory.current": f"{5 * GB}\n"})
    assert cgroup.memory_room(tmp_path / "fs", membership) == 1 * GB
    write(tmp_path / "fs", {"user/memory.max": "max\n", "user/app/memory.max": "max\n"})
    assert cgroup.memory_room(tmp_path / "fs", membership) is None


def test_room_in_version_1(tmp_path: Path, membership: Path) -> None:
    membership.write_text("4:memory:/jobs\n")
    files = {
        "memory/jobs/memory.limit_in_bytes": f"{3 * GB}\n",
        "memory/jobs/memory.usage_in_bytes": f"{2 * GB}\n",
        "memory/jobs/memory.stat": f"cache 5\ntotal_inactive_file {GB // 2}\n",
    }
    write(tmp_path / "fs", files)
    assert cgroup.memory_room(tmp_path / "fs", membership) == GB + GB // 2
    write(tmp_path / "fs", {"memory/jobs/memory.usage_in_bytes": f"{5 * GB}\n"})
    assert cgroup.memory_room(tmp_path / "fs", membership) == 0, "over its limit for a moment"


def test_in_a_container_the_group_is_what_is_mounted(tmp_path: Path, membership: Path) -> None:
    membership.write_text("0::/../../docker/0123\n")
    write(tmp_path / "fs", {"memory.max": f"{2 * GB}\n", "memory.events": "oom_kill 1\n", "cpu.max": "50000 100000"})
    root = tmp_path / "fs"
    assert cgroup.memory_limit(root, membership) == 2 * GB
    assert cgroup.oom_kills(root, membership) == 1
    assert cgroup.cpu_limit(root, membership) == 1


def test_the_machines_count_where_the_group_has_none(tmp_path: Path, membership: Path) -> None:
    membership.write_text("0::/\n")
    write(tmp_path, {"vmstat": "nr_free_pages 1\noom_kill 9\n"})
    assert cgroup.oom_kills(tmp_path, membership, tmp_path / "vmstat") == 9


@pytest.mark.parametrize("text", ["", "garbage\n", "0\n", "::::\n", "1:memory\n"])
def test_nothing_is_known_without_groups(tmp_path: Path, membership: Path, text: str) -> None:
    membership.write_text(text)
    assert cgroup.memory_limit(tmp_path / "fs", membership) is None
    assert cgroup.cpu_limit(tmp_path / "fs", membership) is None
    assert cgroup.oom_kills(tmp_path / "fs", membership, tmp_path / "none") is None


def test_on_this_machine_it_answers_at_all() -> None:
    limit = cgroup.memory_limit()
    assert limit is None or limit > 0
    kills = cgroup.oom_kills()
    assert kills is None or kills >= 0
