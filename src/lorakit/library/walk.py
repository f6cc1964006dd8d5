"""Where adapters are: folders are looked through once, and what changed is told by sizes and times.

Links to folders are not followed, so no walk goes in circles or leaves its root; hidden folders and
`checkpoints` are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lorakit.library.beside import ENDINGS, PAGE, PICTURES, SOURCE

DEEPEST = 8  # folders below a root
MOST_FOLDERS = 20_000  # of one root
# As `formats` has them, which is not imported for them: it brings torch along. A test compares.
CONFIG, MANIFEST = "adapter_config.json", "lorakit.json"
TENSORS, PICKLE = "adapter_model.safetensors", "adapter_model.bin"
SINGLE = (".safetensors", ".gguf")
PASSED = ("checkpoints", "__pycache__", "node_modules", "__MACOSX")
_OF_FOLDER = {
    CONFIG, TENSORS, PICKLE, MANIFEST, PAGE.name, SOURCE.name,
    *(f"preview{end}" for end in PICTURES),
}  # fmt: skip
_OF_RUN = ("recipe.yaml", "run.json", "metrics.json")
_OF_MODEL = ("config.json", "model_index.json")


@dataclass(frozen=True)
class Place:
    """A place that may hold an adapter: its path, and what changes when it does."""

    path: str
    root: str
    signature: str
    in_model: bool = False  # a file in the folder of a whole model, most of which are no adapters


@dataclass
class Walk:
    """A way through a root; `whole` says at the end whether it was gone to its end."""

    root: Path
    folders: int = 0
    whole: bool = True

    def places(self) -> Iterator[Place]:
        """Every place below the root, and the root itself."""
        waiting: list[tuple[str, int, dict[str, os.DirEntry[str]]]] = [(str(self.root), 0, {})]
        while waiting:
            folder, depth, above = waiting.pop()
            if self.folders >= MOST_FOLDERS:
                self.whole = False
                return
            self.folders += 1
            files, inner = self._listed(folder)
            if depth < DEEPEST:
                waiting += [(path, depth + 1, files) for path in inner]
            elif inner:
                self.whole = False
            yield from self._in(folder, files, above)

    def _listed(self, folder: str) -> tuple[dict[str, os.DirEntry[str]], list[str]]:
        files: dict[str, os.DirEntry[str]] = {}
        inner: list[str] = []
        try:
            with os.scandir(folder) as found:
                for item in found:
                    if item.is_symlink():
                        if self._leads_inside(item):
                            files[item.name] = item
                    elif item.is_dir(follow_symlinks=False):
                        if not item.name.startswith(".") and item.name not in PASSED:
                            inner.append(item.path)
                    elif item.is_file(follow_symlinks=False):
                        files[item.name] = item
        except OSError:  # gone, or not ours to read: what cannot be listed holds nothing for us
            return {}, []
        return files, inner

    def _leads_inside(self, item: os.DirEntry[str]) -> bool:
        """Whether a link is to a file below the root, as snapshots of the hub's cache have them."""
        try:
            end = Path(item.path).resolve()
            return self.root in end.parents and end.is_file()
        except (OSError, RuntimeError):
            return False

    def _in(
        self, folder: str, files: dict[str, os.DirEntry[str]], above: dict[str, os.DirEntry[str]]
    ) -> Iterator[Place]:
        root = str(self.root)
        if CONFIG in files or MANIFEST in files:
            own = [item for name, item in files.items() if name in _OF_FOLDER or _single(name)]
            if os.path.basename(folder) == "adapter":
                own += [above[name] for name in _OF_RUN if name in above]
            yield Place(folder, root, _signature(own))
            return
        in_model = any(name in files for name in _OF_MODEL)
        for name, item in files.items():
            if _single(name) and not name.startswith("."):
                stem = os.path.splitext(name)[0]
                own = [files[stem + end] for end in ENDINGS if stem + end in files]
                own += [files[PAGE.name]] if PAGE.name in files else []
                yield Place(item.path, root, _signature([item, *own]), in_model)


def _single(name: str) -> bool:
    return name.endswith(SINGLE)


def _signature(items: Iterable[os.DirEntry[str]]) -> str:
    parts = []
    for item in sorted(items, key=lambda item: item.name):
        state = _state(item)
        # Names may have bytes that are no text, and a database takes none of these.
        if state is not None:
            parts.append(f"{item.name!a}:{state.st_size}:{state.st_mtime_ns}:{state.st_ino}")
    return "|".join(parts)


def _state(item: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return item.stat()
    except OSError:  # it went since it was listed
        return None
