"""What can be said about the world: attributes, captions, and the combinations that are held out from training.

A combination is five indices: into `SHAPES`, `COLOURS`, `MOTIONS`, `BACKGROUNDS` and `SIZES`. About a tenth of the
(shape, colour, motion, background) quadruples is never shown to any network; prompts made of those measure whether the
model follows words or remembers pictures.
"""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = {
    "red": (0.90, 0.10, 0.10),
    "orange": (1.00, 0.52, 0.05),
    "yellow": (0.99, 0.90, 0.10),
    "green": (0.10, 0.72, 0.18),
    "blue": (0.10, 0.22, 0.95),
    "purple": (0.52, 0.12, 0.72),
    "pink": (1.00, 0.45, 0.75),
    "white": (0.97, 0.97, 0.97),
}
"""RGB in [0, 1]."""
COLOUR_NAMES = tuple(COLOURS)
MOTIONS = ("still", "left", "right", "up", "down", "bouncing", "spinning", "growing")
PLAIN_BACKGROUNDS = {
    "white": (0.93, 0.93, 0.93),
    "black": (0.05, 0.05, 0.05),
    "gray": (0.50, 0.50, 0.50),
    "blue": (0.22, 0.40, 0.80),
    "green": (0.20, 0.50, 0.22),
    "yellow": (0.90, 0.80, 0.30),
}
BACKGROUNDS = (*PLAIN_BACKGROUNDS, "grass", "sea", "sand", "night")
SIZES = ("small", "medium", "large")

# In the lists below a repeated word is a more frequent one.
_NOUNS = {
    "circle": ["ball", "circle", "ball", "disc", "round ball"],
    "square": ["square", "box", "square", "block"],
    "triangle": ["triangle", "triangle", "triangular shape"],
    "star": ["star", "star", "star shape"],
}
_COLOUR_WORDS = {
    "red": ["red"] * 6 + ["crimson"],
    "orange": ["orange"],
    "yellow": ["yellow"] * 6 + ["golden"],
    "green": ["green"],
    "blue": ["blue"],
    "purple": ["purple"] * 4 + ["violet"],
    "pink": ["pink"] * 5 + ["magenta"],
    "white": ["white"],
}
_SIZE_WORDS = {
    "small": ["small", "small", "tiny", "little"],
    "medium": ["", "", "medium", "medium-sized"],
    "large": ["large", "large", "big", "huge"],
}
_MOTION_WORDS = {
    "still": ["standing still", "not moving", "staying still", "resting", "sitting still", "that does not move"],
    "left": [
        "moving left",
        "moving to the left",
        "sliding left",
        "flying to the left",
        "going left",
        "moving from right to left",
        "drifting left",
    ],
    "right": [
        "moving right",
        "moving to the right",
        "sliding right",
        "flying to the right",
        "going right",
        "moving from left to right",
        "drifting right",
    ],
    "up": ["moving up", "rising", "floating up", "flying upward", "going up", "moving upward"],
    "down": ["moving down", "falling", "dropping down", "sinking", "going down", "falling down"],
    "bouncing": ["bouncing", "bouncing", "bouncing up and down", "hopping", "jumping up and down"],
    "spinning": ["spinning", "spinning", "rotating", "turning around", "spinning in place"],
    "growing": ["growing", "growing", "getting bigger", "expanding", "growing larger"],
}
_BACKGROUND_WORDS = {
    "grass": [
        "on green grass",
        "on the grass",
        "in a green meadow",
        "on a grassy field under a blue sky",
        "in a park",
        "on green grass with a blue sky",
    ],
    "sea": ["over the sea", "over the blue sea", "above the ocean", "over the water", "at the sea"],
    "sand": ["on sand", "in the desert", "on a sandy beach", "over the sand", "on yellow sand"],
    "night": ["in the night sky", "at night", "under the stars", "in a starry night sky", "in the dark night sky"],
}
_PLAIN_WORDS = [
    "on a {c} background",
    "on a {c} background",
    "on a plain {c} background",
    "against a {c} background",
    "in front of a {c} wall",
    "with a {c} background",
]
_OPENINGS = ["a video of", "footage of", "a clip of", "an animation of", "a scene with"]
_STYLES = [
    "cinematic",
    "high quality",
    "4k",
    "smooth motion",
    "a simple animation",
    "detailed",
    "35mm film",
    "slow motion",
    "sharp focus",
    "beautiful light",
    "static camera",
    "flat design",
    "cartoon style",
]
_FILLER_TEXT = (
    "the camera pans slowly while people talk in a quiet room and music plays softly old man woman child walks "
    "dog cat horse bird river mountain forest city street car train window table chair morning evening light "
    "shadow rain snow wind cloud smoke fire glass metal wood stone flower tree leaf happy sad calm fast slow "
    "close wide shot view scene video clip footage realistic dramatic soft warm cold bright dark vivid scene "
    "with many small details of everyday life near far inside outside around between behind hands dough bread "
    "kitchen neon sign traffic noise reflections wet asphalt shallow depth field astronaut planet silence "
    "dancing jumps looks smiles holds opens through over under along against during epic story begins ends "
    "number one two three four five six seven eight nine ten first second third"
)
FILLER = tuple(_FILLER_TEXT.split())
"""Words that mean nothing here; training mixes them in, so that a real prompt's words do no harm."""
NEGATIVE_PROMPTS = (
    "worst quality, inconsistent motion, blurry, jittery, distorted",
    "blurry, out of focus, low contrast, washed out colors, flickering, artifacts",
    "low quality, noisy, deformed",
    # LTX-2's long default.
    "blurry, out of focus, overexposed, underexposed, low contrast, washed out colors, excessive noise, "
    "grainy texture, poor lighting, flickering, motion blur, distorted proportions, unnatural skin tones, "
    "deformed facial features, asymmetrical face, missing facial features, extra limbs, disfigured hands, "
    "wrong hand count, artifacts around text, inconsistent perspective, camera shake, incorrect depth of "
    "field, background too sharp, background clutter, distracting reflections, harsh shadows, "
    "inconsistent lighting direction, color banding, cartoonish rendering, 3D CGI look, unrealistic "
    "materials, uncanny valley effect, incorrect ethnicity, wrong gender, exaggerated expressions, wrong "
    "gaze direction, mismatched lip sync, silent or muted audio, distorted voice, robotic voice, echo, "
    "background noise, off-sync audio, incorrect dialogue, added dialogue, repetitive speech, jittery "
    "movement, awkward pauses, incorrect timing, unnatural transitions, inconsistent framing, tilted "
    "camera, flat lighting, inconsistent tone, cinematic oversaturation, stylized filters, or AI "
    "artifacts.",
)


class Combination(NamedTuple):
    """One row of attributes, as indices into the tables above."""

    shape: int
    colour: int
    motion: int
    background: int
    size: int


def is_held_out(combination: Combination) -> bool:
    """Whether training never shows this shape, colour, motion and background together (a hash decides: about 10%)."""
    mixed = (
        combination.shape * 7919
        + combination.colour * 104729
        + combination.motion * 1299709
        + combination.background * 15485863
    )
    return (mixed * 2654435761 % 2**32) / 2**32 < 0.1


def all_combinations(*, held_out: bool = False) -> list[Combination]:
    """Every combination that training shows, or every one that it does not."""
    tables = (SHAPES, COLOUR_NAMES, MOTIONS, BACKGROUNDS, SIZES)
    everything = (Combination(*row) for row in itertools.product(*(range(len(table)) for table in tables)))
    return [combination for combination in everything if is_held_out(combination) == held_out]


def caption(combination: Combination, rng: random.Random, *, complete: bool = False) -> str:
    """A random English description. Unless `complete`, attributes may be left out, and style and filler words added."""
    colour = rng.choice(_COLOUR_WORDS[COLOUR_NAMES[combination.colour]])
    noun = rng.choice(_NOUNS[SHAPES[combination.shape]])
    size = rng.choice(_SIZE_WORDS[SIZES[combination.size]]) if complete or rng.random() < 0.6 else ""
    motion = rng.choice(_MOTION_WORDS[MOTIONS[combination.motion]])
    place = _place(BACKGROUNDS[combination.background], rng)
    if not complete:
        motion = "" if rng.random() < 0.06 else motion
        place = "" if rng.random() < 0.06 else place
        colour = "" if rng.random() < 0.03 else colour
    thing = " ".join(word for word in (size, colour, noun) if word)
    text = " ".join(_sentence(thing, motion, place, rng).split()).replace(" ,", ",")
    if not complete:
        text = _decorated(text, rng)
    style = rng.random()
    if style < 0.6:
        text = text[0].upper() + text[1:]
    elif style < 0.63:
        text = text.upper()
    return text + "." if rng.random() < 0.4 else text


def _place(background: str, rng: random.Random) -> str:
    if background in PLAIN_BACKGROUNDS:
        return rng.choice(_PLAIN_WORDS).format(c=background)
    return rng.choice(_BACKGROUND_WORDS[background])


def _sentence(thing: str, motion: str, place: str, rng: random.Random) -> str:
    article = "an" if thing[0] in "aeiou" else "a"
    form = rng.randrange(8)
    if form <= 2:
        return f"{article} {thing} {motion} {place}"
    if form == 3:
        return f"{place}, {article} {thing} {motion}" if place else f"{article} {thing} {motion}"
    if form == 4:
        return f"{rng.choice(_OPENINGS)} {article} {thing} {motion} {place}"
    if form == 5:
        verb = "is " if motion and not motion.startswith("that") else ""
        return f"the {thing} {verb}{motion} {place}"
    if form == 6:
        return f"{thing} {motion}, {place}" if place else f"{thing} {motion}"
    return f"there is {article} {thing} {place}, {motion}" if motion else f"there is {article} {thing} {place}"


def _decorated(text: str, rng: random.Random) -> str:
    if rng.random() < 0.15:
        text = text + ", " + ", ".join(rng.sample(_STYLES, rng.randint(1, 3)))
    if rng.random() < 0.10:
        filler = " ".join(rng.choice(FILLER) for _ in range(rng.randint(1, 10)))
        text = f"{filler}, {text}" if rng.random() < 0.5 else f"{text}, {filler}"
    return text


def held_out_prompts(count: int, seed: int = 3) -> list[tuple[Combination, str]]:
    """Prompts about combinations that no network has seen, each naming every attribute; the same for the same seed."""
    rng = random.Random(seed)
    combinations = all_combinations(held_out=True)
    rng.shuffle(combinations)
    chosen = combinations[:count]
    texts = [caption(combination, rng, complete=True) for combination in chosen]
    return [
        (combination, text.capitalize() if text.isupper() else text)
        for combination, text in zip(chosen, texts, strict=True)
    ]
