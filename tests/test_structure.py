"""The house keeps its order: layers import one way, public names are complete, files stay small."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lorakit

SOURCE = Path(lorakit.__file__).parent
# Folder -> row of the table in CONTRIBUTING.md: a module imports from its own row's folder or an
# earlier row.
ROWS = {
    "core": 1, "layers": 2, "methods": 3, "formats": 4, "analysis": 5, "models": 6, "metrics": 6,
    "tasks": 7, "train": 8, "eval": 8, "bench": 8, "study": 9, "jobs": 9, "library": 9, "demo": 10,
    "web": 11, "cli": 12,
}  # fmt: skip
# What a row may import from outside; the standard library is free to all.
CORE_MAY_IMPORT = {"torch"}
LIGHT = {"torch", "safetensors", "numpy"}
# Extras, imported by the function that meets their layers.
LATE = {"layers/quantised.py": {"bitsandbytes", "torchao"}}
FILES = sorted(SOURCE.rglob("*.py"))


def imports(file: Path) -> list[tuple[str, bool]]:
    """(module, whether it is imported when the file is) for each absolute import."""
    tree = ast.parse(file.read_text())
    inside = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.If))
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [node.module or ""]
            if node.module == "lorakit":
                names = [f"lorakit.{alias.name}" for alias in node.names]
            found += [(name, id(node) not in inside) for name in names]
    return found


def row_of(file: Path) -> tuple[str, int]:
    folder = file.relative_to(SOURCE).parts[0]
    return folder, ROWS.get(folder, 13)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_go_one_way(file):
    folder, row = row_of(file)
    for module, _ in imports(file):
        parts = module.split(".")
        if parts[0] != "lorakit" or len(parts) < 2 or parts[1] not in ROWS:
            continue
        assert parts[1] == folder or ROWS[parts[1]] < row, f"{file} (row {row}) imports {module}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_lower_rows_import_little(file):
    _, row = row_of(file)
    outside = {module.split(".")[0] for module, _ in imports(file)} - {"lorakit"}
    outside -= set(sys.stdlib_module_names)
    late = {module.split(".")[0] for module, at_once in imports(file) if not at_once}
    outside -= late & LATE.get(str(file.relative_to(SOURCE)), set())
    if file.parent.name != "bench":  # where it is what ours is measured beside
        assert "peft" not in outside
    if row == 1:
        assert outside <= CORE_MAY_IMPORT
    elif row <= 5:
        assert outside <= LIGHT


def test_no_two_test_files_have_one_name():
    """Of two that do pytest collects one alone, and says so only when it collects all."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_every_folder_has_a_row():
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders == set(ROWS)


def test_public_names_are_sorted_and_complete():
    names = list(lorakit._PUBLIC)
    assert names == sorted(names)
    for name, module in lorakit._PUBLIC.items():
        value = getattr(lorakit, name)
        assert value.__module__ == f"lorakit.{module}", name
        assert value.__doc__, name
        assert getattr(importlib.import_module(f"lorakit.{module}"), name) is value
    checked = ast.parse((SOURCE / "__init__.py").read_text())
    typed = {
        alias.name
        for node in ast.walk(checked)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lorakit.")
        for alias in node.names
    }
    assert typed == set(names)


def loaded_after(code: str) -> set[str]:
    """The packages that a fresh interpreter holds after this code."""
    code = f"import sys; {code}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_is_light():
    heavy = {"torch", "transformers", "numpy", "pydantic", "typer", "matplotlib"}
    assert not loaded_after("import lorakit") & heavy


def test_reading_a_recipe_is_light():
    heavy = {"torch", "transformers", "numpy", "sklearn", "matplotlib"}
    assert not loaded_after("import lorakit.cli, lorakit.train.recipe") & heavy


def test_the_core_imports_torch_alone():
    heavy = {"transformers", "pydantic", "datasets", "sklearn", "matplotlib", "peft"}
    code = "import lorakit as lk; lk.inject; lk.save; lk.load; lk.merge; lk.plan"
    assert not loaded_after(code) & heavy


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_files_and_functions_stay_small(file):
    text = file.read_text()
    assert text.count("\n") <= 320, f"{file} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{file}:{node.lineno} {node.name} has {length} lines"
