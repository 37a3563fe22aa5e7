"""Work that is begun before its result is wanted, in a thread: for what waits for a process or hashes files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Early(Generic[Result]):
    """Begins at once. An exception of the work is raised where its result is asked for, or never."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:
            self._error = error

    def result(self) -> Result:
        """Waits for it."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]
