"""Are the tests worth anything? Each protection is taken out of a copy of the program, and a test must fail.

    python -m tests.faults.mutate --work FOLDER --result FILE.json [--only NAME]

A kill cannot see a missing fsync, and a test that passes says little until it was seen to fail. A mutation is one
piece of text exchanged for another; the tests that should notice run on the copy, first without any mutation.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.relay import ROOT

PARTS = ("cache", "orchestrator", "weights", "workers", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Mutation:
    """In `file`, `before` (which is there once) becomes `after`; one of `tests` must fail."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


CHANGED_VIDEO = "tests/faults/test_changes.py::test_a_video_that_changes_under_its_upscaling"
SAMPLE_OF_UPSCALING = "tests/faults/test_campaign.py::test_a_sample_of_the_campaign_of_upscaling"
MUTATIONS = (
    Mutation(
        "no fsync of a file", "cache/durable.py",
        "    os.fsync(descriptor)\n\n\ndef sync_folder", "\n\ndef sync_folder", ("tests/cache/test_durable.py",),
    ),
    Mutation(
        "no fsync of a folder", "cache/durable.py",
        "            os.fsync(descriptor)\n        finally", "            pass\n        finally",
        ("tests/cache/test_durable.py",),
    ),
    Mutation(
        "a copy instead of a rename", "cache/durable.py",
        "    os.replace(temporary, path)\n", "    shutil.copyfile(temporary, path)\n    os.unlink(temporary)\n",
        ("tests/cache/test_durable.py",),
    ),
    Mutation(
        "written in place", "cache/durable.py",
        "        written = write_synced(temporary, chunks)\n        commit(temporary, path)\n",
        "        remove(path)\n        written = write_synced(path, chunks)\n", ("tests/cache/test_durable.py",),
    ),
    Mutation(
        "temporaries of dead processes stay", "cache/durable.py",
        "        if not lives:\n            remove(path)", "        if False:\n            remove(path)",
        ("tests/faults/test_campaign.py",),
    ),
    Mutation(
        "tensors are not verified", "cache/artifacts.py",
        'if header.metadata.get("sha256") != sha256:', "if False:", ("tests/cache/test_artifacts.py",),
    ),
    Mutation(
        "metadata are not verified", "cache/artifacts.py",
        'or header.metadata.get("seal") != seal:', "or False:", ("tests/cache/test_artifacts.py",),
    ),
    Mutation(
        "an artifact of another key is taken", "cache/artifacts.py",
        "if wanted is not None and header.metadata.get(name) != wanted:", "if False:",
        ("tests/cache/test_artifacts.py",),
    ),
    Mutation(
        "videos are not verified", "cache/videos.py",
        "        if found != (video.sha256, video.bytes):", "        if False:", ("tests/faults/test_damage.py",),
    ),
    Mutation(
        "recipes and states of runs are not verified", "cache/records.py",
        "    if value.get(SEAL) != _seal(rest):", "    if False:", ("tests/cache/test_runs.py",),
    ),
    Mutation(
        "locks lock nothing", "cache/locks.py",
        "        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)", "        pass",
        ("tests/cache/test_locks.py",),
    ),
    Mutation(
        "a lock file that was removed is still believed", "cache/locks.py",
        "        return os.path.samestat(os.fstat(descriptor), os.stat(path))", "        return True",
        ("tests/cache/test_locks.py",),
    ),
    Mutation(
        "no lock of the key", "orchestrator/relay_run.py",
        "held.enter_context(hold_all(keys, on_wait", "held.enter_context(hold_all([], on_wait",
        ("tests/faults/test_shared_home.py",),
    ),
    Mutation(
        "the state is dropped before the result is there", "workers/stages/denoising.py",
        "    size = publish_arrays(item.output, item.key, job.stage, video, {})\n"
        "    drop_partial(Home(Path(job.home)), item.key)\n",
        "    drop_partial(Home(Path(job.home)), item.key)\n"
        "    size = publish_arrays(item.output, item.key, job.stage, video, {})\n",
        ("tests/faults/test_campaign.py",),
    ),
    Mutation(
        "the state is left when the result is there", "orchestrator/relay_run.py",
        "            if item.output in artifacts:\n                drop_partial(self.prepared.home, item.key)\n",
        "            pass\n", ("tests/faults/test_campaign.py",),
    ),
    Mutation(
        "a state is not gone on with", "workers/stages/denoising.py",
        "start=done[item.key], on_step", "start=0, on_step", ("tests/end_to_end/test_faults.py",),
    ),
    Mutation(
        "a step is announced before it is saved", "workers/stages/saving.py",
        '        save_partial(self._home, self._key, done, total, {"latent": latent})\n'
        '        failpoint("step.saved", self._key, done)\n'
        "        self._context.step(self._key, done, total, seconds)\n",
        "        self._context.step(self._key, done, total, seconds)\n"
        '        save_partial(self._home, self._key, done, total, {"latent": latent})\n'
        '        failpoint("step.saved", self._key, done)\n',
        ("tests/workers/test_saving.py",),
    ),
    Mutation(
        "a worker outlives its orchestrator", "workers/__main__.py",
        "        if channel.supervised:\n            end_with_parent()\n", "",
        ("tests/orchestrator/test_supervisor.py",),
    ),
    Mutation(
        "who looks at a video outlives its orchestrator", "workers/inspect.py",
        '    if arguments[2:] == ["watched"]:\n        end_with_parent()\n', "", (SAMPLE_OF_UPSCALING,),
    ),
    Mutation(
        "a video is not looked at again when a chunk is encoded", "workers/stages/encode.py",
        '        unchanged(Path(job.params["video"]), job.params["seen"])  #', "        #",
        (CHANGED_VIDEO,),
    ),
    Mutation(
        "a video is not looked at again when its sound is copied", "workers/stages/join.py",
        '            unchanged(Path(params["video"]), params["seen"])  #', "            pass  #",
        (CHANGED_VIDEO,),
    ),
    Mutation(
        "a video may change while it is looked at", "orchestrator/upscaling/prepare.py",
        "    if before is None or seen(video) != before:", "    if before is None:", (CHANGED_VIDEO,),
    ),
    Mutation(
        "pieces are not verified before they are joined", "workers/stages/join.py",
        "        if find_video(home, path.stem, on_damage=said.append) is None:", "        if False:",
        ("tests/workers/test_segments.py",),
    ),
    Mutation(
        "weights are not looked at again after a stage", "orchestrator/relay_run.py",
        "            self.check_weights(stage, items)\n", "", ("tests/faults/test_changes.py",),
    ),
    Mutation(
        "pruning takes what a run needs", "cache/prune.py",
        "wanted = (old or large) and entry.key not in protected", "wanted = old or large",
        ("tests/cache/test_prune.py",),
    ),
)  # fmt: skip


def copy(work: Path) -> Path:
    """The program and its tests, in a folder of their own."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, work / part, ignore=shutil.ignore_patterns("__pycache__", "ltx-2"))
        else:
            shutil.copy(source, work / part)
    return work


def noticed(tree: Path, tests: tuple[str, ...]) -> str | None:
    """The first test that fails there, and fails again by itself: not because the machine is busy."""
    once: list[str] = []
    while (found := failing(tree, tests, but=once)) is not None:
        if failing(tree, (found,)) is not None:
            return found
        once.append(found)
    return None


def failing(tree: Path, tests: tuple[str, ...], but: Sequence[str] = ()) -> str | None:
    """The first test that fails there; None: none does."""
    options = ["-x", "-q", "-p", "no:cacheprovider", *(f"--deselect={name}" for name in but)]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if ended.returncode == 0:
        return None
    found = re.findall(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)
    if ended.returncode != 1 or not found:
        raise SystemExit(f"pytest could not run {tests} in {tree}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return str(found[0])


def main() -> int:
    parser = argparse.ArgumentParser(description="Takes protections away and looks whether a test fails.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--result", type=Path)
    parser.add_argument("--only", action="append", choices=[mutation.name for mutation in MUTATIONS])
    options = parser.parse_args()
    chosen = [mutation for mutation in MUTATIONS if options.only is None or mutation.name in options.only]
    tree = copy(options.work.resolve() / "tree")
    tests = tuple(sorted({test for mutation in chosen for test in mutation.tests}))
    first = failing(tree, tests)
    if first is not None:
        print(f"without any mutation {first} fails")
        return 1
    results = []
    for mutation in chosen:
        path = tree / mutation.file
        whole = path.read_text()
        if whole.count(mutation.before) != 1:
            raise SystemExit(f"{mutation.name}: the text is there {whole.count(mutation.before)} times")
        path.write_text(whole.replace(mutation.before, mutation.after))
        found = noticed(tree, mutation.tests)
        path.write_text(whole)
        results.append({"mutation": mutation.name, "file": mutation.file, "fails": found})
        print(f"{mutation.name}: {found or 'NOTHING FAILS'}", flush=True)
    if options.result:
        options.result.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if any(result["fails"] is None for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
