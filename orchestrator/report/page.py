"""The facts of a run as one HTML page. Pure: a string from data, with nothing in it that loads or runs."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.display.words import (
    duration,
    file_size,
    frame_rate,
    memory_size,
    stage_label,
    video_words,
)
from orchestrator.report import charts, upscaled
from orchestrator.report.facts import Facts, Stage, Video, mapping
from orchestrator.report.markup import attribute, element, join, text
from orchestrator.report.style import CSS
from orchestrator.upscaling.recipe import is_upscale

LONG_PROMPT = 220
"""Characters; a longer prompt is set smaller, and what is beyond `FOLDED` is folded away."""
FOLDED = 900
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_DOT = " \u00b7 "


@dataclass(frozen=True)
class Pictures:
    """JPEG or PNG files. stills: by the path of a video; sheet: the contact sheet of stage 1, where there is one.

    previews: (label, picture) of what was under way in a run that has no video.
    """

    stills: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    sheet: bytes | None = None
    previews: tuple[tuple[str, bytes], ...] = ()


def page(facts: Facts, pictures: Pictures = Pictures()) -> str:
    prompt = str(facts.recipe.get("prompt") or facts.recipe.get("title") or "a run without a prompt")
    head = join(
        [
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{attribute(POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            element("title", attribute(shortened(prompt, 80))),
            f"<style>{CSS}</style>",
        ]
    )
    parts = [
        element("header", heading(prompt) + meta(facts)),
        problem(facts),
        figures(facts),
        videos(facts, pictures),
        section("Workers", charts.timeline(facts), TIMELINE_NOTE) if facts.stages else "",
        memory(facts),
        section("Seconds per step", charts.step_charts(facts.workers)),
        section("Stages", stages(facts)),
        remarks(facts),
        section("Settings", settings(facts)),
        section("Make it again", again(facts)),
        section("Keys and versions", keys(facts)),
        element("footer", f"ltx-relay{_DOT}{link(facts.folder, facts.folder)}"),
    ]
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{join(parts)}</body></html>\n'


TIMELINE_NOTE = (
    "One process after the other, each with its own weights only. Pale where it reads weights before its work."
)


def heading(prompt: str) -> str:
    if len(prompt) > FOLDED:
        short = element("summary", element("bdi", text(shortened(prompt, LONG_PROMPT))))
        return element("h1", element("details", short + element("bdi", text(prompt))), class_="long")
    return element("h1", element("bdi", text(prompt)), class_="long" if len(prompt) > LONG_PROMPT else None)


def meta(facts: Facts) -> str:
    words = {"done": "done", "running": "under way", "failed": "failed", "interrupted": "interrupted"}
    status = words.get(facts.status, facts.status)
    if facts.status == "done" and facts.stopped:
        status = "stopped as asked"
    began = datetime.fromtimestamp(facts.created).strftime("%Y-%m-%d %H:%M") if facts.created else ""
    resumed = len(facts.sessions) - 1
    pieces = [began, facts.run, f"resumed {resumed}x" if resumed > 0 else ""]
    badge = element("span", text(status), class_=f"badge {facts.status}")
    return element("div", badge + join(element("span", text(piece)) for piece in pieces if piece), class_="meta")


def problem(facts: Facts) -> str:
    if facts.error is None:
        return ""
    code = facts.error.get("exit_code")
    body = element("p", text(facts.error.get("message") or "It ended without a word."))
    if facts.error.get("advice"):
        body += element("p", text(facts.error["advice"]))
    if facts.error.get("resume"):
        body += element("pre", text(facts.error["resume"]))
    return element("section", element("h2", text(f"It did not end well (exit code {code})")) + body, class_="problem")


def figures(facts: Facts) -> str:
    """The few numbers that matter, large."""
    started, found = facts.started, []
    if any(worker.how != "failed" for worker in facts.workers) or facts.seconds:
        fresh = [stage for stage in facts.stages if stage.status == "computed"]
        cached = len([stage for stage in facts.stages if stage.status == "cached"])
        about = f"{len(fresh)} computed, {cached} from the cache" if cached else f"{len(fresh)} stages"
        found.append((duration(facts.seconds), f"in all{_DOT}{about}"))
    if started.get("width"):
        words = video_words(started.get("width"), started.get("height"), started.get("frames"), started.get("fps"))
        size, _, rest = words.partition(", ")
        found.append((size.replace("x", "\u00d7"), rest.replace(" s)", "\u00a0s)")))
    if facts.largest and facts.largest.peak:
        found.append((memory_size(facts.largest.peak), f"at most, in {stage_label(facts.largest.name)}"))
    if facts.budget:
        source = str(mapping(started.get("budget")).get("source") or "")
        found.append((memory_size(facts.budget), f"budget{_DOT}{source}" if source else "budget"))
    total = sum(size for _, _, size in facts.monolith)
    if total:
        found.append((memory_size(total), "one process that held everything at once"))
    return element(
        "div",
        join(element("div", element("b", text(value)) + element("span", text(words))) for value, words in found),
        class_="figures",
    )


def videos(facts: Facts, pictures: Pictures) -> str:
    if facts.videos:
        shown = [video_block(video, pictures.stills.get(video.path, ())) for video in facts.videos]
        return section("Video" if len(shown) == 1 else f"{len(shown)} videos", join(shown))
    body = ""
    if pictures.sheet:
        body = element("div", image(pictures.sheet, "Contact sheet of stage 1"), class_="whole")
        return section("Contact sheet of stage 1", body)
    for label, picture in pictures.previews:
        body += element("div", element("p", text(label), class_="note") + image(picture, label), class_="whole")
    return section("How far it came", body)


def video_block(video: Video, stills: Sequence[bytes]) -> str:
    title = Path(video.path).name
    if video.role == "base":
        title += " (before temporal upscaling)"
    sheet = join(image(still, f"still {index + 1}") for index, still in enumerate(stills))
    few = " two" if len(stills) in (1, 2) else ""
    facts = [
        f"seed {video.seed}" if video.seed is not None else "",
        f"{video.width}\u00d7{video.height}",
        f"{video.frames} frames at {frame_rate(video.fps)} fps",
        file_size(video.bytes),
        video.path,
    ]
    return element(
        "div",
        element("h3", link(video.path, title))
        + (element("div", sheet, class_=f"sheet{few}") if sheet else "")
        + element("p", text(_DOT.join(filter(None, facts)))),
        class_="video",
    )


def memory(facts: Facts) -> str:
    total = sum(size for _, _, size in facts.monolith)
    note = (
        "Filled: samples of the worker's memory. Pale, with a line on top: its peak as the system counts it. "
        "Dashed: what the plan predicted."
    )
    if total:
        note += (
            " The column is what one process would need that held all of these networks at once: the bytes of their "
            "weights as they are held here, each counted once, the largest stage's activations, and the process."
        )
    names = dict.fromkeys(worker.stage for worker in facts.workers)
    legend = [f'<i class="{charts.colour(name)}"></i>{text(stage_label(name))}' for name in names]
    if total:
        legend.append('<i class="c-other"></i>activations and process')
    legend.append('<i class="line"></i>predicted')
    words = element("div", join(element("span", entry) for entry in legend), class_="legend")
    drawn = charts.memory(facts)
    return section("Memory over time", drawn + words, note) if drawn else ""


def stages(facts: Facts) -> str:
    highest = max((max(s.predicted or 0, s.measured or s.peak or 0) for s in facts.stages), default=0)
    heads = ["stage", "", "time", "predicted", "measured", "", "", "read", "tries", "held"]
    numbers = {"time", "predicted", "measured", "read", "tries"}
    row = element("tr", join(element("th", head, class_="n" if head in numbers else None) for head in heads))
    body = join(stage_row(stage, highest) for stage in facts.stages)
    return element("div", element("table", row + body), class_="scroll") if facts.stages else ""


def stage_row(stage: Stage, highest: int) -> str:
    fresh = stage.status in ("computed", "failed")
    measured = (stage.measured or stage.peak) if fresh else None
    predicted = stage.predicted if fresh else None
    off, style = "", None
    if measured and predicted:
        off = f"{predicted / measured - 1:+.0%}"
        style = "over" if predicted < measured else "quiet"

    def figure(value: str) -> str:
        return element("td", text(value), class_="n")

    return element(
        "tr",
        join(
            [
                element("td", text(stage_label(stage.name))),
                element("td", text("from the cache" if stage.status == "cached" else stage.status), class_="quiet"),
                figure(duration(stage.seconds) if fresh and stage.seconds is not None else ""),
                figure(memory_size(predicted) if predicted else ""),
                figure(memory_size(measured) if measured else ""),
                element("td", element("span", text(off), class_=style) if off else "", class_="n"),
                element("td", charts.bullet(predicted, measured, highest, stage.name), class_="wide"),
                figure(file_size(stage.bytes_read) if fresh and stage.bytes_read else ""),
                figure(str(stage.tries) if fresh else ""),
                element("td", text(stage.holding if fresh else ""), class_="quiet held"),
            ]
        ),
    )


def remarks(facts: Facts) -> str:
    if not facts.remarks:
        return ""
    labels = {"retry": "Tried again", "warning": "Note", "stalled": "Silence", "error": "Error"}
    entries = [
        element(
            "li",
            element("b", labels.get(kind, kind))
            + (element("span", text(f"{stage_label(stage)}: "), class_="quiet") if stage else "")
            + text(sentence),
            class_=kind,
        )
        for kind, stage, sentence in facts.remarks
    ]
    return section("What happened", element("ul", join(entries), class_="remarks"))


def settings(facts: Facts) -> str:
    """The recipe in the words of the flags, without what is empty."""
    recipe, machine = facts.recipe, mapping(facts.started.get("machine"))
    tiles = recipe.get("tiles")
    rows: list[tuple[str, Any]] = upscaled.setting_rows(recipe) if is_upscale(recipe) else generated_rows(recipe)
    rows += [
        ("codec", recipe.get("codec")),
        ("tiles", tile_words(tiles) if isinstance(tiles, list) and len(tiles) == 4 else None),
        ("quantised", f"{recipe['quantize']} bits" if recipe.get("quantize") else None),
        ("LoRAs", listed(lora_words(lora) for lora in recipe.get("loras") or ())),
        ("noise", recipe.get("noise")),
        ("weights", listed(v for v in mapping(recipe.get("weights")).values() if v)),
        ("computed in", _DOT.join(str(machine[k]) for k in ("dtype", "backend", "device") if machine.get(k))),
    ]
    body = join(
        element("tr", element("th", text(name)) + element("td", text(value)))
        for name, value in rows
        if value not in (None, "", [])
    )
    return element("table", body, class_="settings")


def generated_rows(recipe: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What only a video from a prompt has."""
    return [
        ("preset", recipe.get("preset")),
        ("negative prompt", recipe.get("negative_prompt")),
        ("seeds", listed(recipe.get("seeds"))),
        ("base size", f"{recipe.get('width')}\u00d7{recipe.get('height')}, {recipe.get('frames')} frames"),
        ("rate", f"{recipe.get('fps')} fps" + (", doubled" if recipe.get("temporal") else "")),
        ("plays at", f"{recipe['play_fps']} fps" if recipe.get("play_fps") else None),
        ("stage 1", f"{recipe.get('steps_stage1')} steps, {recipe.get('stage1_schedule')} schedule"),
        ("stage 2", f"{recipe.get('steps_stage2')} steps" if recipe.get("two_stage") else None),
        ("guidance", guidance(recipe)),
    ]


def guidance(recipe: Mapping[str, Any]) -> str:
    words = [f"CFG {recipe.get('cfg')}"]
    words += [f"rescale {recipe['guidance_rescale']}"] if recipe.get("guidance_rescale") else []
    words += [f"STG {recipe['stg']} in blocks {listed(recipe.get('stg_blocks'))}"] if recipe.get("stg") else []
    return ", ".join(words)


def tile_words(tiles: Sequence[object]) -> str:
    pixels, _, frames, _ = tiles
    return f"{f'{pixels} pixels' if pixels else 'whole pictures'}, {f'{frames} frames' if frames else 'all frames'}"


def lora_words(lora: object) -> str:
    if not isinstance(lora, list | tuple) or len(lora) != 3:
        return str(lora)
    return f"{lora[0]} \u00d7{lora[1]}" + (f" in {stage_label(str(lora[2]))}" if lora[2] else "")


AGAIN_NOTE = "The same recipe in a new run; flags beside it change it:"


def again(facts: Facts) -> str:
    """Commands: the same video once more; and what is left to do where the run is not over."""
    words, note = ["ltx-relay", "generate", "--recipe", str(Path(facts.folder) / "recipe.json")], AGAIN_NOTE
    if is_upscale(facts.recipe):
        words, note = upscaled.command(facts.recipe), "The same video, from the same file:"
    body = ""
    if facts.status in ("failed", "interrupted"):
        resume = (facts.error or {}).get("resume") or shlex.join(["ltx-relay", "resume", facts.run])
        body += element("p", "Go on with this run:", class_="note") + element("pre", text(resume))
    return body + element("p", note, class_="note") + element("pre", text(shlex.join(words)))


def keys(facts: Facts) -> str:
    rows = [
        element(
            "tr",
            element("th", text(stage_label(stage.name))) + element("td", element("code", text(listed(stage.keys)))),
        )
        for stage in facts.stages
        if stage.keys
    ]
    versions = mapping(facts.started.get("versions"))
    rows += [element("tr", element("th", text(name)) + element("td", text(v))) for name, v in versions.items()]
    return element("table", join(rows), class_="settings keys") if rows else ""


def section(title: str, body: str, note: str = "") -> str:
    if not body:
        return ""
    return element(
        "section", element("h2", text(title)) + (element("p", text(note), class_="note") if note else "") + body
    )


def image(picture: bytes, label: str) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    data = base64.b64encode(picture).decode()
    return f'<img src="data:image/{kind};base64,{data}" alt="{attribute(label)}">'


def link(path: str, words: str) -> str:
    try:
        address = Path(path).as_uri()
    except ValueError:  # not absolute
        return text(words)
    return element("a", text(words), href=address)


def listed(values: object) -> str:
    if not isinstance(values, Iterable) or isinstance(values, str | bytes):
        return ""
    found = [str(value) for value in values]
    return ", ".join(found[:40]) + (f", and {len(found) - 40} more" if len(found) > 40 else "")


def shortened(words: str, length: int) -> str:
    words = " ".join(words.split())
    return words if len(words) <= length else words[: length - 1] + "\u2026"
