"""Bases that are loaded to be asked, with adapters at any strength on them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lorakit as lk
from lorakit.core.errors import LorakitError
from lorakit.core.registry import require_registry
from lorakit.core.strength import set_strength
from lorakit.eval.session import BASE, Needs, Session, about, adapter_folder, needs_of, open_session
from lorakit.tasks.chat import template_file
from lorakit.web.mark import mark_of

BASES = 2  # that are kept loaded
VARIANTS = 12  # adapters, or strengths of them, that are kept on a base


@dataclass(frozen=True)
class Asked:
    """An adapter as it is asked: its folder, its strength, and the layers that are off."""

    folder: Path
    strength: float = 1.0
    off: tuple[str, ...] = ()


@dataclass
class Cast:
    """A loaded base and the names that adapters have on it; one asks at a time."""

    needs: Needs
    session: Session
    lock: threading.Lock = field(default_factory=threading.Lock)
    variants: OrderedDict[Any, str] = field(default_factory=OrderedDict)
    count: int = 0

    def name(self, asked: Asked) -> str:
        """The name of an adapter as it is asked, loaded if it is not there."""
        folder = adapter_folder(str(asked.folder))
        key = (asked, mark_of(folder))
        if key in self.variants:
            self.variants.move_to_end(key)
            return self.variants[key]
        model = self.session.model
        while len(self.variants) >= VARIANTS:
            lk.remove(model, self.variants.popitem(last=False)[1])
        self.count += 1
        name = f"asked-{self.count}"
        lk.load(model, folder, name=name)
        try:
            if asked.off:
                there = set(require_registry(model).entry(name).paths)
                set_strength(model, name, 0.0, paths=[own for own in asked.off if own in there])
            if asked.strength != 1:
                set_strength(model, name, asked.strength)
        except LorakitError:
            lk.remove(model, name)
            raise
        self.variants[key] = name
        return name


@dataclass
class Voice:
    """Who answers: a label, the adapters that act, and the run whose template prompts get."""

    label: str
    names: list[str]
    run: dict[str, Any]


class Voices:
    """The loaded bases of a page, the least used of which go first."""

    def __init__(
        self, allowed: Callable[[str], str], readable: Callable[[str], object]
    ) -> None:  # fmt: skip
        self.allowed = allowed  # the base by the name that an adapter gives, or an error
        self.readable = readable  # raises for a path that an adapter gives and must not
        self._casts: OrderedDict[Needs, Cast] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def of(
        self, adapters: Sequence[Asked], *, base: str | None = None, with_base: bool = True,
        together: bool = False,
    ) -> Iterator[tuple[Session, list[Voice]]]:  # fmt: skip
        """A session and its voices, for this caller alone until the block ends.

        The bare base first if it is asked for, then each adapter, then all of them at once.
        """
        if not adapters and base is None:
            raise LorakitError("Nothing is chosen. Choose an adapter, or a base.")
        needs = needs_of([str(own.folder) for own in adapters], model=base)
        needs = needs._replace(base=self.allowed(needs.base))
        cast = self._cast(needs, adapters)
        with cast.lock:
            voices, runs = [], [about(adapter_folder(str(own.folder)))[2] for own in adapters]
            for run in runs:
                self._check_template(run)
            if (with_base and needs.kind != "classes") or not adapters:
                voices.append(Voice(BASE, [], runs[0] if runs else {}))
            names = [cast.name(own) for own in adapters]
            for own, name, run in zip(adapters, names, runs):
                voices.append(Voice(_label(own, voices), [name], run))
            if together and len(names) > 1:
                voices.append(Voice("all at once", names, runs[0]))
            yield cast.session, voices

    def _check_template(self, run: dict[str, Any]) -> None:
        said = run.get("recipe", {}).get("data", {}).get("chat_template")
        if said is not None and template_file(said) is not None:
            self.readable(said)

    def _cast(self, needs: Needs, adapters: Sequence[Asked]) -> Cast:
        with self._lock:
            cast = self._casts.get(needs)
            if cast is None:
                while len(self._casts) >= BASES:
                    self._casts.popitem(last=False)
                # A head is there by an adapter only: the first session has them all.
                folders = [str(own.folder) for own in adapters] if needs.kind == "classes" else []
                session = open_session(folders, model=needs.base, kind=needs.kind, device="auto")
                for label, name in session.voices.items():
                    if name is not None:
                        lk.remove(session.model, label)
                cast = self._casts[needs] = Cast(needs, session)
            self._casts.move_to_end(needs)
            return cast


def called(place: Path) -> str:
    """What an adapter at a path is called: its run's folder, its folder, or its file."""
    if place.name == "adapter" and place.parent.name:
        return place.parent.name
    return place.stem if place.is_file() else place.name


def _label(asked: Asked, voices: Sequence[Voice]) -> str:
    label = called(asked.folder)
    if asked.strength != 1:
        label += f" at {asked.strength:g}"
    taken = {own.label for own in voices}
    number, name = 2, label
    while name in taken:
        name, number = f"{label} ({number})", number + 1
    return name
