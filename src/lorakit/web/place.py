"""What the page may read and where it writes: folders that were chosen when it was started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorakit.core.errors import LorakitError


@dataclass(frozen=True)
class Place:
    """`work` is the folder that the page writes to; `roots`, it among them, are read.

    Every path that comes from a browser goes through `inside`.
    """

    work: Path
    roots: tuple[Path, ...]

    @classmethod
    def of(cls, work: str | Path, roots: Sequence[str | Path] = ()) -> Place:
        """The place with every folder resolved; the folder to write to is made."""
        made = Path(work).expanduser().resolve()
        others = [Path(root).expanduser().resolve() for root in roots]
        for folder in others:
            if not folder.is_dir():
                raise LorakitError(f"{folder} is no folder. Name one that is there.")
        if made.exists() and not made.is_dir():
            raise LorakitError(f"{made} is no folder. Name a folder for the page's files.")
        made.mkdir(parents=True, exist_ok=True)
        return cls(made, tuple(dict.fromkeys([made, *others])))

    @property
    def runs(self) -> Path:
        """Where runs go that the page starts."""
        return self.work / "runs"

    @property
    def uploads(self) -> Path:
        """Where data goes that comes in by the browser."""
        return self.work / "data"

    @property
    def adapters(self) -> Path:
        """Where adapters go that are brought in or made here."""
        return self.work / "adapters"

    def inside(self, said: str | Path) -> Path:
        """The path, links followed, if it lies in one of the roots; else `LorakitError`."""
        text = str(said)
        try:
            path = Path(text).expanduser().resolve()
        except (OSError, ValueError, RuntimeError) as error:  # NUL, loops of links, no home
            raise LorakitError(f"{text[:200]!r} is no path. Choose one from the list.") from error
        if not any(path.is_relative_to(root) for root in self.roots):
            raise LorakitError(
                f"{text[:200]!r} is not below {self.shown()}. Choose something there, or start the "
                "page with --root for its folder."
            )
        return path

    def shown(self) -> str:
        """The roots as text."""
        return " or ".join(str(root) for root in self.roots)

    def short(self, path: str | Path) -> str:
        """The path from its root on, which is what people call it."""
        own = Path(path)
        for root in sorted(self.roots, key=lambda root: -len(root.parts)):
            if own.is_relative_to(root) and own != root:
                return str(own.relative_to(root))
        return str(own)
