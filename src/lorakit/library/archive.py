"""An adapter out of a zip archive that anybody may have made: its own files, and nothing else."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from lorakit.core.errors import AdapterFileError
from lorakit.library.parts import Parts, choose

MOST_MEMBERS = 10_000
MOST_BYTES = 2**33  # of an adapter, unpacked
MOST_RATIO = 100  # unpacked to packed; the numbers of an adapter hardly shrink
_FREE = 2**20  # bytes of small files for which the ratio means nothing
_MOST_DIRECTORY = 2**22  # bytes of the list of members, which is read before they can be counted
_TAIL = 22 + 2**16  # where a zip's end is: the record, and a comment behind it
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 2**20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def unpack(file: Path, out: Path, *, pickles: bool = False) -> Parts:
    """Write the files of the one adapter in an archive to the folder `out`; say which they are.

    All names are looked at before anything is written. Raises `AdapterFileError` for names that
    lead elsewhere, links, what would unpack to too much, and damage.
    """
    try:
        _check_end(file)
        with zipfile.ZipFile(file) as archive:
            members = {own.filename: own for own in archive.infolist() if not own.is_dir()}
            _check_members(archive.infolist(), file)
            parts = choose(members, str(file), pickles=pickles)
            wanted = {**parts.needed, **parts.beside}
            _check_sizes([members[name] for name in wanted], file)
            for name, called in wanted.items():
                _write(archive, members[name], out / called, file)
            return parts
    except OSError as error:
        raise AdapterFileError(f"{file} cannot be unpacked: {error}.") from error
    except _DAMAGE as error:
        raise AdapterFileError(f"{file} is damaged: {error}. Fetch it again.") from error


def _check_end(file: Path) -> None:
    """Refuse a list of members that is too long, and the form for such, before it is read."""
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(max(0, size - _TAIL))
        tail = opened.read()
    plain = len(tail) - 22
    end = plain if tail[plain : plain + 4] == b"PK\5\6" else tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        raise AdapterFileError(f"{file} is no zip archive. Name an adapter's folder or file.")
    listed = int.from_bytes(tail[end + 12 : end + 16], "little")
    if listed > _MOST_DIRECTORY or tail[max(0, end - 20) :].startswith(b"PK\6\7"):
        raise _refused(file, "it is a zip of the form for very many or very large files")


def _check_members(members: Iterable[zipfile.ZipInfo], file: Path) -> None:
    seen: set[str] = set()
    for number, member in enumerate(members):
        name = member.filename
        kind = stat.S_IFMT(member.external_attr >> 16)
        if number >= MOST_MEMBERS:
            raise _refused(file, f"it has more than {MOST_MEMBERS} files")
        if _leads_away(name) or _leads_away(member.orig_filename):
            raise _refused(file, f"the name {name[:100]!r} leads out of it")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(file, f"{name[:100]!r} is a link or a device")
        if name in seen:
            raise _refused(file, f"{name[:100]!r} is in it twice")
        if member.flag_bits & 1:
            raise _refused(file, "it is encrypted")
        seen.add(name)


def _leads_away(name: str) -> bool:
    drive = PureWindowsPath(name).drive or PureWindowsPath(name).root
    odd = not name or "\\" in name or any(ord(char) < 32 for char in name)
    return odd or bool(drive) or ".." in PurePosixPath(name).parts


def _check_sizes(members: list[zipfile.ZipInfo], file: Path) -> None:
    whole = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if whole > MOST_BYTES or whole > MOST_RATIO * packed + _FREE:
        raise _refused(file, f"{packed} bytes would unpack to {whole}")
    odd = next((own for own in members if own.compress_type not in _PLAIN), None)
    if odd is not None:
        raise _refused(file, f"{odd.filename!r} is packed in a way other than deflate")


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, file: Path) -> None:
    left = member.file_size
    with archive.open(member) as source, target.open("xb") as out:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise _refused(file, f"{member.filename!r} is larger than it says")
            out.write(chunk)
    if left:
        raise _refused(file, f"{member.filename!r} is smaller than it says")


def _refused(file: Path, why: str) -> AdapterFileError:
    return AdapterFileError(
        f"{file} is not unpacked: {why}. Unpack it yourself, look at what is in it, and name the "
        "adapter's folder."
    )
