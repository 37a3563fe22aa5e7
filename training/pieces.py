"""Training in pieces: where a machine is lent for minutes, the same command goes on where the last one stopped.

Several processes do it together: see `training.together`.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from training import together
from training.clock import LOOK, Tick
from training.device import seed_all, wait
from training.optimiser import Optimiser

_SAVED_EVERY = 240.0
"""Seconds after which the state is kept in any case: a lent machine can be lost."""


class Pieces:
    """The ticks of one training, whose state is kept in a file between two pieces.

    seconds: of the whole training; its rates follow that clock. piece: of this run at most. seed: what is random in a
    piece begins with it and the steps before, so that none repeats the last one's. common: for random choices that are
    the same in all processes. The file is made every few minutes and when a piece ends, and read when the next one
    begins: after the optimiser has made a step, or recorded one.
    """

    def __init__(self, path: Path, optimiser: Optimiser, seconds: float, piece: float, seed: int) -> None:
        self.path, self.optimiser, self.seconds, self.piece = path, optimiser, seconds, piece
        self.steps, self.spent = 0, 0.0
        if path.exists():
            kept = torch.load(path, weights_only=True)
            optimiser.restore(kept["optimiser"])
            self.steps, self.spent = kept["steps"], kept["seconds"]
            print(f"goes on after {self.steps} steps and {self.spent:.0f} s")
        seed_all(seed + self.steps)
        self.common = random.Random(seed + self.steps)
        together.begin()
        together.take_first([*optimiser.parameters, *optimiser.averages])

    @property
    def finished(self) -> bool:
        return self.spent >= self.seconds

    def ticks(self) -> Iterator[Tick]:
        """The steps of this piece: none where the training is finished, else at least one."""
        if self.finished:
            return
        began, before, saved = time.time(), self.spent, self.spent
        while not self.finished and (self.spent == before or self.spent - before < self.piece):
            yield Tick(self.steps, self.spent, self.spent / self.seconds)
            self.steps += 1
            if self.steps % LOOK == 0:  # where processes meet, too
                together.average(self.optimiser.parameters)
                wait()
                self.spent = together.agreed(before + time.time() - began)
                if self.spent - saved > _SAVED_EVERY:
                    self._save()
                    saved = self.spent
        self._save()

    def _save(self) -> None:
        if together.FIRST:
            kept = {"steps": self.steps, "seconds": self.spent, "optimiser": self.optimiser.state()}
            partial = self.path.with_suffix(".partial")
            torch.save(kept, partial)
            partial.replace(self.path)

    def ended(self) -> bool:
        """Whether it is finished; then the networks have the averages. Otherwise says what is left."""
        if self.finished:
            together.average(self.optimiser.averages)
            self.optimiser.use_averages()
        elif together.FIRST:
            print(f"{self.seconds - self.spent:.0f} s are left: the same command goes on")
        together.end()
        return self.finished


def add_arguments(parser: argparse.ArgumentParser, seconds: float) -> None:
    parser.add_argument("--seconds", type=float, default=seconds, help="of the whole training")
    parser.add_argument("--piece", type=float, default=math.inf, help="seconds after which it stops, to go on later")
