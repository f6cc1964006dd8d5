"""What to write as `target_modules`, so that PEFT finds the adapted modules and no other."""

from __future__ import annotations

from collections.abc import Collection


def shortest(paths: list[str], modules: Collection[str] | None) -> list[str] | str:
    """The shortest names by which PEFT, comparing ends of paths, finds these modules alone."""
    wanted, known = set(paths), set(modules or paths)
    for depth in (1, 2, 3):
        ends = {".".join(path.split(".")[-depth:]) for path in paths}
        if modules and wanted == {p for p in known if any(_ends(p, end) for end in ends)}:
            return sorted(ends)
    if wanted == {p for p in known if any(_ends(p, path) for path in paths)}:
        return sorted(paths)
    # A full path is also the end of another one: only an expression can tell them apart.
    return "|".join(path.replace(".", r"\.") for path in sorted(paths))


def _ends(path: str, end: str) -> bool:
    return path == end or path.endswith(f".{end}")
