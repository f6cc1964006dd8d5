"""What can be done with an adapter of the library: the handlers behind its buttons."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup
from torch import nn

from lorakit.analysis.doctor import doctor
from lorakit.core.errors import LorakitError, shortlist
from lorakit.formats.convert import Proof, convert
from lorakit.library.bring import bring
from lorakit.library.card import write_card
from lorakit.library.edit import edit
from lorakit.library.entry import Entry
from lorakit.library.hub import pull, push
from lorakit.library.rename import rename
from lorakit.library.trash import delete, deleted, restore
from lorakit.models.load import named_structure
from lorakit.web.page import Page
from lorakit.web.told import caught, note

AS_IT_IS = "as it is"


class Doing:
    """Each gives what to say, and the adapter to show then."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def renamed(self, id: str, name: str) -> tuple[Any, str]:
        """Call it something else."""
        return self._act(id, lambda own: rename(own, (name or "").strip()), "It is called {} now.")

    def edited(
        self, id: str, title: str, tags: str, triggers: str, description: str
    ) -> tuple[Any, str]:
        """Keep what people say about it."""
        return self._act(
            id,
            lambda own: edit(
                own, title=title, tags=_words(tags), triggers=_words(triggers),
                description=description,
            ),
            "Kept with {}.",
        )  # fmt: skip

    def carded(self, id: str) -> tuple[Any, str]:
        """Write its model card."""

        def work(entry: Entry) -> Entry:
            write_card(entry)
            return entry

        return self._act(id, work, "The model card of {} lies beside it.")

    def pushed(self, id: str, repo: str) -> tuple[Any, str]:
        """Put it on the hub."""

        def work(entry: Entry) -> Entry:
            push(entry, (repo or "").strip(), model=self._base(entry))
            return entry

        return self._act(id, work, "{} is on the hub now.")

    def deleted(self, id: str) -> tuple[Any, ...]:
        """Put it into the trash, from where it can come back."""
        with caught() as wrong:
            entry = self.page.library.find(id)
            gone = delete(entry)
            self.page.library.refresh()
            told = note(f"{entry.shown} is in the trash.")
            return told, "", gr.update(visible=True), gone.id
        return wrong.html, id, gr.skip(), gr.skip()

    def undone(self, gone: str) -> tuple[Any, ...]:
        """Take out of the trash what went last."""
        with caught() as wrong:
            back = restore(gone, self.page.place.roots)
            self.page.library.refresh()
            return note(f"{back.shown} is back.", good=True), back.id, gr.update(visible=False)
        return wrong.html, gr.skip(), gr.update(visible=bool(deleted(self.page.place.roots)))

    def copied(self, id: str) -> tuple[Any, str]:
        """Put a copy into the page's own folder, a pickled one as safetensors."""
        with caught() as wrong:
            entry = self.page.library.find(id)
            return self._taken(lambda own: bring(entry.place, own, name=entry.name, pickles=True))
        return wrong.html, gr.skip()

    def took(self, files: list[str] | None, name: str) -> tuple[Any, str]:
        """Take in an adapter that came by the browser: one file, or those of a folder."""
        with caught() as wrong:
            if not files:
                raise LorakitError("No file came. Choose one.")
            wish = (name or "").strip() or None
            if len(files) == 1:
                # The restricted reader runs nothing that a pickle says.
                return self._taken(lambda own: bring(files[0], own, name=wish, pickles=True))
            with tempfile.TemporaryDirectory(prefix="lorakit-") as stage:
                folder = gathered(files, Path(stage) / "adapter")
                return self._taken(
                    lambda own: bring(folder, own, name=wish or "imported", pickles=True)
                )
        return wrong.html, gr.skip()

    def pulled(self, repo: str) -> tuple[Any, str]:
        """Take in an adapter of the hub."""
        with caught() as wrong:
            return self._taken(lambda folder: pull((repo or "").strip(), folder))
        return wrong.html, gr.skip()

    def examined(self, id: str) -> str:
        """What the doctor says, beside the base where that is one of the page's."""
        with caught() as wrong:
            entry = self.page.library.find(id)
            return str(Markup("<pre>{}</pre>").format(doctor(entry.place, self._base(entry))))
        return wrong.html

    def made(self, id: str, form: str) -> tuple[Any, ...]:
        """A file to download, with the proof of its conversion."""
        with caught() as wrong:
            entry = self.page.library.find(id)
            folder = Path(tempfile.mkdtemp(prefix="lorakit-"))
            out, proof = entry.place, None
            if form != AS_IT_IS:
                out = folder / "adapter"
                proof = convert(entry.place, out, to=form, model=self._base(entry))
            file = _packed(out, folder / f"{entry.name}.zip")
            told = note(_proved(proof)) if proof is not None else ""
            return told, gr.update(value=str(file), visible=True)
        return wrong.html, gr.update(visible=False)

    def _base(self, entry: Entry) -> nn.Module | None:
        """The structure of its base, where that is one of the page's."""
        with caught():
            return named_structure(self.page.choices.base(entry.base))
        return None

    def _act(self, id: str, work: Callable[[Entry], Entry], told: str) -> tuple[Any, str]:
        with caught() as wrong:
            after = work(self.page.library.find(id))
            self.page.library.refresh()
            return note(told.format(after.shown), good=True), after.id
        return wrong.html, id

    def _taken(self, work: Callable[[Path], Entry]) -> tuple[Any, str]:
        folder = self.page.place.adapters
        folder.mkdir(parents=True, exist_ok=True)
        entry = work(folder)
        self.page.library.refresh()
        return note(f"{entry.shown} is here now.", good=True), entry.id


def _proved(proof: Proof) -> str:
    """What a conversion did, without the folder that it went through."""
    told = [
        f"{proof.from_format} to {proof.to_format}: read again, the change of each of its "
        f"{len(proof.errors)} modules is the same to {proof.largest:.2g} of it."
    ]
    if proof.untold:
        said = ", ".join(f"{name} {value}" for name, value in proof.untold.items())
        told.append(f"Its reader has to be told {said}.")
    if proof.dropped:
        told.append(f"Left out: {shortlist(proof.dropped, 8)}.")
    return " ".join(told)


def gathered(files: list[str], folder: Path) -> Path:
    """A folder with uploaded files under their own names; raises where two have the same."""
    folder.mkdir()
    for file in map(Path, files):
        if (folder / file.name).exists():
            raise LorakitError(f"Two files are called {file.name}. Choose those of one adapter.")
        shutil.copyfile(file, folder / file.name)
    return folder


def _words(said: str) -> list[str]:
    return [own.strip() for own in (said or "").split(",") if own.strip()]


def _packed(place: Path, file: Path) -> Path:
    """A single file as it is; a folder as a zip of its own files."""
    if place.is_file():  # copied, as Gradio serves what lies in a folder for such, and no library
        return Path(shutil.copyfile(place, file.with_name(place.name)))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for own in sorted(place.iterdir()):
            if own.is_file() and not own.is_symlink():
                archive.write(own, f"{file.stem}/{own.name}")
    return file
