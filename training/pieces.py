"""Training in pieces: where a machine is lent for minutes, the same command goes on where the last one stopped."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from training.clock import Tick
from training.device import ON_GPU, seed_all
from training.optimiser import Optimiser


class Pieces:
    """The ticks of one training, whose state is kept in a file between two pieces.

    seconds: of the whole training; its rates follow that clock. piece: of this run at most. seed: what is random in a
    piece begins with it and the steps before, so that none repeats the last one's. The file is made when a piece ends,
    and read when the next one begins: after the optimiser has made a step, or recorded one.
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

    @property
    def finished(self) -> bool:
        return self.spent >= self.seconds

    def ticks(self) -> Iterator[Tick]:
        """The steps of this piece: none where the training is finished, else at least one."""
        if self.finished:
            return
        began, before = time.time(), self.spent
        while not self.finished and (self.spent == before or self.spent - before < self.piece):
            yield Tick(self.steps, self.spent, self.spent / self.seconds)
            self.steps += 1
            self.spent = before + time.time() - began
        if ON_GPU:
            torch.cuda.synchronize()
        kept = {"steps": self.steps, "seconds": self.spent, "optimiser": self.optimiser.state()}
        torch.save(kept, self.path)

    def ended(self) -> bool:
        """Whether it is finished; then the networks have the averages. Otherwise says what is left."""
        if self.finished:
            self.optimiser.use_averages()
        else:
            print(f"{self.seconds - self.spent:.0f} s are left: the same command goes on")
        return self.finished


def add_arguments(parser: argparse.ArgumentParser, seconds: float) -> None:
    parser.add_argument("--seconds", type=float, default=seconds, help="of the whole training")
    parser.add_argument("--piece", type=float, default=math.inf, help="seconds after which it stops, to go on later")
