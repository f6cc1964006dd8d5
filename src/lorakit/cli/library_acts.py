"""The verbs of `lorakit library` that change something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lorakit.library.entry import Entry

ROOT = typer.Option(["."], "--root", "-r", help="A folder with adapters; repeat.")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")
_ADAPTER = typer.Argument(help="Its id, name or path.")
_TO = typer.Option(None, "--to", help="Convert it, with proof: peft, kohya, gguf, ...")
_MODEL = typer.Option(None, "--model", "-m", help="The base, where files do not say all.")


def import_(
    source: str = typer.Argument(help="An adapter's folder, file or zip, or a run's folder."),
    root: list[str] = ROOT,
    name: str = typer.Option(None, "--name", "-n", help="What to call it; else as it is called."),
    to: str = _TO,
    model: str = _MODEL,
    alpha: float = typer.Option(None, "--alpha", help="Alpha, where a file does not say it."),
    pickles: bool = typer.Option(
        False, "--pickles", help="Read pickled files too, by the restricted reader."
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Take an adapter of any format into the first root, after reading all of it.

    Example: `lorakit library import style.zip --root loras --name style`
    """
    from lorakit.library.bring import bring

    entry = bring(
        source, root[0], name=name, to=to, model=_structure(model), alpha=alpha, pickles=pickles
    )
    _tell(f"imported {entry.shown!r} to {entry.path}", entry, as_json=as_json)


def rename(
    adapter: str = _ADAPTER,
    name: str = typer.Argument(help="The new name of its folder or file."),
    root: list[str] = ROOT,
    as_json: bool = AS_JSON,
) -> None:
    """Call an adapter's folder or file, or the run that it is in, by another name.

    Example: `lorakit library rename adapter-3 poet`
    """
    from lorakit.library.rename import rename

    entry = rename(_picked(adapter, root), name)
    _tell(f"it is {entry.path} now", entry, as_json=as_json)


def delete(
    adapter: str = _ADAPTER,
    root: list[str] = ROOT,
    whole_run: bool = typer.Option(False, "--whole-run", help="The run it is in as well."),
    as_json: bool = AS_JSON,
) -> None:
    """Move an adapter to the trash of its root, from where `undo` and `restore` bring it back.

    Example: `lorakit library delete poet`
    """
    from lorakit.cli.output import program, show
    from lorakit.library.trash import delete

    gone = delete(_picked(adapter, root), whole_run=whole_run)
    text = f"{gone.name!r} is in the trash; undo:  {program()} library restore {gone.id}"
    show(text, gone.as_dict(), as_json=as_json)


def restore(
    id: str = typer.Argument(help="The id that `delete` and `trash` say."),
    root: list[str] = ROOT,
    as_json: bool = AS_JSON,
) -> None:
    """Bring back what was deleted.

    Example: `lorakit library restore 20260131-120000-1a2b3c4d`
    """
    from lorakit.library.trash import restore

    entry = restore(id, root)
    _tell(f"{entry.shown!r} is back at {entry.path}", entry, as_json=as_json)


def undo(root: list[str] = ROOT, as_json: bool = AS_JSON) -> None:
    """Bring back what was deleted last.

    Example: `lorakit library undo --root loras`
    """
    from lorakit.core.errors import LibraryError
    from lorakit.library.trash import deleted, restore

    last = next(iter(deleted(root)), None)
    if last is None:
        raise LibraryError("Nothing is in the trash. Name the --root that it was deleted from.")
    entry = restore(last)
    _tell(f"{entry.shown!r} is back at {entry.path}", entry, as_json=as_json)


def trash(
    root: list[str] = ROOT,
    empty: bool = typer.Option(False, "--empty", help="Delete what is in there for good."),
    older: float = typer.Option(0, "--older-than", help="With --empty: only after so many days."),
    as_json: bool = AS_JSON,
) -> None:
    """List what was deleted, or delete it for good.

    Example: `lorakit library trash --empty --older-than 30`
    """
    from lorakit.cli.output import show
    from lorakit.library.trash import deleted, empty_trash

    found = empty_trash(root, older_than_days=older) if empty else deleted(root)
    lines = [f"{own.id}  {own.date}  {own.as_dict()['path']}" for own in found]
    text = "\n".join(lines or ["nothing"])
    show(f"deleted for good:\n{text}" if empty else text, [own.as_dict() for own in found],
         as_json=as_json)  # fmt: skip


def tag(
    adapter: str = _ADAPTER,
    tags: list[str] = typer.Argument(None, help="Tags to add."),
    root: list[str] = ROOT,
    remove: list[str] = typer.Option(None, "--remove", help="A tag to take off; repeat."),
    trigger: list[str] = typer.Option(None, "--trigger", help="Its trigger words; repeat."),
    title: str = typer.Option(None, "--title", help="A name to show."),
    description: str = typer.Option(None, "--description", help="What it is, in a line."),
    as_json: bool = AS_JSON,
) -> None:
    """Set tags, trigger words, title and description, kept in the adapter's page.

    Example: `lorakit library tag poet verse french --remove draft --trigger "in verse"`
    """
    from lorakit.library.edit import edit

    entry = _picked(adapter, root)
    off = set(remove or ())
    kept = [own for own in dict.fromkeys([*entry.tags, *(tags or ())]) if own not in off]
    entry = edit(
        entry, title=title, tags=kept if tags or off else None, triggers=trigger or None,
        description=description,
    )  # fmt: skip
    _tell(f"{entry.shown!r}: {', '.join(entry.tags) or 'no tags'}", entry, as_json=as_json)


def card(
    adapter: str = _ADAPTER,
    root: list[str] = ROOT,
    license: str = typer.Option(None, "--license", help="Its licence, such as apache-2.0."),
    force: bool = typer.Option(False, "--force", help="Replace a text that is there."),
    as_json: bool = AS_JSON,
) -> None:
    """Write a model card out of what is known: base, training, metrics, use.

    Example: `lorakit library card poet --license apache-2.0`
    """
    from lorakit.cli.output import show
    from lorakit.library.card import write_card

    path = write_card(_picked(adapter, root), license=license, force=force)
    show(str(path), {"card": str(path)}, as_json=as_json)


def push(
    adapter: str = _ADAPTER,
    repo: str = typer.Argument(help="The repository on the hub, owner/name."),
    root: list[str] = ROOT,
    model: str = _MODEL,
    public: bool = typer.Option(False, "--public", help="Make a new repository public."),
    message: str = typer.Option(None, "--message", help="What the commit says."),
    as_json: bool = AS_JSON,
) -> None:
    """Put an adapter into a repository of the hub, in one commit; a new one is private.

    Example: `lorakit library push poet me/poet`
    """
    from dataclasses import asdict

    from lorakit.cli.output import show
    from lorakit.library.hub import check_online, push

    check_online()
    done = push(
        _picked(adapter, root), repo, private=not public, message=message, model=_structure(model)
    )
    show(f"{done.url}: {', '.join(done.files)}", asdict(done), as_json=as_json)


def pull(
    repo: str = typer.Argument(help="The repository on the hub, owner/name."),
    root: list[str] = ROOT,
    revision: str = typer.Option(None, "--revision", help="A branch, tag or commit."),
    name: str = typer.Option(None, "--name", "-n", help="What to call it."),
    to: str = _TO,
    model: str = _MODEL,
    as_json: bool = AS_JSON,
) -> None:
    """Take the adapter in a repository of the hub into the first root; its revision is kept.

    Example: `lorakit library pull owner/poet --root loras`
    """
    from lorakit.library.hub import check_online, pull

    check_online()
    entry = pull(repo, root[0], revision=revision, name=name, to=to, model=_structure(model))
    _tell(f"pulled {entry.source} to {entry.path}", entry, as_json=as_json)


ACTS = {
    "import": import_, "rename": rename, "delete": delete, "restore": restore, "undo": undo,
    "trash": trash, "tag": tag, "card": card, "push": push, "pull": pull,
}  # fmt: skip


def _picked(adapter: str, root: list[str]) -> Entry:
    from lorakit.library.index import Library

    with Library(root) as library:
        library.refresh()
        return library.pick(adapter)


def _structure(model: str | None):
    if model is None:
        return None
    from lorakit.models.load import named_structure

    return named_structure(model)


def _tell(text: str, entry: Entry, *, as_json: bool) -> None:
    from lorakit.cli.output import show

    show(text, entry.as_dict(), as_json=as_json)
