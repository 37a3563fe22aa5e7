"""Keys, atomic artifacts, partial states, finished videos, runs and locks: what is on disk, and how it stays right.

    home        where things lie
    keys        canonical JSON and the hash of it
    durable     atomic and durable writes; temporaries of dead processes
    failpoints  faults on purpose, for tests
    processes   who wrote this, and whether it still lives
    artifacts   tensors in a safetensors file, verified on every read
    partial     the state after the last finished step of a stage
    videos      the finished video as an object, and its delivery to the user's path
    locks       one computation per key
    contents    what all that is together: listing, verifying
    prune       keeping it small
    runs        the folder of a run; `state` is what it says about itself, `records` reads JSON that cannot be trusted

No mlx here. `cache` imports from `weights` only the exceptions and the reader of safetensors headers.
"""
