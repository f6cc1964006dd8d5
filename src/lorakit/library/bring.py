"""`bring`: an adapter from anywhere into a library's folder, read whole before it counts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from lorakit.core.errors import AdapterFileError, LibraryError, SaveError, did_you_mean
from lorakit.core.folder import sync_tree
from lorakit.formats import FORMATS
from lorakit.formats.content import PICKLES, Options
from lorakit.formats.convert import convert
from lorakit.formats.files import PICKLE, TENSORS
from lorakit.formats.load import read_adapter
from lorakit.library.archive import unpack
from lorakit.library.beside import ENDINGS, PAGE, SOURCE
from lorakit.library.entry import Entry, printable
from lorakit.library.moves import move_all, staged
from lorakit.library.names import check_file_name, check_free, usable
from lorakit.library.parts import MOST_BESIDE, Parts, choose
from lorakit.library.read import read_entry
from lorakit.library.roots import checked_roots, placed

_DULL = ("adapter", ".", "")  # names of folders that say nothing of what is in them


@dataclass(frozen=True)
class _Taken:
    """An adapter's files in a folder of ours; `label` is what it may be called."""

    folder: Path
    parts: Parts
    label: str

    @property
    def place(self) -> Path:
        return self.folder / self.parts.main if self.parts.main else self.folder

    @property
    def pickled(self) -> bool:
        return self.parts.main.endswith(PICKLES) or (
            (self.folder / PICKLE).exists() and not (self.folder / TENSORS).exists()
        )


def bring(
    source: str | os.PathLike, root: str | os.PathLike, *, name: str | None = None,
    to: str | None = None, model: nn.Module | None = None, alpha: float | None = None,
    pickles: bool = False, origin: Mapping[str, str] | None = None,
) -> Entry:  # fmt: skip
    """Take an adapter into `root`: a folder, a run's folder, a file, or a zip, of any format.

    It is known by its content, read whole, and copied byte for byte; or converted `to` a format,
    with the proof of `lorakit.convert`. Of folders and archives its own files, its page, picture
    and licence are taken. `model` and `alpha` tell what some files do not; with `pickles` pickled
    ones are read, through the restricted reader, and converted. `origin` is kept beside it. Raises
    `AdapterNameError` with a free name where the name is taken, `AdapterFileError` and others;
    `root` is then as it was.
    """
    folder = checked_roots([root])[0]
    forms = [form.name for form in FORMATS]
    if to is not None and to not in forms:
        raise SaveError(f"to={to!r}; known are {', '.join(forms)}.{did_you_mean(to, forms)}")
    wish = None if name is None else check_file_name(name)
    place = placed(source)
    with staged(folder) as stage:
        taken = _taken(place, stage / "taken", pickles=pickles)
        label = wish or usable(taken.label)
        options = Options(alpha=alpha if alpha is not None else 1.0, guess=alpha is None)
        read_adapter(taken.place, model=model, check_base=False, options=options, pickles=pickles)
        form = to or ("peft" if taken.pickled else None)
        if form is not None:
            out = stage / "made"
            convert(taken.place, out, to=form, model=model, alpha=alpha)
            for called in taken.parts.beside.values():
                shutil.copyfile(taken.folder / called, out / called)
            taken = _Taken(out, Parts("", "", {}, taken.parts.beside), taken.label)
        if origin is not None:
            data = json.dumps(dict(origin), indent=2) + "\n"
            (taken.folder / SOURCE.name).write_text(data, encoding="utf-8")
        sync_tree(taken.folder)
        final = _publish(taken, folder, label)
    return read_entry(final, root=folder)


def _taken(place: Path, out: Path, *, pickles: bool) -> _Taken:
    """A copy of an adapter's files in the new folder `out`."""
    if not place.exists():
        raise LibraryError(f"{printable(str(place))} is not there. Check the path.")
    out.mkdir()
    if place.is_file() and place.suffix.lower() == ".zip":
        parts = unpack(place, out, pickles=pickles)
        inner = Path(parts.main).stem if parts.main else Path(parts.folder).name
        return _Taken(out, parts, inner if inner not in _DULL else place.stem)
    if place.is_file():
        return _copied(place.parent, _around(place), out, place.stem)
    inside = place / "adapter"
    run = not _has_adapter(place, pickles=pickles) and inside.is_dir()
    folder = inside if run else place
    parts = choose([own.name for own in folder.iterdir() if own.is_file()], str(folder),
                   pickles=pickles)  # fmt: skip
    stem = Path(parts.main).stem
    return _copied(folder, parts, out, stem or (place.parent.name if place.name == "adapter"
                                                else place.name))  # fmt: skip


def _around(file: Path) -> Parts:
    """One file that was named, and what is called after it."""
    if not file.name.endswith((".safetensors", ".gguf", *PICKLES)):
        raise AdapterFileError(
            f"{printable(str(file))} is no adapter by its ending. Expected .safetensors, .gguf, "
            ".zip, or an adapter's folder."
        )
    beside = [file.name, *(file.stem + end for end in ENDINGS if end != SOURCE.ending)]
    held = [name for name in beside if (file.parent / name).is_file()]
    return choose(held, str(file), pickles=True)


def _has_adapter(folder: Path, *, pickles: bool) -> bool:
    try:
        choose([own.name for own in folder.iterdir() if own.is_file()], "", pickles=pickles)
    except AdapterFileError:
        return False
    return True


def _copied(folder: Path, parts: Parts, out: Path, label: str) -> _Taken:
    kept = {}
    try:
        for name, called in parts.needed.items():
            shutil.copy2(folder / name, out / called)  # with its time: when it was trained
        for name, called in parts.beside.items():
            own = folder / name
            # What is only shown is no reason to follow a link, nor to copy what is no page.
            if not own.is_symlink() and own.stat().st_size <= MOST_BESIDE:
                shutil.copyfile(own, out / called)
                kept[name] = called
    except OSError as error:
        raise AdapterFileError(f"{folder} cannot be read: {error}.") from error
    return _Taken(out, Parts(parts.folder, parts.main, parts.needed, kept), label)


def _publish(taken: _Taken, root: Path, label: str) -> Path:
    """Put what was made ready into the root under its name, in one step or not at all."""
    if not taken.parts.main:
        check_free(root, label)
        move_all([(taken.folder, root / label)])
        return root / label
    suffix = Path(taken.parts.main).suffix
    check_free(root, label, (suffix, "", *ENDINGS))
    called = {PAGE.name: PAGE.ending, SOURCE.name: SOURCE.ending}
    moves = []
    for own in sorted(taken.folder.iterdir()):
        if own.name != taken.parts.main:
            end = called.get(own.name) or f".preview{own.suffix}"
            moves.append((own, root / f"{label}{end}"))
    # The file itself comes last: whoever lists the folder meanwhile sees nothing, or all of it.
    final = root / f"{label}{suffix}"
    move_all([*moves, (taken.place, final)])
    return final
