"""`export_merged`: a base with adapters merged in, as a plain folder that any tool can load."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from lorakit.core.activate import use
from lorakit.core.errors import MergeError, first_line
from lorakit.core.folder import whole_folder
from lorakit.core.merge import holders, merged, plain_dtype
from lorakit.core.registry import require_registry, root_of
from lorakit.core.site import Site
from lorakit.core.state import capture, digest
from lorakit.core.tally import MergeReport
from lorakit.core.update import Quantised
from lorakit.formats.check import MERGED
from lorakit.formats.packing import packed
from lorakit.formats.save import the_adapter
from lorakit.layers import geometry_of, is_quantised
from lorakit.models.load import quiet

_QUANTISERS = ("transformers.integrations.bitsandbytes", "transformers.integrations.torchao",
               "transformers.quantizers")  # fmt: skip
# What belongs to a base beside its weights, to be used at all.
_BESIDE = ("tokenizer", "vocab", "merges", "special_tokens", "added_tokens", "chat_template",
           "preprocessor", "processor", "spiece", "sentencepiece", "normalizer")  # fmt: skip


@dataclass(frozen=True)
class ExportReport:
    """What was written. `error` is the largest distance of its logits from the unmerged model's.

    It is relative to the largest logit, on random input; None where the model takes no text.
    """

    folder: Path
    merge: MergeReport
    error: float | None

    def __str__(self) -> str:
        logits = "" if self.error is None else f"; logits within {self.error:.1e} of unmerged"
        return f"{self.folder}: {self.merge}; reloaded equal, bit for bit{logits}"


def export_merged(
    model: nn.Module, folder: str | os.PathLike, *, name: str | list[str] | None = None,
    rounding: str = "nearest", seed: int = 0,
) -> ExportReport:  # fmt: skip
    """Write the base with the named adapters merged in, loadable without lorakit.

    The folder is loaded again with plain transformers and compared tensor by tensor and by its
    logits before it appears; the model itself stays unmerged. Weights that were tied and are not
    equal any more are written apart; quantised layers, adapted or not, are written in full. Its
    config tells which adapters it holds, so that none is merged in twice. `rounding` and `seed` are
    those of `merge`; to keep changes that the dtype would swallow, load the base in float32. Raises
    `MergeError` or `SaveError`, nothing written.
    """
    root = root_of(model)
    if not hasattr(root, "save_pretrained") or not hasattr(root, "config"):
        raise MergeError(
            f"{type(root).__name__} is no transformers model, so there is no folder format for "
            "it. Use lk.merge and save the state dict yourself."
        )
    names = [name] if isinstance(name, str) else name or [the_adapter(root, None)]
    held = [_record(root, each) for each in names]
    # Inputs of a quantised layer may be rounded as well, which a plain one's are not.
    quantised = any(is_quantised(layer) for layer in root.modules())
    before = None if quantised else _logits(root, names)
    with (
        whole_folder(folder, lambda _: "it is not empty") as partial,
        merged(root, *names, rounding=rounding, seed=seed) as done,
    ):
        with quiet(), torch.no_grad(), _in_full(root):
            _write(root, partial, held)
            reloaded = _reload(root, partial)
            _compare(root, reloaded)
            error = _distance(before, _logits(reloaded, None), root)
        _copy_tokenizer(root, partial)
    return ExportReport(Path(folder).expanduser().resolve(), done, error)


def _record(root: nn.Module, name: str) -> dict[str, Any]:
    entry = require_registry(root).entry(name)
    return {"name": entry.name, "sha256": digest(packed(capture(root, name)))}


def _write(root: Any, folder: Path, held: list[dict[str, Any]]) -> None:
    state = _plain_state(root)
    with _own_config(root) as config:
        setattr(config, MERGED, [*(getattr(config, MERGED, None) or []), *held])
        if _untied(root):
            config.tie_word_embeddings = False
        root.save_pretrained(folder, state_dict=state)


def _plain_state(root: Any) -> dict[str, Tensor]:
    """The base's tensors as its class has them in full: GPT-2's are the other way round."""
    sites = tuple(f"{path}." for path, module in root.named_modules() if isinstance(module, Site))
    state = {key: value for key, value in root.state_dict().items() if not key.startswith(sites)}
    if root.__dict__.get("hf_quantizer") is None:
        return state
    with torch.device("meta"):
        full = type(root)(root.config)
    for path, layer in full.named_modules():
        if type(layer).__name__ == "Conv1D" and isinstance(root.get_submodule(path), nn.Linear):
            state[f"{path}.weight"] = state[f"{path}.weight"].T.contiguous()
    return state


@contextmanager
def _own_config(root: Any) -> Iterator[Any]:
    """Let the model have a copy of its config, for changes that belong to the export alone."""
    own, quantiser = root.config, root.__dict__.get("hf_quantizer")
    conversions = root.__dict__.get("_weight_conversions")
    root.config = copy.deepcopy(own)
    if quantiser is not None:
        del root.config.quantization_config
        root.hf_quantizer = None
        if conversions:  # those that read quantised tensors cannot be undone, and need not be
            root._weight_conversions = [c for c in conversions if not _reads_quantised(c)]
    try:
        yield root.config
    finally:
        root.config = own
        if quantiser is not None:
            root.hf_quantizer = quantiser
            if conversions:
                root._weight_conversions = conversions


def _reads_quantised(conversion: Any) -> bool:
    """Whether a conversion of transformers is one of a quantiser's (they live beside it)."""
    operations = getattr(conversion, "operations", ())
    return any(type(op).__module__.startswith(_QUANTISERS) for op in operations)


@contextmanager
def _in_full(root: nn.Module) -> Iterator[None]:
    """Let plain layers stand for those quantised ones that no adapter changes."""
    dtype, places = plain_dtype(root) or torch.float32, []
    for layer in [layer for layer in root.modules() if is_quantised(layer)]:
        geometry = cast(Quantised, geometry_of(layer))
        plain = geometry.closed(layer, geometry.matrix(layer).detach().to(dtype), again=False)
        places += [(parent, leaf, layer, plain) for parent, leaf in holders(root, layer)]
    try:
        for parent, leaf, _, plain in places:
            parent._modules[leaf] = plain
        yield
    finally:
        for parent, leaf, layer, _ in places:
            parent._modules[leaf] = layer


def _untied(root: nn.Module) -> bool:
    """Whether a merged weight was tied to one that was not merged in the same way."""
    registry = require_registry(root)
    inside = {id(swap.pristine) for swap in registry.merged.swaps}
    return any(id(parameter) in inside for parameter in root.parameters())


def _reload(root: Any, folder: Path) -> Any:
    written = json.loads((folder / "config.json").read_text())
    kind = type(root)
    if [kind.__name__] != written.get("architectures"):
        raise MergeError(f"{folder} names {written.get('architectures')}, not {kind.__name__}.")
    try:
        return kind.from_pretrained(folder, dtype="auto").to(root.device).eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise MergeError(
            f"The export cannot be loaded as {kind.__name__}: {first_line(error)} "
            "Merge in place with lk.merge, and save the weights yourself."
        ) from error


def _compare(root: Any, reloaded: Any) -> None:
    """Raise `MergeError` unless every tensor came back as it was written, bit for bit.

    Loading casts a tensor that is wider than the model, as any load of it will: so does this.
    """
    expected = _plain_state(root)
    found: dict[str, Tensor] = reloaded.state_dict()
    wrong = [
        key
        for key, value in expected.items()
        if key not in found or not torch.equal(value.to(found[key].dtype), found[key])
    ]
    if wrong:
        raise MergeError(
            f"The export was read back and {wrong[0]!r} is not what was written ({len(wrong)} such "
            "tensors): this model ties it to a weight that the adapter does not change in the "
            "same way. Use lk.merge in place, or leave that layer out of the adapter."
        )


def _logits(model: Any, names: list[str] | None) -> Tensor | None:
    """Logits on random tokens, in eval mode; None where the model takes no text."""
    if getattr(model, "main_input_name", None) != "input_ids":
        return None
    generator = torch.Generator().manual_seed(0)
    size = model.get_input_embeddings().num_embeddings
    ids = torch.randint(size, (2, 8), generator=generator).to(model.device)
    if model.config.eos_token_id is not None and not isinstance(model.config.eos_token_id, list):
        ids[:, -1] = min(model.config.eos_token_id, size - 1)  # some heads look for it
    batch = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = ids
    training = model.training
    try:
        with torch.no_grad(), use(model, *(names or [])):
            output = model.eval()(**batch)
    finally:
        model.train(training)
    return output[0].float() if isinstance(output[0], Tensor) else None


def _distance(before: Tensor | None, after: Tensor | None, root: Any) -> float | None:
    if before is None or after is None:
        return None
    error = float((before - after).abs().max() / before.abs().max().clamp_min(1e-30))
    bound = torch.finfo(root.dtype).eps ** 0.5
    if error > bound:
        raise MergeError(
            f"The merged model's logits are off by {error:.2g} of the largest logit, which is more "
            f"than rounding to {root.dtype} explains ({bound:.2g}): a weight is read elsewhere "
            "without its layer being called. Use the adapter unmerged, or in float32."
        )
    return error


def _copy_tokenizer(root: Any, folder: Path) -> None:
    source = Path(str(getattr(root, "name_or_path", "") or ""))
    if not str(source) or not source.is_dir():
        return
    for path in source.iterdir():
        if path.is_file() and path.name.startswith(_BESIDE) and not (folder / path.name).exists():
            shutil.copy2(path, folder / path.name)
