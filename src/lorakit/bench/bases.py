"""The models that are measured: random weights from a config, of the sizes that people train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lorakit.models.load import DTYPES, load_base

__all__ = ["DTYPES", "Shape", "batch", "make"]


@dataclass(frozen=True)
class Shape:
    """A model and a batch: `kind` is "llama" or "bert"."""

    kind: str = "llama"
    width: int = 768
    layers: int = 2
    rows: int = 8
    length: int = 128
    vocabulary: int = 1024
    folder: str = ""  # a causal language model's, which then decides all but rows and length

    def __str__(self) -> str:
        if self.folder:
            return f"{Path(self.folder).name}, {self.rows} x {self.length}"
        return (
            f"{self.kind}-like, d {self.width}, {self.layers} layers, {self.rows} x {self.length}"
        )


def make(shape: Shape, dtype: torch.dtype, device: str = "cpu") -> Any:
    """The model, in training mode, without dropout of its own; the same weights each time."""
    import transformers

    tf: Any = transformers  # its configs take their fields by name, in dictionaries too
    torch.manual_seed(0)
    if shape.folder:
        model = load_base(shape.folder, "causal").model
        model.config.use_cache = False
        return model.to(device=device, dtype=dtype).train()
    heads = max(1, shape.width // 64)
    common = {
        "vocab_size": shape.vocabulary, "hidden_size": shape.width,
        "num_hidden_layers": shape.layers, "num_attention_heads": heads,
        "max_position_embeddings": max(512, shape.length),
    }  # fmt: skip
    if shape.kind == "bert":
        config: Any = tf.BertConfig(
            intermediate_size=4 * shape.width, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, **common,
        )  # fmt: skip
        model = tf.BertForMaskedLM(config)
    else:
        config = tf.LlamaConfig(
            intermediate_size=-(-8 * shape.width // 3 // 64) * 64, use_cache=False, **common
        )
        model = tf.LlamaForCausalLM(config)
    return model.to(device=device, dtype=dtype).train()


def batch(shape: Shape, model: Any, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tokens, and themselves as labels."""
    numbers = torch.Generator().manual_seed(seed)
    size = (shape.rows, shape.length)
    top = model.config.get_text_config().vocab_size
    ids = torch.randint(top, size, generator=numbers).to(model.device)
    return {"input_ids": ids, "labels": ids}
