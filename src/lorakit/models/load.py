"""Loading base models and tokenizers from a folder or a hub id, with errors that help."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lorakit.core.errors import ModelError, did_you_mean, first_line
from lorakit.layers import is_quantised
from lorakit.layers.quantised import plain_linear, settle
from lorakit.models.ending import check_end
from lorakit.models.pipeline import is_pipeline, pipeline_structure
from lorakit.models.quantise import quantisation

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Base:
    """A base model that was loaded, and the modules of it that no checkpoint had weights for."""

    model: Any
    fresh: list[str]


def load_tokenizer(name: str, end: str | None = None) -> Any:
    """The base's tokenizer; without a padding token of its own it pads with the end's.

    `end` is the token that ends a text, where it is not the tokenizer's own.
    """
    from transformers import AutoTokenizer

    check_folder(name)
    with _explained(name, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise ModelError(f"The tokenizer of {name} has no token to pad with. Add a pad_token.")
    if end is not None:
        check_end(tokenizer, end)
        tokenizer.eos_token = end
    return tokenizer


def load_config(name: str) -> Any:
    """The base's config: small, so that much can be said before any weight is read."""
    from transformers import AutoConfig

    check_folder(name)
    with _explained(name, "config"):
        return AutoConfig.from_pretrained(name)


def load_base(
    name: str, kind: str, *, labels: list[str] | None = None, precision: str = "fp32",
    quantise: str = "none", device: torch.device | str = "cpu", padding: int | None = None,
) -> Base:  # fmt: skip
    """The base for a task: `kind` is "causal", "seq2seq" or "classes".

    `labels` are class names, or [] for a head of one score. Modules without weights in the
    checkpoint, such as a new head, are started from the global seed and named in the result.
    `quantise` is "none", or how linear layers but heads are kept: see `models/quantise.py`.
    """
    config = load_config(name)
    auto = auto_class(kind, config, name)
    options: dict[str, Any] = {"dtype": DTYPES[precision], "output_loading_info": True}
    if kind == "classes":
        _set_labels(config, labels or [])
        options["ignore_mismatched_sizes"] = True  # a head for other labels is a new head
        if padding is not None:
            config.pad_token_id = padding
    if quantise != "none":
        heads = _heads(empty_model(name, kind, labels)) if kind == "classes" else []
        options["quantization_config"] = quantisation(config, quantise, DTYPES[precision], heads)
        options["device_map"] = {"": device}  # a quantised model stays where it was loaded
    with _explained(name, "model"), quiet():
        model, info = auto.from_pretrained(name, config=config, **options)
    missing = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    fresh = fresh_modules(model, missing)
    if quantise == "none":
        model = model.to(device)
    for path in fresh:
        _in_full(model, path)
    settle(model, training=False)
    if quantise != "none" and not any(is_quantised(layer) for layer in model.modules()):
        raise ModelError(
            f"{name} has no layer that {quantise!r} could keep in few bits (GPT-2's are not "
            "nn.Linear, which is all that torchao knows). Use nf4 or int8, or none."
        )
    return Base(model, fresh)


def empty_model(name: str, kind: str, labels: list[str] | None = None) -> nn.Module:
    """The base's structure without weights, which takes neither memory nor time."""
    return structure(load_config(name), kind, labels, name=name)


def read_config(name: str) -> Any:
    """The config of a folder, a hub id, or a JSON file that has its fields, whatever its name."""
    if not (name.endswith(".json") and Path(name).expanduser().is_file()):
        return load_config(name)
    from transformers import AutoConfig

    with _explained(name, "config"):
        return AutoConfig.from_pretrained(str(Path(name).expanduser()))


def kind_of(config: Any) -> str:
    """The kind of model that a config is for: by the class it names, else by what it could be."""
    from transformers.models.auto import modeling_auto as known

    if config.is_encoder_decoder:
        return "seq2seq"
    causal = known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    masked = known.MODEL_FOR_MASKED_LM_MAPPING_NAMES.get(config.model_type)
    named = list(config.architectures or [])
    if causal is None or (named and causal not in named) or (masked and not named):
        return "classes"
    return "causal"


def structure(
    config: Any, kind: str, labels: list[str] | None = None, *, name: str = "the config"
) -> nn.Module:
    """A config's structure without weights, for a kind of model as in `load_base`."""
    auto = auto_class(kind, config, name)
    if kind == "classes":
        _set_labels(config, labels or [])
    with torch.device("meta"), _explained(name, "model"):
        return auto.from_config(config)


def named_structure(name: str) -> nn.Module:
    """The structure, without weights, of the class that the base's own config names.

    Of an image pipeline its parts by name, in a ModuleDict.
    """
    if is_pipeline(name):
        return pipeline_structure(name)
    import transformers as tf

    config = load_config(name)
    known = [getattr(tf, kind, None) for kind in config.architectures or ()]
    kind = next((kind for kind in known if kind is not None), None)
    with torch.device("meta"), _explained(name, "model"):
        return kind(config) if kind else tf.AutoModel.from_config(config)


def auto_class(kind: str, config: Any, name: str) -> Any:
    """The class of transformers that loads this kind of model, or `ModelError`."""
    import transformers as tf
    from transformers.models.auto import modeling_auto as known

    tables = {
        "causal": (tf.AutoModelForCausalLM, known.MODEL_FOR_CAUSAL_LM_MAPPING),
        "seq2seq": (tf.AutoModelForSeq2SeqLM, known.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING),
        "classes": (
            tf.AutoModelForSequenceClassification,
            known.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        ),
    }
    auto, table = tables[kind]
    if type(config) not in table:
        words = {"causal": "causal language model", "seq2seq": "encoder-decoder"}
        raise ModelError(
            f"{name} is a {config.model_type!r} model, which has no form as a "
            f"{words.get(kind, 'classifier')}. Choose another base, or another task."
        )
    return auto


def fresh_modules(model: nn.Module, missing: set[str]) -> list[str]:
    """The outermost modules all of whose parameters are among the missing ones."""
    found: list[str] = []
    for path, module in model.named_modules():
        own = [f"{path}.{name}" for name, _ in module.named_parameters()]
        inside = any(path.startswith(f"{other}.") for other in found)
        if path and own and not inside and missing.issuperset(own):
            found.append(path)
    return found


def pick_device(said: str) -> torch.device:
    """The device the recipe asks for; "auto" takes an accelerator where there is one."""
    if said == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(said)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"train.device is {said!r}, which is not to be had: {error}.") from error
    return device


def check_folder(name: str) -> None:
    """Raise `ModelError` for what is neither a model's folder nor looks like a hub id."""
    path = Path(name).expanduser()
    if path.is_dir():
        if (path / "adapter_config.json").exists() and not (path / "config.json").exists():
            raise ModelError(f"{name} is an adapter. Name its base here, and it as --adapter.")
        if not (path / "config.json").exists():
            raise ModelError(f"{name} has no config.json, so it is no model's folder.")
        try:
            json.loads((path / "config.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{path / 'config.json'} is damaged: {error}.") from error
    elif path.exists():
        raise ModelError(f"{name} is a file; expected the folder of a model.")
    elif name.count("/") > 1 or name.startswith((".", "/", "~")):
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings) or " Check the path."
        raise ModelError(f"{name} is not there.{hint}")


def _heads(model: Any) -> list[str]:
    """The outermost modules after the base, which get trained and so are not quantised."""
    return [name for name, _ in model.named_children() if name != model.base_model_prefix]


def _in_full(model: nn.Module, fresh: str) -> None:
    """Let layers that have no weights in the checkpoint be plain ones, which they are inside."""
    for path, layer in list(model.get_submodule(fresh).named_modules(prefix=fresh)):
        if is_quantised(layer) and isinstance(layer.weight, nn.Parameter):
            weight = layer.weight
            if weight.is_floating_point() and weight.dim() == 2:
                parent, _, leaf = path.rpartition(".")
                setattr(model.get_submodule(parent), leaf, plain_linear(layer, weight))


def _set_labels(config: Any, labels: list[str]) -> None:
    config.num_labels = len(labels) or 1
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
    config.problem_type = "single_label_classification" if labels else "regression"


@contextlib.contextmanager
def _explained(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        offline = "" if Path(name).is_dir() else " It is no local folder; is there a network?"
        raise ModelError(
            f"The {what} of {name} cannot be loaded: {first_line(error)}.{offline}"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars, and its report of new heads, off the screen: we say what is new."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
