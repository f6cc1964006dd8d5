"""`lorakit library`: finding adapters; what changes them stands in `library_acts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from lorakit.cli.library_acts import ACTS, AS_JSON, ROOT

if TYPE_CHECKING:
    from lorakit.library.entry import Entry

_WIDEST = 32  # letters of a name or a base in the table


class _Words(TyperGroup):
    """What begins with no verb are words to search for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args[:1] not in ([name] for name in (*self.commands, "-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


verbs = typer.Typer(
    cls=_Words,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find, import, rename, delete, describe and share the adapters below some folders.\n\n"
    "What begins with none of the verbs is searched for, and every verb has --root and --json: "
    "`lorakit library poet --tag style --root loras`",
)


@verbs.command("list")
def list_(
    words: list[str] = typer.Argument(None, help="Words, or beginnings, that must all be there."),
    root: list[str] = ROOT,
    base: str = typer.Option(None, "--base", help="Only those of this base."),
    task: str = typer.Option(None, "--task", help="Only those for this task."),
    method: str = typer.Option(None, "--method", help="Only those of this method, such as dora."),
    format: str = typer.Option(None, "--format", help="Only those in this format."),
    tag: list[str] = typer.Option(None, "--tag", help="Only those with this tag; repeat."),
    order: str = typer.Option("newest", "--order", help="newest, name, rank or size."),
    limit: int = typer.Option(None, "--limit", help="At most so many."),
    facets: bool = typer.Option(False, "--facets", help="Count bases, tasks, methods, tags."),
    as_json: bool = AS_JSON,
) -> None:
    """List adapters, or search them; this is what `lorakit library` does without a verb.

    Example: `lorakit library list poet --base org/base --order rank`
    """
    from lorakit.cli.output import show
    from lorakit.library.index import Library

    with Library(root) as library:
        library.refresh()
        if facets:
            counts = library.facets()
            show(_counted(counts), counts, as_json=as_json)
            return
        found = library.search(
            " ".join(words or ()), base=base, task=task, method=method, format=format,
            tags=tag or (), order=order, limit=limit,  # type: ignore[arg-type]
        )  # fmt: skip
        text = _table(found) if found else _nothing(words or [], root)
        show(text, [entry.as_dict() for entry in found], as_json=as_json)


@verbs.command("show")
def show_(
    adapter: str = typer.Argument(help="Its id, name or path."),
    root: list[str] = ROOT,
    as_json: bool = AS_JSON,
) -> None:
    """Show all that is known of one adapter.

    Example: `lorakit library show poet`
    """
    from lorakit.cli.output import show
    from lorakit.library.index import Library

    with Library(root) as library:
        library.refresh()
        entry = library.pick(adapter)
    show(_details(entry.as_dict()), entry.as_dict(), as_json=as_json)


def _table(entries: list[Entry]) -> str:
    head = ("id", "name", "base", "task", "method", "rank", "parameters", "date")
    rows = [
        (
            e.id[:8], _cut(e.shown), _cut(e.base), e.task, e.method, e.rank,
            f"{e.parameters:,}" if e.parameters else "", e.date[:10],
        )
        for e in entries
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    lines = ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths)) for row in (head, *rows)]
    for place, entry in reversed(list(enumerate(entries, 1))):
        if entry.problem:
            lines.insert(place + 1, f"{'':<{widths[0]}}  problem: {entry.problem}")
    return "\n".join(line.rstrip() for line in lines)


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"…{text[1 - _WIDEST :]}"


def _nothing(words: list[str], roots: list[str]) -> str:
    from lorakit.core.errors import did_you_mean

    hint = did_you_mean(words[0], [command.name or "" for command in verbs.registered_commands]
                        ) if words else ""  # fmt: skip
    return f"There is no such adapter below {', '.join(roots)}.{hint}"


def _counted(counts: dict[str, dict[str, int]]) -> str:
    lines = []
    for name, values in counts.items():
        shown = ", ".join(f"{value} ({count})" for value, count in values.items())
        lines.append(f"{name:<7} {shown or 'none'}")
    return "\n".join(lines)


def _details(data: dict[str, Any]) -> str:
    lines = []
    for key, value in data.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {number:.6g}" for name, number in value.items())
        elif isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        if value not in (None, "", 0) and key not in ("root", "shown", "ranks"):
            lines.append(f"{key:<12} {value}")
    return "\n".join(lines)


for _name, _act in ACTS.items():
    verbs.command(_name)(_act)
