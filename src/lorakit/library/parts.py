"""Which of some files are an adapter: in a folder, an archive or a repository of the hub."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from lorakit.core.errors import AdapterFileError, shortlist
from lorakit.formats.content import PICKLES
from lorakit.formats.files import OURS, PICKLE
from lorakit.formats.glance import SINGLE
from lorakit.formats.manifest import MANIFEST
from lorakit.formats.peft_config import CONFIG
from lorakit.library.beside import PAGE, PICTURES
from lorakit.library.walk import PASSED

LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md")
MOST_BESIDE = 2**25  # bytes of a page or a picture


@dataclass(frozen=True)
class Parts:
    """The names of one adapter's files, and what they are called where they are brought to.

    `main` is the name of a single file; for a folder it is "". `beside` are pages and pictures.
    """

    folder: str
    main: str
    needed: dict[str, str]
    beside: dict[str, str]


def choose(names: Iterable[str], where: str, *, pickles: bool = False) -> Parts:
    """The one adapter among some names with `/` between folders, that which lies least deep.

    Raises `AdapterFileError` where there is none, or more than one.
    """
    by_folder: dict[str, set[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        odd = any(part.startswith(".") or part in PASSED for part in path.parts)
        if not odd and not path.is_absolute():
            by_folder.setdefault(str(path.parent), set()).add(path.name)
    kinds = (*SINGLE, *(PICKLES if pickles else ()))
    folders = [
        folder for folder, held in by_folder.items()
        if CONFIG in held or (MANIFEST in held and any(name.endswith(kinds) for name in held))
    ]  # fmt: skip
    if folders:
        folder = _one(folders, where)
        return _of_folder(folder, by_folder[folder], kinds, pickles=pickles)
    files = [_under(f, name) for f, held in by_folder.items() for name in held]
    single = [name for name in files if name.endswith(kinds)]
    if not single:
        raise AdapterFileError(
            f"{where} holds no adapter: it lacks {CONFIG}, and any file that ends in "
            f"{' or '.join(kinds)}. Name an adapter's folder, file or archive."
        )
    file = PurePosixPath(_one(single, where))
    return _of_file(str(file.parent), file, by_folder[str(file.parent)])


def _of_folder(folder: str, held: set[str], kinds: tuple[str, ...], *, pickles: bool) -> Parts:
    ours = {*OURS, *([PICKLE] if pickles else [])}
    if CONFIG not in held:
        ours |= {name for name in held if name.endswith(kinds)}
    beside = [PAGE.name, *LICENCES, *(f"preview{end}" for end in PICTURES)]
    return Parts(
        folder, "", {_under(folder, name): name for name in sorted(held & ours)},
        {_under(folder, name): name for name in beside if name in held},
    )  # fmt: skip


def _of_file(folder: str, file: PurePosixPath, held: set[str]) -> Parts:
    stem = file.stem
    pages = [name for name in (f"{stem}.md", PAGE.name) if name in held][:1]
    shown = [f"{stem}.preview{end}" for end in PICTURES] + [f"{stem}{end}" for end in PICTURES]
    shown = [name for name in shown if name in held][:1]
    beside = dict.fromkeys(pages, PAGE.name)
    beside |= {name: f"preview{PurePosixPath(name).suffix}" for name in shown}
    return Parts(
        folder, file.name, {_under(folder, file.name): file.name},
        {_under(folder, name): called for name, called in beside.items()},
    )  # fmt: skip


def _one(candidates: list[str], where: str) -> str:
    """The candidate that lies least deep."""
    depths = {name: len(PurePosixPath(name).parts) for name in candidates}
    least = [name for name in candidates if depths[name] == min(depths.values())]
    if len(least) > 1:
        raise AdapterFileError(
            f"{where} holds {len(least)} adapters, {shortlist(sorted(least))}. Unpack it, and name "
            "one of them."
        )
    return least[0]


def _under(folder: str, name: str) -> str:
    return str(PurePosixPath(folder) / name)
