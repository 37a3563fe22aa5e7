"""Measurements of the product, each a program: `python -m benchmarks.NAME`. In the repository only, in no wheel."""
