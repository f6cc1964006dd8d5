"""The hub is asked only when it may be, and what comes from it is treated as anybody's."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import CommitInfo, HfApi
from shelves import kohya, tree

from lorakit.core.errors import AdapterFileError, AdapterNameError, HubError
from lorakit.library.hub import pull, push
from lorakit.library.read import read_entry

SHA = "c0ffee" * 6 + "c0ff"


class Hub:
    """Repositories as folders: what the real API is asked for, and no more."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made, self.got = folder, {}, []

    def repo_info(self, repo, revision=None, files_metadata=False):
        if repo == "org/gone":
            raise OSError("404 Client Error")
        assert files_metadata
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        listed = [
            SimpleNamespace(rfilename=p.relative_to(self.folder).as_posix(), size=p.stat().st_size)
            for p in files
        ]
        return SimpleNamespace(sha=SHA, siblings=listed)

    def hf_hub_download(self, repo, name, *, revision, local_dir):
        assert revision == SHA  # one revision for all files, whatever the branch does meanwhile
        self.got.append(name)
        target = Path(local_dir) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / name, target)
        return str(target)

    def create_repo(self, repo, *, private, exist_ok):
        self.made[repo] = private

    def create_commit(self, repo, *, operations, commit_message):
        for own in operations:
            target = self.folder / own.path_in_repo
            shutil.copy(own.path_or_fileobj, target)
        return SimpleNamespace(oid=SHA, commit_url=f"https://hub/{repo}/commit/{SHA}")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "hub").mkdir()
    return Hub(tmp_path / "hub")


def test_the_real_api_takes_what_is_asked_here():
    for call, words, named in (
        (HfApi.repo_info, ("r",), ("revision", "files_metadata")),
        (HfApi.hf_hub_download, ("r", "name"), ("revision", "local_dir")),
        (HfApi.create_repo, ("r",), ("private", "exist_ok")),
        (HfApi.create_commit, ("r",), ("operations", "commit_message")),
    ):
        inspect.signature(call).bind(None, *words, **dict.fromkeys(named))
    assert {"oid", "commit_url"} <= set(CommitInfo.__dataclass_fields__)


def test_offline_is_said_at_once(poet, root, tmp_path, monkeypatch):
    for value in ("1", "ON", "true"):
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        api = Hub(tmp_path)
        with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
            push(read_entry(poet, root=root), "org/poet", api=api)
        with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
            pull("org/poet", root, api=api)
        assert api.made == {}


def test_there_and_back(hub, poet, made, root):
    (poet / "README.md").write_text("---\ntags: [verse]\n---\n# Poet\n")
    (poet / "notes.private").write_text("not for others")
    done = push(read_entry(poet, root=root), "org/poet", api=hub)
    assert (done.revision, hub.made) == (SHA, {"org/poet": True})
    assert sorted(done.files) == sorted([*(p.name for p in made.iterdir()), "README.md"])
    with pytest.raises(AdapterNameError, match="'poet-2' is free"):
        pull("org/poet", root, api=hub)
    entry = pull("org/poet", root, name="other", api=hub)
    assert (entry.name, entry.tags, entry.source) == ("other", ("verse",), f"org/poet@{SHA}")
    for path in made.iterdir():
        assert (root / "other" / path.name).read_bytes() == path.read_bytes()
    assert not list(root.glob(".*"))


def test_a_single_file(hub, root):
    path = kohya(root / "style.safetensors")
    (root / "style.md").write_text("# Axe\n")
    done = push(read_entry(path, root=root), "org/axe", private=False, api=hub)
    assert sorted(done.files) == ["README.md", "preview.png", "style.safetensors"]
    assert hub.made == {"org/axe": False}
    entry = pull("org/axe", root, api=hub)
    assert (entry.name, entry.source) == ("axe", f"org/axe@{SHA}")
    assert (root / "axe.safetensors").read_bytes() == path.read_bytes()
    assert (root / "axe.md").read_text() == "# Axe\n"


def test_only_an_adapters_files_are_fetched(hub, made, root):
    shutil.copytree(made, hub.folder, dirs_exist_ok=True)
    for name in ("run.py", "training_args.bin", "adapter_model.bin", ".hidden", "checkpoint-5/x.py",
                 "checkpoint-5/adapter_config.json"):  # fmt: skip
        (hub.folder / name).parent.mkdir(exist_ok=True)
        (hub.folder / name).write_text("{}")
    pull("org/poet", root, api=hub)
    assert sorted(hub.got) == sorted(path.name for path in made.iterdir())
    assert json.loads((root / "poet" / "source.json").read_text()) == {
        "repo": "org/poet", "revision": SHA
    }  # fmt: skip


def test_damage_is_refused(hub, made, poet, root):
    shutil.copytree(made, hub.folder, dirs_exist_ok=True)
    tensors = hub.folder / "adapter_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    before = tree(root)
    with pytest.raises(AdapterFileError):
        pull("org/other", root, api=hub)
    assert tree(root) == before
    (poet / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(AdapterFileError):
        push(read_entry(poet, root=root), "org/poet", api=hub)
    assert hub.made == {}


@pytest.mark.parametrize("repo", ["", "a/b/c", "../x", "a b/c", "org/gone", "x" * 200])
def test_repositories_that_are_none(repo, hub, root):
    with pytest.raises(HubError):
        pull(repo, root, api=hub)


def test_a_repository_without_an_adapter(hub, root):
    (hub.folder / "model.bin").write_text("x")
    with pytest.raises(AdapterFileError, match="no adapter"):
        pull("org/model", root, api=hub)
    assert hub.got == []
