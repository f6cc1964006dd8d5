"""Archives that mean harm are refused before anything of them is written."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from lorakit.core.errors import AdapterFileError
from lorakit.library import archive
from lorakit.library.archive import unpack


def zipped(path: Path, folder: Path, inside: str = "poet", **more: bytes) -> Path:
    """An archive of a folder, with further members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(folder.iterdir()):
            out.write(file, f"{inside}/{file.name}" if inside else file.name)
        for name, data in more.items():
            out.writestr(name, data)
    return path


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def same(out: Path, made: Path) -> bool:
    names = ("adapter_config.json", "adapter_model.safetensors", "lorakit.json")
    return all((out / name).read_bytes() == (made / name).read_bytes() for name in names)


@pytest.mark.parametrize("inside", ["", "poet", "runs/e2e/adapter"])
def test_an_adapter_comes_out_and_nothing_else(inside, made, out, tmp_path):
    more = {
        "nested.zip": b"PK", "notes.txt": b"x", "__MACOSX/poet/adapter_config.json": b"x",
        f"{inside}/run.sh".lstrip("/"): b"x", f"{inside}/README.md".lstrip("/"): b"# Poet",
        f"{inside}/checkpoints/c/adapter_config.json".lstrip("/"): b"{}",
        f"{inside}/preview.png".lstrip("/"): b"PNG", f"{inside}/LICENSE".lstrip("/"): b"free",
    }  # fmt: skip
    unpack(zipped(tmp_path / "a.zip", made, inside, **more), out)
    assert same(out, made)
    beside = {"README.md", "preview.png", "LICENSE"}
    assert {path.name for path in out.iterdir()} == beside | {p.name for p in made.iterdir()}


BAD_NAMES = ["../evil", "a/../../evil", "/etc/evil", "C:/evil", "C:evil", "a\\..\\evil", "a\x01b",
             "\\\\srv\\x"]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_lead_away(name, made, out, tmp_path):
    with pytest.raises(AdapterFileError, match="leads out"):
        unpack(zipped(tmp_path / "a.zip", made, **{name: b"x"}), out)
    assert not list(out.iterdir())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(kind, made, out, tmp_path):
    member = zipfile.ZipInfo("poet/README.md")
    member.external_attr = (kind | 0o777) << 16
    path = zipped(tmp_path / "a.zip", made)
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr(member, "/etc/passwd")
    with pytest.raises(AdapterFileError, match="link"):
        unpack(path, out)
    assert not list(out.iterdir())


def test_the_same_name_twice(made, out, tmp_path):
    path = zipped(tmp_path / "a.zip", made)
    with zipfile.ZipFile(path, "a") as opened, pytest.warns(UserWarning, match="Duplicate"):
        opened.writestr("poet/lorakit.json", "{}")
    with pytest.raises(AdapterFileError, match="twice"):
        unpack(path, out)


def test_bombs(made, out, tmp_path):
    bomb = zipped(tmp_path / "a.zip", made, **{"poet/README.md": b"\0" * 2**24})
    with pytest.raises(AdapterFileError, match="would unpack"):
        unpack(bomb, out)
    many = zipped(tmp_path / "b.zip", made, **{f"{n}": b"" for n in range(archive.MOST_MEMBERS)})
    with pytest.raises(AdapterFileError, match="more than"):
        unpack(many, out)
    packed = tmp_path / "c.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as opened:
        opened.writestr("style.safetensors", b"x" * 100)
    with pytest.raises(AdapterFileError, match="deflate"):
        unpack(packed, out)
    assert not list(out.iterdir())


def test_a_size_that_lies(made, out, tmp_path):
    path = zipped(tmp_path / "a.zip", made)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as opened:
        size = opened.getinfo("poet/adapter_model.safetensors").file_size
    assert data.count(struct.pack("<I", size)) == 2  # before the data, and in the list at the end
    for wrong in (size - 1, size + 1):
        path.write_bytes(data.replace(struct.pack("<I", size), struct.pack("<I", wrong)))
        with pytest.raises(AdapterFileError):
            unpack(path, out)
        for left in out.iterdir():
            left.unlink()


def test_a_long_list_of_members_is_not_read(made, out, tmp_path):
    path = zipped(tmp_path / "a.zip", made)
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\5\6")
    data[end + 12 : end + 16] = struct.pack("<I", 2**30)
    path.write_bytes(data)
    with pytest.raises(AdapterFileError, match="very many"):
        unpack(path, out)
    path.write_bytes(data[:end] + b"PK\6\7" + bytes(16) + data[end:])
    with pytest.raises(AdapterFileError, match="very many"):
        unpack(path, out)


def test_damage_and_what_is_no_archive(made, out, tmp_path):
    path = zipped(tmp_path / "a.zip", made)
    data = path.read_bytes()
    place = data.index(b"adapter_model.safetensors") + 200
    for wrong in (data[:-30], b"x" * 100, b"", data[:place] + b"????" + data[place + 4 :]):
        path.write_bytes(wrong)
        with pytest.raises(AdapterFileError):
            unpack(path, out)
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("notes.txt", "x")
    with pytest.raises(AdapterFileError, match="no adapter"):
        unpack(path, out)


def test_two_adapters_are_asked_about(made, out, tmp_path):
    path = zipped(tmp_path / "a.zip", made, **{"other/adapter_config.json": b"{}"})
    with pytest.raises(AdapterFileError, match="2 adapters, other, poet"):
        unpack(path, out)
