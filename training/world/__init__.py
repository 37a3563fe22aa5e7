"""The procedural world that the tiny model knows: one moving object on a background, in words, pixels and measurements.

    captions    attributes <-> English, and which combinations training never shows
    scenes      attributes -> an antialiased video of any size, length and frame rate
    measure     a video -> which attributes can be seen in it, without a learned judge

Nothing here imports torch. `scenes` computes in NumPy or in PyTorch, whichever its inputs belong to, so that training
renders on a GPU what the benchmark renders with the product's own dependencies.
"""
