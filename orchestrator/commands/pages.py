"""The help pages: panels of two columns, what to write and what it means, good at 80 columns.

Typer's own pages spread names, short names, negatives and types over five columns, which leaves no room for the
meaning, and look different from version to version.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from orchestrator.commands.bare import with_command
from orchestrator.display.streams import is_utf8

MAX_WIDTH = 100
NAME_WIDTH = 31
NARROW = 2 * NAME_WIDTH


class Page(TyperCommand):
    """A command with such a page."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(rendered(page(self, ctx)))


class GroupPage(TyperGroup):
    """A command with commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(rendered(page(self, ctx)))


class ProgramPage(GroupPage):
    """The program itself, which takes a prompt in the place of a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_command(args, self.commands))


def page(command: Any, ctx: Any) -> list[RenderableType]:
    usage = Text.assemble(("Usage: ", "bold"), " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)]))
    parts: list[RenderableType] = [Text(""), Padding(usage, (0, 1)), Text("")]
    for paragraph in (command.help or "").split("\n\n"):
        parts += [Padding(Text(" ".join(paragraph.split())), (0, 1)), Text("")]
    panels: dict[str, list[tuple[Text, Text]]] = {}
    for name in command.list_commands(ctx) if isinstance(command, TyperGroup) else ():
        entry = command.get_command(ctx, name)
        if entry and not entry.hidden:
            summary = (entry.help or "").split("\n\n")[0]
            panels.setdefault("Commands", []).append((Text(name, style="bold cyan"), Text(" ".join(summary.split()))))
    for parameter in command.get_params(ctx):
        if getattr(parameter, "hidden", False):
            continue
        title = getattr(parameter, "rich_help_panel", None)
        panels.setdefault(title or default_panel(parameter), []).append((names(parameter), meaning(parameter)))
    parts += [panel(title, rows) for title, rows in panels.items() if rows]
    if command.epilog:
        parts.append(Padding(Text(command.epilog), (0, 1)))
    return parts


def default_panel(parameter: Any) -> str:
    return "Argument" if parameter.param_type_name == "argument" else "Program"


def panel(title: str, rows: Iterable[tuple[Text, Text]]) -> Panel:
    return Panel(Rows(list(rows)), title=title, title_align="left", border_style="dim", box=box.ROUNDED)


class Rows:
    """What to write and what it means, in two columns; in a narrow terminal one under the other."""

    def __init__(self, rows: list[tuple[Text, Text]]) -> None:
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width < NARROW:
            for left, right in self.rows:
                yield left
                yield Padding(right, (0, 0, 0, 2))
            return
        grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
        grid.add_column(width=NAME_WIDTH, overflow="fold")
        grid.add_column(ratio=1)
        for left, right in self.rows:
            grid.add_row(left, right)
        yield grid


def names(parameter: Any) -> Text:
    """`-H, --height PIXELS`; of several long names the first."""
    if parameter.param_type_name == "argument":
        return Text(parameter.metavar or parameter.name.upper(), style="bold cyan")
    short = [name for name in parameter.opts if not name.startswith("--")]
    long = [name for name in parameter.opts if name.startswith("--")][:1]
    negative = [name for name in parameter.secondary_opts if name.startswith("--")][:1]
    text = Text(", ".join(short[:1] + long), style="bold cyan")
    if negative:
        text.append(", ", style="not bold").append(negative[0])
    if parameter.metavar and not parameter.is_flag:
        text.append(" ").append(parameter.metavar, style="not bold yellow")
    return text


def meaning(parameter: Any) -> Text:
    """The help, whose own line breaks stay, and in brackets the default and the names that other tools use."""
    lines = (parameter.help or "").split("\n")
    text = Text("\n".join(" ".join(line.split()) for line in lines))
    extra = [f"default: {parameter.show_default}"] if isinstance(parameter.show_default, str) else []
    also = [name for name in getattr(parameter, "opts", ()) if name.startswith("--")][1:]
    if also:
        extra.append(f"also {', '.join(also)}")
    if extra:
        text.append(f" ({'; '.join(extra)})", style="dim")
    return text


def rendered(parts: list[RenderableType]) -> str:
    """The page for standard output: as wide as the terminal, but no wider than is good to read."""
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    console.width = min(console.width, MAX_WIDTH)
    with console.capture() as capture:
        console.print(Group(*parts))
    text = capture.get()
    return text if is_utf8(sys.stdout) else text.encode("ascii", "replace").decode()
