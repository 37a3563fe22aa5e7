"""A run's `report.html`: one file that shows what was made, by which workers, in which time, with how much memory.

    facts     a run's record and events as frozen data; pure
    svg       shapes as text; charts: timeline, memory, steps; pure
    page      the facts as one HTML page; style: its CSS; pure
    stills    frames of the finished videos, read with PyAV when they are not kept already
    write     puts it all into the run's folder

The page loads nothing and runs nothing (its own policy forbids both), and everything in it that came from outside is
escaped. It imports no mlx, and PyAV only where frames must be read.
"""
