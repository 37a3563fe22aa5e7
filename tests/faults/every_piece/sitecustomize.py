"""On PYTHONPATH, this makes a worker keep every decoded piece, however quickly it was made."""

import importlib.abc
import importlib.machinery
import sys


class EveryPiece(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name != "workers.video.pieces":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def changed(module):  # type: ignore[no-untyped-def]
            load(module)
            module.WORTH_SECONDS = 0.0

        spec.loader.exec_module = changed
        return spec


sys.meta_path.insert(0, EveryPiece())
