"""`push` and `pull`: adapters to and from the hub, by huggingface_hub, and only when asked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from lorakit.core.errors import AdapterFileError, HubError, LorakitError
from lorakit.formats.content import Options
from lorakit.formats.load import read_adapter
from lorakit.library.archive import MOST_BYTES
from lorakit.library.beside import PAGE, page_of, previews
from lorakit.library.bring import bring
from lorakit.library.entry import Entry
from lorakit.library.parts import MOST_BESIDE, choose
from lorakit.library.whole import held

_ON = ("1", "on", "yes", "true")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pushed:
    """Where an adapter was put: the repository, the revision, its address, and its files."""

    repo: str
    revision: str
    url: str
    files: tuple[str, ...]


def push(
    entry: Entry, repo: str, *, private: bool = True, message: str | None = None,
    model: nn.Module | None = None, api: Any = None,
) -> Pushed:  # fmt: skip
    """Put an adapter into a repository of the hub, `owner/name`, in one commit.

    Its own files go, with page, picture and licence, after it was read whole, for which some
    formats need the base `model`. A repository that is not there is made, `private` unless told
    otherwise. `api` is a `huggingface_hub.HfApi`. Raises `HubError`, at once where HF_HUB_OFFLINE
    is set, or `AdapterFileError` for what is damaged.
    """
    hub = _api(api)
    _check_repo(repo)
    place = held(entry)
    read_adapter(place, model=model, check_base=False, options=Options(alpha=1.0, guess=True))
    from huggingface_hub import CommitOperationAdd

    files = _files(place)
    added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(own))
             for name, own in files.items()]  # fmt: skip
    _asked(repo, lambda: hub.create_repo(repo, private=private, exist_ok=True))
    done = _asked(repo, lambda: hub.create_commit(
        repo, operations=added, commit_message=message or f"Add the adapter {entry.shown}"
    ))  # fmt: skip
    return Pushed(repo, str(done.oid), str(done.commit_url), tuple(files))


def pull(
    repo: str, root: str | os.PathLike, *, revision: str | None = None, name: str | None = None,
    to: str | None = None, model: nn.Module | None = None, api: Any = None,
) -> Entry:  # fmt: skip
    """Take the adapter in a repository of the hub into `root`, as `lorakit.library.bring` does.

    Only the files that an adapter consists of are fetched, all of one revision, which is kept
    beside it (`source.json`). Pickles are not fetched. Raises `HubError`, at once where
    HF_HUB_OFFLINE is set, or what `bring` raises; `root` is then as it was.
    """
    hub = _api(api)
    _check_repo(repo)
    about = _asked(repo, lambda: hub.repo_info(repo, revision=revision, files_metadata=True))
    sizes = {own.rfilename: own.size for own in about.siblings or ()}
    parts = choose(sizes, repo)
    beside = [n for n in parts.beside if (sizes[n] or 0) <= MOST_BESIDE]
    wanted = {**parts.needed, **{n: parts.beside[n] for n in beside}}
    whole = sum(sizes[n] or 0 for n in wanted)
    if whole > MOST_BYTES:
        raise AdapterFileError(f"{repo} has an adapter of {whole} bytes; at most {MOST_BYTES}.")
    with tempfile.TemporaryDirectory(prefix="lorakit-") as folder:
        fetched, ready = Path(folder) / "fetched", Path(folder) / "ready"
        ready.mkdir()
        for own, called in wanted.items():
            path = _asked(repo, lambda own=own: hub.hf_hub_download(
                repo, own, revision=about.sha, local_dir=str(fetched)
            ))  # fmt: skip
            stem = Path(parts.main).stem
            sidecar = {PAGE.name: f"{stem}.md"}.get(called, f"{stem}.{called}")
            end = sidecar if parts.main and own in parts.beside else called
            os.replace(path, ready / end)
        source = ready / parts.main if parts.main else ready
        origin = {"repo": repo, "revision": str(about.sha)}
        label = name or repo.rpartition("/")[2]
        return bring(source, root, name=label, to=to, model=model, origin=origin)


def check_online() -> None:
    """Raise `HubError` where HF_HUB_OFFLINE says that nothing may be fetched."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _ON:
        raise HubError("HF_HUB_OFFLINE is set, so the hub is not asked. Unset it to push or pull.")


def _api(api: Any) -> Any:
    check_online()
    if api is not None:
        return api
    from huggingface_hub import HfApi

    return HfApi()


def _check_repo(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise HubError(f"{repo!r} is no repository: {error}. Write it as owner/name.") from error


def _asked(repo: str, act: Callable[[], Result]) -> Result:
    """The hub's answer. Whatever goes wrong on the way there is a `HubError`."""
    try:
        return act()
    except LorakitError:
        raise
    except Exception as error:
        first = " ".join(str(error).split())[:300] or type(error).__name__
        raise HubError(
            f"{repo}: the hub said no or was not reached: {first}. Check the name, the revision, "
            "and `hf auth login`."
        ) from error


def _leads_out(file: Path) -> bool:
    """Whether a file is a link to somewhere else, which nobody asked to publish."""
    return not file.resolve().is_relative_to(file.parent.resolve())


def _files(place: Path) -> dict[str, Path]:
    """What is pushed, by its name there; a single file's page is the repository's."""
    if place.is_dir():
        listed = [own.name for own in place.iterdir() if own.is_file() and not _leads_out(own)]
        parts = choose(listed, str(place))
        return {name: place / own for own, name in {**parts.needed, **parts.beside}.items()}
    found = {place.name: place}
    page = page_of(place)
    found |= {} if page is None or _leads_out(page) else {PAGE.name: page}
    found |= {f"preview{own.suffix}": own for own in list(previews(place))[:1]}
    return found
